import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { type ConfigError, createServer, defineEndpoint, HoldfastError } from 'holdfast';
import {
  attachSession,
  defineType,
  loadOrCreateKey,
  MemoryLedger,
  MemoryStore,
  SessionManager,
  SessionTypeUnknownError,
  toExpressStore,
  UnauthorizedSessionRequestError,
} from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';
import { openPostgres, PostgresLedger, PostgresStore } from 'holdfast/session/postgres';
import { RedisLedger, RedisStore } from 'holdfast/session/redis';
import { testClient } from 'holdfast/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { ledgerConformance, storeConformance } from '../../src/testing/index.ts';
import { Http2Client } from './http2-client.ts';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-options-'));
afterAll(() => rmSync(folder, { recursive: true }));

// Called as JavaScript: nothing of this compiles.
// biome-ignore lint/suspicious/noExplicitAny: what the types forbid is what is tried.
type Any = any;
const keys = ['k'.repeat(32)];
const store = new MemoryStore();
const manager = (options: object) => new SessionManager({ store, keys, ...options } as Any);
const sessions = manager({});
const endpoint = (options: object) => defineEndpoint({ path: '/chat', ...options } as Any);
const exchange = () => {
  const request = new IncomingMessage(new Socket());
  return [request, new ServerResponse(request)] as const;
};
const openSession = () =>
  sessions.bind({ cookieHeader: undefined, isSecure: true, isDocumentNavigation: false }).open();

