// biome-ignore-all lint/suspicious/noExplicitAny: parts of configurations, as a table has them.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { connect, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import { MemoryStore, SessionManager } from 'holdfast/session';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import type * as z from 'zod';
import { SCHEMES } from '../../src/config/auth-schema.ts';
import type { RouteConfig } from '../../src/config/config.ts';
import { configSchema } from '../../src/config/schema.ts';
import type * as Build from '../../src/server/assembly/build.ts';
import type { Assembly } from '../../src/server/assembly/build.ts';
import type { ServerSessions } from '../../src/server/server.ts';
import type { ReloadReport } from '../../src/server/take-over.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import type { ServedEndpoint } from '../../src/websocket/endpoint.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';
import { Lines } from './wires.ts';

/** What servers have put together, the newest last. They run as they are: nothing is replaced. */
const assemblies: Assembly[] = vi.hoisted(() => {
  // A file that ran before in this worker has loaded them as they are.
  vi.resetModules();
  return [];
});
vi.mock(import('../../src/server/assembly/build.ts'), async original => {
  const actual = await (original() as Promise<typeof Build>);
  return {
    ...actual,
    async build(...given: Parameters<typeof actual.build>) {
      const assembly = await actual.build(...given);
      assemblies.push(assembly);
      return assembly;
    },
  };
});

interface Running {
  readonly server: Server;
  readonly assembly: Assembly;
  /** Undefined before the reload. */
  readonly report: ReloadReport | undefined;
  readonly clock: FakeClock;
  readonly lines: Lines;
}

/** How a change is seen: as something else after the reload. */
interface Seen {
  readonly from: Config;
  readonly to: Config;
  see(running: Running): unknown;
}

/** What becomes of a key by a reload. */
type Row =
  | Seen
  /** It is of one value with another key: what is made from it is made from the whole. */
  | { readonly as: string }
  /** It counts after a restart, and the report says so. */
  | { readonly from: Config; readonly to: Config; readonly restart: string }
  /** The reload is refused. */
  | { readonly from: Config; readonly to: Config; readonly refused: RegExp }
  /** Nothing that runs is made from it. */
  | { readonly nothing: string }
  /** Another test shows it: file and title. */
  | { readonly shownBy: string };

const folder = mkdtempSync(join(tmpdir(), 'holdfast-keys-'));
const ports = [await freePort(), await freePort(), await freePort()] as const;
const closing: (() => unknown)[] = [];
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

mkdirSync(join(folder, 'acme'));
writeFileSync(join(folder, 'acme', 'proof'), 'proof');
for (const name of ['one', 'two']) writeFileSync(join(folder, `${name}.key`), name.repeat(32));
for (const name of ['one', 'two']) writeFileSync(join(folder, `${name}.token`), `${name}${'-'.repeat(40)}`);
const authority = createAuthority('Test CA');
writeFileSync(join(folder, 'ca.pem'), authority.certificate);
const [oneCertificate, twoCertificate] = ['one', 'two'].map(name => {
  const { certificate, key } = createCertificate({ name: 'localhost', authority });
  const files = { certificate: join(folder, `${name}.pem`), key: join(folder, `${name}.pem.key`) };
  writeFileSync(files.certificate, certificate);
  writeFileSync(files.key, key);
  return files;
}) as [{ certificate: string; key: string }, { certificate: string; key: string }];

const page: RouteConfig = { path: '/page', fetch: () => new Response('page') };
const base: Config = {
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [page],
  dataFolder: join(folder, 'data'),
  drain: { over: 0 },
};

// ---- how changes are seen

