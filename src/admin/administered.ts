import type {
  BanAddition,
  BanEntry,
  BanList,
  BanQuery,
  CloseRequest,
  Configuration,
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
  SessionList,
  SessionQuery,
  Status,
  TopicList,
  TopicQuery,
  UpstreamList,
} from './shapes.ts';

/** What can be watched line by line as it happens. */
export type StreamKind = 'logs' | 'trace';

export type StreamQuery = Readonly<Record<string, string | undefined>>;

/**
 * What is administered: a server of one process, or several workers together.
 *
 * Everything that goes in and out is plain JSON, so that it can be asked of another process. A method that this server
 * cannot do rejects with ERR_ADMIN_NOT_SUPPORTED.
 */
export interface Administered {
  /** Cheap: probes ask it again and again. */
  health(): Promise<Pick<Status, 'state' | 'isReady'>>;
  status(): Promise<Status>;
  sessions(query: SessionQuery): Promise<SessionList>;
  /**
   * @param sid Whole, or its first characters.
   * @throws {HoldfastError} ERR_ADMIN_NOT_FOUND; ERR_ADMIN_AMBIGUOUS when several begin so.
   */
  session(sid: string): Promise<SessionDetail>;
  /** As `session`; ends it everywhere. @returns how many it were: 0 when it has ended meanwhile. */
  endSession(sid: string): Promise<number>;
  endSessionsOf(user: string): Promise<number>;
  connections(query: ConnectionQuery): Promise<ConnectionList>;
  /** Begins to close every connection that fits. @returns how many. */
  closeConnections(request: CloseRequest): Promise<number>;
  upstreams(): Promise<UpstreamList>;
  /** Each of these resolves when it has begun, not when everything is over. @throws {HoldfastError} ERR_ADMIN_NOT_FOUND. */
  drainServer(upstream: string, request: ServerDrain): Promise<void>;
  resumeServer(upstream: string, server: string): Promise<void>;
  /** @throws {HoldfastError} ERR_ADMIN_BAD_REQUEST when it is there already, or no server. */
  addServer(upstream: string, request: ServerAddition): Promise<void>;
  removeServer(upstream: string, request: ServerRemoval): Promise<void>;
  bans(query: BanQuery): Promise<BanList>;
  addBan(request: BanAddition): Promise<BanEntry>;
  removeBan(client: string): Promise<boolean>;
  topics(query: TopicQuery): Promise<TopicList>;
  limits(): Promise<LimitList>;
  configuration(): Promise<Configuration>;
  reload(): Promise<ReloadResult>;
  /** Begins to drain, and resolves then. */
  drain(request: DrainRequest): Promise<void>;
  logLevels(): Promise<LogLevels>;
  setLogLevel(change: LogLevelChange): Promise<LogLevels>;
  reopenLogs(): Promise<void>;
  /** The text for Prometheus. @throws {HoldfastError} ERR_ADMIN_NOT_FOUND while there is none. */
  metrics(): Promise<{ readonly contentType: string; readonly body: string }>;
  /**
   * Calls `onLine` with each object as it happens, until `stop` is called. `onLine` never waits: who reads slowly has
   * a bounded queue of its own (`LineQueue`).
   */
  follow(kind: StreamKind, query: StreamQuery, onLine: (line: object) => void): Promise<() => void>;
}
