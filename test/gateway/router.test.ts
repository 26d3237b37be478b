import { describe, expect, test } from 'vitest';
import { createRouter, type RouteEntry } from '../../src/gateway/routing/router.ts';
import { cpuTime } from '../cpu-time.ts';
import { receiveGoodHead } from '../http/receive-head.ts';

/** `'example.com/chat/:room'` or `'/chat'`: the entry is named after what it says. */
function entry(text: string, methods?: readonly string[]): RouteEntry<string> {
  const slash = text.indexOf('/');
  return {
    pattern: text.slice(slash),
    name: text,
    value: text,
    ...(slash > 0 && { host: text.slice(0, slash) }),
    ...(methods && { methods }),
  };
}

const router = (...entries: (string | RouteEntry<string>)[]) =>
  createRouter(entries.map(item => (typeof item === 'string' ? entry(item) : item)));

const get = (path: string, host = 'localhost') => ({ method: 'GET', path, host });

describe('a pattern', () => {
  test.each([
    ['/chat', '/chat', true],
    ['/chat', '/chat/', false],
    ['/chat', '/chatter', false],
    ['/chat', '/CHAT', false],
    ['/', '/', true],
    ['/', '/x', false],
    ['/chat/:room', '/chat/a', true],
    ['/chat/:room', '/chat/', false],
    ['/chat/:room', '/chat', false],
    ['/chat/:room', '/chat/a/b', false],
    ['/chat/:room', '/chat/a/', false],
    ['/chat/*', '/chat', true],
    ['/chat/*', '/chat/', true],
    ['/chat/*', '/chat/a/b', true],
    ['/chat/*', '/chatter', false],
    ['/rooms/:room/*', '/rooms/a', true],
    ['/rooms/:room/*', '/rooms/a/b/c', true],
    ['/rooms/:room/*', '/rooms/', false],
    ['/rooms/:room/*', '/rooms', false],
    ['/*', '/', true],
    ['/*', '/a/b', true],
    ['/*', '*', false],
    ['/straße', '/stra%C3%9Fe', true],
  ])('%s on %s: %s', (pattern, path, matches) => {
    expect(router(pattern).match(get(path)) !== undefined).toBe(matches);
  });
});

describe('parameters', () => {
  test('are percent-decoded', () => {
    const found = router('/chat/:room/:user').match(get('/chat/caf%C3%A9%20%2F/bob'));
    expect(found).toMatchObject({ params: { room: 'café /', user: 'bob' } });
  });

  test('that are not UTF-8 stay escaped', () => {
    expect(router('/chat/:room').match(get('/chat/%FF'))).toMatchObject({ params: { room: '%FF' } });
  });

  test('have the names of the entry that matched', () => {
    const both = router(entry('/chat/:reader', ['GET']), entry('/chat/:writer', ['POST']));
    expect(both.match({ ...get('/chat/x'), method: 'POST' })).toMatchObject({ params: { writer: 'x' } });
    expect(both.match(get('/chat/x'))).toMatchObject({ params: { reader: 'x' } });
  });

  test('are none for an exact pattern', () => {
    expect(router('/chat').match(get('/chat'))).toEqual({ name: '/chat', value: '/chat', params: {}, rest: '' });
  });
});

test.each([
  ['/static/*', '/static', ''],
  ['/static/*', '/static/', '/'],
  ['/static/*', '/static/a/b%2Fc', '/a/b%2Fc'],
  ['/*', '/', '/'],
  ['/*', '/a', '/a'],
  ['/u/:name/*', '/u/alice/a/b', '/a/b'],
  ['/u/:name', '/u/alice', ''],
])('%s leaves of %s the rest %j', (pattern, path, rest) => {
  expect(router(pattern).match(get(path))).toMatchObject({ rest });
});