interface Got {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

async function get(server: Server, path = '/page', options: http.RequestOptions = {}, index = 0): Promise<Got> {
  const url = new URL(server.urls[index]!.replace('https:', 'http:'));
  const sent = http.request({ host: url.hostname, port: url.port, agent: false, ...options, path }).end();
  const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
  let body = '';
  for await (const part of response) body += part;
  return { status: response.statusCode!, headers: response.headers, body };
}

const ids = new WeakMap<object, number>();
let lastId = 0;
/** Another number for another object. */
function idOf(object: object | undefined): number {
  if (!object) return 0;
  if (!ids.has(object)) ids.set(object, ++lastId);
  return ids.get(object)!;
}

const isChanged = ({ report }: Running) => report?.changed.includes('/page') ?? false;

/** TLS, as a client has it that trusts everybody. */
async function handshake(server: Server, options: tls.ConnectionOptions = {}) {
  const socket = tls.connect({ port: Number(new URL(server.urls[0]!).port), rejectUnauthorized: false, ...options });
  try {
    await once(socket, 'secureConnect');
    return { certificate: socket.getPeerCertificate().fingerprint256, protocol: socket.alpnProtocol };
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  } finally {
    socket.destroy();
  }
}

// ---- keys, as the schema has them

type Schema = z.core.$ZodType & { readonly _zod: { readonly def: Record<string, never> & { type: string } } };

/** Every key that holds a value, with what may stand there. `[]` is an entry of a list, `*` one of a map. */
function keysOf(schema: z.core.$ZodType): Map<string, Schema[]> {
  const found = new Map<string, Schema[]>();
  const walk = (at: Schema, path: string, around: readonly Schema[]): void => {
    if (around.includes(at)) return;
    const { def } = at._zod as { def: Record<string, any> };
    const into = (inner: Schema, name = path) => walk(inner, name, [...around, at]);
    const below = (name: string) => (path === '' ? name : `${path}.${name}`);
    if (def.type === 'object')
      for (const [name, inner] of Object.entries(def.shape)) into(inner as Schema, below(name));
    else if (def.type === 'optional') into(def.innerType);
    else if (def.type === 'union') for (const option of def.options) into(option);
    else if (def.type === 'array') into(def.element, `${path}[]`);
    else if (def.type === 'record') into(def.valueType, below('*'));
    else if (def.type === 'lazy') into(def.getter());
    else if (def.type === 'pipe' && def.in._zod.def.type === 'transform') into(def.out);
    else found.set(path, [...(found.get(path) ?? []), at]);
  };
  walk(schema as Schema, '', []);
  return found;
}

/** Sections that stand in several places are one here: they are read by the same code. */
function placeOf(key: string): string {
  return key
    .replace(/^routes\[\]\.policy\./, 'policy.')
    .replace(/^routes\[\]\.application\.(session|constraints)/, '$1')
    .replace(/^(?:internal|admin)\.tls\b/, 'listen[].tls');
}

const keys = new Map<string, Schema[]>();
for (const [key, schemas] of keysOf(configSchema)) if (key !== 'auth.*') keys.set(placeOf(key), schemas);
for (const [type, schema] of Object.entries(SCHEMES))
  for (const [key, schemas] of keysOf(schema)) if (key !== 'type') keys.set(`auth.${type}.${key}`, schemas);

const CANDIDATES: readonly unknown[] = [
  ...[
    true,
    false,
    '1m',
    '2m',
    '1KiB',
    '2KiB',
    7,
    8,
    0.3,
    0.4,
    'one',
    'two',
    '/one',
    '/two',
    'one.example',
    'two.example',
  ],
  ...['10.0.0.1', '10.0.0.2', 'http://127.0.0.1:1', 'http://127.0.0.1:2', '/x+/', '/y+/', 'GET', 'POST', '7/s', '8/s'],
  ...[
    '7KiB/s',
    '8KiB/s',
    'path',
    'query',
    'subject.CN',
    'fingerprint',
    'CN=One',
    'CN=Two',
    () => undefined,
    () => null,
  ],
];

/** Two values that may stand at a key. */
function pairFor(key: string): readonly [unknown, unknown] {
  const schemas = keys.get(key);
  if (!schemas) throw new Error(`the schema has no key ${key}`);
  const values: unknown[] = [];
  for (const schema of schemas) {
    const { def } = schema._zod as { def: Record<string, any> };
    if (def.type === 'enum') values.push(...Object.values(def.entries));
    if (def.type === 'literal') values.push(...def.values);
    const takes = (value: unknown) => (schema as unknown as z.ZodType).safeParse(value).success;
    values.push(...CANDIDATES.filter(takes));
  }
  if (values.length < 2) throw new Error(`no two values for ${key}; give them in its row`);
  return [values[0], values[1]];
}

// ---- rows, by sections

/** `a.b[]` and 1: `{ a: { b: [1] } }`. */
function nested(path: readonly string[], value: unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  const inner = nested(rest, value);
  const name = first.replace('[]', '');
  return { [name === '*' ? 'any' : name]: first.endsWith('[]') ? [inner] : inner };
}

/** One in the other, where both have keys, and of lists the first entries. */
function merged(one: any, other: any): any {
  if (Array.isArray(one) && Array.isArray(other) && isPlain(one[0]) && isPlain(other[0]))
    return [merged(one[0], other[0]), ...one.slice(1)];
  if (!isPlain(one) || !isPlain(other)) return other;
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return Object.fromEntries(
    Array.from(names, name => [name, name in other ? merged(one[name], other[name]) : one[name]]),
  );
}

function isPlain(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

interface Section {
  /** In front of each key. */
  readonly at: string;
  readonly keys: readonly string[];
  /** What else has to be there. */
  readonly beside?: Readonly<Record<string, object>>;
  readonly values?: Readonly<Record<string, readonly [unknown, unknown]>>;
  /** @param fields Of the section. */
  config(fields: any): Config;
  see: Seen['see'];
}

function section({ at, keys: names, beside = {}, values = {}, config, see }: Section): Record<string, Row> {
  return Object.fromEntries(
    names.map(name => {
      const key = at === '' ? name : `${at}.${name}`;
      const [from, to] = values[name] ?? pairFor(key);
      const fits = Object.keys(beside).filter(start => name === start || name.startsWith(`${start}.`));
      const around = beside[fits.toSorted((a, b) => b.length - a.length)[0]!] ?? {};
      const fields = (value: unknown) => merged(around, nested(name.split('.'), value));
      return [key, { from: config(fields(from)), to: config(fields(to)), see }];
    }),
  );
}

function alike(as: string, names: readonly string[]): Record<string, Row> {
  return Object.fromEntries(names.map(key => [key, { as }]));
}

const listen = (fields: any): Config => ({ ...base, listen: [{ port: 0, host: '127.0.0.1', ...fields }] });
const socket = join(folder, 'one.sock');
const statusOf = async (asked: Promise<Got>) =>
  await asked.then(
    ({ status }) => status,
    () => 'no answer',
  );

const LISTEN: Record<string, Row> = {
  'listen[].port': {
    from: listen({ port: ports[0] }),
    to: listen({ port: ports[1] }),
    see: ({ server }) => server.urls,
  },
  'listen[].host': { from: listen({}), to: listen({ host: '127.0.0.2' }), see: ({ server }) => server.urls },
  'listen[].reusePort': { from: listen({}), to: listen({ reusePort: true }), refused: /restart the server/ },
  'listen[].socket': {
    from: { ...base, listen: [{ socket }] },
    to: { ...base, listen: [{ socket: `${socket}2` }] },
    see: () => existsSync(`${socket}2`),
  },
  'listen[].mode': {
    from: { ...base, listen: [{ socket, mode: '0600' }] },
    to: { ...base, listen: [{ socket, mode: '0660' }] },
    see: async () => {
      await sleep(50);
      return statSync(socket).mode & 0o777;
    },
  },
  ...alike('listen[].mode', ['listen[].group']),
  'listen[].activation': { shownBy: 'full/socket-activation.test.ts' },
  'listen[].fd': { shownBy: 'full/socket-activation.test.ts' },
  'listen[].hosts[]': {
    from: listen({}),
    to: listen({ hosts: ['one.example'] }),
    see: ({ server }) => statusOf(get(server, '/page', { headers: { Host: 'other.example' } })),
  },
  'listen[].tls': { from: listen({}), to: listen({ tls: 'self-signed' }), see: ({ server }) => handshake(server) },
  'listen[].tls.certificate': {
    from: listen({ tls: oneCertificate }),
    to: listen({ tls: twoCertificate }),
    see: ({ server }) => handshake(server),
  },
  'listen[].tls.minVersion': {
    from: listen({ tls: oneCertificate }),
    to: listen({ tls: { ...oneCertificate, minVersion: 'TLSv1.3' } }),
    see: ({ server }) => handshake(server, { maxVersion: 'TLSv1.2' }),
  },
  'listen[].tls.clientCertificates.mode': {
    from: listen({ tls: { ...oneCertificate, clientCertificates: { ca: join(folder, 'ca.pem'), mode: 'request' } } }),
    to: listen({ tls: { ...oneCertificate, clientCertificates: { ca: join(folder, 'ca.pem'), mode: 'require' } } }),
    see: ({ server }) => handshake(server, { maxVersion: 'TLSv1.2' }),
  },
  'listen[].tls.hsts': {
    from: listen({ tls: oneCertificate }),
    to: listen({ tls: { ...oneCertificate, hsts: '1d' } }),
    see: async ({ server }) => (await secureGet(server)).headers['strict-transport-security'],
  },
  ...alike('listen[].tls.minVersion', [
    ...['listen[].tls.key', 'listen[].tls.certificates[].certificate', 'listen[].tls.certificates[].key'],
    ...['listen[].tls.clientCertificates.ca', 'listen[].tls.clientCertificates.crl'],
    ...['listen[].tls.clientCertificates.crl[]', 'listen[].tls.hsts.maxAge'],
    ...['listen[].tls.hsts.includeSubDomains', 'listen[].tls.hsts.preload'],
  ]),
  'listen[].http2': {
    from: listen({ tls: oneCertificate }),
    to: listen({ tls: oneCertificate, http2: false }),
    see: ({ server }) => handshake(server, { ALPNProtocols: ['h2', 'http/1.1'] }),
  },
  ...alike('listen[].http2', ['listen[].http2.websocket']),
  'listen[].redirect': {
    from: {
      ...base,
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: oneCertificate },
      ],
    },
    to: {
      ...base,
      listen: [
        { port: 0, host: '127.0.0.1', redirect: 'https' },
        { port: 0, host: '127.0.0.1', tls: oneCertificate },
      ],
    },
    see: ({ server }) => statusOf(get(server)),
  },
  'listen[].publicPort': {
    from: redirecting({}, { publicPort: 4430 }),
    to: redirecting({}, { publicPort: 4431 }),
    see: async ({ server }) => (await get(server)).headers.location,
  },
  'listen[].acmeChallenge': {
    from: redirecting({}, {}),
    to: redirecting({ acmeChallenge: join(folder, 'acme') }, {}),
    see: ({ server }) => statusOf(get(server, '/.well-known/acme-challenge/proof')),
  },
  'listen[].proxyProtocol': {
    from: { ...listen({}), trustedProxies: ['127.0.0.1'] },
    to: { ...listen({ proxyProtocol: 'required' }), trustedProxies: ['127.0.0.1'] },
    see: ({ server }) => statusOf(get(server)),
  },
};