describe('an option that does not exist is a TypeError that names the nearest one', () => {
  test.each<[call: string, use: () => unknown, message: string]>([
    ['defineEndpoint', () => endpoint({ onMesage() {} }), 'unknown option "onMesage"; did you mean "onMessage"?'],
    ['defineEndpoint', () => endpoint({ onmessage() {} }), 'did you mean "onMessage"?'],
    ['defineEndpoint', () => endpoint({ idleTimeOut: '5s' }), 'did you mean "idleTimeout"?'],
    ['defineEndpoint', () => endpoint({ wibble: undefined }), 'unknown option "wibble"; known options: path, '],
    [
      'defineEndpoint',
      () => endpoint({ compression: { treshold: '1KiB' } }),
      'unknown option "compression.treshold"; did you mean "threshold"?',
    ],
    ['defineEndpoint', () => endpoint({ dispatch: { concurency: 1 } }), 'did you mean "concurrency"?'],
    [
      'defineEndpoint',
      () =>
        defineEndpoint(
          new (class {
            path = '/a';
            rooms = new Map();
            onMesage() {}
          })() as Any,
        ),
      'did you mean "onMessage"?',
    ],
    ['broadcast', () => endpoint({}).broadcast('x', { exept: {} } as Any), 'did you mean "except"?'],
    ['SessionManager', () => manager({ idleTimeout: 5 }), 'did you mean "idleTimeoutMs"?'],
    [
      'SessionManager',
      () => manager({ cookie: { sameSte: 'lax' } }),
      'unknown option "cookie.sameSte"; did you mean "sameSite"?',
    ],
    ['SessionManager', () => manager({ cookie: { secure: true } }), 'unknown option "cookie.secure"'],
    ['SessionManager', () => manager({ warnSize: { atributeBytes: 1 } }), 'did you mean "attributeBytes"?'],
    [
      'SessionManager',
      () => manager({ write: { every: '5s' } }),
      'unknown option "write.every"; did you mean "everyMs"?',
    ],
    ['SessionManager', () => manager({ sweep: { atHour: [1] } }), 'did you mean "atHours"?'],
    [
      'SessionManager',
      () => manager({ maxSessionsPerUser: { maximum: 1 } }),
      'unknown option "maxSessionsPerUser.maximum"',
    ],
    [
      'attachSession',
      () => attachSession(sessions, ...exchange(), { secure: true } as Any),
      'did you mean "isSecure"?',
    ],
    ['toExpressStore', () => toExpressStore(store, { ttl: 5 } as Any), 'did you mean "ttlMs"?'],
    ['MemoryStore', () => new MemoryStore({ maxSession: 5 } as Any), 'did you mean "maxSessions"?'],
    ['MemoryLedger', () => new MemoryLedger({ clok: undefined } as Any), 'did you mean "clock"?'],
    ['LmdbStore', () => new LmdbStore({ path: join(folder, 'a'), maxSize: 5 } as Any), 'unknown option "maxSize"'],
    ['LmdbStore', () => new LmdbStore({ Path: folder } as Any), 'did you mean "path"?'],
    [
      'LmdbLedger',
      () => new LmdbLedger({ path: join(folder, 'a'), reserveByte: 5 } as Any),
      'did you mean "reserveBytes"?',
    ],
    ['redis', () => RedisStore.open('redis://127.0.0.1:1', { perfix: 'a' } as Any), 'did you mean "prefix"?'],
    [
      'redis',
      () => RedisStore.open('redis://127.0.0.1:1', { acknowledge: { replica: 1 } } as Any),
      'did you mean "replicas"?',
    ],
    ['redis', () => RedisLedger.open('redis://127.0.0.1:1', { perfix: 'a' } as Any), 'did you mean "prefix"?'],
    [
      'postgres',
      () => openPostgres({ url: 'postgres://127.0.0.1:1/a', poolsize: 5 } as Any),
      'did you mean "poolSize"?',
    ],
    ['postgres', () => PostgresStore.open({ uri: 'postgres://127.0.0.1:1/a' } as Any), 'did you mean "url"?'],
    ['postgres', () => PostgresLedger.open({ uri: 'postgres://127.0.0.1:1/a' } as Any), 'did you mean "url"?'],
    ['loadOrCreateKey', () => loadOrCreateKey(folder, { reserve: 5 } as Any), 'unknown option "reserve"'],
    ['inspector', () => sessions.inspector({ allowed: () => true } as Any), 'did you mean "allow"?'],
    ['endAllOf', () => sessions.endAllOf('alice', { exept: 'x' } as Any), 'did you mean "except"?'],
    [
      'renew',
      async () => (await openSession()).renew({ owners: { name: 'a', roles: [] } } as Any),
      'did you mean "owner"?',
    ],
    ['testClient', () => testClient('ws://127.0.0.1:1', { header: {} } as Any), 'did you mean "headers"?'],
    ['createServer', () => createServer({}, { loger: undefined } as Any), 'did you mean "logger"?'],
    ['stop', () => createServer({}).stop({ drains: 0 } as Any), 'did you mean "drain"?'],
    ['defineType', () => defineType('options.a', class A {}, { kep: [] } as Any), 'did you mean "keep"?'],
    [
      'storeConformance',
      () => storeConformance('x', () => store, {} as Any, { slack: 1 } as Any),
      'unknown option "slack"',
    ],
  ])('%s: %s', async (call, use, message) => {
    const error = await (async () => use())().then(
      () => expect.fail('was accepted'),
      error => error,
    );
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(message);
    expect(error.message.startsWith(`${call}: `)).toBe(true);
  });

  test('what exists is taken, also undefined, and the fields of a class that has callbacks', async () => {
    class Chat {
      path = '/chat';
      rooms = new Map();
      message = '';
      onMessage() {}
    }
    expect(defineEndpoint(new Chat())).toBeDefined();
    expect(endpoint({ onOpen: undefined, compression: { level: 1 }, dispatch: 'work' })).toBeDefined();
    expect(manager({ idleTimeoutMs: undefined, write: 'manual', sweep: { everyMs: 5 } })).toBeDefined();
    expect(ledgerConformance).toBeDefined();
  });

  test.each(['drain', 'remove'] as const)('%s of an upstream', async method => {
    await using server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      upstreams: { app: { servers: ['http://127.0.0.1:1'] } },
      routes: [{ path: '/', upstream: 'app' }],
      log: { level: 'silent' },
    });
    await server.start();
    const app = server.upstreams.get('app')!;
    await expect(async () => app[method]('http://127.0.0.1:1', { ower: 0 } as Any)).rejects.toThrow(
      'did you mean "over"?',
    );
    expect(() => app.add({ url: 'http://127.0.0.1:2', wieght: 2 } as Any)).toThrow('did you mean "weight"?');
    expect(() => server.publish('news', 'x', { exept: {} } as Any)).toThrow('did you mean "except"?');
  });
});

