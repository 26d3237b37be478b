import { describe, expect, test } from 'vitest';
import type { TrackingKind } from '../../src/session/identity/tracking.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import { Cluster, type Process, type RequestFacts, user } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const HEADER = 'Holdfast-Session-Ticket';
const PAGE: RequestFacts = { isDocumentNavigation: true, method: 'GET', site: 'own' };

function site(tracking: readonly TrackingKind[], options = {}): Process {
  return new Cluster(new FaultyStore(), { tracking, ...options }).process();
}

/** What a client learns from one answer, kind by kind. */
interface Told {
  readonly cookie?: string;
  readonly header?: string;
  readonly url?: string;
}
function told(binding: SessionBinding): Told {
  const lines = binding.responseHeaders();
  const cookie = lines.map(({ value }) => /^sid=([^;]*)/.exec(value)?.[1]).find(value => value !== undefined);
  const header = lines.find(({ name }) => name === HEADER)?.value;
  const url = /;holdfast=(.+)$/.exec(binding.encodeUrl('/next'))?.[1];
  return {
    ...(cookie !== undefined && { cookie }),
    ...(header !== undefined && { header }),
    ...(url !== undefined && { url }),
  };
}

/** A request that shows these. */
function ask(process: Process, { cookie, header, url }: Told, facts: RequestFacts = {}): SessionBinding {
  return process.request(cookie === undefined ? undefined : `sid=${cookie}`, {
    readHeader: name => (name.toLowerCase() === HEADER.toLowerCase() ? header : undefined),
    urlTicket: url,
    ...facts,
  });
}

/** A whole request that opens a session and puts `name` into it. */
async function visit(process: Process, shown: Told, name: string, facts: RequestFacts = {}): Promise<Told> {
  const binding = ask(process, shown, facts);
  (await binding.open()).set('name', name);
  await binding.commit();
  const answer = told(binding);
  binding.markHeadersSent();
  binding.release();
  return answer;
}
async function nameOf(process: Process, shown: Told, facts: RequestFacts = {}): Promise<unknown> {
  const binding = ask(process, shown, facts);
  const session = await binding.get();
  const name = session?.get('name');
  binding.release();
  return name;
}

