import type { Administered, StreamKind, StreamQuery } from '../admin/administered.ts';
import type {
  BanAddition,
  BanEntry,
  BanList,
  BanQuery,
  CloseRequest,
  Configuration,
  ConnectionEntry,
  ConnectionList,
  ConnectionQuery,
  DrainRequest,
  LimitList,
  LogLevelChange,
  LogLevels,
  ReloadResult,
  ServerAddition,
  ServerDrain,
  ServerRemoval,
  SessionDetail,
  SessionEntry,
  SessionList,
  SessionQuery,
  Status,
  TopicList,
  TopicQuery,
  UpstreamEntry,
  UpstreamList,
} from '../admin/shapes.ts';
import { USUAL_CONNECTIONS, USUAL_ENTRIES, USUAL_SESSIONS } from '../admin/usual-limits.ts';
import type { Clock } from '../base/clock.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import { type ErrorCode, HoldfastError } from '../base/errors.ts';
import { sidPrefix } from '../base/logger.ts';
import { messageOf } from '../base/message-of.ts';
import { nearestName } from '../base/nearest-name.ts';
import type { Config } from '../config/config.ts';
import type { LiveSocket } from '../gateway/live-sockets.ts';
import type { Relay } from '../gateway/relay/relay.ts';
import type { Upstream } from '../gateway/upstream/upstream.ts';
import { createAddressList } from '../http/address-list.ts';
import { SID_LENGTH } from '../session/identity/ids.ts';
import type { SessionStatistics } from '../session/reports/statistics.ts';
import type { SessionEndReason } from '../session/session.ts';
import type { SessionInfo } from '../session/session-info.ts';
import type { EndpointConnection } from '../websocket/endpoint-connection.ts';
import { CloseCode } from '../wire/close-codes.ts';
import { AdministeredLogs } from './administered-logs.ts';
import type { Assembly } from './assembly/build.ts';
import type { MetricsText } from './metrics/exposition.ts';
import { type ProcessFacts, processStatus } from './process-status.ts';

/** What of sessions is administered. */
interface Sessions {
  ofUser(name: string): Promise<SessionInfo[]>;
  list(): AsyncIterable<SessionInfo>;
  info(sid: string): Promise<SessionInfo | undefined>;
  end(sid: string, reason: SessionEndReason): Promise<boolean>;
  endAllOf(name: string, options?: { readonly reason?: SessionEndReason }): Promise<number>;
}

/** Where the lines of a stream come from. @returns what ends it. */
export type StreamSource = (query: StreamQuery, onLine: (line: object) => void) => () => void;

/** What the program around a server can do with it. */
export interface ServerOperations {
  /** Where its configuration stands. */
  readonly configFile?: string;
  /** Reads the configuration again. Never rejects: what was wrong is in the result. */
  reload?(): Promise<ReloadResult>;
  /** What became of the last time that it was read again, whoever has asked for it. */
  lastReload?(): Status['lastReload'];
  /** Begins to stop the server gracefully. */
  drain?(request: { readonly over?: Duration | undefined }): void;
}

/** A server as its administration sees it. */
export interface AdministeredParts {
  readonly process: ProcessFacts;
  readonly clock: Clock;
  dataFolder(): string;
  readonly operations: ServerOperations;
  /** By mount point; `''` for the server's own. */
  readonly sessions: ReadonlyMap<string, Sessions>;
  readonly streams: Readonly<Partial<Record<StreamKind, StreamSource>>>;
  config(): Config;
  assembly(): Assembly;
  state(): Status['state'];
  isReady(): boolean;
  listeners(): Status['listeners'];
  statistics(): SessionStatistics;
  /** Left out: it keeps none. */
  readonly metrics?: (() => Promise<MetricsText>) | undefined;
}

/** A search through all sessions of a store ends after this time. */
const MOST_SEARCH_MS = 20_000;

/** The administration of one server in one process. */
export class AdministeredServer implements Administered {
  readonly #parts: AdministeredParts;

  constructor(parts: AdministeredParts) {
    this.#parts = parts;
  }