function redirecting(plain: object, secure: object): Config {
  const [one, two] = [
    { port: 0, host: '127.0.0.1', redirect: 'https' as const, ...plain },
    { port: 0, host: '127.0.0.1' },
  ];
  return { ...base, listen: [one, { ...two, tls: oneCertificate, ...secure }] };
}

async function secureGet(server: Server): Promise<Got> {
  const sent = https.request(`${server.urls[0]}/page`, { agent: false, rejectUnauthorized: false }).end();
  const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
  response.resume();
  return { status: response.statusCode!, headers: response.headers, body: '' };
}

// Sessions: what a handler sees of them, and who keeps them.

type Work = (request: Request, sessions: ServerSessions) => Promise<unknown>;
let work: Work = async () => undefined;
let current: Server;
const laboratory: RouteConfig = {
  path: '/run',
  session: 'existing',
  fetch: async request => new Response(String(await work(request, current.sessions))),
};

async function run({ server }: Running, doing: Work, cookie?: string): Promise<Got & { readonly cookie: string }> {
  current = server;
  work = doing;
  const got = await get(server, '/run', cookie === undefined ? {} : { headers: { cookie } });
  return { ...got, cookie: /^[^;]*/.exec(got.headers['set-cookie']?.[0] ?? '')![0] };
}

