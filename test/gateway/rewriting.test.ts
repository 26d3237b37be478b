import { describe, expect, test } from 'vitest';
import { Rewriting } from '../../src/gateway/exchange/rewriting.ts';
import { OwnNames } from '../../src/gateway/own-names.ts';
import { PathRewrite } from '../../src/gateway/routing/path-rewrite.ts';
import { UpstreamCookies, type UpstreamCookiesConfig } from '../../src/gateway/upstream/cookies.ts';
import type { RequestHead } from '../../src/http/request-head.ts';
import { parseRoutePattern } from '../../src/http/route-pattern.ts';

interface Situation {
  path?: string;
  query?: string;
  host?: string;
  isSecure?: boolean;
  route?: string;
  to?: string;
  servers?: string[];
  cookies?: UpstreamCookiesConfig;
}

/**
 * By default a client that asks https://example.com/app/a/b, of which the backend knows
 * http://localhost:3000/other/a/b.
 */
function rewriting(situation: Situation = {}): Rewriting {
  const { path = '/app/a/b', query = '', host = 'example.com', isSecure = true, servers = [] } = situation;
  const urls = servers.length > 0 ? servers : ['http://localhost:3000', 'ws://127.0.0.1:3001'];
  const rewrite = 'to' in situation && situation.to === undefined ? undefined : (situation.to ?? '/other');
  const own = new OwnNames();
  for (const name of ['holdfast', 'app1_own']) own.cookies.add(name);
  own.cookiePrefixes.add('app1_').add('app2_');
  return new Rewriting({
    head: { path, query, host, isSecure } as RequestHead,
    upstream: {
      servers: urls.map(url => ({ url, isTls: /^(?:https|wss):/.test(url) })),
      cookies: new UpstreamCookies(situation.cookies, own),
    },
    rewrite:
      rewrite === undefined ? undefined : new PathRewrite(parseRoutePattern(situation.route ?? '/app/*'), rewrite),
  });
}

test('the backend is asked for its own path, with the query of the client', () => {
  expect(rewriting({ query: 'x=/app' }).target).toBe('/other/a/b?x=/app');
  expect(rewriting({ to: undefined }).target).toBe('/app/a/b');
});

describe('a Location', () => {
  test.each([
    // To the server itself, in whatever scheme it is configured.
    ['http://localhost:3000/other/x?y=1#z', 'https://example.com/app/x?y=1#z'],
    ['HTTP://LOCALHOST:3000/other', 'https://example.com/app'],
    ['http://127.0.0.1:3001/other/x', 'https://example.com/app/x'],
    ['ws://127.0.0.1:3001/other/x', 'wss://example.com/app/x'],
    ['//localhost:3000/other/x', '//example.com/app/x'],
    // To the public host, which the backend knows; but not that TLS ends before it.
    ['http://example.com/other/x', 'https://example.com/app/x'],
    ['https://example.com/other/x', 'https://example.com/app/x'],
    ['https://EXAMPLE.com:443/other/x', 'https://example.com/app/x'],
    ['//example.com/other/x', '//example.com/app/x'],
    // To a path.
    ['/other/x', '/app/x'],
    ['/other', '/app'],
    ['/other/../other/x', '/app/x'],
    ['/other/caf\xc3\xa9', '/app/caf%C3%A9'],
    // What leads to the right place as it is.
    ['x', 'x'],
    ['../x?y', '../x?y'],
    ['?page=2', '?page=2'],
    ['#top', '#top'],
    ['../../otherwise', '../../otherwise'],
    // Elsewhere.
    ['https://elsewhere.example/other/x', 'https://elsewhere.example/other/x'],
    ['http://localhost:3002/other/x', 'http://localhost:3002/other/x'],
    ['https://localhost:3000/other/x', 'https://localhost:3000/other/x'],
    ['http://localhost:3000/elsewhere', 'http://localhost:3000/elsewhere'],
    ['http://example.com:8080/other/x', 'http://example.com:8080/other/x'],
    ['http://user@localhost:3000/other/x', 'http://user@localhost:3000/other/x'],
    ['http://localhost:3000@elsewhere.example/other', 'http://localhost:3000@elsewhere.example/other'],
    ['/otherwise', '/otherwise'],
    ['/app/x', '/app/x'],
    ['/\\elsewhere.example/other', '/\\elsewhere.example/other'],
    ['mailto:a@example.com', 'mailto:a@example.com'],
    ['http://[', 'http://['],
    ['', ''],
  ])('%s is for the client %s', (value, expected) => {
    expect(rewriting().toClient('location', value)).toBe(expected);
    expect(rewriting().toClient('content-location', value)).toBe(expected);
    expect(rewriting().toClient('uri', value)).toBe(expected);
  });

  test('has the scheme, host and port that the client uses', () => {
    const link = (host: string, isSecure: boolean) =>
      rewriting({ host, isSecure }).toClient('location', 'http://localhost:3000/other/x');
    expect(link('example.com:8443', true)).toBe('https://example.com:8443/app/x');
    expect(link('example.com:8080', false)).toBe('http://example.com:8080/app/x');
    expect(link('[::1]:8080', false)).toBe('http://[::1]:8080/app/x');
  });

  test('of a client without TLS that leads to https keeps its scheme, with the path of the route', () => {
    for (const servers of [['http://localhost:3000'], ['https://localhost:3000'], ['https://example.com']])
      for (const name of ['location', 'content-location', 'uri'])
        expect(rewriting({ isSecure: false, servers }).toClient(name, 'https://example.com/other/x')).toBe(
          'https://example.com/app/x',
        );
  });

  test('that the backend made with its public paths stays, and one to its server does not', () => {
    const stripped = rewriting({ to: '/' });
    expect(stripped.toClient('location', '/app/login')).toBe('/app/login');
    expect(stripped.toClient('location', 'https://example.com/app/login')).toBe('https://example.com/app/login');
    expect(stripped.toClient('location', 'http://localhost:3000/app/login')).toBe('https://example.com/app/app/login');
    expect(stripped.toClient('location', '/login')).toBe('/app/login');
  });

  test('that is relative is made absolute where the paths have not the same depth', () => {
    expect(rewriting({ path: '/app', to: '/' }).toClient('location', 'login')).toBe('/app/login');
    expect(rewriting({ path: '/chat/1', route: '/chat/:room', to: '/a/b/:room' }).toClient('location', '../b/2')).toBe(
      '/chat/2',
    );
  });

  test('without a rewrite has its path, on the public host', () => {
    const link = (value: string) => rewriting({ to: undefined }).toClient('location', value);
    expect(link('http://localhost:3000/a//b')).toBe('https://example.com/a//b');
    expect(link('http://localhost:3000//evil.example')).toBe('https://example.com//evil.example');
    expect(link('http://example.com/a')).toBe('https://example.com/a');
    expect(link('/a//b')).toBe('/a//b');
    expect(link('https://example.com/\xc3\xa9')).toBe('https://example.com/\xc3\xa9');
  });

  test('never leads to a host that the backend did not name', () => {
    const root = rewriting({ path: '/', route: '/*', to: '/other' });
    expect(root.toClient('location', '/other//elsewhere.example')).toBe('/elsewhere.example');
    expect(root.toClient('location', '/other/\\elsewhere.example')).toBe('/elsewhere.example');
    expect(root.toClient('location', '/other/%2f/elsewhere.example')).toBe('/%2F/elsewhere.example');
  });
});