describe('tracking by cookie and URL together', () => {
  test('a new client gets a cookie and links with a ticket of the same session', async () => {
    const process = site(['cookie', 'url']);
    const answer = await visit(process, {}, 'ann', PAGE);
    expect(answer.cookie).toMatch(/^v1\./);
    expect(answer.url).toBe(answer.cookie);
    expect(answer.header).toBeUndefined();
  });

  test('a client that shows its cookie gets no ticket in its links, also when its link has one', async () => {
    const process = site(['cookie', 'url']);
    const { cookie, url } = await visit(process, {}, 'ann', PAGE);
    for (const shown of [{ cookie: cookie! }, { cookie: cookie!, url: url! }]) {
      expect(await visit(process, shown, 'ann', PAGE)).toEqual({});
      expect(await nameOf(process, shown)).toBe('ann');
    }
  });

  test('a client that shows its link alone stays with links, and is offered the cookie no more', async () => {
    const process = site(['cookie', 'url']);
    const { url } = await visit(process, {}, 'ann', PAGE);
    expect(await visit(process, { url: url! }, 'ann', PAGE)).toEqual({ url });
    expect(await nameOf(process, { url: url! })).toBe('ann');
  });

  test.each(['cookie', 'url'] as const)(
    'a login tells its new secret by %s, where the client shows that',
    async kind => {
      const process = site(['cookie', 'url']);
      const first = await visit(process, {}, 'ann', PAGE);
      const shown = { [kind]: first[kind]! };
      const login = ask(process, shown);
      await login.signIn(user('ann'));
      await login.commit();
      const answer = told(login);
      expect(Object.keys(answer)).toEqual([kind]);
      expect(answer[kind]).not.toBe(first[kind]);
      expect(await nameOf(process, shown)).toBeUndefined();
      expect(await nameOf(process, answer)).toBe('ann');
    },
  );

  test('a cookie wins over a link, of whose session nothing is seen or changed', async () => {
    const process = site(['cookie', 'url']);
    const own = await visit(process, {}, 'own', PAGE);
    const planted = await visit(process, {}, 'planted', PAGE);
    const both = { cookie: own.cookie!, url: planted.url! };
    expect(await nameOf(process, both)).toBe('own');
    const login = ask(process, both);
    await login.signIn(user('ann'));
    await login.commit();
    expect(told(login)).toEqual({ cookie: expect.stringMatching(/^v1\./) });
    expect(await nameOf(process, { url: planted.url! })).toBe('planted');
    expect(process.log).toEqual([]);
  });

  test('a cookie of a session that is over still wins over a live link: such a client keeps cookies', async () => {
    const process = site(['cookie', 'url']);
    const over = await visit(process, {}, 'over', PAGE);
    const planted = await visit(process, {}, 'planted', PAGE);
    const logout = ask(process, over);
    await (await logout.get())!.invalidate();
    const both = { cookie: over.cookie!, url: planted.url! };
    expect(await nameOf(process, both)).toBeUndefined();
    expect(Object.keys(await visit(process, both, 'new', PAGE))).toEqual(['cookie']);
  });

  test.each(['garbage', '', 'v1.x', `v1.${'a'.repeat(22)}.${'b'.repeat(43)}.${'c'.repeat(8)}.${'d'.repeat(43)}`])(
    'a cookie that is none of ours shows nothing: %j',
    async cookie => {
      const process = site(['cookie', 'url']);
      const { url } = await visit(process, {}, 'ann', PAGE);
      expect(await nameOf(process, { cookie, url: url! })).toBe('ann');
      expect(await visit(process, { cookie, url: url! }, 'ann', PAGE)).toEqual({ url });
    },
  );

  test('a link of a session that is over makes a client new again, who is offered the cookie', async () => {
    const process = site(['cookie', 'url']);
    const { url } = await visit(process, {}, 'over', PAGE);
    const logout = ask(process, { url: url! });
    await (await logout.get())!.invalidate();
    expect(told(logout)).toEqual({});
    const answer = await visit(process, { url: url! }, 'new', PAGE);
    expect(Object.keys(answer)).toEqual(['cookie', 'url']);
    expect(answer.cookie).not.toBe(url);
  });

  test('a nonce shows that its client keeps cookies, so that a link means nothing and none is given', async () => {
    const process = site(['cookie', 'url']);
    const planted = await visit(process, {}, 'planted', PAGE);
    const page = process.request(undefined, PAGE);
    await page.existing();
    const nonce = page.responseHeaders()[0]!.value.split(';')[0]!;
    expect(nonce).toMatch(/^sid-new=n1\./);
    const next = process.request(nonce, { ...PAGE, urlTicket: planted.url });
    expect(await next.get()).toBeUndefined();
    await next.open();
    await next.commit();
    expect(Object.keys(told(next))).toEqual(['cookie']);
  });

  test('a logout takes the cookie back, and what a client has not shown is left alone', async () => {
    const process = site(['cookie', 'url']);
    const { cookie, url } = await visit(process, {}, 'ann', PAGE);
    const logout = ask(process, { cookie: cookie!, url: url! });
    await (await logout.get())!.invalidate();
    expect(logout.responseHeaders()).toEqual([
      { name: 'Set-Cookie', value: expect.stringMatching(/^sid=; Max-Age=0/) },
    ]);
    expect(logout.encodeUrl('/next')).toBe('/next');
    expect(await nameOf(process, { url: url! })).toBeUndefined();
  });

  test('a secret is renewed by time for a client with a cookie, and not for one with links, which cannot be told', async () => {
    const cluster = new Cluster(new FaultyStore(), { tracking: ['cookie', 'url'], idleTimeoutMs: 86_400_000 });
    const process = cluster.process();
    const by = await visit(process, {}, 'ann', PAGE);
    await cluster.clock.advance(5 * 3_600_000);
    const link = ask(process, { url: by.url! });
    await link.get();
    await link.commit();
    expect([link.hasNews, told(link)]).toEqual([false, { url: by.url }]);
    link.release();
    const cookie = ask(process, { cookie: by.cookie! });
    await cookie.get();
    await cookie.commit();
    expect(Object.keys(told(cookie))).toEqual(['cookie']);
    expect(told(cookie).cookie).not.toBe(by.cookie);
  });

  test.each(['lax', 'strict'] as const)(
    'a form of another site sets no cookie over one that it could not bring: %s',
    async sameSite => {
      const process = site(['cookie', 'url'], { cookie: { name: 'sid', sameSite } });
      const form: RequestFacts = { method: 'POST', site: 'other', isDocumentNavigation: true };
      await expect(ask(process, {}, form).open()).rejects.toMatchObject({ code: 'ERR_SESSION_CROSS_SITE' });
      // With a link of ours: the login is that client's, and the cookie that it may have stays.
      const planted = await visit(process, {}, 'planted', PAGE);
      const login = ask(process, { url: planted.url! }, form);
      await login.signIn(user('mallory'));
      await login.commit();
      expect(Object.keys(told(login))).toEqual(['url']);
      const other = ask(process, { url: planted.url! }, form);
      expect(await other.get()).toBeUndefined();
      await expect(other.signIn(user('mallory'))).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_SESSION_/),
      });
    },
  );

  test('the login of somebody else by a link of another user begins a session, told to the link and offered as a cookie', async () => {
    const process = site(['cookie', 'url']);
    const mallory = ask(process, {}, PAGE);
    await mallory.signIn(user('mallory'));
    await mallory.commit();
    const { url } = told(mallory);
    const login = ask(process, { url: url! }, PAGE);
    const session = await login.signIn(user('ann'));
    await login.commit();
    expect(Object.keys(told(login))).toEqual(['cookie', 'url']);
    expect(session.owner?.name).toBe('ann');
    expect(await nameOf(process, { url: url! })).toBeUndefined();
    expect(process.ends.map(({ reason }) => reason)).toEqual(['logout']);
  });

  test('under strict a marker shows that there is a cookie, so a link from elsewhere opens nothing with its ticket', async () => {
    const process = site(['cookie', 'url'], { cookie: { name: 'sid', sameSite: 'strict' } });
    const planted = await visit(process, {}, 'planted', PAGE);
    const link = process.request('sid-there=1', { ...PAGE, site: 'other', urlTicket: planted.url });
    expect(await link.get()).toBeUndefined();
    expect(await link.auto()).toBeUndefined();
    expect([told(link), link.responseHeaders()]).toEqual([{}, []]);
  });

  test('under strict a client with links alone is given no marker, by which its links would mean nothing', async () => {
    const process = site(['cookie', 'url'], { cookie: { name: 'sid', sameSite: 'strict' } });
    const { url } = await visit(process, {}, 'ann', PAGE);
    const next = ask(process, { url: url! }, PAGE);
    await next.get();
    expect(next.responseHeaders()).toEqual([]);
  });
});