describe('the most specific route wins, whatever the order of declaration:', () => {
  test.each([
    ['/a/b', ['/*', '/a/*', '/a/:x', '/a/b'], '/a/b'],
    ['/a/c', ['/*', '/a/*', '/a/:x', '/a/b'], '/a/:x'],
    ['/a/c/d', ['/*', '/a/*', '/a/:x', '/a/b'], '/a/*'],
    ['/x', ['/*', '/a/*', '/a/:x', '/a/b'], '/*'],
    ['/a/b/c/d', ['/a/*', '/a/b/*', '/a/b/c/*'], '/a/b/c/*'],
    ['/a/b', ['/:x/b', '/a/:y', '/:x/:y'], '/a/:y'],
    ['/c/b', ['/:x/b', '/a/:y', '/:x/:y'], '/:x/b'],
    ['/c/d', ['/:x/b', '/a/:y', '/:x/:y'], '/:x/:y'],
    ['/a/b/c', ['/:x/*', '/a/*'], '/a/*'],
    ['/a/b/c', ['/:x/:y/*', '/a/*'], '/:x/:y/*'],
    ['/a/b/c', ['/:x/b/*', '/a/:y/*'], '/a/:y/*'],
    ['/a', ['/a/*', '/:x'], '/:x'],
    ['/a', ['/a/*', '/a'], '/a'],
  ])('%s among %j goes to %s', (path, patterns, winner) => {
    expect(router(...patterns).match(get(path))).toMatchObject({ name: winner });
    expect(router(...patterns.toReversed()).match(get(path))).toMatchObject({ name: winner });
  });

  const hosts = ['/a', '*.example.com/*', '*.b.example.com/*', 'www.example.com/*', '[::1]/a'];
  test.each([
    ['www.example.com', '/a', 'www.example.com/*'],
    ['www.example.com:8443', '/a', 'www.example.com/*'],
    ['www.example.com.', '/a', 'www.example.com/*'],
    ['api.example.com', '/a', '*.example.com/*'],
    ['a.b.example.com', '/a', '*.b.example.com/*'],
    ['a.c.example.com', '/a', '*.example.com/*'],
    ['example.com', '/a', '/a'],
    ['evilexample.com', '/a', '/a'],
    ['[::1]:8080', '/a', '[::1]/a'],
  ])('host %s, path %s goes to %s', (host, path, winner) => {
    expect(router(...hosts).match(get(path, host))).toMatchObject({ name: winner });
    expect(router(...hosts.toReversed()).match(get(path, host))).toMatchObject({ name: winner });
  });

  test('a host that has no route for the path leaves it to the routes of every host', () => {
    expect(router('www.example.com/x', '/a').match(get('/a', 'www.example.com'))).toMatchObject({ name: '/a' });
  });

  test('a host written with other letters is the one browsers send', () => {
    expect(router('MÜNCHEN.test/a').match(get('/a', 'xn--mnchen-3ya.test'))).toBeDefined();
  });
});

describe('methods', () => {
  const api = router(entry('/api', ['GET', 'post']), entry('/any'), entry('/any', ['PUT']), '/*');

  test.each([
    ['GET', '/api', '/api'],
    ['HEAD', '/api', '/api'],
    ['POST', '/api', '/api'],
    ['PUT', '/any', '/any'],
    ['DELETE', '/any', '/any'],
  ])('%s %s goes to %s', (method, path, name) => {
    expect(api.match({ method, path, host: 'a' })).toMatchObject({ name });
  });

  test('that the most specific pattern does not take are answered with those it takes', () => {
    expect(api.match({ method: 'DELETE', path: '/api', host: 'a' })).toEqual({
      allowedMethods: ['GET', 'HEAD', 'POST'],
    });
  });

  test('choose between two entries of one pattern', () => {
    const two = router({ ...entry('/any'), value: 'all' }, { ...entry('/any', ['PUT']), value: 'put' });
    expect(two.match({ method: 'PUT', path: '/any', host: 'a' })).toMatchObject({ value: 'put' });
    expect(two.match({ method: 'GET', path: '/any', host: 'a' })).toMatchObject({ value: 'all' });
  });

  test('must not be an empty list', () => {
    expect(() => router(entry('/a', []))).toThrow('the route "/a" takes no method');
  });
});

describe('path parameters', () => {
  const { match } = router('/chat/:room', '/static/*', '/t/:tenant/x/*', '/*');
  test.each([
    ['/chat/a;b=c', '/chat/:room', { room: 'a;b=c' }, ''],
    ['/chat;v=1/a', '/chat/:room', { room: 'a' }, ''],
    ['/;v/chat/a', '/chat/:room', { room: 'a' }, ''],
    ['/static/a;v=1/b;v=2', '/static/*', {}, '/a;v=1/b;v=2'],
    ['/static;v/a', '/static/*', {}, '/a'],
    ['/static/;v', '/static/*', {}, '/;v'],
    ['/static;v', '/static/*', {}, ''],
    ['/;v/static/;w/a;x', '/static/*', {}, '/a;x'],
    ['/t/a;b/x;c/d', '/t/:tenant/x/*', { tenant: 'a;b' }, '/d'],
    ['/;jsessionid=A', '/*', {}, '/;jsessionid=A'],
  ])('of %s are no part of what is matched, and stay in what is left over', (path, value, params, rest) => {
    expect(match(get(path))).toMatchObject({ value, params, rest });
  });
});