test.each([
  ['5; url=/other/x', '5; url=/app/x'],
  ['0;URL="http://localhost:3000/other"', '0;URL="https://example.com/app"'],
  ["1.5, url = '/other'", "1.5, url = '/app'"],
  ['5', '5'],
  ['5; url=https://elsewhere.example/other', '5; url=https://elsewhere.example/other'],
  // All that browsers read.
  ['5;/other/x', '5;/app/x'],
  ['5 /other/x', '5 /app/x'],
  ['.5; url=/other/x', '.5; url=/app/x'],
  ['5; url="/other/x', '5; url="/app/x'],
  ['5; url="/other/x" and more', '5; url="/app/x" and more'],
  ['5; url=', '5; url='],
  ['5x; url=/other/x', '5x; url=/other/x'],
  ['url=/other/x', 'url=/other/x'],
])('a Refresh of %s is for the client %s', (value, expected) => {
  expect(rewriting().toClient('refresh', value)).toBe(expected);
});

test('a Refresh with much white space takes no time', () => {
  const before = process.cpuUsage();
  for (const quote of ['', '"']) rewriting().toClient('refresh', `0;url=${quote}a${' '.repeat(60_000)}x`);
  expect(process.cpuUsage(before).user).toBeLessThan(500_000);
});

describe('a cookie that the backend sets', () => {
  const set = (value: string, situation: Situation = {}) => rewriting(situation).toClient('set-cookie', value);

  test.each([
    ['a=1; Path=/other; HttpOnly', 'a=1; Path=/app; HttpOnly'],
    ['a=1;path=/other/x', 'a=1; Path=/app/x'],
    ['a=1; Path=/other/', 'a=1; Path=/app/'],
    ['a=1; Path=/', 'a=1; Path=/'],
    ['a=1; Path=/otherwise', 'a=1; Path=/otherwise'],
    ['a=1; Path=relative', 'a=1; Path=relative'],
    ['a=1', 'a=1'],
    ['a="x; Path=/other', 'a="x; Path=/app'],
    ['__Secure-a=1; Secure; Path=/other', '__Secure-a=1; Secure; Path=/app'],
  ])('has the public path: %s is %s', (value, expected) => {
    expect(set(value)).toBe(expected);
  });

  test('for all of a backend is for all of the route, unless that breaks what its name promises', () => {
    expect(set('a=1; Path=/', { to: '/' })).toBe('a=1; Path=/app');
    expect(set('__Host-a=1; Secure; Path=/', { to: '/' })).toBe('__Host-a=1; Secure; Path=/');
    expect(set('__host-Http-a=1; Secure; Path=/', { to: '/' })).toBe('__host-Http-a=1; Secure; Path=/');
    expect(set('a=1; Path=/app', { to: '/' })).toBe('a=1; Path=/app');
    expect(set('a=1; Path=/app', { path: '/', route: '/*', to: '/app' })).toBe('a=1; Path=/');
  });

  test('has another domain only where the browser would refuse it, or the upstream says so', () => {
    expect(set('a=1; Domain=example.com')).toBe('a=1; Domain=example.com');
    expect(set('a=1; Domain=.Example.com; Secure', { host: 'www.example.com:8080' })).toBe(
      'a=1; Domain=.Example.com; Secure',
    );
    expect(set('a=1; Domain=localhost; Secure')).toBe('a=1; Secure');
    expect(set('a=1; domain=ple.com')).toBe('a=1');
    expect(set('a=1; Domain=internal', { cookies: { domain: 'example.com' } })).toBe('a=1; Domain=example.com');
    expect(set('a=1', { cookies: { domain: 'example.com' } })).toBe('a=1');
    expect(set('a=1; Domain=example.com', { cookies: { domain: false } })).toBe('a=1');
  });

  test('has the path of the upstream where that has one', () => {
    const cookies = { path: '/p' };
    expect(set('a=1; Path=/other', { cookies })).toBe('a=1; Path=/p');
    expect(set('a=1', { cookies })).toBe('a=1; Path=/p');
    expect(set('__Host-a=1; Path=/', { cookies })).toBe('__Host-a=1; Path=/');
  });

  test.each([
    ['JSESSIONID=1.one; Path=/other', 'app1_JSESSIONID=1.one; Path=/app'],
    ['__Host-a=1; Secure; Path=/', '__Host-app1_a=1; Secure; Path=/'],
    ['__SECURE-a=1; Secure', '__SECURE-app1_a=1; Secure'],
    ['__Host-Http-a=1', '__Host-Http-app1_a=1'],
    ['__Http-a=1', '__Http-app1_a=1'],
  ])('has the prefix of the upstream: %s is %s', (value, expected) => {
    expect(set(value, { cookies: { prefix: 'app1_' } })).toBe(expected);
  });

  test.each([
    // Ours, by its own name, by the one it gets, and by none: such a cookie comes back as its value.
    ['holdfast=forged', {}],
    [' holdfast = forged; Path=/', {}],
    ['=holdfast=forged', {}],
    [' = holdfast=forged', {}],
    ['own=forged', { prefix: 'app1_' }],
    ['holdfast=forged', { prefix: 'app1_' }],
    ['fast=forged', { prefix: 'hold' }],
    ['=app2_a=forged', { prefix: 'app1_' }],
    ['nameless', { prefix: 'app1_' }],
    // Another upstream's.
    ['app2_a=forged', {}],
    ['=app2_a=forged', {}],
    ['__Host-app2_a=forged; Secure; Path=/', {}],
  ] as const)('is not passed on: %s with %j', (value, cookies) => {
    expect(set(value, { cookies })).toBeUndefined();
  });
});

