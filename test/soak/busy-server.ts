import { hash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AdminClient } from '../../src/cli/admin-client.ts';
import { productUrl, Served } from '../guard/served.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { inspectable } from '../services/inspected.ts';
import type { RedisServer } from '../services/redis-server.ts';
import { until } from '../services/until.ts';
import type { BusyBackend } from './busy-backend.ts';

/** How many there are: `user0`, `user1` … Each has its own name for a password. */
export const USERS = 20;
const NAMES = Array.from({ length: USERS }, (_, i) => `user${i}`);
const passwords = NAMES.map(name => `${name}:{SHA}${hash('sha1', name, 'base64')}\n`).join('');

/** How long a session lives without use, in ms. Everything that has to end by itself ends within this and a few seconds. */
export const SESSION_IDLE_MS = 4_000;

/** What the endpoints are. Another version is another module, of which Node lets go of none. */
const endpoints = (version: number) => `
  import { defineEndpoint } from '${productUrl}';
  export const version = ${version};
  export const echo = defineEndpoint({
    path: '/echo', idleTimeout: '3s', compression: true, maxMessageSize: '256KiB',
    onMessage: (connection, data) => void connection.send(data),
  });
  export const room = defineEndpoint({
    path: '/room/:name',
    onOpen: connection => connection.subscribe('room:' + connection.params.name),
    onMessage: (connection, data) => void room.broadcast(data, { except: connection }),
  });
  export const flood = defineEndpoint({
    path: '/flood/:policy', maxBufferedAmount: '256KiB', slowReader: 'close',
    async onOpen(connection) {
      for (let i = 0; i < 64 && connection.isOpen; i++) {
        connection.send(new Uint8Array(65_536));
        if (connection.params.policy === 'wait') await connection.drained();
      }
      if (connection.isOpen) connection.close(1000, 'that was all');
    },
  });
  export const member = defineEndpoint({
    path: '/member',
    accept: ({ session }) => session !== undefined,
    onMessage(connection, data) {
      const count = (connection.session?.get('count') ?? 0) + 1;
      connection.session?.set('count', count);
      connection.session?.set('said', String(data).slice(0, 100));
      connection.send(String(count));
    },
  });
`;

/** Callbacks in a thread, which publish on topics. */
const THREADED = `
  import { defineEndpoint } from '${productUrl}';
  export const news = defineEndpoint({
    path: '/news/:topic', dispatch: 'pool', handlers: new URL('../handlers/news.ts', import.meta.url),
  });
`;
const HANDLERS = `
  export const onOpen = connection => connection.subscribe('news:' + connection.params.topic);
  export const onMessage = (connection, data) => void connection.publish('news:' + connection.params.topic, data);
`;

/** Of an application that has sessions of its own, or two in turns. */
const shopMember = `
  import { defineEndpoint } from '${productUrl}';
  export const member = defineEndpoint({
    path: '/member',
    accept: ({ session }) => session !== undefined,
    onMessage(connection, data) {
      const count = (connection.session?.get('count') ?? 0) + 1;
      connection.session?.set('count', count);
      connection.send(String(count));
    },
  });
`;

/** `holdfast serve` with nearly everything that it can have, and what its operator does with it meanwhile. */
export class BusyServer implements AsyncDisposable {
  readonly served: Served;
  readonly admin: AdminClient;
  /** How many versions of modules were put in the place of one before. */
  modules = 0;
  reloads = 0;
  readonly #config: (version: number) => string;

  private constructor(served: Served, config: (version: number) => string) {
    this.served = served;
    this.admin = new AdminClient(join(served.folder, '.holdfast/admin.sock'));
    this.#config = config;
  }

  static async start(backends: readonly BusyBackend[], redis: RedisServer): Promise<BusyServer> {
    const config = configOf(
      backends.map(({ url }) => url),
      redis.url,
    );
    const served = await Served.yaml(config(0), {
      env: inspectable,
      files: {
        users: passwords,
        'cart.key': Buffer.alloc(32, 7),
        'endpoints/main.ts': endpoints(0),
        'endpoints/news.ts': THREADED,
        'handlers/news.ts': HANDLERS,
        'shop/member.ts': shopMember,
        'cart/member.ts': shopMember,
        'logs/.keep': '',
      },
    });
    return new BusyServer(served, config);
  }

