import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import type { RouteSeparator } from '../../src/gateway/backend-session/observed/options.ts';
import { serversOfRoute } from '../../src/gateway/upstream/affinity.ts';
import type { UpstreamOptions } from '../../src/gateway/upstream/options.ts';
import type { UpstreamServer } from '../../src/gateway/upstream/server.ts';
import { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { emptyAddressList } from '../../src/http/address-list.ts';
import { type RequestHead, readRequestHead } from '../../src/http/request-head.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

const TOMCATS = [
  { url: 'http://a', route: 'tomcat1' },
  { url: 'http://b', route: 'tomcat2' },
  { url: 'http://c', route: 'cell.3' },
];

describe('the suffix of a session id', () => {
  // Sources: Apache mod_proxy_balancer (the first separator), WebLogic (`id!first!second!time`), WebSphere
  // (`0001id:clone:clone`).
  test.each<[id: string, routes: string[], separator?: RouteSeparator]>([
    ['ABC', []],
    ['ABC.', []],
    ['ABC.tomcat1', ['tomcat1']],
    ['ABC.tomcat2', ['tomcat2']],
    ['ABC.TOMCAT1', []],
    ['ABC.tomcat1.tomcat2', []],
    ['ABC.cell.3', ['cell.3']],
    ['ABC.unknown', []],
    ['.tomcat1', ['tomcat1']],
    ['ABC!tomcat1', ['tomcat1']],
    ['ABC!tomcat2!tomcat1', ['tomcat2', 'tomcat1']],
    ['ABC!tomcat2!tomcat1!1700000000000', ['tomcat2', 'tomcat1']],
    ['ABC!tomcat2!NONE!1700000000000', ['tomcat2']],
    ['ABC!gone!tomcat1', ['tomcat1']],
    ['0001ABC:tomcat1', ['tomcat1']],
    ['0001ABC:tomcat1:tomcat2', ['tomcat1', 'tomcat2']],
    ['0001ABC:tomcat1:tomcat1', ['tomcat1']],
    ['0001ABC+tomcat1+tomcat2', ['tomcat1', 'tomcat2'], '+'],
    ['0001A+C+tomcat1', []],
    ['A.B!tomcat1', [], '.'],
    ['A.B!tomcat1', ['tomcat1'], '!'],
    ['A!B.tomcat1', ['tomcat1'], '.'],
    ['A.tomcat1', [], ':'],
  ])('%s names %j', (id, routes, separator) => {
    expect(serversOfRoute(id, TOMCATS, separator).map(({ route }) => route)).toEqual(routes);
  });
});

const SESSIONLESS = { sid: undefined };

/** An upstream whose servers are never connected to; time stands still. */
function upstream(options: Partial<UpstreamOptions>, keys: string[] = []): Upstream {
  return new Upstream('my app', { servers: TOMCATS, ...options }, new FakeClock(), { keys });
}

function head(options: { cookie?: string; target?: string } = {}): RequestHead {
  const { cookie, target = '/' } = options;
  const lines: Record<string, string> = { host: 'example.com', ...(cookie !== undefined && { cookie }) };
  const request = {
    method: 'GET',
    url: target,
    httpVersion: '1.1',
    headers: lines,
    rawHeaders: Object.entries(lines).flat(),
    socket: { remoteAddress: '127.0.0.1' },
  };
  return readRequestHead(request as unknown as IncomingMessage, { trustedProxies: emptyAddressList }) as RequestHead;
}

/** Takes the first server that a request is given, as one that answers. */
function ask(one: Upstream, request: RequestHead, { sid }: { sid: string | undefined }) {
  const selection = one.select(request, sid);
  const server = selection.next();
  return { url: server?.url, cookie: server && selection.accepted(server) };
}

/** The server has let us wait for a connection. */
const breakDown = (server: UpstreamServer) => server.failed('timeout', false);
const serverAt = (one: Upstream, url: string | undefined) => one.servers.find(server => server.url === url)!;
const urlsOf = (count: number, next: () => string | undefined) => Array.from({ length: count }, next);

describe('affinity by session', () => {
  test('gives a session always the same server, and sessions without one by turns', () => {
    const one = upstream({});
    for (const sid of ['s1', 's2', 's3', 's4']) {
      expect(new Set(urlsOf(10, () => ask(one, head(), { sid }).url)).size).toBe(1);
    }
    expect(urlsOf(3, () => ask(one, head(), SESSIONLESS).url)).toEqual(['http://a', 'http://b', 'http://c']);
    expect(one.status.moves).toBe(0);
  });

  test('moves only its share of 10,000 sessions to a server that is added, and nobody twice', () => {
    const one = upstream({});
    const sids = Array.from({ length: 10_000 }, (_, i) => `session ${i}`);
    const before = sids.map(sid => ask(one, head(), { sid }).url);
    one.add({ url: 'http://d', weight: 2 });
    const after = sids.map(sid => ask(one, head(), { sid }).url);
    const moved = sids.filter((_, i) => before[i] !== after[i]);
    expect(moved.length).toBe(after.filter(url => url === 'http://d').length);
    // Two fifths, within five standard deviations of 49.
    expect(Math.abs(moved.length - 4_000)).toBeLessThan(245);
    expect(one.status.moves).toBe(0);
  });

  test('moves a session whose server is down, remembers it, and counts it once', async () => {
    const one = upstream({});
    const home = ask(one, head(), { sid: 's' }).url;
    breakDown(serverAt(one, home));
    const moved = ask(one, head(), { sid: 's' }).url;
    expect(moved).not.toBe(home);
    serverAt(one, home).succeeded();
    expect(serverAt(one, home).state).toBe('in-service');
    // Its state is where it moved to.
    expect(urlsOf(3, () => ask(one, head(), { sid: 's' }).url)).toEqual([moved, moved, moved]);
    expect(one.status.moves).toBe(1);
    // Others that belong there have not moved.
    const others = Array.from({ length: 50 }, (_, i) => ask(one, head(), { sid: `other ${i}` }).url);
    expect(others).toContain(home);
  });

  test('moves it again when that server fails, too', () => {
    const one = upstream({});
    const seen = urlsOf(3, () => {
      const { url } = ask(one, head(), { sid: 's' });
      breakDown(serverAt(one, url));
      return url;
    });
    expect(new Set(seen).size).toBe(3);
    expect(one.status.moves).toBe(2);
  });

  test('every process moves it to the same server', () => {
    const places = [upstream({}), upstream({ servers: TOMCATS.toReversed() })].map(one => {
      breakDown(serverAt(one, ask(one, head(), { sid: 's' }).url));
      return ask(one, head(), { sid: 's' }).url;
    });
    expect(places[0]).toBe(places[1]);
  });

  test('is counted as no move when the session belonged to a server that is not there any more', async () => {
    const one = upstream({});
    const home = ask(one, head(), { sid: 's' }).url!;
    await one.remove(home, { over: 0 });
    expect(ask(one, head(), { sid: 's' }).url).not.toBe(home);
    expect(one.status).toMatchObject({ moves: 0, servers: { length: 2 } });
  });

  test('forgets a move to a server that is removed: the session is back where it was', async () => {
    const one = upstream({});
    const home = ask(one, head(), { sid: 's' }).url;
    breakDown(serverAt(one, home));
    const moved = ask(one, head(), { sid: 's' }).url!;
    serverAt(one, home).succeeded();
    await one.remove(moved, { over: 0 });
    one.add(moved);
    expect(ask(one, head(), { sid: 's' }).url).toBe(home);
    expect(one.status.moves).toBe(1);
  });

  test('strict: nobody but its own server gets a session', () => {
    const one = upstream({ affinity: { by: 'session', strict: true } });
    const home = ask(one, head(), { sid: 's' }).url;
    breakDown(serverAt(one, home));
    const selection = one.select(head(), 's');
    expect(selection.next()).toBeUndefined();
    expect(one.refusal(selection)).toMatchObject({
      status: 503,
      code: 'ERR_UPSTREAM_UNAVAILABLE',
      headers: { 'Retry-After': '1' },
    });
    expect(ask(one, head(), SESSIONLESS).url).toBeDefined();
    expect(one.status.moves).toBe(0);
  });

  test('strict: a server that refuses is still asked, because that costs nothing', () => {
    const one = upstream({ affinity: { by: 'session', strict: true } });
    const home = ask(one, head(), { sid: 's' }).url;
    serverAt(one, home).failed('refused', false);
    const selection = one.select(head(), 's');
    expect(selection.next()?.url).toBe(home);
    serverAt(one, home).failed('refused', false);
    expect(selection.next()).toBeUndefined();
  });

  test('strict: a server that is drained gives its sessions away', () => {
    const one = upstream({ affinity: { by: 'session', strict: true } });
    const home = ask(one, head(), { sid: 's' }).url!;
    void one.drain(home, { over: 0 });
    expect(ask(one, head(), { sid: 's' }).url).not.toBe(home);
  });
});

describe('affinity by route', () => {
  const options: Partial<UpstreamOptions> = { affinity: 'route' };

  test.each([
    [{ cookie: 'JSESSIONID=ABC.tomcat2' }, 'http://b'],
    [{ cookie: 'a=1; JSESSIONID=ABC.cell.3; b=2' }, 'http://c'],
    [{ target: '/shop;jsessionid=ABC.tomcat2?x=1' }, 'http://b'],
    [{ target: '/shop;jsessionid=ABC.tomcat2;v=2/deeper' }, 'http://b'],
    [{ target: '/shop?x=1&jsessionid=ABC.tomcat2&y=2' }, 'http://b'],
    [{ target: '/shop?jsessionid=ABC.tomcat2', cookie: 'JSESSIONID=ABC.cell.3' }, 'http://b'],
    [{ cookie: 'JSESSIONID=0001ABC:tomcat2' }, 'http://b'],
    [{ cookie: 'JSESSIONID=ABC!tomcat2!tomcat1!17' }, 'http://b'],
  ])('%j goes to %s, again and again', (request, url) => {
    const one = upstream(options);
    expect(urlsOf(4, () => ask(one, head(request), SESSIONLESS).url)).toEqual([url, url, url, url]);
  });

  test.each([
    {},
    { cookie: 'JSESSIONID=ABC' },
    { cookie: 'JSESSIONID=ABC.unknown' },
    { cookie: 'jsessionid=ABC.tomcat2' },
    { cookie: 'XJSESSIONID=ABC.tomcat2' },
    { target: '/?xjsessionid=ABC.tomcat2' },
    { target: '/jsessionid=ABC.tomcat2' },
  ])('%j is balanced', request => {
    const one = upstream(options);
    expect(urlsOf(3, () => ask(one, head(request), SESSIONLESS).url)).toEqual(['http://a', 'http://b', 'http://c']);
  });

  test('takes other names and one separator', () => {
    const one = upstream({ affinity: { by: 'route', cookie: 'SID', urlParameter: 's.id', separator: '!' } });
    expect(ask(one, head({ cookie: 'SID=a.b!tomcat2' }), SESSIONLESS).url).toBe('http://b');
    expect(ask(one, head({ target: '/?s.id=a!cell.3' }), SESSIONLESS).url).toBe('http://c');
  });

  test('without a route follows our session, so that the first requests of a page meet one server', () => {
    const one = upstream(options);
    expect(new Set(urlsOf(6, () => ask(one, head(), { sid: 's' }).url)).size).toBe(1);
  });

  test('moves a session to the second server that it names, and remembers it until the backend writes another route', () => {
    const one = upstream(options);
    const request = head({ cookie: 'JSESSIONID=ABC!tomcat2!cell.3' });
    breakDown(serverAt(one, 'http://b'));
    expect(ask(one, request, SESSIONLESS).url).toBe('http://c');
    serverAt(one, 'http://b').succeeded();
    expect(ask(one, request, SESSIONLESS).url).toBe('http://c');
    expect(one.status.moves).toBe(1);
    expect(ask(one, head({ cookie: 'JSESSIONID=ABC!tomcat2' }), SESSIONLESS).url).toBe('http://b');
  });

  test('strict: 503 while the server of the route is down; an unknown route is balanced', () => {
    const one = upstream({ affinity: { by: 'route', strict: true } });
    breakDown(serverAt(one, 'http://b'));
    expect(ask(one, head({ cookie: 'JSESSIONID=ABC.tomcat2' }), SESSIONLESS).url).toBeUndefined();
    expect(ask(one, head({ cookie: 'JSESSIONID=ABC.unknown' }), SESSIONLESS).url).toBe('http://a');
  });

  test('strict: each server that the id names may take a session, and 503 comes when none of them can', async () => {
    const one = upstream({ affinity: { by: 'route', strict: true } });
    const request = head({ cookie: 'JSESSIONID=0001ABC:tomcat2:cell.3' });
    breakDown(serverAt(one, 'http://b'));
    expect(ask(one, request, SESSIONLESS).url).toBe('http://c');
    breakDown(serverAt(one, 'http://c'));
    const selection = one.select(request, undefined);
    expect(selection.next()).toBeUndefined();
    expect(one.refusal(selection).reason).toContain('2 that are ejected');
    serverAt(one, 'http://b').succeeded();
    expect(ask(one, request, SESSIONLESS).url).toBe('http://b');
    void one.drain('http://b', { over: 0 });
    expect(ask(one, request, SESSIONLESS).url).toBeUndefined();
    void one.drain('http://c', { over: 0 });
    expect(ask(one, request, SESSIONLESS).url).toBe('http://a');
  });

  test('still goes to a server that drains and keeps its sockets', () => {
    const one = upstream(options);
    void one.drain('http://b', { sockets: 'stay' });
    expect(ask(one, head({ cookie: 'JSESSIONID=ABC.tomcat2' }), SESSIONLESS).url).toBe('http://b');
    expect(urlsOf(4, () => ask(one, head(), SESSIONLESS).url)).not.toContain('http://b');
    // Also as the second one that an id names.
    breakDown(serverAt(one, 'http://c'));
    expect(ask(one, head({ cookie: 'JSESSIONID=0001ABC:cell.3:tomcat2' }), SESSIONLESS).url).toBe('http://b');
  });
});

describe('affinity by cookie', () => {
  const KEY = 'k'.repeat(32);
  const options: Partial<UpstreamOptions> = { affinity: 'cookie' };
  const pair = (setCookie: string | undefined) => setCookie!.split(';')[0]!;

  test('ties a client without session to the server that it was given', () => {
    const one = upstream(options, [KEY]);
    const first = ask(one, head(), SESSIONLESS);
    expect(first.cookie).toMatch(/^holdfast-my~20app=[\w-]{22}; Path=\/; HttpOnly; SameSite=Lax$/);
    for (let i = 0; i < 4; i++) {
      expect(ask(one, head({ cookie: pair(first.cookie) }), SESSIONLESS)).toEqual({
        url: first.url,
        cookie: undefined,
      });
    }
    expect(ask(one, head(), SESSIONLESS).url).not.toBe(first.url);
  });

  test('says nothing of the server to who reads it, and is another one for every key', () => {
    const cookies = [KEY, 'other'.repeat(10)].map(key => ask(upstream(options, [key]), head(), SESSIONLESS).cookie);
    expect(cookies[0]).not.toBe(cookies[1]);
    expect(pair(cookies[0])).not.toMatch(/http|tomcat/);
  });

  test('is not believed when it is forged, or of a key that is gone; an older key is', () => {
    const made = ask(upstream(options, ['old'.repeat(20)]), head(), SESSIONLESS);
    const rotated = upstream(options, [KEY, 'old'.repeat(20)]);
    ask(rotated, head(), SESSIONLESS);
    expect(ask(rotated, head({ cookie: pair(made.cookie) }), SESSIONLESS)).toEqual({
      url: made.url,
      cookie: undefined,
    });
    for (const cookie of [pair(made.cookie), 'holdfast-my~20app=AAAAAAAAAAAAAAAAAAAAAA', 'holdfast-my~20app=']) {
      expect(ask(upstream(options, [KEY]), head({ cookie }), SESSIONLESS).cookie).toBeDefined();
    }
  });

  test('is not needed by a client with a session, and counts before it', () => {
    const one = upstream(options, [KEY]);
    expect(ask(one, head(), { sid: 's' }).cookie).toBeUndefined();
    const cookie = ask(one, head(), SESSIONLESS);
    for (const sid of ['s1', 's2', 's3', 's4']) {
      expect(ask(one, head({ cookie: pair(cookie.cookie) }), { sid }).url).toBe(cookie.url);
    }
  });

  test('is written anew when the client moves', () => {
    const one = upstream(options, [KEY]);
    const first = ask(one, head(), SESSIONLESS);
    breakDown(serverAt(one, first.url));
    const second = ask(one, head({ cookie: pair(first.cookie) }), SESSIONLESS);
    expect(second.url).not.toBe(first.url);
    expect(second.cookie).toBeDefined();
    serverAt(one, first.url).succeeded();
    expect(ask(one, head({ cookie: pair(second.cookie) }), SESSIONLESS).url).toBe(second.url);
    expect(one.status.moves).toBe(1);
  });

  test('without a key is a TypeError', () => {
    expect(() => upstream(options)).toThrow(/needs a key/);
  });
});

test('without affinity a session is balanced like everybody', () => {
  const one = upstream({ affinity: 'none' });
  expect(urlsOf(3, () => ask(one, head(), { sid: 's' }).url)).toEqual(['http://a', 'http://b', 'http://c']);
});
