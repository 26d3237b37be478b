/** Values of another type than an option has: what TypeScript says, JavaScript hears at once. */
import { mkdtemp, rm } from 'node:fs/promises';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { createServer, defineEndpoint } from 'holdfast';
import {
  attachSession,
  loadOrCreateKey,
  MemoryLedger,
  MemoryStore,
  SessionManager,
  toExpressStore,
} from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';
import { openPostgres, PostgresLedger, PostgresStore } from 'holdfast/session/postgres';
import { RedisLedger, RedisStore } from 'holdfast/session/redis';
import { ledgerConformance, storeConformance, testClient } from 'holdfast/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

// biome-ignore lint/suspicious/noExplicitAny: what applications in JavaScript may pass.
type Any = any;

const store = new MemoryStore();
const keys = [new Uint8Array(32)];
const sessions = new SessionManager({ store, keys });
const manager = (options: object) => new SessionManager({ store, keys, ...options } as Any);
const endpoint = (options: object) => defineEndpoint({ path: '/chat', ...options } as Any);
const bind = (facts: object) =>
  sessions.bind({ cookieHeader: undefined, isSecure: true, isDocumentNavigation: false, ...facts } as Any);
const attach = (options: object) => {
  const request = new IncomingMessage(new Socket());
  return attachSession(sessions, request, new ServerResponse(request), options as Any);
};
let folder: string;
const lmdb = (options: object) => new LmdbStore({ path: join(folder, 'lmdb'), ...options } as Any);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'option-values-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const NUMBERS = [null, '5', Number.NaN, true, [5], {}, 5n, () => 5];
const FLAGS = [null, 'yes', 'false', 0, 1, {}];
const TEXTS = [null, 5, true, {}, ['a'], Symbol('a')];
const FUNCTIONS = [null, 'x', 5, {}];
const OBJECTS = [null, 5, [], Number.NaN];

const call =
  (use: (options: object) => unknown, name: string) =>
  (value: unknown): unknown =>
    use({ [name]: value });

const inside =
  (use: (options: object) => unknown, name: string, inner: string, rest: object = {}) =>
  (value: unknown): unknown =>
    use({ [name]: { ...rest, [inner]: value } });

type Case = [name: string, use: (value: unknown) => unknown, values: readonly unknown[]];

const suite: Any = { describe: () => {}, test: () => {} };

