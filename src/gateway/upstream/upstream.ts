import type { Clock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import { type Logger, silentLogger } from '../../base/logger.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import { parseSize } from '../../base/size.ts';
import { FORWARDED_HEADERS, THROUGH_HEADER } from '../../http/forwarded-headers.ts';
import { foldNames } from '../../http/hop-by-hop.ts';
import type { Refusal } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { type CloseCodes, USUAL_CLOSE_CODES } from '../../wire/close-codes.ts';
import type { AssertionIssuer } from '../backend-session/assertion.ts';
import { type UpstreamIdentity, upstreamIdentity } from '../backend-session/identity.ts';
import { SessionObserver } from '../backend-session/observed/observer.ts';
import type { UpstreamTls } from '../connection/dialer.ts';
import { OwnNames } from '../own-names.ts';
import { Affinity } from './affinity.ts';
import { BoundConnections } from './bound-connections.ts';
import { UpstreamCookies } from './cookies.ts';
import { noServer } from './failure.ts';
import {
  connectionOptions,
  ejectionOptions,
  healthOptions,
  type UpstreamOptions,
  type UpstreamServerConfig,
} from './options.ts';
import { RetryBudget } from './retry-budget.ts';
import { Selection, type SelectionSource } from './selection.ts';
import { type Drain, type ServerStatus, UpstreamServer, type UpstreamServerOptions } from './server.ts';

export interface UpstreamEnvironment {
  /** Taken out of what backends get, and of what they set. */
  readonly own?: OwnNames;
  /** For `https:` and `wss:` servers. Default: what Node verifies. */
  readonly tls?: UpstreamTls;
  readonly logger?: Logger;
  /** Sign the cookie of affinity by `cookie`: the first one signs, every one verifies. */
  readonly keys?: readonly (string | Uint8Array)[];
  /** They may change meanwhile. Default: the usual ones. */
  readonly closeCodes?: Readonly<CloseCodes>;
  /** Signs statements about the session for its backends. Left out: nothing is signed. */
  readonly assertions?: AssertionIssuer | undefined;
}

export interface DrainOptions {
  /** `close` (default): the server's WebSockets are closed with 1012. `stay`: they stay until they end. */
  readonly sockets?: Drain;
  /** With `close`: the time over which they are spread. Default `30s`; 0 closes them at once. */
  readonly over?: Duration;
}

const DRAIN_OPTIONS: OptionNames<DrainOptions> = { sockets: true, over: true };
const REMOVE_OPTIONS: OptionNames<Pick<DrainOptions, 'over'>> = { over: true };
const SERVER_OPTIONS: OptionNames<UpstreamServerConfig> = { url: 'text', weight: 'number', route: 'text' };

/** An upstream as it is now. */
export interface UpstreamStatus {
  readonly name: string;
  /** In the order of the configuration; those that were removed and still have something under way at the end. */
  readonly servers: readonly ServerStatus[];
  /** Times that a client was moved away from the server it belonged to. */
  readonly moves: number;
  /** Times that a request was given to another server than the first one chosen. */
  readonly retries: number;
  /** WebSockets that ended because their client broke the protocol, or sent a message over `maxMessageSize`. */
  readonly clientViolations: number;
}

/** What can be changed while the server runs. Nothing of it is kept: a restart begins with the configuration. */
export interface UpstreamControl {
  readonly name: string;
  /** As it is now. */
  readonly status: UpstreamStatus;
  /**
   * Adds a server. Of the sessions, only its share moves to it. @throws {TypeError} when it is there already, or no
   * server.
   */
  add(server: string | UpstreamServerConfig): void;
  /**
   * Takes a server out: nothing new goes there, its WebSockets are closed with 1012, what is under way is finished.
   *
   * @returns when nothing is left. @throws {TypeError} when it is not there.
   */
  remove(url: string, options?: Pick<DrainOptions, 'over'>): Promise<void>;
  /**
   * Gives a server nothing new, but leaves it in the list. With `sockets: 'stay'` also what belongs to it by route or
   * cookie goes there still.
   *
   * @returns when nothing is under way there, or it was resumed. @throws {TypeError} when it is not there.
   */
  drain(url: string, options?: DrainOptions): Promise<void>;
  /** Ends draining. @throws {TypeError} when it is not there. */
  resume(url: string): void;
}

/** A client that belongs to another server from now on. The key stands for it, and is not a secret. */
export interface Move {
  readonly upstream: string;
  readonly key: string;
  readonly url: string;
}

/**
 * A named group of backend servers: which of them a request goes to, how long to wait for them, and the connections to
 * them.
 *
 * Requests share a bounded pool for each server; every WebSocket has a connection of its own.
 */
export class Upstream implements UpstreamControl {
  readonly name: string;
  /** What its backends learn of sessions, and may do with them. */
  readonly identity: UpstreamIdentity;
  /** Watches the backend's own sessions; undefined when they are ours. */
  readonly observer: SessionObserver | undefined;
  readonly assertions: AssertionIssuer | undefined;
  readonly own: OwnNames;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly closeCodes: Readonly<CloseCodes>;
  readonly connectTimeoutMs: number;
  readonly answerTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  /** Of a request. Its default is that of Apache. */
  readonly maxBodyBytes: number;
  /** Undefined: that of the server. */
  readonly clientTimeoutMs: number | undefined;
  readonly cookies: UpstreamCookies;
  /** Connections that are signed in as one client's. */
  readonly bound: BoundConnections;
  readonly #servers: UpstreamServer[] = [];
  /** What was said of it once. */
  readonly #said = new Set<string>();
  /** Removed, with something still under way. */
  readonly #leaving = new Set<UpstreamServer>();
  readonly #serverOptions: UpstreamServerOptions;
  readonly #source: SelectionSource;
  #ownedHeaders: { readonly names: ReadonlySet<string>; readonly of: string } | undefined;
  #isStarted = false;

  /** @throws {TypeError} when a server, a duration, or another option is none. */
  constructor(name: string, options: UpstreamOptions, clock: Clock, environment: UpstreamEnvironment = {}) {
    if (options.servers.length === 0) throw new TypeError(`upstream "${name}" has no servers; add one under "servers"`);
    const { affinity: ties = 'session', balance = 'round-robin', retries = 3 } = options;
    const connections = connectionOptions(name, options, environment.tls);
    this.name = name;
    this.identity = upstreamIdentity(options);
    this.assertions = environment.assertions;
    this.own = environment.own ?? new OwnNames();
    this.clock = clock;
    this.logger = environment.logger ?? silentLogger;
    this.closeCodes = environment.closeCodes ?? USUAL_CLOSE_CODES;
    this.connectTimeoutMs = connections.connectTimeoutMs;
    this.answerTimeoutMs = parseDuration(options.answerTimeout ?? '60s');
    this.handshakeTimeoutMs = parseDuration(options.handshakeTimeout ?? '10s');
    this.maxBodyBytes = parseSize(options.maxBodySize ?? '1GiB');
    this.clientTimeoutMs = options.clientTimeout === undefined ? undefined : parseDuration(options.clientTimeout);
    this.cookies = new UpstreamCookies(options.cookies, this.own);
    this.bound = new BoundConnections(clock);
    this.#serverOptions = {
      connections,
      ejection: options.ejection === false ? undefined : ejectionOptions(options.ejection ?? {}),
      health: options.health && healthOptions(options.health),
      clock,
      logger: this.logger,
      closeCodes: this.closeCodes,
    };
    for (const server of options.servers) this.add(server);
    const affinity = new Affinity(name, ties, this.cookies, environment.keys ?? []);
    this.#source = {
      servers: this.#servers,
      balance,
      affinity,
      maxRetries: retries,
      budget: new RetryBudget(clock),
      counters: { moves: 0, retries: 0, clientViolations: 0 },
    };
    this.observer = this.#newObserver(options);
  }

  /** Says which names are its own, when it is there to stay. */
  addNames(): void {
    const { ownCookie } = this.#source.affinity;
    if (ownCookie !== undefined) this.own.cookies.add(ownCookie);
    if (this.cookies.prefix !== '') this.own.cookiePrefixes.add(this.cookies.prefix);
  }

  /** Those that are not removed, in the order in which they were added. */
  get servers(): readonly UpstreamServer[] {
    return this.#servers;
  }

  /** In the form of `foldNames`: what no client may set. Asked for when all sessions are open. */
  get ownedHeaders(): ReadonlySet<string> {
    const { size } = this.own.headers;
    const requestId = this.own.requestIds?.header ?? 'Host';
    const of = `${requestId} ${size}`;
    // Names of sessions are only ever added.
    if (this.#ownedHeaders?.of !== of) {
      const names = [
        'Host',
        requestId,
        THROUGH_HEADER,
        ...FORWARDED_HEADERS,
        ...this.identity.owned,
        ...this.own.headers,
      ];
      this.#ownedHeaders = { names: foldNames(names), of };
    }
    return this.#ownedHeaders.names;
  }

  get status(): UpstreamStatus {
    const servers = [...this.#servers, ...this.#leaving].map(server => server.status);
    return { name: this.name, servers, ...this.#source.counters };
  }

  /**
   * Says in the log what its application does wrong: once for each reason, because it does it with each answer.
   *
   * @param reason Which of several, for `fields` too.
   */
  warnOnce(reason: string, fields: object, message: string): void {
    if (this.#said.has(reason)) return;
    this.#said.add(reason);
    this.logger.warn({ ...fields, upstream: this.name }, message);
  }

  /** A WebSocket ends because its client broke the protocol. */
  clientViolated(): void {
    this.#source.counters.clientViolations++;
  }

  /** Begins the active checks. */
  start(): void {
    this.#isStarted = true;
    for (const server of this.#servers) server.start();
  }

  /** The servers for one request, in the order in which to try them. */
  select(head: RequestHead, sid: string | undefined): Selection {
    return new Selection(this.#source, head, sid);
  }

  /**
   * From now on `announce` is called with every move of a client. It reaches other processes, where `adoptMove` takes
   * it.
   */
  announceMoves(announce: (move: Move) => void): void {
    this.#source.announce = (key, { url }) => announce({ upstream: this.name, key, url });
  }

  /** A client has moved in another process. Nothing happens when the server is not known here. */
  adoptMove({ key, url }: Move): void {
    const server = this.#servers.find(one => one.url === url);
    if (server) this.#source.affinity.adopt(key, server);
  }

  /** The answer for a client when a selection has no server at all. */
  refusal(selection: Selection): Refusal {
    const { onlyServers } = selection;
    const servers = onlyServers ?? this.#servers;
    const returns = servers.map(server => server.returnsInMs).filter(ms => ms > 0);
    const states = [...new Set(servers.map(server => server.state))].join(' or ');
    const all = states === '' ? 'every one was removed' : `every one is ${states}`;
    const tied = servers.length > 1 ? `${servers.length} that are` : 'one that is';
    const why = onlyServers ? `affinity is strict, and the client is tied to ${tied} ${states}` : all;
    const reason = servers.length > 0 && servers.every(({ state }) => state === 'draining') ? 'draining' : 'nomember';
    return noServer(this, reason, why, returns.length > 0 ? Math.min(...returns) : undefined);
  }

  add(server: string | UpstreamServerConfig): void {
    if (typeof server !== 'string') checkOptions('add', server, SERVER_OPTIONS);
    const added = new UpstreamServer(typeof server === 'string' ? { url: server } : server, this.#serverOptions);
    if (this.#servers.some(({ url }) => url === added.url))
      throw new TypeError(`upstream "${this.name}": ${added.url} is there already; raise its weight instead`);
    this.#servers.push(added);
    if (this.#isStarted) added.start();
  }

  async remove(url: string, options: Pick<DrainOptions, 'over'> = {}): Promise<void> {
    checkOptions('remove', options, REMOVE_OPTIONS);
    const server = this.#find(url);
    const overMs = spreadMs(options.over);
    this.#servers.splice(this.#servers.indexOf(server), 1);
    this.#leaving.add(server);
    this.#source.affinity.forget(server);
    server.retire();
    await server.drain('close', overMs);
    this.#leaving.delete(server);
    server.close();
  }

  async drain(url: string, options: DrainOptions = {}): Promise<void> {
    checkOptions('drain', options, DRAIN_OPTIONS);
    await this.#find(url).drain(options.sockets ?? 'close', spreadMs(options.over));
  }

  /** Ends the checks and the idle connections, and tells the WebSockets of these servers to go over this time. */
  retire(isLeft: (url: string) => boolean, overMs: number): void {
    for (const server of this.#servers) {
      server.retire();
      if (isLeft(server.url)) server.closeSockets(overMs);
    }
  }

  resume(url: string): void {
    this.#find(url).resume();
  }

  /**
   * Closes the idle connections and ends the checks. Requests under way fail. Resolves when what was seen of the
   * backend's sessions is written.
   */
  async close(): Promise<void> {
    for (const server of [...this.#servers, ...this.#leaving]) server.close();
    await this.observer?.close();
  }

  #newObserver({ session }: UpstreamOptions): SessionObserver | undefined {
    if (session?.mode !== 'observed') return undefined;
    const publicCookie = session.cookie && this.cookies.publicName(session.cookie);
    if (publicCookie) this.own.backendCookies.add(publicCookie);
    if (session.header) this.own.backendHeaders.add(session.header.toLowerCase());
    return new SessionObserver(this.name, session, {
      publicCookie,
      ...this.identity,
      ...{ clock: this.clock, logger: this.logger },
      onPlace: (key, url) => this.adoptMove({ upstream: this.name, key, url }),
    });
  }

  #find(url: string): UpstreamServer {
    const server = this.#servers.find(one => one.url === url || one.url === URL.parse(url)?.origin);
    if (server) return server;
    const known = this.#servers.map(one => one.url).join(', ');
    throw new TypeError(`upstream "${this.name}" has no server ${url}; it has ${known || 'none'}`);
  }
}

function spreadMs(over: Duration = '30s'): number {
  const ms = parseDuration(over);
  if (Number.isFinite(ms)) return ms;
  throw new TypeError('closing WebSockets needs an end; give "over" a time, or take sockets: "stay"');
}