  async health(): Promise<Pick<Status, 'state' | 'isReady'>> {
    return { state: this.#parts.state(), isReady: this.#parts.isReady() };
  }

  async status(): Promise<Status> {
    const { bans, sockets, handshakes } = this.#parts.assembly();
    const statistics = this.#parts.statistics();
    return {
      ...processStatus(this.#parts.process),
      ...(await this.health()),
      dataFolder: this.#parts.dataFolder(),
      listeners: this.#parts.listeners(),
      counts: {
        sockets: sockets.size,
        handshakes: handshakes.size,
        sessionsInMemory: statistics.liveNow,
        sessionsInUse: statistics.activeNow,
        sessionsCreated: statistics.created,
        sessionsEnded: statistics.ended,
        bans: bans.list().length,
      },
      workers: [],
    };
  }

  async sessions({ user, prefix = '', context, limit = USUAL_SESSIONS }: SessionQuery): Promise<SessionList> {
    const found: SessionEntry[] = [];
    const until = this.#searchEnd();
    for (const [mount, sessions] of this.#contexts(context))
      for await (const info of user === undefined ? sessions.list() : await sessions.ofUser(user)) {
        if (this.#isLate(until)) return { sessions: found, isPartial: true, stoppedBy: 'time' };
        if (!info.sid.startsWith(prefix)) continue;
        if (found.length === limit) return { sessions: found, isPartial: true, stoppedBy: 'limit' };
        found.push(entryOf(info, mount));
      }
    return { sessions: found, isPartial: false };
  }

  async session(sid: string): Promise<SessionDetail> {
    const { info, mount } = await this.#find(sid);
    const { sockets } = this.#parts.assembly();
    const { owner, version, idleTimeoutMs, absoluteExpiresAt, attributes } = info;
    return {
      ...entryOf(info, mount),
      roles: [...(owner?.roles ?? [])],
      version,
      ...(idleTimeoutMs !== undefined && { idleTimeoutMs }),
      ...(absoluteExpiresAt !== undefined && { absoluteExpiresAt }),
      attributeSizes: attributes.map(({ name, bytes }) => ({ name, bytes })),
      sockets: Array.from(sockets).filter(socket => socket.sid === info.sid).length,
    };
  }

  async endSession(sid: string): Promise<number> {
    const { info, sessions } = await this.#find(sid);
    return (await sessions.end(info.sid, 'admin')) ? 1 : 0;
  }

  async endSessionsOf(user: string): Promise<number> {
    let ended = 0;
    for (const [, sessions] of this.#contexts(undefined)) ended += await sessions.endAllOf(user, { reason: 'admin' });
    return ended;
  }

  async connections({ limit = USUAL_CONNECTIONS, ...filter }: ConnectionQuery): Promise<ConnectionList> {
    const fits = connectionFilter(filter);
    const connections: ConnectionEntry[] = [];
    let total = 0;
    for (const socket of this.#parts.assembly().sockets) {
      if (!fits(socket)) continue;
      total++;
      if (connections.length < limit) connections.push(connectionOf(socket));
    }
    return { connections, total, isPartial: total > connections.length };
  }

  async closeConnections({ code = CloseCode.goingAway, reason = '', ...filter }: CloseRequest): Promise<number> {
    const fits = connectionFilter(filter);
    const sockets = [...this.#parts.assembly().sockets].filter(fits);
    for (const socket of sockets) socket.close(code, reason);
    return sockets.length;
  }

  async upstreams(): Promise<UpstreamList> {
    const { upstreams } = this.#parts.assembly();
    return { upstreams: Array.from(upstreams.values(), upstreamOf) };
  }

  async drainServer(name: string, { server, ...options }: ServerDrain): Promise<void> {
    const upstream = this.#upstream(name, server);
    await begun(upstream.drain(server, given(options)));
  }

  async resumeServer(name: string, server: string): Promise<void> {
    this.#upstream(name, server).resume(server);
  }

  async addServer(name: string, { server: url, ...options }: ServerAddition): Promise<void> {
    const upstream = this.#upstream(name);
    try {
      upstream.add({ url, ...given(options) });
    } catch (error) {
      throw badRequest(messageOf(error));
    }
  }

  async removeServer(name: string, { server, over }: ServerRemoval): Promise<void> {
    const upstream = this.#upstream(name, server);
    await begun(upstream.remove(server, given({ over })));
  }

  async bans({ limit = USUAL_ENTRIES }: BanQuery): Promise<BanList> {
    const all = this.#parts.assembly().bans.list();
    return { bans: all.slice(0, limit).map(banOf), total: all.length, isPartial: all.length > limit };
  }

  async addBan({ address, ...options }: BanAddition): Promise<BanEntry> {
    try {
      return banOf(await this.#parts.assembly().bans.add(address, given(options)));
    } catch (error) {
      if (error instanceof TypeError || error instanceof RangeError) throw badRequest(messageOf(error));
      throw error;
    }
  }

  async removeBan(client: string): Promise<boolean> {
    try {
      return await this.#parts.assembly().bans.remove(client);
    } catch (error) {
      if (error instanceof TypeError || error instanceof RangeError) throw badRequest(messageOf(error));
      throw error;
    }
  }

  async topics({ limit = USUAL_ENTRIES }: TopicQuery): Promise<TopicList> {
    const all = Array.from(this.#parts.assembly().services.topics.sizes(), ([topic, subscribers]) => {
      return { topic, subscribers };
    });
    all.sort((a, b) => b.subscribers - a.subscribers);
    return { topics: all.slice(0, limit), total: all.length, isPartial: all.length > limit };
  }

  async limits(): Promise<LimitList> {
    const { limits, routeLimits } = this.#parts.assembly();
    const all = [...(limits ? [limits] : []), ...routeLimits].flatMap(one => {
      return Array.from(one.taken(), taken => ({ of: one.name, ...taken, isShared: one.isShared }));
    });
    return { limits: all };
  }

  async configuration(): Promise<Configuration> {
    const { configFile } = this.#parts.operations;
    const { redactedConfig } = await import('../config/redacted-config.ts');
    return { ...(configFile !== undefined && { configFile }), config: redactedConfig(this.#parts.config()) };
  }

  async reload(): Promise<ReloadResult> {
    const { reload } = this.#parts.operations;
    if (!reload) throw notSupported('this server cannot read its configuration again; stop it and start it anew');
    return reload();
  }

  async drain(request: DrainRequest): Promise<void> {
    const { drain } = this.#parts.operations;
    if (!drain) throw notSupported('the program around this server decides when it stops; ask it');
    const { over } = request;
    drain({ over: over === undefined ? undefined : durationOf(over) });
  }

  async logLevels(): Promise<LogLevels> {
    return this.#logs.levels();
  }

  async setLogLevel(change: LogLevelChange): Promise<LogLevels> {
    return this.#logs.setLevel(change);
  }

  async reopenLogs(): Promise<void> {
    await this.#parts.assembly().logs.reopen();
  }

  async metrics(): Promise<MetricsText> {
    const { metrics } = this.#parts;
    if (!metrics) throw notFound('this server keeps no metrics; add "metrics: true" to its configuration');
    return metrics();
  }

  async follow(kind: StreamKind, query: StreamQuery, onLine: (line: object) => void): Promise<() => void> {
    if (kind === 'logs') return this.#logs.follow(query, onLine);
    const source = this.#parts.streams[kind];
    if (!source) throw notSupported(`this server has no ${kind} to follow`);
    return source(query, onLine);
  }

  get #logs(): AdministeredLogs {
    return new AdministeredLogs(this.#parts.assembly().logs);
  }

  /** Each of them once: several may have one manager. */
  #contexts(context: string | undefined): ReadonlyMap<string, Sessions> {
    const all = new Map<string, Sessions>();
    const known = new Set<Sessions>();
    for (const [mount, sessions] of this.#parts.sessions) {
      if (known.has(sessions)) continue;
      known.add(sessions);
      all.set(mount || '/', sessions);
    }
    if (context === undefined) return all;
    const sessions = all.get(context);
    if (!sessions)
      throw notFound(`no application at "${context}" has sessions of its own; there are ${list(all.keys())}`);
    return new Map([[context, sessions]]);
  }

  async #find(sid: string): Promise<{ info: SessionInfo; mount: string; sessions: Sessions }> {
    if (!/^[\w-]{4,22}$/.test(sid))
      throw badRequest('sid: expected the sid of a session or its first characters, at least 4 of them');
    if (sid.length === SID_LENGTH)
      for (const [mount, sessions] of this.#contexts(undefined)) {
        const info = await sessions.info(sid);
        if (info) return { info, mount, sessions };
      }
    else {
      const found = await this.#findByPrefix(sid);
      if (found) return found;
    }
    throw notFound(`there is no session ${sidPrefix(sid)}; it has ended, or never was`);
  }

  async #findByPrefix(prefix: string) {
    const until = this.#searchEnd();
    let found: { info: SessionInfo; mount: string; sessions: Sessions } | undefined;
    for (const [mount, sessions] of this.#contexts(undefined))
      for await (const info of sessions.list()) {
        if (this.#isLate(until))
          throw failed('ERR_ADMIN_BUSY', 503, 'there was no time to look at all sessions; give the whole sid');
        if (!info.sid.startsWith(prefix)) continue;
        if (found)
          throw failed(
            'ERR_ADMIN_AMBIGUOUS',
            409,
            `several sessions begin with ${sidPrefix(prefix)}; give more of the sid`,
          );
        found = { info, mount, sessions };
      }
    return found;
  }

  #searchEnd(): number {
    return this.#parts.clock.monotonic() + MOST_SEARCH_MS;
  }

  #isLate(until: number): boolean {
    return this.#parts.clock.monotonic() > until;
  }

  #upstream(name: string, server?: string): Upstream {
    const { upstreams } = this.#parts.assembly();
    const upstream = upstreams.get(name);
    if (!upstream) {
      const near = nearestName(name, [...upstreams.keys()]);
      const remedy = near === undefined ? `there are ${list(upstreams.keys())}` : `did you mean "${near}"?`;
      throw notFound(`there is no upstream "${name}"; ${remedy}`);
    }
    const urls = upstream.status.servers.map(({ url }) => url);
    if (server !== undefined && !urls.includes(server))
      throw notFound(`the upstream "${name}" has no server ${server}; it has ${list(urls)}`);
    return upstream;
  }
}

/** Resolves as soon as what was asked for has begun. @throws {HoldfastError} when it cannot. */
async function begun(work: Promise<void>): Promise<void> {
  work.catch(() => {});
  try {
    await Promise.race([work, new Promise(resolve => setImmediate(resolve))]);
  } catch (error) {
    throw badRequest(messageOf(error));
  }
}

/** @throws {HoldfastError} ERR_ADMIN_BAD_REQUEST. */
function durationOf(text: string | number): Duration {
  try {
    parseDuration(text as Duration);
    return text as Duration;
  } catch (error) {
    throw badRequest(`over: ${messageOf(error)}`);
  }
}

/** Only what is there: an option that is undefined is none. */
function given<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

function list(names: Iterable<string>): string {
  return [...names].slice(0, 20).join(', ') || 'none';
}

function entryOf(info: SessionInfo, context: string): SessionEntry {
  const { sid, owner, createdAt, lastAccessedAt, idleTimeoutMs, absoluteExpiresAt } = info;
  const ends = [absoluteExpiresAt, idleTimeoutMs === undefined ? undefined : lastAccessedAt + idleTimeoutMs];
  const expiresAt = Math.min(...ends.map(end => end ?? Number.POSITIVE_INFINITY));
  return {
    sid: sidPrefix(sid),
    context,
    ...(owner && { user: owner.name }),
    createdAt,
    lastAccessedAt,
    ...(Number.isFinite(expiresAt) && { expiresAt }),
    isPersistent: info.isPersistent,
    isInMemory: info.isLive,
    attributes: info.attributes.length,
    attributeBytes: info.attributes.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

type Filter = Omit<CloseRequest, 'code' | 'reason'>;

function connectionFilter({ id, route, address, user, session }: Filter): (socket: LiveSocket) => boolean {
  const addresses = address === undefined ? undefined : addressFilter(address);
  return socket =>
    (id === undefined || socket.id === id) &&
    (route === undefined || socket.route.name === route) &&
    (user === undefined || socket.user === user) &&
    (session === undefined || socket.sid?.startsWith(session) === true) &&
    (addresses === undefined || addresses.contains(socket.clientAddress));
}

function addressFilter(address: string) {
  try {
    return createAddressList([address]);
  } catch (error) {
    throw badRequest(`address: ${messageOf(error)}`);
  }
}

function connectionOf(live: LiveSocket): ConnectionEntry {
  const { id, kind, route, clientAddress, user, sid, openedAt } = live;
  return {
    id,
    kind,
    route: route.name,
    address: clientAddress,
    ...(user !== undefined && { user }),
    ...(sid !== undefined && { session: sidPrefix(sid) }),
    openedAt,
    ...(kind === 'relay' ? relayTraffic(live.socket as Relay) : endpointTraffic(live.socket as EndpointConnection)),
  };
}

function relayTraffic({ server, sent, received }: Relay) {
  return {
    server: server.url,
    messagesReceived: sent.messages,
    messagesSent: received.messages,
    bytesReceived: sent.bytes,
    bytesSent: received.bytes,
  };
}

function endpointTraffic({ messagesReceived, messagesSent }: EndpointConnection) {
  return { messagesReceived, messagesSent };
}

function upstreamOf({ status }: Upstream): UpstreamEntry {
  const { servers, ...rest } = status;
  return {
    ...rest,
    servers: servers.map(({ route, ...server }) => ({ ...server, ...(route !== undefined && { route }) })),
  };
}

function banOf({
  client,
  until,
  jail,
  reason,
  offence,
}: BanEntry | ReturnType<Assembly['bans']['list']>[number]): BanEntry {
  return { client, until, ...(jail !== undefined && { jail }), reason, offence };
}

function failed(code: ErrorCode, status: number, message: string): HoldfastError {
  return new HoldfastError(code, message, { status });
}

function badRequest(message: string): HoldfastError {
  return failed('ERR_ADMIN_BAD_REQUEST', 400, message);
}

function notFound(message: string): HoldfastError {
  return failed('ERR_ADMIN_NOT_FOUND', 404, message);
}

function notSupported(message: string): HoldfastError {
  return failed('ERR_ADMIN_NOT_SUPPORTED', 501, message);
}
