import { beforeEach, describe, expect, test } from 'vitest';
import type { Inspection } from '../../src/session/reports/inspection-page.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { createSite, login, type Site } from './fixture.ts';

const URL_ = 'https://example.com/sessions';

describe('the inspector', () => {
  let site: Site;
  let admin: string;
  let visitor: string;

  async function signIn(name: string, roles: string[]): Promise<string> {
    const binding = site.request();
    await binding.signIn({ name, roles });
    await binding.commit();
    const [line] = binding.responseHeaders();
    binding.release();
    return line!.value.split(';')[0]!;
  }

  /** A request as a carrier gives it to a handler. */
  function request(cookie: string | undefined, init: RequestInit = {}, query = ''): Request {
    const made = new Request(URL_ + query, init);
    site.manager.bindTo(made, site.request(cookie));
    return made;
  }

  beforeEach(async () => {
    site = createSite(new MemoryStore());
    admin = await signIn('root', ['admin']);
    visitor = await signIn('<b>ann</b>', ['user']);
  });

  test('is for administrators, unless it is told who else may look', async () => {
    const inspect = site.manager.inspector();
    expect((await inspect(request(undefined))).status).toBe(403);
    expect((await inspect(request(visitor))).status).toBe(403);
    expect((await inspect(request(admin))).status).toBe(200);
    expect((await site.manager.inspector({ allow: () => true })(request(undefined))).status).toBe(200);
    expect((await inspect(request(admin, { method: 'PUT' }))).status).toBe(405);
  });

  test('shows names and sizes of attributes, never a value or a secret', async () => {
    const { sid, cookie } = await login(site, { diary: 'dear diary' });
    const answer = await site.manager.inspector()(request(admin, {}, `?sid=${sid}`));
    const text = await answer.text();
    const { sessions } = JSON.parse(text) as Inspection;
    expect(sessions).toMatchObject([{ sid, attributes: [{ name: 'diary', bytes: expect.any(Number) }] }]);
    for (const secret of ['dear diary', cookie.split('.')[2]!, 'secretHash']) expect(text).not.toContain(secret);
  });

  test('shows a limit that no calendar has a date for', async () => {
    site = createSite(new MemoryStore(), { absoluteTimeoutMs: 1e300 });
    admin = await signIn('root', ['admin']);
    const answer = await site.manager.inspector()(request(admin, { headers: { accept: 'text/html' } }));
    expect(await answer.text()).toContain('<td>never<td>');
  });

  test('shows the sessions of a user, and a page of all', async () => {
    const inspect = site.manager.inspector({ pageSize: 2 });
    for (let index = 0; index < 3; index++) await login(site);
    const ofUser = (await (await inspect(request(admin, {}, '?user=root'))).json()) as Inspection;
    expect(ofUser.sessions.map(({ owner }) => owner?.name)).toEqual(['root']);
    const page = (await (await inspect(request(admin))).json()) as Inspection;
    expect(page).toMatchObject({ count: 5, isPartial: true, sessions: { length: 2 } });
    expect(page.statistics.created).toBe(5);
  });

  test('answers a browser with a page in which nothing that users chose is markup', async () => {
    const answer = await site.manager.inspector()(request(admin, { headers: { accept: 'text/html' } }));
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const html = await answer.text();
    expect(html).toContain('&#60;b&#62;ann');
    expect(html).not.toContain('<b>ann');
  });

  test('ends a session for a form of the same origin only', async () => {
    const inspect = site.manager.inspector();
    const { sid } = await login(site);
    const form = (origin?: string): RequestInit => ({
      method: 'POST',
      body: new URLSearchParams({ sid }),
      headers: origin === undefined ? {} : { origin },
    });
    for (const origin of [undefined, 'null', 'https://evil.example', 'http://example.com'])
      expect((await inspect(request(admin, form(origin)))).status).toBe(403);
    expect((await inspect(request(visitor, form('https://example.com')))).status).toBe(403);
    expect(await site.manager.info(sid)).toBeDefined();
    const answer = await inspect(request(admin, form('https://example.com')));
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/sessions']);
    expect(await site.manager.info(sid)).toBeUndefined();
    expect(site.ends).toContainEqual({ sid, reason: 'admin' });
  });
});
