import { describe, expect, test } from 'vitest';
import type { SessionConfig } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { defineEndpoint } from '../../src/websocket/endpoint.ts';

describe('parseConfig', () => {
  test('takes `memory` for `memory:`, which YAML does not take without quotes', () => {
    expect(parseConfig({ session: { store: 'memory' } }).session).toEqual({ store: 'memory:' });
    expect(parseConfig({ session: { store: { url: 'memory' } } }).session).toEqual({ store: { url: 'memory:' } });
  });

  test('passes live objects through as the same objects', () => {
    const fetch = () => new Response();
    const endpoint = defineEndpoint({ path: '/chat' });
    const store = { name: 'own', commit() {} };
    const origins = [/^https:\/\/[a-z]+\.example\.com$/];
    const config = parseConfig({
      session: { store },
      routes: [{ path: '/', fetch, policy: { origins } }, { endpoint }],
    });
    expect(config.routes?.[0]?.fetch).toBe(fetch);
    expect(config.routes?.[0]?.policy?.origins?.[0]).toBe(origins[0]);
    expect(config.routes?.[1]?.endpoint).toBe(endpoint);
    expect(config.session).toHaveProperty('store', store);
  });

  test('refuses a route that takes the requests of an endpoint', () => {
    const endpoint = defineEndpoint({ path: ['/chat/:room', '/talk'] });
    expect(() => parseConfig({ routes: [{ endpoint }, { path: '/chat/:name', fetch: () => new Response() }] })).toThrow(
      'routes[1]: route "/chat/:name" takes the same requests as route "/chat/:room, /talk" before it',
    );
  });

  test('refuses a route that takes the requests of one in a mounted application', () => {
    const fetch = () => new Response();
    const shop = { mount: '/shop', application: { routes: [{ path: '/:item', methods: ['GET'], fetch }] } };
    const route = (more: object) => ({ path: '/shop/:id', methods: ['GET'], fetch, ...more });
    const SAME = 'takes the same requests as route';
    expect(() => parseConfig({ routes: [route({}), shop] })).toThrow(
      `routes[1].application.routes[0]: route "/:item" ${SAME} "/shop/:id" before it`,
    );
    expect(() => parseConfig({ routes: [shop, route({})] })).toThrow(
      `routes[1]: route "/shop/:id" ${SAME} "/:item" before it`,
    );
    for (const more of [{ methods: ['POST'] }, { host: 'a.example' }, { path: '/shop/*' }, { path: '/shop' }])
      expect(parseConfig({ routes: [shop, route(more)] })).toBeDefined();
  });

  test('refuses a route that leaves nothing for the files or the handler of its application', () => {
    const fetch = () => new Response();
    const mounted = (more: object, rest: object) => ({
      routes: [{ mount: '/m', application: { routes: [{ path: '/*', fetch, ...more }], ...rest } }],
    });
    expect(() => parseConfig(mounted({}, { fetch }))).toThrow(
      'routes[0].application.fetch: takes the same requests as route "/*"; remove one of the two',
    );
    expect(() => parseConfig(mounted({}, { files: '.', fetch }))).toThrow(
      'routes[0].application.files: takes the same',
    );
    expect(parseConfig(mounted({ methods: ['POST'] }, { fetch }))).toBeDefined();
    expect(parseConfig(mounted({ path: '/a/*' }, { fetch }))).toBeDefined();
  });

  test('refuses an endpoint whose dispatch policy is not defined', () => {
    const endpoint = defineEndpoint({ path: '/chat', dispatch: 'work' });
    expect(() => parseConfig({ dispatch: { wrk: { concurrency: 1 } }, routes: [{ endpoint }] })).toThrow(
      'routes[0].endpoint: route "/chat": dispatch policy "work" is not defined; did you mean "wrk"?',
    );
    expect(parseConfig({ dispatch: { work: { concurrency: 1 } }, routes: [{ endpoint }] })).toBeDefined();
  });

  test('does not change the document', () => {
    const document = Object.freeze({ headerTimeout: '5s', session: Object.freeze({ idleTimeout: '1m' }) });
    expect(parseConfig(document)).toEqual({ headerTimeout: 5_000, session: { idleTimeout: 60_000 } });
  });

  test('accepts its own result', () => {
    const once = parseConfig({ maxHeaderSize: '4KiB', session: { idleTimeout: '1.5h', absoluteTimeout: -1 } });
    expect(parseConfig(once)).toEqual(once);
    expect(once).toEqual({ maxHeaderSize: 4096, session: { idleTimeout: 5_400_000, absoluteTimeout: -1 } });
  });

  test('reports problems of fields and of references together', () => {
    expect(() => parseConfig({ maxHeaderSize: 'big', routes: [{ path: '/', upstream: 'app' }], x: 1 })).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG_INVALID',
        problems: [
          expect.objectContaining({ path: 'maxHeaderSize' }),
          expect.objectContaining({ path: 'x' }),
          expect.objectContaining({ path: 'routes[0].upstream' }),
        ],
      }),
    );
  });

  test.each(['toString', 'constructor', '__proto__'])('does not take %s of every object for an upstream', name => {
    expect(() => parseConfig({ upstreams: {}, routes: [{ path: '/', upstream: name }] })).toThrow(
      `upstream "${name}" is not defined`,
    );
  });
});

