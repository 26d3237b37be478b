import { describe, expect, test } from 'vitest';
import type { Config, RouteConfig } from '../../src/config/config.ts';
import { checkStricterRoutes } from '../../src/server/assembly/stricter-routes.ts';

const upstreams: NonNullable<Config['upstreams']> = {
  app: { servers: ['http://127.0.0.1:3000'] },
  alias: { servers: ['http://10.0.0.1:3000', { url: 'ws://localhost:3000' }] },
  other: { servers: ['http://10.0.0.1:3001'] },
  socket: { servers: ['unix:/run/app.sock'] },
  sameSocket: { servers: ['unix:/run/../run/app.sock'] },
};
const SOCKETS = 'takes WebSockets for a server that';
const PATHS = 'leads to what the server has for';

const strict: RouteConfig = { path: '/socket', upstream: 'app', policy: { origins: [] } };
const secret: RouteConfig = {
  path: '/admin/*',
  upstream: 'app',
  policy: { transport: 'confidential' },
  websocket: false,
};

/** Index of the route and what is said of it. */
function warnings(...routes: RouteConfig[]): [unknown, string][] {
  return [...checkStricterRoutes({ upstreams, routes })].map(({ path, message }) => [
    path.join('.'),
    message.includes(SOCKETS) ? SOCKETS : message.includes(PATHS) ? PATHS : message,
  ]);
}

describe('a way round a stricter WebSocket policy that is open is told of', () => {
  test.each<[string, RouteConfig]>([
    ['a path beside it', { path: '/chat/*', upstream: 'app' }],
    ['a path beside it, by another upstream to the server', { path: '/chat', upstream: 'alias' }],
    ['a path above it that says that it takes them', { path: '/*', upstream: 'app', websocket: true }],
    ['a path above it with limits of its own', { path: '/*', upstream: 'alias', websocket: { idleTimeout: '1h' } }],
    ['a path that is rewritten', { path: '/x/*', upstream: 'app', rewrite: '/chat' }],
  ])('%s', (_, route) => {
    expect(warnings(strict, route)).toEqual([['routes.1', SOCKETS]]);
  });

  test.each<[string, RouteConfig]>([
    ['a path above it that refuses them', { path: '/*', upstream: 'app' }],
    ['a route without WebSockets', { path: '/chat', upstream: 'app', websocket: false }],
    ['a route that takes no GET', { path: '/chat', upstream: 'app', methods: ['POST'] }],
    ['another server', { path: '/chat', upstream: 'other' }],
    ['another host', { path: '/chat', upstream: 'app', host: 'b.example' }],
    ['the same policy', { ...strict, path: '/chat' }],
    ['a route that leads nowhere', { path: '/chat', upstream: 'missing' }],
  ])('but not %s', (_, route) => {
    expect(warnings({ ...strict, host: 'a.example' }, route)).toEqual([]);
  });

  test.each([
    ...['127.0.0.1', '127.1', '0x7f.1', '2130706433', '127.8.0.1', '0.0.0.0', '0', '127.0.0.1.'],
    ...['localhost', 'LOCALHOST', 'localhost.', 'a.localhost', 'localhost.localdomain', 'localhost6', 'ip6-localhost'],
    ...['ip6-loopback', 'IP6-LOCALHOST.', '[::1]', '[0:0::1]', '[::]', '[::127.0.0.1]', '[::ffff:127.0.0.1]'],
    ...['[::ffff:7f00:1]', '[::ffff:0:127.0.0.1]', '[::ffff:0.0.0.0]', '[64:ff9b::127.0.0.1]'],
  ])('when this machine is written as %s', host => {
    const config = {
      upstreams: { ...upstreams, again: { servers: [`http://${host}:3000`] } },
      routes: [strict, { path: '/chat', upstream: 'again' }],
    };
    expect([...checkStricterRoutes(config)].map(({ path }) => path.join('.'))).toEqual(['routes.1']);
  });

  test.each(['10.0.0.1', '10.1', '[::ffff:10.0.0.1]', '[::10.0.0.1]', '10.0.0.1.'])(
    'when another machine is written as %s',
    host => {
      const config = {
        upstreams: { one: { servers: ['http://10.0.0.1:3000'] }, again: { servers: [`http://${host}:3000`] } },
        routes: [
          { ...strict, upstream: 'one' },
          { path: '/chat', upstream: 'again' },
        ],
      };
      expect([...checkStricterRoutes(config)].map(({ path }) => path.join('.'))).toEqual(['routes.1']);
    },
  );

  test.each(['10.0.0.2', 'localhost.example', 'notlocalhost', '[::2]', '[::ffff:128.0.0.1]', '[fe80::7f00:1]'])(
    'but not when %s is another machine',
    host => {
      const config = {
        upstreams: { ...upstreams, again: { servers: [`http://${host}:3000`] } },
        routes: [strict, { path: '/chat', upstream: 'again' }],
      };
      expect([...checkStricterRoutes(config)]).toEqual([]);
    },
  );

  test('in a mounted application, and by a Unix socket', () => {
    const mounted = (route: RouteConfig) => ({ mount: '/m', application: { routes: [route] } });
    expect(warnings(mounted({ ...strict, upstream: 'socket' }), { path: '/chat', upstream: 'sameSocket' })).toEqual([
      ['routes.1', SOCKETS],
    ]);
    expect(warnings({ ...strict, upstream: 'sameSocket' }, mounted({ path: '/chat', upstream: 'socket' }))).toEqual([
      ['routes.1.application.routes.0', SOCKETS],
    ]);
  });
});