const session = (fields: any): Config => ({
  ...base,
  session: merged({ store: 'memory:', keyFiles: [join(folder, 'one.key')] }, fields),
  routes: [laboratory, page],
});
const manager = ({ assembly }: Running) => idOf(assembly.sessions?.manager);
/** The cookie, a link and a header by which a client shows a session, without what is another one each time. */
async function shown(running: Running): Promise<unknown> {
  const { headers } = await run(running, async (request, sessions) => {
    await sessions.open(request);
    return sessions.encodeUrl(request, '/link');
  });
  const { body } = await run(running, async (request, sessions) => {
    await sessions.open(request);
    return sessions.encodeUrl(request, '/link');
  });
  const names = Object.entries(headers).filter(([, value]) => /v1\./.test(String(value)));
  return JSON.stringify([names, body])
    .replaceAll(/v1\.[\w-]+\.[\w-]+\.[\w-]+\.[\w-]+/g, '*')
    .replaceAll(/expires=[^;"]+/gi, '');
}
/** How long a new session lives. */
async function life(running: Running): Promise<unknown> {
  const { body } = await run(running, async (request, sessions) => {
    const { id } = await sessions.open(request);
    const { idleTimeoutMs, absoluteExpiresAt, createdAt } = (await sessions.info(id))!;
    return [idleTimeoutMs, Number(absoluteExpiresAt) - createdAt];
  });
  return body;
}
const open: Work = (request, sessions) => sessions.open(request);
const signIn =
  (name: string, options = {}): Work =>
  async (request, sessions) =>
    (await sessions.signIn(request, { name, roles: [] }, options)).id;
const setting =
  (key: string, bytes: number): Work =>
  async (request, sessions) =>
    void (await sessions.open(request)).set(key, 'x'.repeat(bytes));

let names = 0;
const SESSION: Record<string, Row> = {
  session: { from: session({}), to: { ...session({}), session: false }, see: manager },
  'session.manager': {
    from: session({}),
    to: { ...session({}), session: new SessionManager({ store: new MemoryStore(), keys: ['x'.repeat(64)] }) },
    see: manager,
  },
  ...section({
    at: 'session',
    config: session,
    see: manager,
    keys: [
      ...['store', 'ledger', 'profile', 'write', 'write.every', 'coherence', 'cache.sessions'],
      ...['cache.memory', 'sweep.every', 'sweep.atHours[]', 'storeTimeout'],
    ],
    beside: { ledger: { store: new MemoryStore() }, sweep: {} },
    values: {
      store: ['memory:', new MemoryStore()],
      ledger: [new MemoryLedger(), new MemoryLedger()],
      profile: ['high', 'failover'],
      'sweep.atHours[]': [3, 4],
    },
  }),
  'session.attributes.*': { from: session({}), to: session({ attributes: { any: 'apart' } }), see: manager },
  'session.store.url': {
    from: session({ store: { url: 'memory:' } }),
    to: session({ store: { url: `lmdb:${join(folder, 'db')}` } }),
    see: manager,
  },
  ...alike(
    'session.store.url',
    [
      ...['url[]', 'maxSize', 'prefix', 'acknowledge.replicas', 'acknowledge.timeout', 'schema', 'poolSize', 'migrate'],
      ...['transactionPooler', 'listenUrl', 'commandTimeout', 'clientName'],
    ].map(key => `session.store.${key}`),
  ),
  ...section({
    at: 'session',
    config: session,
    see: shown,
    keys: [
      ...['tracking', 'tracking[]', 'header', 'urlParameter', 'cookie.name', 'cookie.domain', 'cookie.path'],
      ...['cookie.sameSite', 'cookie.persistent'],
    ],
    beside: { header: { tracking: 'header' }, urlParameter: { tracking: 'url' } },
    values: {
      'cookie.path': ['/', '/run'],
      tracking: ['cookie', 'url'],
      'tracking[]': ['cookie', 'header'],
      'cookie.domain': ['one.example', 'two.example'],
    },
  }),
  ...alike('session.cookie.sameSite', ['session.cookie.partitioned']),
  ...section({
    at: 'session',
    config: session,
    see: life,
    keys: ['lifetime', 'idleTimeout', 'absoluteTimeout'],
    values: { lifetime: ['aal1', 'aal3'], absoluteTimeout: ['5m', '6m'] },
  }),
  'session.keyFiles[]': {
    from: session({}),
    to: session({ keyFiles: [join(folder, 'two.key')] }),
    see: async running => (await run(running, open)).cookie.split('.')[3],
  },
  'session.renewalTimeout': {
    from: session({ renewalTimeout: '1h', idleTimeout: '24h' }),
    to: session({ renewalTimeout: '4h', idleTimeout: '24h' }),
    see: async running => {
      const { cookie } = await run(running, open);
      await running.clock.advance(2 * 3_600_000);
      return (await run(running, async () => '', cookie)).headers['set-cookie'] !== undefined;
    },
  },
  'session.contents': {
    from: session({ contents: 'set' }),
    to: session({ contents: 'get-and-set' }),
    see: async running => {
      const { cookie } = await run(running, async (request, sessions) =>
        (await sessions.open(request)).set('it', { times: 0 }),
      );
      const times = async (more: number) =>
        (
          await run(
            running,
            async (request, sessions) => {
              const it = (await sessions.get(request))!.get('it') as { times: number };
              it.times += more;
              return it.times;
            },
            cookie,
          )
        ).body;
      await times(1);
      return times(0);
    },
  },
  'session.conflicts': {
    from: session({ conflicts: 'last-wins' }),
    to: session({ conflicts: 'reject' }),
    see: async running => {
      const { body: id } = await run(running, async (request, sessions) => (await sessions.open(request)).id);
      const { sessions } = running.server;
      const both = sessions.access(id, async one => {
        one.set('it', 1);
        await sessions.access(id, two => void two.set('it', 2));
      });
      return both.then(
        () => 'both',
        ({ code }) => code,
      );
    },
  },
  'session.overflow': {
    from: session({ overflow: 'refuse', maxSessions: 1, anonymousShare: 1 }),
    to: session({ overflow: 'evict', maxSessions: 1, anonymousShare: 1 }),
    see: async running => [await run(running, open), await run(running, open)].map(({ status }) => status),
  },
  'session.maxSessions': {
    from: session({ maxSessions: 1, anonymousShare: 1 }),
    to: session({ maxSessions: 20, anonymousShare: 1 }),
    see: async running => [await run(running, open), await run(running, open)].map(({ status }) => status),
  },
  'session.anonymousShare': {
    from: session({ maxSessions: 4, anonymousShare: 0.25 }),
    to: session({ maxSessions: 4, anonymousShare: 1 }),
    see: async running => [await run(running, open), await run(running, open)].map(({ status }) => status),
  },
  'session.maxSessionsPerUser.max': {
    from: session({ maxSessionsPerUser: { max: 1, whenReached: 'refuse' } }),
    to: session({ maxSessionsPerUser: { max: 9, whenReached: 'refuse' } }),
    see: async running => {
      const name = `user-${names++}`;
      return [await run(running, signIn(name)), await run(running, signIn(name))].map(({ status }) => status);
    },
  },
  ...alike('session.maxSessionsPerUser.max', ['session.maxSessionsPerUser.whenReached']),
  'session.rememberMe.absoluteTimeout': {
    from: session({ rememberMe: { idleTimeout: '10d', absoluteTimeout: '10d' } }),
    to: session({ rememberMe: { idleTimeout: '10d', absoluteTimeout: '20d' } }),
    see: async running => {
      const { headers } = await run(running, signIn('ann', { persistent: true }));
      return /max-age=\d+/i.exec(String(headers['set-cookie']))?.[0];
    },
  },
  ...alike('session.rememberMe.absoluteTimeout', ['session.rememberMe.idleTimeout']),
  'session.ownerRule': {
    from: session({ ownerRule: true }),
    to: session({ ownerRule: false }),
    see: async running => {
      const { cookie, body } = await run(running, signIn('ann'));
      return (await run(running, signIn('bob'), cookie)).body === body;
    },
  },
  ...section({
    at: 'session',
    config: session,
    see: async running => (await run(running, setting('it', 5_000))).status,
    keys: ['maxAttributeSize', 'maxSessionSize'],
    values: { maxAttributeSize: ['1KiB', '1MiB'], maxSessionSize: ['1KiB', '1MiB'] },
  }),
  ...section({
    at: 'session',
    config: session,
    see: async running => {
      running.lines.all.length = 0;
      await run(running, setting(`attribute-${names++}`, 5_000));
      return running.lines.all.filter(({ level }) => level === 'warn').length;
    },
    keys: ['warnSize.attribute', 'warnSize.session'],
    beside: {
      'warnSize.attribute': { warnSize: { session: '1MiB' } },
      'warnSize.session': { warnSize: { attribute: '1MiB' } },
    },
    values: { 'warnSize.attribute': ['1KiB', '1MiB'], 'warnSize.session': ['1KiB', '1MiB'] },
  }),
  ...section({
    at: 'session',
    config: session,
    see: ({ assembly }) => assembly.sessions?.touchOnTraffic,
    keys: ['touchOnTraffic'],
  }),
};

// Upstreams: another one takes the place of the one that runs.

const upstream = (fields: any): Config => ({
  ...base,
  session: { store: 'memory:', keyFiles: [join(folder, 'one.key')] },
  upstreams: { app: merged({ servers: ['http://127.0.0.1:1'] }, fields) },
  routes: [page, { path: '/app/*', upstream: 'app' }],
});
const upstreamId = ({ assembly }: Running) => idOf(assembly.upstreams.get('app'));
const observed = { session: { mode: 'observed', cookie: 'SID' } };
const UPSTREAMS = section({
  at: 'upstreams.*',
  config: upstream,
  see: running => [upstreamId(running), running.assembly.upstreams.get('app')!.servers.map(({ url }) => url)],
  keys: [
    ...['servers[]', 'servers[].url', 'servers[].weight', 'servers[].route', 'balance', 'affinity', 'affinity.by'],
    ...['affinity.strict', 'affinity.cookie', 'affinity.urlParameter', 'affinity.separator', 'health.path'],
    ...['health.websocket', 'health.status', 'health.headers.*', 'health.interval', 'health.timeout'],
    ...['health.unhealthyAfter', 'health.healthyAfter', 'ejection', 'ejection.failures', 'ejection.time'],
    ...['ejection.maxTime', 'retries', 'maxConnections', 'maxIdleConnections', 'idleConnectionTimeout', 'tls.ca'],
    ...['tls.serverName', 'tls.verify', 'connectTimeout', 'answerTimeout'],
    ...['handshakeTimeout', 'maxHeaderSize', 'maxBodySize', 'clientTimeout', 'sessionHeader', 'userHeader'],
    ...['rolesHeader', 'removeHeaders[]', 'passHeaders[]', 'controlsSession', 'session.cookie'],
    ...['session.header', 'session.duplicates', 'session.suffix', 'session.idleTimeout', 'session.trust'],
    ...['session.trustUntil', 'session.onReplace', 'session.touchOnTraffic'],
    ...['assertion', 'assertion.header', 'assertion.audience', 'assertion.lifetime', 'cookies.prefix'],
    ...['cookies.domain', 'cookies.path'],
  ],
  beside: {
    'servers[].weight': { servers: [{ url: 'http://127.0.0.1:1' }] },
    'servers[].route': { servers: [{ url: 'http://127.0.0.1:1' }], affinity: { by: 'route', cookie: 'R' } },
    'affinity.cookie': { affinity: { by: 'cookie' } },
    'affinity.strict': { affinity: { by: 'session' } },
    'affinity.urlParameter': {
      servers: [{ url: 'http://127.0.0.1:1', route: 'a' }],
      affinity: { by: 'route', cookie: 'R' },
    },
    'affinity.separator': {
      servers: [{ url: 'http://127.0.0.1:1', route: 'a' }],
      affinity: { by: 'route', cookie: 'R' },
    },
    'health.path': {},
    health: { health: { path: '/health' } },
    'session.header': { session: { mode: 'observed' } },
    session: observed,
    tls: { servers: ['https://127.0.0.1:1'] },
  },
  values: {
    'servers[].url': ['http://127.0.0.1:1', 'http://127.0.0.1:2'],
    'servers[].weight': [1, 2],
    affinity: ['session', 'address'],
    'affinity.by': ['session', 'address'],
    'health.status': [
      [200, 299],
      [200, 399],
    ],
    ejection: [false, { failures: 7 }],
    'tls.ca': [undefined, join(folder, 'ca.pem')],
    'session.trust': ['issued', 'accepted'],
    'session.trustUntil': ['2030-01-01', '2031-01-01'],
    userHeader: [false, 'X-User'],
    rolesHeader: [false, 'X-Roles'],
    'cookies.domain': [false, 'one.example'],
    sessionHeader: ['X-One', 'X-Two'],
  },
});

// Schemes: another one takes the place of the one that runs.

const JWKS = { jwksUri: 'http://127.0.0.1:1/jwks', allowHttp: true, issuer: 'me', audience: false };
const ROLES = ['roles.*[]', 'groups', 'rolesClaim', 'rolesOf'];
const BEARER = ['header', 'cookie', 'subprotocol', 'passCredentials'];
writeFileSync(join(folder, 'groups'), 'staff: alice\n');
for (const name of ['one', 'two'])
  writeFileSync(
    join(folder, `${name}.htpasswd`),
    'alice:$2y$05$abcdefghijklmnopqrstuuJf4ZfUOPsYJBMO4xQVHLN2p1DH7Aab2\n',
  );
writeFileSync(join(folder, 'style.css'), 'body { color: black }');
writeFileSync(join(folder, 'revoked'), '');
const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
writeFileSync(
  join(folder, 'jwks.json'),
  JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'RS256', kid: 'a' }] }),
);
writeFileSync(join(folder, 'public.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
const twoFiles = (extension: string) => [join(folder, `one.${extension}`), join(folder, `two.${extension}`)] as const;
const SCHEME_KEYS: Record<
  string,
  { fields: object; keys: string[]; values?: Section['values']; beside?: Section['beside'] }
> = {
  session: { fields: {}, keys: ['loginPage'] },
  basic: {
    fields: { file: join(folder, 'one.htpasswd') },
    keys: ['file', 'realm', 'rememberFor', 'passCredentials'],
    values: { file: twoFiles('htpasswd') },
  },
  form: {
    fields: { verify: () => undefined },
    keys: [
      ...['file', 'verify', 'timeout', 'loginPage', 'errorPage', 'label', 'page.title', 'page.style', 'paths.login'],
      ...['paths.check', 'paths.logout', 'landingPage', 'afterLogout'],
    ],
    beside: { file: { verify: undefined }, errorPage: { loginPage: '/sign-in' } },
    values: { file: twoFiles('htpasswd'), 'page.style': [undefined, join(folder, 'style.css')] },
  },
  function: { fields: { authenticate: () => undefined }, keys: ['authenticate', 'timeout', 'challenge'] },
  jwt: {
    fields: JWKS,
    keys: [
      ...BEARER,
      ...['issuer', 'audience', 'audience[]', 'jwksUri', 'jwksFile', 'publicKeyFile', 'secretFile', 'algorithms[]'],
      ...['clockSkew', 'requiredClaims[]', 'maxTokenAge', 'tokenType', 'userClaim', 'revokedFile', 'realm'],
      ...['allowHttp', 'timeout', 'refresh', 'keepKeys'],
    ],
    beside: {
      ...Object.fromEntries(
        ['jwksFile', 'publicKeyFile', 'secretFile'].map(key => [key, { jwksUri: undefined, allowHttp: undefined }]),
      ),
      secretFile: { jwksUri: undefined, allowHttp: undefined, algorithms: ['HS256'] },
      allowHttp: { jwksUri: 'https://127.0.0.1:1/jwks' },
      'audience[]': { audience: ['us'] },
    },
    values: {
      issuer: ['me', 'you'],
      audience: [false, 'us'],
      jwksFile: [join(folder, 'jwks.json'), `${folder}/./jwks.json`],
      publicKeyFile: [join(folder, 'public.pem'), `${folder}/./public.pem`],
      secretFile: twoFiles('key'),
      'algorithms[]': ['RS256', 'ES256'],
      revokedFile: [undefined, join(folder, 'revoked')],
      cookie: ['one', 'two'],
      allowHttp: [true, false],
      keepKeys: ['1h', '2h'],
    },
  },
  introspection: {
    fields: { endpoint: 'https://127.0.0.1:1/ask', clientId: 'us', clientSecretFile: join(folder, 'one.token') },
    keys: [
      ...BEARER,
      ...['endpoint', 'clientId', 'clientSecretFile', 'issuer', 'audience', 'audience[]', 'userClaim', 'allowUntyped'],
      ...['cacheFor', 'recheck', 'realm', 'allowHttp', 'timeout'],
    ],
    values: {
      endpoint: ['https://127.0.0.1:1/one', 'https://127.0.0.1:1/two'],
      clientSecretFile: twoFiles('token'),
      cookie: ['one', 'two'],
    },
  },
  oidc: {
    fields: { issuer: 'https://127.0.0.1:1', clientId: 'us' },
    keys: [
      ...['issuer', 'clientId', 'clientSecretFile', 'clientSecretVariable', 'clientAuth', 'scopes[]', 'userClaim'],
      ...['userPrefix', 'userInfo', 'lifetime', 'responseMode', 'label', 'parameters.*', 'login', 'callback', 'logout'],
      ...['backchannelLogout', 'afterLogout', 'allowHttp', 'timeout'],
    ],
    beside: { clientAuth: { clientSecretFile: join(folder, 'one.token') }, responseMode: {} },
    values: {
      issuer: ['https://127.0.0.1:1', 'https://127.0.0.1:2'],
      clientSecretFile: twoFiles('token'),
      clientSecretVariable: ['PATH', 'HOME'],
    },
  },
  forward: {
    fields: { url: 'http://127.0.0.1:1/auth', allowHttp: true, cacheBy: ['Cookie'], cacheFor: '1s' },
    keys: [
      ...['url', 'userHeader', 'groupsHeader', 'expiresHeader', 'defaultUser', 'copyHeaders[]', 'redirects'],
      ...['loginPage', 'setCookies', 'cacheFor', 'cacheBy[]', 'recheck', 'allowHttp', 'timeout'],
    ],
    values: {
      url: ['http://127.0.0.1:1/one', 'http://127.0.0.1:1/two'],
      redirects: [undefined, 'pass'],
      cacheFor: ['1m', '2m'],
      'copyHeaders[]': ['X-One', 'X-Two'],
    },
  },
  'client-certificate': { fields: {}, keys: ['user', 'issuers[]'] },
};
const AUTH = Object.assign(
  {},
  ...Object.entries(SCHEME_KEYS).map(([type, { fields, keys: own, values = {}, beside = {} }]) =>
    section({
      at: `auth.${type}`,
      keys: [...own, ...ROLES],
      values: { 'roles.*[]': ['one', 'two'], groups: [undefined, join(folder, 'groups')], ...values },
      beside,
      config: changed => ({
        ...base,
        session: { store: 'memory:', keyFiles: [join(folder, 'one.key')] },
        auth: { who: merged({ type, ...fields }, changed) },
        ...(type === 'client-certificate' && {
          listen: [
            {
              port: 0,
              host: '127.0.0.1',
              tls: { ...oneCertificate, clientCertificates: { ca: join(folder, 'ca.pem') } },
            },
          ],
        }),
      }),
      see: ({ assembly }) => idOf(assembly.schemes.get('who')),
    }),
  ),
) as Record<string, Row>;

// What routes are made from: a reload makes each anew, and says that it has changed.

const policy = (fields: any): Config => ({ ...base, policy: fields });
const function_ = () => ({ name: 'ann' });
const POLICY: Record<string, Row> = {
  ...section({
    at: 'policy',
    config: policy,
    see: isChanged,
    keys: [
      ...['origins', 'origins[]', 'cors', 'cors.credentials', 'cors.headers[]', 'cors.expose[]', 'cors.maxAge'],
      ...['inspect', 'inspect.rules[].name', 'inspect.rules[].in', 'inspect.rules[].in[]', 'inspect.rules[].match'],
      ...['inspect.rules[].view', 'inspect.rules[].action', 'inspect.maxBodySize', 'inspect.otherBodies', 'custom'],
      ...['custom.judge', 'custom.timeout', 'transport', 'transport.confidential', 'transport.upgradeInsecureRequests'],
      ...['auth', 'auth[]', 'roles[]', 'tickets', 'tickets.lifetime'],
    ],
    beside: {
      cors: { origins: ['https://one.example'] },
      'inspect.rules[]': { inspect: { rules: [{ name: 'rule', in: 'path', match: '/x+/' }] } },
      'inspect.maxBodySize': { inspect: { rules: [{ name: 'rule', in: 'body', match: '/x+/' }] } },
      'inspect.otherBodies': { inspect: { rules: [{ name: 'rule', in: 'body', match: '/x+/' }] } },
      'custom.timeout': { custom: { judge: () => undefined } },
      roles: {},
    },
    values: {
      origins: ['any', ['self']],
      'origins[]': ['https://one.example', 'https://two.example'],
      cors: [false, true],
      inspect: [false, { rules: [{ name: 'rule', in: 'path', match: '/x+/' }] }],
      'inspect.rules[].match': ['/x+/', '/y+/'],
      'tickets.lifetime': ['10s', '20s'],
      auth: ['one', 'two'],
      'auth[]': ['one', 'two'],
    },
  }),
  ...section({
    at: 'policy.limits',
    config: fields => policy({ limits: fields }),
    see: ({ assembly }) => idOf(assembly.limits),
    keys: [
      ...['connections', 'connectionsPerAddress', 'connectionsPerSession', 'connectionsPerUser', 'requests'],
      ...['requestsPerAddress', 'handshakes', 'handshakesPerAddress', 'newSessionsPerAddress', 'messages', 'bytes'],
      ...['whenExceeded', 'scope'],
    ],
    beside: { whenExceeded: { messages: '7/s' }, scope: { connections: 7 } },
  }),
  'policy.addresses.deny[]': {
    from: policy({ addresses: { deny: ['192.0.2.1'] } }),
    to: policy({ addresses: { deny: ['127.0.0.1'] } }),
    see: ({ server }) => statusOf(get(server)),
  },
  'policy.addresses.allow[]': {
    from: policy({ addresses: { allow: ['127.0.0.1'] } }),
    to: policy({ addresses: { allow: ['192.0.2.1'] } }),
    see: ({ server }) => statusOf(get(server)),
  },
};
for (const key of ['policy.auth', 'policy.auth[]', 'policy.roles[]']) {
  const row = POLICY[key] as Seen;
  const auth = {
    one: { type: 'function', authenticate: function_ },
    two: { type: 'function', authenticate: function_ },
  };
  const withAuth = (config: Config): Config =>
    merged({ ...config, auth }, key === 'policy.roles[]' ? { policy: { auth: 'one' } } : {});
  POLICY[key] = { ...row, from: withAuth(row.from), to: withAuth(row.to) };
}

const routes = (...list: RouteConfig[]): Config => ({
  ...base,
  session: { store: 'memory:', keyFiles: [join(folder, 'one.key')] },
  upstreams: { one: { servers: ['http://127.0.0.1:1'] }, two: { servers: ['http://127.0.0.1:2'] } },
  routes: list,
});
/** Added, changed and removed routes. */
const told = ({ report }: Running) =>
  report ? [report.added, report.changed, report.removed].flat().length > 0 : false;
const mounted = (fields: any): Config => routes({ mount: '/shop', application: merged({ routes: [page] }, fields) });
const twoEndpoints = [defineEndpoint({ path: '/one' }), defineEndpoint({ path: '/one' })];
const ROUTES: Record<string, Row> = {
  ...section({
    at: 'routes[]',
    config: fields => routes(merged(fields.upstream ? {} : { path: '/page' }, fields)),
    see: told,
    keys: ['name', 'host', 'path', 'path[]', 'methods[]', 'session', 'touch', 'attributes[]', 'fetch'],
    beside: Object.fromEntries(
      ['name', 'host', 'path', 'path[]', 'methods', 'methods[]', 'session', 'touch', 'attributes[]'].map(key => [
        key,
        { fetch: page.fetch! },
      ]),
    ),
    values: { host: ['one.example', 'two.example'] },
  }),
  ...section({
    at: 'routes[]',
    config: fields => routes(merged({ path: '/page/*', upstream: 'one' }, fields)),
    see: told,
    keys: [
      ...['upstream', 'rewrite', 'rewriteLinks', 'paths.mergeSlashes', 'paths.backslash', 'websocket'],
      ...['websocket.idleTimeout', 'websocket.heartbeat', 'websocket.maxLifetime', 'websocket.maxMessageSize'],
      ...['websocket.maxBackendMessageSize', 'websocket.compression', 'crossSiteSignIn'],
    ],
    values: { rewrite: ['/one', '/two'], upstream: ['one', 'two'] },
  }),
  ...section({
    at: 'routes[]',
    config: fields => routes(merged({ path: '/page/*' }, fields)),
    see: told,
    keys: ['files', 'redirect'],
    values: { files: [folder, join(folder, 'acme')], redirect: ['/one', '/two'] },
  }),
  'routes[].endpoint': {
    from: routes({ endpoint: twoEndpoints[0]! }),
    to: routes({ endpoint: twoEndpoints[1]! }),
    see: told,
  },
  'routes[].mount': {
    from: mounted({}),
    to: routes({ mount: '/other', application: { routes: [page] } }),
    see: told,
  },
  'routes[].application.files': { from: mounted({}), to: mounted({ files: folder }), see: told },
  'routes[].application.fetch': { from: mounted({}), to: mounted({ fetch: page.fetch }), see: told },
  'routes[].application.endpoints[]': { shownBy: 'full/reload-served.test.ts' },
  'endpoints[]': { shownBy: 'full/reload-served.test.ts' },
  ...section({
    at: 'constraints[]',
    config: fields => ({
      ...base,
      auth: { one: { type: 'function', authenticate: function_ }, two: { type: 'function', authenticate: function_ } },
      constraints: [merged({ paths: ['/page'], transport: 'confidential' }, fields)],
    }),
    see: isChanged,
    keys: ['paths[]', 'methods[]', 'otherMethods', 'auth', 'auth[]', 'roles[]', 'transport'],
    beside: { otherMethods: { methods: ['GET'] }, roles: { auth: 'one' }, 'roles[]': { auth: 'one' } },
    values: { transport: ['any', 'confidential'], auth: ['one', 'two'], 'auth[]': ['one', 'two'] },
  }),
};

const JAIL = ['', '.failures', '.within', '.ban'];
const BANS = section({
  at: 'bans',
  config: fields => ({ ...base, bans: merged({ jails: { login: {} } }, fields) }),
  see: ({ assembly: { bans } }) =>
    JSON.stringify(bans.settings, (_, value) => (value instanceof Map ? [...value] : value)),
  keys: [
    'action',
    ...['login', 'handshake', 'protocol', 'rate', 'scan', 'inspection', 'honeypot'].flatMap(jail =>
      JAIL.map(key => `jails.${jail}${key}`),
    ),
    ...['jails.honeypot.paths[]', 'allow[]', 'factor', 'maxTime', 'forgetAfter', 'undeclaredProxies'],
  ],
  beside: { 'jails.honeypot': { jails: { honeypot: { paths: ['/trap'] } } } },
  values: {
    ...Object.fromEntries(
      ['login', 'handshake', 'protocol', 'rate', 'scan', 'inspection'].map(jail => [
        `jails.${jail}`,
        [false, { failures: 9 }],
      ]),
    ),
    'jails.honeypot': [false, { paths: ['/trap'] }],
    'jails.honeypot.paths[]': ['/one', '/two'],
    maxTime: ['1d', '2d'],
  },
});

const ANOMALIES = section({
  at: '',
  config: fields => ({ ...base, session: { store: 'memory:', keyFiles: [join(folder, 'one.key')] }, ...fields }),
  see: ({ assembly }) => idOf(assembly.anomalies),
  keys: [
    ...['anomalies', 'anomalies.network', 'anomalies.agent', 'anomalies.places', 'anomalies.rate'],
    ...['anomalies.rate.requests', 'anomalies.rate.within', 'anomalies.rate.action', 'anomalies.secret'],
  ],
  values: { anomalies: [false, { network: 'log' }], 'anomalies.rate.requests': [70, 80] },
});

const limited = defineEndpoint({ path: '/limited', dispatch: 'few' });
const threaded = defineEndpoint({
  path: '/threaded',
  dispatch: 'threads',
  handlers: new URL('../websocket/thread-handlers.ts', import.meta.url),
});
const dispatch = (fields: object): Config => ({
  ...base,
  dispatch: { few: { concurrency: 2, ...fields } },
  routes: [{ endpoint: limited }],
});
const threads = (fields: object): Config => ({
  ...base,
  dispatch: { threads: { threads: 1, ...fields } },
  routes: [{ endpoint: threaded }],
});
const dispatcher = () => idOf((limited as unknown as { dispatcher: object }).dispatcher);
const threadPool = () => (threaded as unknown as ServedEndpoint).dispatcher!.threads!;
const DISPATCH: Record<string, Row> = {
  'dispatch.*.concurrency': { from: dispatch({}), to: dispatch({ concurrency: 3 }), see: dispatcher },
  'dispatch.*.queue': { from: dispatch({}), to: dispatch({ queue: 3 }), see: dispatcher },
  'dispatch.*.whenFull': { from: dispatch({}), to: dispatch({ whenFull: 'close' }), see: dispatcher },
  'dispatch.*.threads': { from: threads({}), to: threads({ threads: 2 }), see: () => threadPool().counts.threads },
  'dispatch.*.threadMemory': {
    from: threads({}),
    to: threads({ threadMemory: '64MiB' }),
    see: () => idOf(threadPool()),
  },
};

const internal = (fields: any): Config => ({
  ...base,
  internal: { port: ports[2], ...fields },
  upstreams: { app: { servers: ['http://127.0.0.1:1'], assertion: true } },
});
const admin = (fields: any): Config => ({
  ...base,
  metrics: false,
  admin: { port: 0, tokenFile: join(folder, 'one.token'), socket: false, ...fields },
});
async function statusAt(url: string, headers: Record<string, string>): Promise<number> {
  const sent = http.request(url, { agent: false, headers: { Host: 'other.example', ...headers } }).end();
  const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
  response.resume();
  return response.statusCode!;
}
const askAdmin = ({ server }: Running) =>
  statusAt(`${server.adminUrl}/v1/status`, { Authorization: `Bearer one${'-'.repeat(40)}` });
const adminIsThere = ({ server }: Running) => [
  server.adminUrl === undefined ? 'none' : new URL(server.adminUrl).hostname,
  server.adminUrl?.startsWith('https'),
  server.adminSocket,
];
const INTERNAL: Record<string, Row> = {
  'internal.port': { from: internal({}), to: internal({ port: ports[1] }), see: ({ server }) => server.internalUrl },
  'internal.host': {
    from: internal({ port: 0 }),
    to: internal({ port: 0, host: '127.0.0.2' }),
    see: ({ server }) => server.internalUrl,
  },
  'internal.hosts[]': {
    from: internal({ hosts: ['other.example'] }),
    to: internal({ hosts: ['one.example'] }),
    see: ({ server }) => statusAt(server.internalUrl!, {}),
  },
  'assertions.issuer': {
    from: { ...internal({}), assertions: { issuer: 'one' } },
    to: { ...internal({}), assertions: { issuer: 'two' } },
    see: upstreamId,
  },
  'assertions.keyFiles[]': { as: 'assertions.issuer' },
  ...Object.fromEntries(
    ['', '.scope', '.tokenFile', '.tokenVariable'].map(key => [
      `upstreams.*.sessionApi${key}`,
      { as: 'upstreams.*.assertion' },
    ]),
  ),
  'upstreams.*.tls.certificate': {
    from: upstream({ servers: ['https://127.0.0.1:1'], tls: oneCertificate }),
    to: upstream({ servers: ['https://127.0.0.1:1'], tls: twoCertificate }),
    see: upstreamId,
  },
  'upstreams.*.session.mode': {
    from: upstream({ session: { mode: 'managed' } }),
    to: upstream(observed),
    see: upstreamId,
  },
  'upstreams.*.tls.key': { as: 'upstreams.*.tls.certificate' },
  admin: { from: admin({}), to: { ...base, metrics: false, admin: false }, see: adminIsThere },
  'admin.port': {
    from: admin({ port: ports[1] }),
    to: admin({ port: ports[2] }),
    see: ({ server }) => server.adminUrl,
  },
  'admin.host': { from: admin({}), to: admin({ host: '127.0.0.2' }), see: adminIsThere },
  'admin.hosts[]': { from: admin({ hosts: ['other.example'] }), to: admin({ hosts: ['one.example'] }), see: askAdmin },
  'admin.tokenFile': {
    from: admin({ hosts: ['other.example'] }),
    to: admin({ hosts: ['other.example'], tokenFile: join(folder, 'two.token') }),
    see: askAdmin,
  },
  'admin.socket': { from: admin({}), to: admin({ socket: true }), see: adminIsThere },
};

const log = (fields: any): Config => ({ ...base, log: { server: { file: join(folder, 'server.log') }, ...fields } });
const LOG: Record<string, Row> = {
  'log.level': { from: log({}), to: log({ level: 'error' }), see: ({ assembly }) => assembly.logs.level() },
  ...Object.fromEntries(
    ['server', 'gateway', 'policy', 'session', 'websocket', 'admin', 'cli'].map(part => [
      `log.levels.${part}`,
      {
        from: log({}),
        to: log({ levels: { [part]: 'error' } }),
        see: ({ assembly }: Running) => assembly.logs.level(part as never),
      },
    ]),
  ),
  'log.server.file': {
    from: log({}),
    to: log({ server: { file: join(folder, 'other.log') } }),
    see: () => existsSync(join(folder, 'other.log')),
  },
  ...alike('log.server.file', [
    ...['log.server', 'log.server.to', 'log.server.format', 'log.server.level', 'log.server[].to', 'log.server[].file'],
    ...['log.server[].format', 'log.server[].level'],
  ]),
  'log.access': {
    from: log({ access: 'off' }),
    to: log({ access: { file: join(folder, 'a.log') } }),
    see: ({ assembly }) => assembly.accessLog.isOn,
  },
  ...alike('log.access', [
    ...['log.access.format', 'log.access.to', 'log.access.file', 'log.access.level', 'log.access[].format'],
    ...['log.access[].to', 'log.access[].file', 'log.access[].level'],
  ]),
  'log.security.file': {
    from: log({}),
    to: log({ security: { file: join(folder, 'security.log') } }),
    see: () => existsSync(join(folder, 'security.log')),
  },
  ...alike('log.security.file', [
    ...['log.security', 'log.security.to', 'log.security.level', 'log.security[].to', 'log.security[].file'],
    ...['log.security[].level'],
  ]),
};

const idle = (config: Config): Config => ({ ...config, routes: [page] });
/** Is a connection closed that has not sent all of its head? */
async function isCut(server: Server): Promise<boolean> {
  const client = connect(Number(new URL(server.urls[0]!).port), '127.0.0.1').on('error', () => {});
  const isClosed = once(client.resume(), 'close').then(() => true);
  client.write('GET / HT');
  const cut = await Promise.race([isClosed, sleep(1_000, false)]);
  client.destroy();
  return cut;
}
const top = (fields: Config): Config => idle({ ...base, ...fields });
const TOP: Record<string, Row> = {
  'trustedProxies[]': {
    from: top({ trustedProxies: ['192.0.2.1'] }),
    to: top({ trustedProxies: ['127.0.0.1'] }),
    see: ({ assembly }) => assembly.trustedProxies.contains('127.0.0.1'),
  },
  headerTimeout: {
    from: top({ headerTimeout: '50ms' }),
    to: top({ headerTimeout: '1m' }),
    see: ({ server }) => isCut(server),
  },
  keepAliveTimeout: {
    from: top({ keepAliveTimeout: '20s' }),
    to: top({ keepAliveTimeout: '50s' }),
    see: async ({ server }) =>
      (await get(server, '/page', { headers: { Connection: 'keep-alive' } })).headers['keep-alive'],
  },
  clientTimeout: { as: 'keepAliveTimeout' },
  clientRate: { as: 'keepAliveTimeout' },
  unusedConnections: {
    from: top({ unusedConnections: 1 }),
    to: top({ unusedConnections: 50 }),
    see: ({ server }) => unused(server),
  },
  unusedConnectionsPerAddress: { as: 'unusedConnections' },
  maxHeaderSize: {
    from: top({ maxHeaderSize: '1KiB' }),
    to: top({ maxHeaderSize: '64KiB' }),
    see: ({ server }) => statusOf(get(server, `/page?${'x'.repeat(5_000)}`)),
  },
  maxBodySize: {
    from: top({ maxBodySize: '1KiB' }),
    to: top({ maxBodySize: '2KiB' }),
    see: ({ assembly }) => assembly.maxBodyBytes,
  },
  dataFolder: {
    from: { ...base, session: { store: 'memory:' }, routes: [laboratory], dataFolder: join(folder, 'data-one') },
    to: { ...base, session: { store: 'memory:' }, routes: [laboratory], dataFolder: join(folder, 'data-two') },
    see: async running => (await run(running, open)).cookie.split('.')[3],
  },
  diskReserve: { as: 'dataFolder' },
  exposeReason: { from: top({}), to: top({ exposeReason: true }), see: ({ assembly }) => assembly.exposeReason },
  requestId: { from: top({}), to: top({ requestId: 'X-Other' }), see: ({ assembly }) => idOf(assembly.requestIds) },
  'accept[]': { nothing: 'examinations read it' },
  'accept[].warning': { nothing: 'examinations read it' },
  'accept[].at': { nothing: 'examinations read it' },
  workers: { from: top({}), to: top({ workers: 2 }), restart: 'workers' },
  metrics: { from: top({}), to: top({ metrics: true }), restart: 'metrics' },
  tracing: {
    from: top({ tracing: false }),
    to: top({ tracing: true }),
    see: ({ assembly }) => {
      const request = new http.IncomingMessage(new Socket());
      Object.assign(request, { method: 'GET', url: '/', httpVersion: '1.1' });
      return assembly.observer!.begin(request, 'request') !== undefined;
    },
  },
  'drain.timeout': {
    from: top({ drain: { timeout: '7s' } }),
    to: top({ drain: { timeout: '8s' } }),
    see: ({ server }) => server.drainSettings,
  },
  'drain.delay': {
    from: top({ drain: { delay: '7s' } }),
    to: top({ drain: { delay: '8s' } }),
    see: ({ server }) => server.drainSettings,
  },
  'drain.over': { as: 'drain.timeout' },
  ...section({
    at: 'closeCodes',
    config: fields => top({ closeCodes: fields }),
    see: ({ assembly }) => ({ ...assembly.closeCodes }),
    keys: ['goingAway', 'restart', 'renewal', 'lostBackend'],
    values: Object.fromEntries(['goingAway', 'restart', 'renewal', 'lostBackend'].map(key => [key, [1001, 3001]])),
  }),
};

/** How many of three connections that say nothing stay open. */
async function unused(server: Server): Promise<number> {
  const clients = [1, 2, 3].map(() =>
    connect(Number(new URL(server.urls[0]!).port), '127.0.0.1').on('error', () => {}),
  );
  let left = 3;
  for (const client of clients) client.resume().on('close', () => left--);
  await sleep(100);
  const found = left;
  for (const client of clients) client.destroy();
  return found;
}

const ROWS: Readonly<Record<string, Row>> = {
  ...{ ...LISTEN, ...SESSION, ...UPSTREAMS, ...AUTH, ...POLICY, ...ROUTES, ...BANS, ...ANOMALIES, ...DISPATCH },
  ...{ ...INTERNAL, ...LOG, ...TOP },
};

test('every key of the configuration has a row that says what a reload does with it, and no other has one', () => {
  const known = new Set(keys.keys());
  expect([...known].filter(key => !(key in ROWS))).toEqual([]);
  expect(Object.keys(ROWS).filter(key => !known.has(key))).toEqual([]);
});

test('what a row leans on is there', () => {
  for (const row of Object.values(ROWS)) {
    if ('as' in row) expect(ROWS[row.as]).toHaveProperty('from');
    if ('shownBy' in row) expect(existsSync(new URL(`../${row.shownBy}`, import.meta.url))).toBe(true);
  }
});

describe('a reload with another', () => {
  const rows = Object.entries(ROWS).flatMap(([key, row]) => ('from' in row ? [[key, row] as const] : []));

  test.each(rows)('%s is seen, or says that it needs a restart', async (key, row) => {
    const [clock, lines] = [new FakeClock(Date.now()), new Lines()];
    const isOfLog = key.startsWith('log.');
    const server = createServer(row.from, { clock, ...(!isOfLog && { logger: lines }) });
    closing.push(() => server.stop({ drain: 0 }));
    await server.start();
    const now = (report?: ReloadReport): Running => ({ server, assembly: assemblies.at(-1)!, report, clock, lines });
    if ('refused' in row) {
      await expect(server.reload(row.to)).rejects.toThrow(row.refused);
      return;
    }
    if ('restart' in row) {
      expect((await server.reload(row.to)).needsRestart).toEqual([row.restart]);
      expect(lines.all.filter(({ fields }) => fields.event === 'reload-needs-restart')).toMatchObject([
        { level: 'warn', fields: { keys: [row.restart] } },
      ]);
      expect((await server.reload(row.from)).needsRestart).toEqual([]);
      return;
    }
    const before = await row.see(now());
    const report = await server.reload(row.to);
    expect(report.needsRestart).toEqual([]);
    expect(await row.see(now(report))).not.toEqual(before);
  });
});