test.each([
  ['/m', true],
  ['/m/n', true],
  ['/straße', true],
  ['/m/', false],
  ['/', false],
  ['/m/../n', false],
  ['/..', false],
  ['/%2e', false],
  ['/a%', false],
  ['/a\\b', false],
  ['/:a', false],
  ['/m/*', false],
  ['m', false],
  ['/a b', false],
])('%j as a mount point is accepted: %s', (mount, isAccepted) => {
  const parse = () => parseConfig({ routes: [{ mount, application: { routes: [{ path: '/a', redirect: '/b' }] } }] });
  if (isAccepted) expect(parse).not.toThrow();
  else expect(parse).toThrow('is not a mount point');
});

test('a control character in a path is refused, although a route pattern would escape it', () => {
  expect(() => parseConfig({ routes: [{ path: '/a\u0001', redirect: '/b' }] })).toThrow('can never match');
});

test.each([
  ['self', true],
  ['https://a', true],
  ['https://*.a', true],
  ['any', false],
  ['https://a/', false],
  ['https://a,b', false],
  ['https://*.a!b', false],
  ['x-y://a!b', false],
])('%j in a list of origins is accepted: %s', (origin, isAccepted) => {
  const parse = () => parseConfig({ routes: [{ path: '/a', redirect: '/b', policy: { origins: [origin] } }] });
  if (isAccepted) expect(parse).not.toThrow();
  else expect(parse).toThrow('is not an origin that can be let in');
});

const OFTEN = 'write every';
const RANGE = 'is not between "100ms" and "1d"';

test.each<[session: SessionConfig, refusal: string | undefined]>([
  [{ write: { every: '99ms' } }, RANGE],
  [{ write: { every: '100ms' } }, undefined],
  [{ write: { every: '1d' }, idleTimeout: -1 }, undefined],
  [{ write: { every: '25h' }, idleTimeout: -1 }, RANGE],
  [{ write: { every: '15m' } }, undefined],
  [{ write: { every: '16m' } }, OFTEN],
  [{ write: { every: '1m' }, idleTimeout: '119s' }, OFTEN],
  [{ write: { every: '10m' }, lifetime: 'aal3' }, OFTEN],
  [{ write: { every: '10m' }, lifetime: 'aal2' }, undefined],
  [{ write: { every: '10h' }, lifetime: 'aal1' }, undefined],
  [{ profile: 'very-high', idleTimeout: '9m' }, OFTEN],
  [{ profile: 'high', idleTimeout: '9m' }, OFTEN],
  [{ profile: 'high', idleTimeout: '10m' }, undefined],
  [{ profile: 'high', idleTimeout: '9m', write: 'manual' }, undefined],
  [{ profile: 'medium', idleTimeout: '9s' }, undefined],
  [{ profile: 'failover', idleTimeout: '9s' }, undefined],
  [{ sweep: { every: '1d' } }, undefined],
  [{ sweep: { every: '2d' } }, 'is more than "1d"'],
])('sessions with %j are refused with %j, those of a mounted application too', (session, refusal) => {
  for (const config of [{ session }, { routes: [{ mount: '/m', application: { session, routes: [] } }] }]) {
    const parse = () => parseConfig(config);
    if (refusal === undefined) expect(parse).not.toThrow();
    else expect(parse).toThrow(refusal);
  }
});