test('escapes that mean nothing in a path are the same as what they stand for', () => {
  const { match } = router('/a:b/*', '/c%40d', '/e%2Ff', '/*');
  expect(match(get('/a%3Ab/x'))).toMatchObject({ value: '/a:b/*', rest: '/x' });
  expect(match(get('/c@d'))).toMatchObject({ value: '/c%40d' });
  expect(match(get('/e%2Ff'))).toMatchObject({ value: '/e%2Ff' });
  expect(match(get('/e/f'))).toMatchObject({ value: '/*' });
  expect(match(get('/x%3Ay'))).toMatchObject({ value: '/*', rest: '/x%3Ay' });
});

describe('the same pattern twice', () => {
  test.each([
    ['/chat', '/chat'],
    ['/chat/:room', '/chat/:id'],
    ['/chat/*', '/chat/*'],
    ['/:a/*', '/:b/*'],
    ['/chat', '/%63hat'],
    ['/a:b', '/a%3Ab'],
    ['example.com/chat', 'EXAMPLE.com/chat'],
    ['*.example.com/*', '*.Example.com/*'],
  ])('%s and %s is an error that names both', (first, second) => {
    const create = () => router({ ...entry(first), name: 'first' }, { ...entry(second), name: 'second' });
    expect(create).toThrow(
      expect.objectContaining({
        code: 'ERR_ROUTE_DUPLICATE',
        message: expect.stringContaining(`"first" (${first}) and "second" (${second})`),
      }),
    );
  });

  test('for overlapping methods is an error', () => {
    expect(() => router(entry('/a', ['GET', 'PUT']), entry('/a', ['PUT', 'POST']))).toThrow(
      expect.objectContaining({ code: 'ERR_ROUTE_DUPLICATE' }),
    );
  });

  test.each([
    ['/chat', '/chat/'],
    ['/chat', '/chat/*'],
    ['example.com/chat', '/chat'],
    ['*.example.com/chat', 'example.com/chat'],
  ])('is not %s and %s', (first, second) => {
    expect(() => router(first, second)).not.toThrow();
  });
});

test.each(['example.com:8080', 'a*.example.com', '*', '', 'a/b', 'a b', 'https://example.com'])(
  'the host %j is a TypeError',
  host => {
    expect(() => router({ pattern: '/', host, name: 'x', value: 'x' })).toThrow(`not a host: ${JSON.stringify(host)}`);
  },
);

// What Apache's ProxyPass /socket does with the same requests, apart from `/socket;x=1` (with `mapping=servlet` it does
// the same) and `%2f`, which is data to us.
test.each([
  ['/socket', 'socket'],
  ['/socket/foo?x=1', 'socket'],
  ['//socket', 'socket'],
  ['/%73ocket', 'socket'],
  ['/socket/../app', 'app'],
  ['/app/../socket', 'socket'],
  ['/socketfoo', 'rest'],
  ['/SOCKET', 'rest'],
  ['/socket;x=1', 'socket'],
  ['/socket;x=1/foo', 'socket'],
  ['/;x/socket', 'socket'],
  ['/app;jsessionid=A', 'app'],
  ['/%3Bx/socket', 'rest'],
  ['/socket%2f..%2fapp', 'rest'],
])('a request for %s is routed to %s', async (target, name) => {
  const routes = createRouter([
    { pattern: '/socket/*', name: 'socket', value: 1 },
    { pattern: '/app', name: 'app', value: 2 },
    { pattern: '/*', name: 'rest', value: 3 },
  ]);
  expect(routes.match(await receiveGoodHead([`GET ${target} HTTP/1.1`, 'Host: a']))).toMatchObject({ name });
});

test('a path of thousands of segments costs no more than reading it', () => {
  const routes = router('/*', '/api/*');
  const path = '/a'.repeat(8_000);
  const took = cpuTime(() => {
    for (let i = 0; i < 50; i++) expect(routes.match(get(path))).toMatchObject({ value: '/*', rest: path });
  });
  // Looking up each of its beginnings takes some 30 ms each time.
  expect(took).toBeLessThan(400);
});