test('where each of two lets in what the other does not, both are told of', () => {
  const other = { path: '/chat', upstream: 'app', policy: { origins: ['https://b.example'] } };
  expect(warnings({ ...strict, policy: { origins: ['https://a.example'] } }, other)).toEqual([
    ['routes.0', SOCKETS],
    ['routes.1', SOCKETS],
  ]);
});

test('a list of addresses more asks for more, and one that all have makes none stricter', () => {
  const deny = (...addresses: string[]): RouteConfig['policy'] => ({ addresses: { deny: addresses } });
  const mounted = (outer: string, inner: string) => [
    {
      mount: '/m',
      policy: deny('10.0.0.0/8'),
      application: {
        routes: [
          { path: '/socket', upstream: 'app', ...(outer && { policy: deny(outer) }) },
          { path: '/other', upstream: 'app', ...(inner && { policy: deny(inner) }) },
        ],
      },
    },
  ];
  const at = (index: number) => [`routes.0.application.routes.${index}`, SOCKETS];
  expect(warnings(...mounted('', ''))).toEqual([]);
  expect(warnings(...mounted('11.0.0.0/8', ''))).toEqual([at(1)]);
  expect(warnings(...mounted('', '11.0.0.0/8'))).toEqual([at(0)]);
});

describe('a route that leads to the paths of a stricter one at the same server is told of', () => {
  const plain = { websocket: false } as const;
  test.each<[string, RouteConfig, RouteConfig]>([
    ['by its rewrite', secret, { ...plain, path: '/pub/*', upstream: 'alias', rewrite: '/' }],
    [
      'by the path that the other is rewritten to',
      { ...secret, rewrite: '/hidden' },
      { ...plain, path: '/*', upstream: 'app' },
    ],
    ['by both', { ...secret, rewrite: '/x/hidden' }, { ...plain, path: '/pub/*', upstream: 'app', rewrite: '/x' }],
  ])('%s', (_, one, other) => {
    expect(warnings(one, other)).toEqual([['routes.1', PATHS]]);
  });

  test.each<[string, RouteConfig, RouteConfig]>([
    ['without rewrite', secret, { ...plain, path: '/*', upstream: 'app' }],
    [
      'with the same rewrite',
      { ...secret, path: '/p/admin/*', rewrite: '/x/admin' },
      { ...plain, path: '/p/*', upstream: 'app', rewrite: '/x' },
    ],
    ['at another server', secret, { ...plain, path: '/pub/*', upstream: 'other', rewrite: '/' }],
    ['beside it', secret, { ...plain, path: '/pub/*', upstream: 'app', rewrite: '/adminsonly' }],
  ])('but not %s', (_, one, other) => {
    expect(warnings(one, other)).toEqual([]);
  });
});