describe('the cookies that a backend gets', () => {
  test.each([
    ['a=1; holdfast=x; b=2', {}, 'a=1; b=2'],
    ['holdfast=x', {}, undefined],
    ['a=1;b', {}, 'a=1;b'],
    ['a=1; app2_a=2; __Host-app1_b=3; xapp1_c=4', {}, 'a=1; xapp1_c=4'],
    // With a prefix: those of the backend, under its own names.
    ['app1_JSESSIONID=1; JSESSIONID=2; app2_JSESSIONID=3', { prefix: 'app1_' }, 'JSESSIONID=1'],
    ['x=0;  app1_a = "1" ; app1_b=2', { prefix: 'app1_' }, 'a = "1" ; b=2'],
    ['__Host-app1_a=1; __Secure-app1_b=2; __Host-a=3', { prefix: 'app1_' }, '__Host-a=1; __Secure-b=2'],
    ['a=1', { prefix: 'app1_' }, undefined],
    ['app1_=1; app1_', { prefix: 'app1_' }, undefined],
    // Our own names, and names that promise what no browser has checked, cannot be made.
    ['app1_holdfast=forged; app1_a=1', { prefix: 'app1_' }, 'a=1'],
    ['holdfast=secret', { prefix: 'hold' }, undefined],
    ['app1_own=secret', { prefix: 'app1_' }, undefined],
    ['app1___Host-a=forged; app1___Secure-a=forged', { prefix: 'app1_' }, undefined],
    ['__Host-app1_Http-a=forged; __Secure-app1_a=1', { prefix: 'app1_' }, '__Secure-a=1'],
  ] as const)('%s with %j: %s', (header, cookies, expected) => {
    expect(rewriting({ cookies }).cookiesToBackend(header)).toBe(expected);
  });
});
