import { describe, expect, test } from 'vitest';
import type { RequestSite } from '../../src/http/request-site.ts';
import { Cluster, cookiesOf, type Process, type RequestFacts, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const CROSS_SITE = { code: 'ERR_SESSION_CROSS_SITE', status: 403 };
const FORM: RequestFacts = { method: 'POST', site: 'other', isDocumentNavigation: true };
const LINK: RequestFacts = { method: 'GET', site: 'other', isDocumentNavigation: true };
const MARKER = 'sid-there=1';

function site(sameSite: 'strict' | 'lax' | 'none', options = {}): Process {
  return new Cluster(new FaultyStore(), { cookie: { name: 'sid', sameSite }, ...options }).process();
}

interface Case {
  readonly sameSite: 'strict' | 'lax' | 'none';
  readonly from: RequestSite;
  readonly method: string;
  readonly cookie?: string;
  readonly isPage?: boolean;
}

/** The client may have a session that the request cannot show. */
const HIDDEN: readonly Case[] = [
  ...['POST', 'PUT', 'DELETE', 'PATCH', 'QUERY'].map(method => ({ sameSite: 'lax', from: 'other', method }) as const),
  // What a sibling domain has planted does not show that ours would have come.
  { sameSite: 'lax', from: 'other', method: 'POST', cookie: 'sid=planted' },
  { sameSite: 'lax', from: 'opaque', method: 'POST' },
  { sameSite: 'lax', from: 'opaque', method: 'POST', cookie: 'sid=planted; sid-new=planted' },
  { sameSite: 'strict', from: 'opaque', method: 'POST', cookie: MARKER },
  { sameSite: 'strict', from: 'opaque', method: 'GET', cookie: MARKER },
  ...['POST', 'PUT'].map(method => ({ sameSite: 'strict', from: 'other', method }) as const),
  { sameSite: 'strict', from: 'other', method: 'GET', cookie: MARKER },
  { sameSite: 'strict', from: 'other', method: 'HEAD', cookie: MARKER },
  { sameSite: 'strict', from: 'other', method: 'GET', cookie: `sid=planted; ${MARKER}` },
  // A fetch or frame of another site brings not even the marker.
  { sameSite: 'strict', from: 'other', method: 'GET', isPage: false },
  { sameSite: 'strict', from: 'unknown', method: 'GET', cookie: MARKER },
];
/** It has none, or would show it. */
const SHOWN: readonly Case[] = [
  { sameSite: 'lax', from: 'other', method: 'GET' },
  { sameSite: 'lax', from: 'other', method: 'GET', cookie: 'sid=dead' },
  { sameSite: 'lax', from: 'opaque', method: 'GET' },
  { sameSite: 'lax', from: 'unknown', method: 'POST' },
  { sameSite: 'lax', from: 'own', method: 'POST' },
  { sameSite: 'strict', from: 'other', method: 'GET' },
  { sameSite: 'strict', from: 'unknown', method: 'GET' },
  { sameSite: 'strict', from: 'unknown', method: 'POST' },
  { sameSite: 'strict', from: 'unknown', method: 'GET', cookie: `sid=dead; ${MARKER}` },
  { sameSite: 'strict', from: 'own', method: 'GET', cookie: MARKER },
  { sameSite: 'strict', from: 'own', method: 'POST', cookie: `sid=dead; ${MARKER}` },
  { sameSite: 'none', from: 'other', method: 'POST' },
  { sameSite: 'none', from: 'other', method: 'GET', cookie: MARKER },
];
const factsOf = ({ from, method, isPage = true }: Case): RequestFacts => ({
  ...{ site: from, method, isDocumentNavigation: isPage },
});

describe('where a session may be hidden by the request', () => {
  test.each(HIDDEN)('nothing is set over it: $sameSite, $method, $from, $cookie', async one => {
    const process = site(one.sameSite);
    const request = () => process.request(one.cookie, factsOf(one));
    for (const find of ['auto', 'existing'] as const) {
      const binding = request();
      expect(await binding[find]()).toBeUndefined();
      await binding.commit();
      expect([binding.hasNews, binding.responseHeaders()]).toEqual([false, []]);
      binding.release();
    }
    await expect(request().open()).rejects.toMatchObject(CROSS_SITE);
    await expect(request().signIn(user('mallory'))).rejects.toMatchObject(CROSS_SITE);
    expect(process.manager.statistics().created).toBe(0);
  });

  test.each(SHOWN)('otherwise one begins: $sameSite, $method, $from, $cookie', async one => {
    const process = site(one.sameSite);
    const facts = factsOf(one);
    const page = process.request(one.cookie, facts);
    await page.existing();
    expect(cookiesOf(page)).toEqual([expect.stringMatching(/^sid-new=n1\./)]);
    const opened = process.request(one.cookie, facts);
    expect(await opened.auto()).toBeDefined();
    await opened.commit();
    expect(cookiesOf(opened)[0]).toMatch(/^sid=v1\./);
    const signedIn = process.request(one.cookie, facts);
    expect((await signedIn.signIn(user('ann'))).owner?.name).toBe('ann');
  });

  test.each(['lax', 'strict'] as const)('the callback of a login may set it over: %s', async sameSite => {
    const process = site(sameSite);
    const before = await visit(process, undefined, session => session.set('a', 1));
    const callback = process.request(undefined, { ...FORM, isCrossSiteSignIn: true });
    expect(await callback.auto()).toBeUndefined(); // by signing in only
    await expect(callback.open()).rejects.toMatchObject(CROSS_SITE);
    const session = await callback.signIn(user('ann'));
    await callback.commit();
    const [cookie] = cookiesOf(callback);
    expect(session.id).not.toBe(before.sid);
    const { result } = await visit(process, cookie, after => after.owner?.name);
    expect(result).toBe('ann');
    // Once there is one in the request, it is as everywhere else.
    expect(await callback.open()).toBe(session);
  });

  describe.each(['lax', 'strict'] as const)('a page that hides its origin, under %s', sameSite => {
    const POST: RequestFacts = { method: 'POST', site: 'opaque' };
    /** What a first page leaves in the browser. */
    async function firstPage(process: Process): Promise<string> {
      const binding = process.request(undefined, { isDocumentNavigation: true });
      await binding.existing();
      return cookiesOf(binding)[0]!;
    }

    test.each([0, 10, 3600, 86_000])('is ours where the nonce of a page comes with it, %i s later', async seconds => {
      const cluster = new Cluster(new FaultyStore(), { cookie: { name: 'sid', sameSite } });
      const process = cluster.process();
      const nonce = await firstPage(process);
      await cluster.clock.advance(seconds * 1000);
      const { cookie } = await visit(process, nonce, () => {}, POST);
      expect(cookie).toMatch(/^sid=v1\./);
      const signedIn = process.request(nonce, POST);
      expect((await signedIn.signIn(user('ann'))).owner?.name).toBe('ann');
      const twice = await Promise.all([firstPage(process), firstPage(process)]);
      expect(twice[0]).not.toBe(twice[1]);
    });

    test('is ours where the cookie of a session comes with it that has ended', async () => {
      const process = site(sameSite);
      const { cookie, sid } = await visit(process, undefined, () => {});
      await process.manager.end(sid, 'admin');
      expect((await visit(process, cookie, session => session.isNew, POST)).result).toBe(true);
    });

    test('is not ours with what is not genuine, nor where the browser says that it is not', async () => {
      const process = site(sameSite);
      const nonce = await firstPage(process);
      const forged = nonce.replace(/.$/, last => (last === 'A' ? 'B' : 'A'));
      const elsewhere = await firstPage(site(sameSite, { cookie: { name: 'sid', sameSite, path: '/other' } }));
      for (const cookie of [forged, elsewhere, nonce.replace('n1.', 'v1.'), nonce.replace('sid-new=', 'sid=')])
        await expect(process.request(cookie, POST).open()).rejects.toMatchObject(CROSS_SITE);
      const { cookie, sid } = await visit(process, undefined, () => {});
      await process.manager.end(sid, 'admin');
      for (const shown of [nonce, cookie])
        await expect(process.request(shown, FORM).open()).rejects.toMatchObject(CROSS_SITE);
    });
  });

  test('who shows it is not hindered, wherever the request comes from', async () => {
    const process = site('lax');
    const { cookie } = await visit(process, undefined, () => {});
    const binding = process.request(cookie, FORM);
    const session = (await binding.auto())!;
    await session.renew({ owner: user('ann') });
    await binding.commit();
    expect(cookiesOf(binding)[0]).toMatch(/^sid=v1\./);
    const other = process.request(cookiesOf(binding)[0], FORM);
    await other.signIn(user('bob')); // ends ann's, whose cookie was shown
    await other.commit();
    expect(cookiesOf(other)[0]).toMatch(/^sid=v1\./);
    const last = process.request(cookiesOf(other)[0], FORM);
    await (await last.get())!.invalidate();
    expect(cookiesOf(last)).toEqual(['sid=']);
    expect(await last.open()).toBeDefined();
  });

  test.each(['header', 'url'] as const)('tracking by %s hides nothing, because it needs no cookie', async tracking => {
    const process = site('lax', { tracking });
    expect(await process.request(undefined, FORM).auto()).toBeDefined();
  });
});

describe('under strict', () => {
  const lines = (binding: { responseHeaders(): { value: string }[] }) =>
    binding.responseHeaders().map(({ value }) => value);

  test('a marker without a secret goes with the session cookie, and is taken back with it', async () => {
    const process = site('strict');
    const binding = process.request(undefined, { ...LINK, isSecure: true });
    await binding.auto();
    await binding.commit();
    expect(lines(binding)).toEqual([
      expect.stringMatching(/^sid=v1\.[\w.-]+; Path=\/; Secure; HttpOnly; SameSite=Strict$/),
      'sid-there=1; Path=/; Secure; HttpOnly; SameSite=Lax',
    ]);
    const last = process.request(cookiesOf(binding).join('; '), { isSecure: true });
    await (await last.get())!.invalidate();
    expect(lines(last)).toEqual([
      'sid=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict',
      'sid-there=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax',
    ]);
    expect(process.manager.tracking.ownCookies).toEqual(['sid', 'sid-new', 'sid-there']);
    expect(site('lax').manager.tracking.ownCookies).toEqual(['sid', 'sid-new']);
  });

  test('it lives as long as a session cookie that the browser keeps', async () => {
    const process = site('strict', {
      cookie: { name: 'sid', sameSite: 'strict', persistent: true, path: '/shop' },
      absoluteTimeoutMs: 60_000,
    });
    const binding = process.request(undefined, LINK);
    await binding.open();
    await binding.commit();
    expect(lines(binding)[1]).toBe('sid-there=1; Max-Age=60; Path=/shop; HttpOnly; SameSite=Lax');
  });

  test('a client that lacks it gets it once, with the session that it has', async () => {
    const process = site('strict');
    const { cookie } = await visit(process, undefined, () => {});
    const binding = process.request(cookie);
    await binding.get();
    expect([binding.hasNews, cookiesOf(binding)]).toEqual([true, [MARKER]]);
    const again = process.request(`${cookie}; ${MARKER}`);
    await again.get();
    expect([again.hasNews, cookiesOf(again)]).toEqual([false, []]);
  });

  test('a session that has ended is replaced by the next request that could have shown it', async () => {
    const process = site('strict');
    const { cookie, sid } = await visit(process, undefined, () => {});
    await process.manager.end(sid, 'admin');
    expect(await process.request(MARKER, LINK).auto()).toBeUndefined();
    const own = process.request(`${cookie}; ${MARKER}`, { ...LINK, site: 'own' });
    expect(await own.auto()).toBeDefined();
  });
});