describe('a value of another type is a TypeError that names the option', () => {
  test.each<Case>([
    ...[
      'idleTimeoutMs',
      'absoluteTimeoutMs',
      'renewalTimeoutMs',
      'storeTimeoutMs',
      'cacheSessions',
      'cacheBytes',
      'maxSessions',
      'maxAttributeBytes',
      'maxSessionBytes',
    ].map((name): Case => [name, call(manager, name), NUMBERS]),
    ['anonymousShare', call(manager, 'anonymousShare'), [...NUMBERS, 5, -1]],
    ['cookie.persistent', inside(manager, 'cookie', 'persistent'), FLAGS],
    ['cookie.everyListenerIsSecure', inside(manager, 'cookie', 'everyListenerIsSecure'), FLAGS],
    ['cookie.name', inside(manager, 'cookie', 'name'), TEXTS],
    ['cookie.domain', inside(manager, 'cookie', 'domain'), TEXTS],
    ['cookie.path', inside(manager, 'cookie', 'path'), TEXTS],
    ['header', call(manager, 'header'), TEXTS],
    ['urlParameter', call(manager, 'urlParameter'), TEXTS],
    ['sweep', call(manager, 'sweep'), [...OBJECTS, {}, 'x', { everyMs: 5, atHours: [5] }]],
    ['sweep.everyMs', inside(manager, 'sweep', 'everyMs'), [...NUMBERS, 0, -1, Number.POSITIVE_INFINITY]],
    ['sweep.atHours', inside(manager, 'sweep', 'atHours'), [null, 5, '5', {}, [], ['5'], [24], [Symbol('a')]]],
    ['write', call(manager, 'write'), [...OBJECTS, 'x']],
    ['write.everyMs', inside(manager, 'write', 'everyMs'), NUMBERS],
    ['warnSize.attributeBytes', inside(manager, 'warnSize', 'attributeBytes'), [...NUMBERS, 0, -1]],
    ['maxSessionsPerUser.max', inside(manager, 'maxSessionsPerUser', 'max', { whenReached: 'refuse' }), NUMBERS],
    ['ledger', call(manager, 'ledger'), [...OBJECTS, {}, Promise.resolve(new MemoryLedger())]],
    ['clock', call(manager, 'clock'), [...OBJECTS, {}, Date]],
    ['logger', call(manager, 'logger'), [...OBJECTS, {}, true, console.log]],
    ['key', value => manager({ keys: [value] }), [null, 5, {}, undefined]],
    ['maxSessions', value => new MemoryStore({ maxSessions: value } as Any), NUMBERS],
    ['anonymousShare', value => new MemoryStore({ anonymousShare: value } as Any), NUMBERS],
    ['clock', value => new MemoryLedger({ clock: value } as Any), OBJECTS],
    ['path', call(lmdb, 'path'), TEXTS],
    ['maxSessions', call(lmdb, 'maxSessions'), NUMBERS],
    ['maxBytes', call(lmdb, 'maxBytes'), NUMBERS],
    ['reserveBytes', call(lmdb, 'reserveBytes'), NUMBERS],
    ['freeBytes', call(lmdb, 'freeBytes'), FUNCTIONS],
    ['clock', value => new LmdbLedger({ path: join(folder, 'lmdb'), clock: value } as Any), OBJECTS],
    ['prefix', value => RedisStore.open('redis://127.0.0.1:1', { prefix: value } as Any), TEXTS],
    ['commandTimeoutMs', value => RedisStore.open('redis://127.0.0.1:1', { commandTimeoutMs: value } as Any), NUMBERS],
    [
      'acknowledge.replicas',
      value => RedisStore.open('redis://127.0.0.1:1', { acknowledge: { replicas: value } } as Any),
      NUMBERS,
    ],
    ['url', value => openPostgres({ url: value } as Any), TEXTS],
    ['poolSize', value => openPostgres({ url: 'postgres://127.0.0.1:1/a', poolSize: value } as Any), NUMBERS],
    ['migrate', value => openPostgres({ url: 'postgres://127.0.0.1:1/a', migrate: value } as Any), FLAGS],
    ['ttlMs', value => toExpressStore(store, { ttlMs: value } as Any), NUMBERS],
    ['logger', value => toExpressStore(store, { logger: value } as Any), [...OBJECTS, {}]],
    ['folder', value => loadOrCreateKey(value as Any), [...TEXTS, new URL('file:///a')]],
    ['reserveBytes', value => loadOrCreateKey(folder, { reserveBytes: value } as Any), NUMBERS],
    ['isSecure', call(attach, 'isSecure'), FLAGS],
    ['isCrossSiteSignIn', call(attach, 'isCrossSiteSignIn'), FLAGS],
    ['owner', call(attach, 'user'), [0, Number.NaN, '', 'alice', {}]],
    ['bind', value => sessions.bind(value as Any), [undefined, null, 5, 'x', [], true]],
    ['isSecure', call(bind, 'isSecure'), FLAGS],
    ['cookieHeader', call(bind, 'cookieHeader'), TEXTS],
    ['readHeader', call(bind, 'readHeader'), FUNCTIONS],
    ['isPreflight', call(bind, 'isPreflight'), FLAGS],
    ['kind', value => sessions.on(value as Any, () => {}), [null, undefined, 'create', 5, 'toString']],
    ['listener', value => sessions.on('created', value as Any), [...FUNCTIONS, undefined]],
    ['listener', value => sessions.onSocketEnd(value as Any), [...FUNCTIONS, undefined]],
    ['owner', value => bind({}).signIn(value as Any), [undefined, null, 'alice', 5, [], {}]],
    ['owner', async value => (await bind({}).open()).renew({ owner: value } as Any), [null, 0, '', 'alice', [], {}]],
    ['name of a user', value => sessions.endAllOf(value as Any), [...TEXTS, undefined, '']],
    ['name of a user', value => sessions.ofUser(value as Any), [...TEXTS, undefined, '']],
    ['sid', value => sessions.access(value as Any, () => {}), [...TEXTS, undefined, '']],
    ['sid', value => sessions.attach(value as Any), [...TEXTS, undefined, '']],
    ['sid', value => sessions.end(value as Any, 'admin'), [...TEXTS, undefined, '']],
    ['sid', value => sessions.info(value as Any), [...TEXTS, undefined, '']],
    ['work', value => sessions.access('sid', value as Any), [...FUNCTIONS, undefined]],
    ['carrier', value => sessions.bindTo(value as Any, bind({})), [undefined, null, 5, 'x']],
    ['binding', value => sessions.bindTo({}, value as Any), [undefined, null, 5, {}]],
    ['opened', value => new (RedisStore as Any)(value), ['redis://127.0.0.1:1', {}, undefined]],
    ['opened', value => new (RedisLedger as Any)(value), ['redis://127.0.0.1:1', {}, undefined]],
    ['opened', value => new PostgresStore(value as Any), ['postgres://127.0.0.1:1/a', {}, undefined]],
    ['opened', value => new PostgresLedger(value as Any), ['postgres://127.0.0.1:1/a', {}, undefined]],
    ['maxFragments', call(endpoint, 'maxFragments'), NUMBERS],
    ['maxConnections', call(endpoint, 'maxConnections'), NUMBERS],
    ['maxMessageSize', call(endpoint, 'maxMessageSize'), [null, [], Number.NaN, true, 5n]],
    ['idleTimeout', call(endpoint, 'idleTimeout'), [null, [], Number.NaN, true, 5n]],
    ['slowReader', call(endpoint, 'slowReader'), TEXTS],
    ['onMessage', call(endpoint, 'onMessage'), FUNCTIONS],
    ['compression.contextTakeover', inside(endpoint, 'compression', 'contextTakeover'), FLAGS],
    ['compression.level', inside(endpoint, 'compression', 'level'), NUMBERS],
    ['dispatch.queue', inside(endpoint, 'dispatch', 'queue', { concurrency: 1 }), NUMBERS],
    ['dispatch', call(endpoint, 'dispatch'), OBJECTS],
    [
      'headers',
      value => testClient('ws://127.0.0.1:1', { headers: value } as Any),
      [null, 'x', 5, new Headers(), new Map(), [['a', 'b']]],
    ],
    ['subprotocols', value => testClient('ws://127.0.0.1:1', { subprotocols: value } as Any), [null, 'x', 5]],
    ['logger', value => createServer({}, { logger: value } as Any), [...OBJECTS, {}]],
    ['accessLog', value => createServer({}, { accessLog: value } as Any), [...OBJECTS, {}, () => {}]],
    ['drain', value => createServer({}).stop({ drain: value } as Any), [null, {}, true]],
    ['open', value => ledgerConformance('x', value as Any, suite), FUNCTIONS],
    ['runner', value => ledgerConformance('x', () => ({ ledger: new MemoryLedger() }) as Any, value as Any), OBJECTS],
    ['runner', value => storeConformance('x', () => store, value as Any), [...OBJECTS, {}, undefined]],
    ['openSecond', value => storeConformance('x', () => store, suite, { openSecond: value } as Any), FUNCTIONS],
    ['update', async value => (await bind({}).open()).update('n', value as Any), [...FUNCTIONS, undefined]],
  ])('%s', async (name, use, values) => {
    for (const value of values) {
      const error = await (async () => use(value))().then(
        () => expect.fail(`was accepted: ${inspect(value)}`),
        error => error,
      );
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toContain(name);
      expect(error.message).not.toMatch(/is not a function$|Cannot |must be of type|\[object/);
    }
  });

  test('a limit of an endpoint that does not exist', () => {
    const { limits } = endpoint({}) as Any;
    limits.maxFragments = 5;
    expect(() => {
      limits.maxFragment = 5;
    }).toThrow(/maxFragment, object is not extensible/);
  });

  test('an option of `bind` that does not exist', () => {
    expect(() => bind({ isSecured: true })).toThrow('bind: unknown option "isSecured"; did you mean "isSecure"?');
  });

  test('what exists is taken: undefined for each, Infinity for times, and objects of a class', () => {
    const none = Object.fromEntries(
      ['idleTimeoutMs', 'clock', 'logger', 'cookie', 'sweep', 'ledger'].map(name => [name, undefined]),
    );
    expect(manager({ ...none, idleTimeoutMs: Number.POSITIVE_INFINITY, logger: console })).toBeDefined();
    expect(manager({ warnSize: { attributeBytes: undefined, sessionBytes: 5 } })).toBeDefined();
    expect(attach({ user: undefined, isSecure: undefined })).toBeDefined();
    expect(bind({ isPreflight: undefined, user: undefined })).toBeDefined();
    class Endpoint {
      path = '/chat';
      maxFragments = '5';
    }
    expect(() => defineEndpoint(new Endpoint() as Any)).toThrow('"maxFragments" is a number, not a string');
  });
});