describe('tracking by cookie and header together', () => {
  test('a program that shows nothing gets both, and goes on with either', async () => {
    const process = site(['cookie', 'header']);
    const answer = await visit(process, {}, 'robot');
    expect([answer.cookie, answer.url]).toEqual([answer.header, undefined]);
    for (const kind of ['cookie', 'header'] as const) {
      const shown = { [kind]: answer[kind]! };
      expect(await nameOf(process, shown)).toBe('robot');
      const renewal = ask(process, shown);
      await (await renewal.get())!.renew();
      await renewal.commit();
      expect(Object.keys(told(renewal))).toEqual([kind]);
      (answer as Record<string, string>).cookie = told(renewal)[kind]!;
      (answer as Record<string, string>).header = told(renewal)[kind]!;
    }
  });

  test.each([
    ['a page that it opens', PAGE],
    ['a script of a page of ours', { method: 'POST', site: 'own' } satisfies RequestFacts],
  ])('a browser gets no header that a script could read, from %s', async (_what, facts) => {
    const process = site(['cookie', 'header']);
    expect(Object.keys(await visit(process, {}, 'ann', facts))).toEqual(['cookie']);
  });

  test('the first of the list that is shown wins', async () => {
    for (const tracking of [
      ['cookie', 'header'],
      ['header', 'cookie'],
    ] as const) {
      const process = site(tracking);
      const one = await visit(process, {}, 'cookie');
      const two = await visit(process, {}, 'header');
      expect(await nameOf(process, { cookie: one.cookie!, header: two.header! })).toBe(tracking[0]);
    }
  });

  test('a logout takes back both where both are shown', async () => {
    const process = site(['cookie', 'header']);
    const { cookie, header } = await visit(process, {}, 'robot');
    const logout = ask(process, { cookie: cookie!, header: header! });
    await (await logout.get())!.invalidate();
    expect(logout.responseHeaders()).toEqual([
      { name: 'Set-Cookie', value: expect.stringMatching(/^sid=; Max-Age=0/) },
      { name: HEADER, value: '' },
    ]);
  });

  test('a header that is no ticket shows nothing', async () => {
    const process = site(['header', 'cookie']);
    const { cookie } = await visit(process, {}, 'robot');
    for (const header of ['', 'x', 'v1.a.b.c.d'])
      expect(await nameOf(process, { cookie: cookie!, header })).toBe('robot');
  });
});

describe('tracking by all three', () => {
  test('each client goes on with what it shows, whatever else it has', async () => {
    const process = site(['cookie', 'header', 'url']);
    const one = await visit(process, {}, 'cookie', PAGE);
    const two = await visit(process, {}, 'header');
    const three = await visit(process, {}, 'url', PAGE);
    expect(await nameOf(process, { cookie: one.cookie!, header: two.header!, url: three.url! })).toBe('cookie');
    expect(await nameOf(process, { header: two.header!, url: three.url! })).toBe('header');
    expect(await nameOf(process, { url: three.url! })).toBe('url');
    expect(await visit(process, { header: two.header!, url: three.url! }, 'header')).toEqual({});
  });
});

describe('a list of trackings', () => {
  test.each([
    [[], 'needs at least one'],
    [['cookie', 'cookie'], '"cookie" twice'],
    [['url', 'cookie'], '"url" stands last'],
    [['cookie', 'url', 'header'], '"url" stands last'],
    [['cookies'], 'did you mean "cookie"?'],
    [[['cookie']], 'not a list'],
    [null, 'not null'],
  ])('refuses %j', (tracking, message) => {
    expect(() => site(tracking as never)).toThrow(message);
    expect(() => site(tracking as never)).toThrow(TypeError);
  });

  test('of one is that one', async () => {
    for (const kind of ['cookie', 'header', 'url'] as const) {
      const process = site([kind]);
      expect(process.manager.tracking.kinds).toEqual([kind]);
      expect(Object.keys(await visit(process, {}, 'ann', PAGE))).toEqual([kind]);
    }
  });
});
