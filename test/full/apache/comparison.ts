import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer } from '../../../src/index.ts';
import type { ServerEnvironment } from '../../../src/server/server.ts';
import { startProxy } from '../../services/proxies.ts';
import { type Answer, exchange, handshakeBytes, requestBytes } from './exchange.ts';
import type { Recorded, RecordingBackend } from './recording-backend.ts';

/** One of the two that are compared, running. */
export interface Side {
  readonly name: 'apache' | 'holdfast';
  readonly port: number;
}

/** The two, with the same task. */
export interface Pair extends AsyncDisposable {
  readonly apache: Side;
  readonly holdfast: Side;
}

/** Something that is done to both. */
export interface Case {
  readonly title: string;
  /** Does it, and says in a line what came of it. The line must not depend on ports or times. */
  observe(side: Side): Promise<string>;
  /** Why we do not do what Apache does. Without it, both do the same. */
  readonly why?: string;
}

/** Cases with one task for both. */
export interface Section {
  readonly title: string;
  /** What both are told to do, in Markdown. */
  readonly intro: string;
  readonly cases: readonly Case[];
  start(): Promise<Pair>;
}

/** What `a2enmod proxy_http proxy_wstunnel rewrite headers ssl proxy_balancer remoteip` switches on. */
export const APACHE_MODULES: readonly string[] = [
  ...['mpm_event', 'authz_core', 'authz_host', 'authn_core', 'authn_file', 'authz_user', 'auth_basic'],
  ...['headers', 'rewrite', 'setenvif', 'remoteip', 'socache_shmcb', 'ssl'],
  ...['proxy', 'proxy_http', 'proxy_wstunnel', 'slotmem_shm', 'lbmethod_byrequests', 'proxy_balancer'],
];

export interface ApacheTask {
  /** Inside of the `<VirtualHost>`. */
  readonly vhost: string;
  /** Before it. */
  readonly global?: string;
  readonly modules?: readonly string[];
}

/** Starts Apache for a task. */
export function startApache({ vhost, global = '', modules = APACHE_MODULES }: ApacheTask) {
  return startProxy('apache', port => `${global}\n<VirtualHost 127.0.0.1:${port}>\n${vhost}\n</VirtualHost>`, modules);
}

/** Starts Holdfast for a task, on a port of its own. */
export async function startHoldfast(config: Config, environment?: ServerEnvironment): Promise<Side & AsyncDisposable> {
  const dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-compared-'));
  const listen = [{ port: 0, host: '127.0.0.1' }];
  const server = createServer({ listen, session: false, log: { level: 'silent' }, dataFolder, ...config }, environment);
  await server.start();
  return {
    name: 'holdfast',
    port: Number(new URL(server.urls[0]!).port),
    async [Symbol.asyncDispose]() {
      await server.stop();
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
}

/** @param others Ended after the two, in this order. */
export async function startPair(task: ApacheTask, config: Config, others: readonly AsyncDisposable[]): Promise<Pair> {
  const apache = await startApache(task);
  const holdfast = await startHoldfast(config);
  return {
    apache: { name: 'apache', port: apache.port },
    holdfast,
    async [Symbol.asyncDispose]() {
      for (const one of [holdfast, apache, ...others]) await one[Symbol.asyncDispose]();
    },
  };
}

/** Which headers a line tells, beside the status and what the backend was asked for. */
export interface Shown {
  /** Of the request as the backend got it. */
  readonly request?: readonly string[];
  /** Of the answer as the client got it. */
  readonly answer?: readonly string[];
  /** Its path and query as the backend got them. Default false. */
  readonly target?: boolean;
}

/** Sends bytes and tells the line about it. */
export async function tell(side: Side, backend: RecordingBackend, bytes: string, shown: Shown = {}): Promise<string> {
  backend.take();
  const answer = await exchange(side.port, bytes);
  answer.peer.socket.destroy();
  return line(answer, backend.take(), shown);
}

export function line(answer: Answer, requests: readonly Recorded[], shown: Shown): string {
  const parts = [answer.status === 0 ? 'cut' : [...answer.interim, answer.status].join(' ')];
  for (const name of shown.answer ?? []) parts.push(values(name, answer.headers));
  for (const { method, target, rawHeaders } of requests) {
    if (shown.target) parts.push(`backend: ${method} ${target}`);
    const headers: [string, string][] = [];
    for (let i = 0; i < rawHeaders.length; i += 2) headers.push([rawHeaders[i]!.toLowerCase(), rawHeaders[i + 1]!]);
    for (const name of shown.request ?? []) parts.push(values(name, headers));
  }
  if (requests.length === 0 && (shown.target || shown.request)) parts.push('backend not asked');
  return parts.join('; ');
}

function values(name: string, headers: readonly (readonly [string, string])[]): string {
  const found = headers.filter(([other]) => other === name.toLowerCase()).map(([, value]) => value);
  return found.length === 0 ? `no ${name}` : found.map(value => `${name}: ${value}`).join('; ');
}

export const get = (target: string, lines: readonly string[] = []) => requestBytes('GET', target, lines);
export { handshakeBytes, requestBytes };