describe('what is no object of options, or lacks what is needed, is a TypeError in our words', () => {
  test.each<[what: string, use: () => unknown, message: RegExp]>([
    [
      'new SessionManager()',
      () => new (SessionManager as Any)(),
      /^SessionManager: needs "store" and "keys", for example new SessionManager\(\{/,
    ],
    ['new SessionManager(null)', () => new SessionManager(null as Any), /^SessionManager: needs "store" and "keys"/],
    ['new SessionManager({})', () => new SessionManager({} as Any), /^SessionManager: needs "store" and "keys"/],
    ['without keys', () => new SessionManager({ store } as Any), /^SessionManager: needs "keys"/],
    ['without a store', () => new SessionManager({ keys } as Any), /^SessionManager: needs "store"/],
    [
      'a store by URL',
      () => manager({ store: 'memory:' }),
      /^SessionManager: "store" is a session store, not "memory:"|a string/,
    ],
    ['a promise of a store', () => manager({ store: RedisStore.open('redis://127.0.0.1:1').catch(() => {}) }), /await/],
    ['one key', () => manager({ keys: keys[0] }), /"keys" is a list/],
    ['defineEndpoint()', () => (defineEndpoint as Any)(), /^defineEndpoint: options are an object, not undefined/],
    ['defineEndpoint({})', () => defineEndpoint({} as Any), /^defineEndpoint: needs "path"/],
    [
      'a path that is a number',
      () => defineEndpoint({ path: 5 } as Any),
      /"path" is a text or a list of texts, not a number/,
    ],
    ['a path of numbers', () => defineEndpoint({ path: [5] } as Any), /"path" is a text or a list of texts/],
    ['a callback that is no function', () => endpoint({ onMessage: 'x' }), /"onMessage" is a function, not a string/],
    ['an accept that is no function', () => endpoint({ accept: true }), /"accept" is a function, not a boolean/],
    ['toExpressStore()', () => (toExpressStore as Any)(), /^toExpressStore: "store" is a session store, not undefined/],
    [
      'attachSession(req, res)',
      () => (attachSession as Any)(...exchange()),
      /^attachSession: .*SessionManager.* first/,
    ],
    ['attachSession(sessions)', () => (attachSession as Any)(sessions), /^attachSession: no node:http request/],
    ['new MemoryStore(5)', () => new MemoryStore(5 as Any), /^MemoryStore: options are an object, not a number/],
    ['new LmdbStore()', () => new (LmdbStore as Any)(), /^LmdbStore: options are an object, not undefined/],
    ['new LmdbStore({})', () => new LmdbStore({} as Any), /^LmdbStore: needs "path"/],
    ['openPostgres()', () => (openPostgres as Any)(), /^postgres: options are an object, not undefined/],
    ['stop(5)', () => createServer({}).stop(5 as Any), /^stop: options are an object, not a number/],
    [
      'testClient options',
      () => testClient('ws://127.0.0.1:1', null as Any),
      /^testClient: options are an object, not null/,
    ],
    [
      'close with a text',
      async () => {
        await using server = createServer({
          listen: [{ port: 0, host: '127.0.0.1' }],
          session: false,
          routes: [{ endpoint: endpoint({}) }],
          log: { level: 'silent' },
        });
        await server.start();
        await using client = await testClient(`${server.urls[0]}/chat`);
        (client.close as Any)('1000');
      },
      /^close: a code is a number, not a string; pass 1000/,
    ],
    ['attach()', () => (createServer({}).attach as Any)(), /^attach: .*http or https server, not undefined/],
    [
      'signIn without a name',
      () => sessions.bind({ cookieHeader: undefined, isSecure: true, isDocumentNavigation: false }).signIn({} as Any),
      /name/,
    ],
  ])('%s', async (_, use, message) => {
    const error = await (async () => use())().then(
      () => expect.fail('was accepted'),
      error => error,
    );
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toMatch(message);
  });

  test.each<[what: string, use: () => unknown, message: string]>([
    [
      'coherence',
      () => manager({ coherence: 'strct' }),
      '"coherence" is one of strict, relaxed, not "strct"; did you mean "strict"?',
    ],
    ['tracking', () => manager({ tracking: 'cookies' }), 'did you mean "cookie"?'],
    ['overflow', () => manager({ overflow: 'evit' }), 'did you mean "evict"?'],
    ['profile', () => manager({ profile: 'hihg' }), 'did you mean "high"?'],
    ['lifetime', () => manager({ lifetime: 'aal9' }), '"lifetime" is one of aal1, aal2, aal3'],
    ['contents', () => manager({ contents: 'al' }), '"contents" is one of'],
    ['conflicts', () => manager({ conflicts: 'lastwins' }), 'did you mean "last-wins"?'],
    ['sameSite', () => manager({ cookie: { sameSite: 'laxx' } }), '"cookie.sameSite" is one of strict, lax, none'],
    [
      'whenReached',
      () => manager({ maxSessionsPerUser: { max: 1, whenReached: 'refused' } }),
      'did you mean "refuse"?',
    ],
    ['a cookie that is a name', () => manager({ cookie: 'sid' }), '"cookie" is an object, not a string'],
    ['a sweep that is a time', () => manager({ sweep: '5m' }), '"sweep" is an object, not a string'],
    ['a ledger by URL', () => manager({ ledger: 'memory:' }), '"ledger" is an object, not a string'],
    [
      'one origin',
      () => endpoint({ origins: 'https://a.example' }),
      '"origins" is "accept", "any" or a list of origins, not a string',
    ],
    ['origins that are no texts', () => endpoint({ origins: [5] }), '"origins" is'],
    ['one subprotocol', () => endpoint({ subprotocols: 'chat' }), '"subprotocols" is a list of texts, not a string'],
    ['compression by a text', () => endpoint({ compression: 'yes' }), '"compression" is true, false or an object'],
  ])('a value that does not exist: %s', (_, use, message) => {
    expect(use).toThrow(TypeError);
    expect(use).toThrow(message);
  });

  test.each(['get', 'open', 'signIn', 'encodeUrl'] as const)(
    'sessions.%s of something that is no request says so',
    async method => {
      for (const carrier of [undefined, null, 5, 'x'])
        await expect(async () => (sessions[method] as Any)(carrier, { name: 'a', roles: [] })).rejects.toThrow(
          new RegExp(`^${method}: give it the request`),
        );
    },
  );

  test.each(['get', 'open', 'signIn'] as const)(
    'sessions.%s of a request without attachSession names attachSession',
    async method => {
      await expect(async () =>
        (sessions[method] as Any)(exchange()[0], { name: 'a', roles: [] }),
      ).rejects.toMatchObject({
        code: 'ERR_SESSION_OUTSIDE_REQUEST',
        message: expect.stringContaining('attachSession(sessions, req, res)'),
      });
    },
  );

  test('over a real connection, too', async () => {
    const server = createHttpServer((request, response) => {
      sessions.open(request).catch(error => response.end(error.message));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    expect(await (await fetch(`http://127.0.0.1:${port}`)).text()).toContain('attachSession');
    server.close();
  });
});

describe('a session is not a bag', () => {
  test.each(['cart', 'userId', 'toString'])('session.%s = ... is an error that names set', async name => {
    const session = (await openSession()) as Any;
    expect(() => {
      session[name] = 5;
    }).toThrow(`session.set("${name}", `);
    expect(() => Object.assign(session, { [name]: 5 })).toThrow(TypeError);
    expect(session.has(name)).toBe(false);
    const scope = session.scope('shop');
    expect(() => {
      scope[name] = 5;
    }).toThrow('set(');
  });

  test('its methods cannot be replaced, and what looks at it does no harm', async () => {
    const session = (await openSession()) as Any;
    expect(() => {
      session.get = () => 5;
    }).toThrow(TypeError);
    expect(await Promise.resolve(session)).toBe(session);
    expect(inspect(session)).toContain('Session');
    expect([session.cart, 'cart' in session, session.then, String(session)]).toEqual([
      undefined,
      false,
      undefined,
      '[object Object]',
    ]);
    session.idleTimeoutMs = 5_000;
    expect(session.idleTimeoutMs).toBe(5_000);
  });
});

describe.each(['http/1', 'tls', 'http/2'] as const)('over %s', wire => {
  test.each<[what: string, accept: () => unknown, logged: RegExp]>([
    ['returns nothing', () => {}, /accept returned nothing; a "return" may be missing/],
    ['resolves with nothing', async () => {}, /accept returned nothing/],
    ['returns null', () => null, /accept: .*not null/],
    ['returns a text', () => 'yes', /accept: answer true, false, an acceptance or a refusal, not/],
    ['misspells a refusal', () => ({ staus: 401 }), /unknown option "staus"; did you mean "status"\?/],
    ['misspells an acceptance', () => ({ subProtocol: 'x' }), /did you mean "subprotocol"\?/],
    [
      'has headers that cannot be read',
      () => ({ headers: new Headers({ a: 'b' }) }),
      /"headers" is an object of names/,
    ],
    [
      'refuses with a list of headers',
      () => ({ status: 401, headers: [['a', 'b']] }),
      /"headers" is an object of names/,
    ],
    ['mixes the two', () => ({ status: 401, data: 5 }), /unknown option "data"/],
  ])('an accept that %s lets nobody in, and the log says why', async (_, accept, logged) => {
    const lines: string[] = [];
    const note = (fields: { err?: Error }, text: string) => void lines.push(`${text} ${fields.err?.message}`);
    const logger = { debug: note, info: note, warn: note, error: note };
    await using server = createServer(
      {
        listen: [
          { port: 0, host: '127.0.0.1' },
          { port: 0, host: '127.0.0.1', tls: 'self-signed' },
        ],
        session: false,
        routes: [{ endpoint: endpoint({ accept }) }],
        log: { access: 'off' },
      },
      { logger } as Any,
    );
    await server.start();
    if (wire === 'http/2') {
      using client = new Http2Client(server.urls[1]!);
      expect((await client.knock('/chat')).status).toBe(500);
    } else {
      const url = `${server.urls[wire === 'tls' ? 1 : 0]}/chat`;
      await expect(testClient(url, { tls: { rejectUnauthorized: false } })).rejects.toMatchObject({ status: 500 });
    }
    expect(lines.join('\n')).toMatch(logged);
  });
});

describe('an error object prints its code and nothing that is undefined', () => {
  test.each<[what: string, error: HoldfastError]>([
    ['a plain one', new HoldfastError('ERR_SERVER_STATE', 'stopped')],
    ['one with a status', new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', 'down', { status: 503 })],
    [
      'one with an undefined status',
      new HoldfastError('ERR_SERVER_STATE', 'x', { status: undefined, closeCode: undefined, cause: undefined } as Any),
    ],
    [
      'a configuration',
      (() => {
        try {
          createServer({ x: 1 } as Any);
        } catch (error) {
          return error as ConfigError;
        }
        throw new Error('accepted');
      })(),
    ],
    ['an unknown type', new SessionTypeUnknownError('a', 'b', 'c')],
    ['somebody else', new UnauthorizedSessionRequestError('x')],
  ])('%s', (_, error) => {
    const text = inspect(error);
    expect(text).toContain(`code: '${error.code}'`);
    expect(text).not.toContain('undefined');
    expect(Object.values(error)).not.toContain(undefined);
    expect(JSON.stringify(error)).toContain(error.code);
    expect([error.status, error.closeCode].every(value => value === undefined || typeof value === 'number')).toBe(true);
  });
});