  /** Gives it another configuration, and waits until that is in force. Each is different from those before. */
  async reload(): Promise<void> {
    const number = ++this.reloads;
    const file = join(this.served.folder, 'holdfast.yaml');
    const listen = readFileSync(file, 'utf8').split('trustedProxies')[0]!;
    if (number % 5 === 0) {
      // What cannot be used is refused.
      writeFileSync(file, `${listen}routes: [{ path: /a, redirekt: /b }]\n`);
      await this.#asked(false);
    }
    if (number % 4 === 0) {
      writeFileSync(join(this.served.folder, 'endpoints/main.ts'), endpoints(number));
      this.modules++;
    }
    if (number % 3 === 0) this.#renewCertificate();
    writeFileSync(file, listen + this.#config(number));
    await this.#asked(true);
  }

  /** As `logrotate` does. */
  async rotateLogs(): Promise<void> {
    for (const name of ['access', 'server', 'security']) {
      const file = join(this.served.folder, 'logs', `${name}.log`);
      if (existsSync(file)) renameSync(file, `${file}.1`);
    }
    this.served.program.kill('SIGUSR2');
    await until(() => existsSync(join(this.served.folder, 'logs/server.log')));
    for (const name of ['access', 'server', 'security'])
      rmSync(join(this.served.folder, 'logs', `${name}.log.1`), { force: true });
  }

  /** Of the file in which sessions are kept. */
  get storeBytes(): number {
    return statSync(join(this.served.folder, 'sessions/data.mdb')).size;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.served[Symbol.asyncDispose]();
  }

  /** Both files anew; between the two they do not fit together, which is what a renewal looks like. */
  #renewCertificate(): void {
    writeSelfSignedCertificate(this.served.folder);
  }

  async #asked(isGood: boolean): Promise<void> {
    const { ok, errors } = await this.admin.post<{ ok: boolean; errors?: string[] }>('/v1/reload');
    if (ok !== isGood) throw new Error(`the reload was ${ok ? 'taken' : `refused: ${errors}`}`);
  }
}

/** Each version has something else of what a reload builds anew: routes, upstreams, managers and stores of sessions. */
function configOf([first, second]: readonly string[], redisUrl: string) {
  return (version: number) => `trustedProxies: [127.0.0.1]
admin: { port: 0 }
keepAliveTimeout: 3s
headerTimeout: 3s
clientTimeout: ${5_000 + version}
session:
  store: lmdb:sessions
  idleTimeout: ${SESSION_IDLE_MS + (version % 7)}
  absoluteTimeout: 30s
  renewalTimeout: 2s
  sweep: { every: 1s }
  storeTimeout: ${version % 6 === 5 ? '6s' : '5s'}
assertions: { issuer: soak }
auth:
  staff: { type: form, file: users, roles: { user: ['*'] } }
  api: { type: basic, realm: api, file: users }
upstreams:
  app:
    servers: [${version % 3 === 2 ? `'${first}', '${second}'` : `'${first}'`}]
    controlsSession: true
    assertion: true
    idleConnectionTimeout: 2s
    health: { path: /health, interval: 1s }
    answerTimeout: ${version % 2 === 0 ? '30s' : '31s'}
  steady: { servers: ['${first}'], idleConnectionTimeout: 2s }
dispatch: { pool: { threads: 1 } }
endpoints: ['endpoints/*.ts']
routes:
  - { path: /relay, upstream: steady, session: none, websocket: { idleTimeout: 3s } }
  - { path: /moving, upstream: app, session: existing }
  - { path: /app/*, upstream: app }
  - { path: /begin/*, upstream: app, session: create }
  - { path: /private/*, upstream: app, policy: { auth: staff } }
  - { path: /api/*, upstream: steady, session: none, policy: { auth: api } }
  - { path: /pass/*, upstream: steady, session: none }
  - { path: /few, upstream: steady, session: none, policy: { limits: { connections: 2 } } }
  - { path: /scarce/*, upstream: steady, session: none, policy: { limits: { requestsPerAddress: 2/s } } }
  - { path: /only-${version}, redirect: / }
  - mount: /shop
    application:
      endpoints: ['shop/*.ts']
      session: { store: 'memory:', idleTimeout: ${SESSION_IDLE_MS}, sweep: { every: 1s } }
      routes: [{ path: /page, upstream: steady, session: create }]
  - mount: /cart
    application:
      endpoints: ['cart/*.ts']
      session:
        store: { url: '${redisUrl}', prefix: ${version % 8 < 4 ? 'a' : 'b'} }
        keyFiles: [cart.key]
        idleTimeout: ${SESSION_IDLE_MS}
        sweep: { every: 1s }
      routes: [{ path: /page, upstream: steady, session: create }]
policy: { limits: { requestsPerAddress: ${1_000 + version}/s, newSessionsPerAddress: 1000/s, messages: 2000/s } }
bans:
  action: refuse
  factor: 1
  forgetAfter: 2s
  jails:
    login: { failures: 3, within: 2s, ban: 2s }
    handshake: { failures: 20, within: 2s, ban: 2s }
    protocol: { failures: 20, within: 2s, ban: 2s }
    rate: { failures: 100, within: 2s, ban: 2s }
    scan: { failures: 10, within: 2s, ban: 2s }
log:
  server: [{ to: stderr }, { file: logs/server.log }]
  access: [{ file: logs/access.log, format: json }]
  security: { file: logs/security.log }
drain: { over: 500ms }
accept: [round-a-stricter-route]
`;
}