test.each<[what: string, document: unknown, problem: string]>([
  [
    'an object that no file can hold',
    { upstreams: { app: { servers: [new URL('http://a')] } } },
    'upstreams.app.servers[0]: expected text or keys and values, got a URL',
  ],
  [
    'an expression',
    { routes: [{ path: /a/, redirect: '/b' }] },
    'routes[0].path: expected text or a list, got a RegExp',
  ],
  [
    'one of two kinds of keys',
    { session: { sweep: { atHours: ['12:30'] } } },
    'session.sweep.atHours[0]: expected a number, got "12:30"',
  ],
  [
    'keys of two kinds',
    { session: { sweep: { atHours: [5], every: '5m' } } },
    'session.sweep.atHours: unknown key "atHours" in sweep; known keys: every',
  ],
])('%s is one problem, said once', (_, document, problem) => {
  expect(() => parseConfig(document)).toThrow(new RegExp(`^${RegExp.escape(problem)}$`));
});

describe('what is not a document of keys and values', () => {
  const itself: { routes: unknown[] } = { routes: [] };
  itself.routes.push({ mount: '/a', application: itself });

  test.each<[what: string, document: unknown, problem: string]>([
    ['a Map', new Map([['listen', []]]), 'expected keys and values, got a Map'],
    ['a Date', new Date(), 'expected keys and values, got a Date'],
    ['a promise', Promise.resolve({}), 'expected keys and values, got a Promise'],
    ['a URL', new URL('http://a'), 'expected keys and values, got a URL'],
    ['a Map inside', { listen: [new Map()] }, 'listen[0]: expected keys and values, got a Map'],
    ['a Map of names', { upstreams: new Map() }, 'upstreams: expected keys and values, got a Map'],
    ['a Set of routes', { routes: new Set() }, 'routes: expected a list, got a Set'],
    ['a Map for tls', { listen: [{ port: 0, tls: new Map() }] }, 'listen[0].tls: expected'],
    ['nothing', null, 'expected keys and values, got nothing'],
    ['no argument', undefined, 'expected keys and values'],
    ['a list', [], 'expected keys and values, got a list'],
    ['a symbol', { routes: [{ path: '/', methods: [Symbol('GET')] }] }, 'got Symbol(GET)'],
    ['a symbol for a host', { routes: [{ path: '/', host: Symbol('a') }] }, 'got Symbol(a)'],
    ['a symbol in a constraint', { constraints: [{ paths: [Symbol('a')] }] }, 'got Symbol(a)'],
    ['what is no text', { constraints: [{ paths: Object.create(null) }] }, 'constraints[0].paths: expected'],
    ['a circle', itself, 'routes[0].application: holds itself'],
    [
      'a name of every object',
      { upstreams: JSON.parse('{"__proto__": {"servers": ["http://a"]}}') },
      'upstreams.__proto__: "__proto__" cannot be a name',
    ],
    [
      'an unknown key without a value',
      { lisen: undefined },
      'lisen: unknown key "lisen" in the configuration; did you mean "listen"?',
    ],
    [
      'a key for anchors that is not at the top',
      { listen: [{ port: 0, 'x-a': 1 }] },
      'listen[0].x-a: unknown key "x-a"',
    ],
  ])('%s is an error that says so', (_, document, problem) => {
    expect(() => parseConfig(document)).toThrow(problem);
  });

  test.each<[what: string, document: unknown, config: unknown]>([
    [
      'an object of a class',
      {
        listen: [
          new (class Listener {
            port = 0;
          })(),
        ],
      },
      { listen: [{ port: 0 }] },
    ],
    [
      'an object without a prototype',
      Object.assign(Object.create(null), { listen: [{ port: 0 }] }),
      { listen: [{ port: 0 }] },
    ],
    [
      'a getter',
      {
        get listen() {
          return [{ port: 0 }];
        },
      },
      { listen: [{ port: 0 }] },
    ],
    ['a value that is undefined', { listen: undefined, routes: [] }, { routes: [] }],
    [
      'one object in two places',
      (() => {
        const policy = { origins: ['self'] };
        return {
          routes: [
            { path: '/a', redirect: '/', policy },
            { path: '/b', redirect: '/', policy },
          ],
        };
      })(),
      expect.anything(),
    ],
    ['keys at the top for anchors', { 'x-defaults': { any: new Map() }, routes: [] }, { routes: [] }],
  ])('%s is taken', (_, document, config) => expect(parseConfig(document)).toEqual(config));
});
