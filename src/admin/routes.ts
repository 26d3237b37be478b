import type * as z from 'zod';
import type { Administered, StreamKind } from './administered.ts';
import * as shapes from './shapes.ts';

/** What a request brings, checked. */
export interface Asked<Query = unknown, Body = unknown> {
  /** What stands for `{name}` in the path. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
}

interface Common {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** `/v1/sessions/{sid}`. */
  readonly path: string;
  /** `operationId` of the OpenAPI document. */
  readonly id: string;
  readonly summary: string;
  /** Answered without a token: it says no more than whether the server is well. */
  readonly isOpen?: true;
  readonly query?: z.ZodType | undefined;
  readonly body?: z.ZodType | undefined;
}

/** One operation of the admin API. */
export type AdminRoute = Common &
  (
    | {
        readonly kind: 'json';
        readonly answer: z.ZodType;
        /** Other statuses that come with the same answer, and when. */
        readonly statusOf?: (answer: unknown) => number;
        readonly otherStatuses?: Readonly<Record<number, string>>;
        run(administered: Administered, asked: Asked): Promise<unknown>;
      }
    | { readonly kind: 'text'; run(administered: Administered): Promise<{ contentType: string; body: string }> }
    | { readonly kind: 'lines'; readonly stream: StreamKind }
  );

interface JsonRoute<Q extends z.ZodType | undefined, B extends z.ZodType | undefined, A extends z.ZodType>
  extends Omit<Common, 'query' | 'body'> {
  readonly query?: Q;
  readonly body?: B;
  readonly answer: A;
  readonly statusOf?: (answer: z.infer<A>) => number;
  readonly otherStatuses?: Readonly<Record<number, string>>;
  run(
    administered: Administered,
    asked: Asked<Q extends z.ZodType ? z.infer<Q> : undefined, B extends z.ZodType ? z.infer<B> : undefined>,
  ): Promise<z.infer<A>>;
}

function json<
  A extends z.ZodType,
  Q extends z.ZodType | undefined = undefined,
  B extends z.ZodType | undefined = undefined,
>(route: JsonRoute<Q, B, A>): AdminRoute {
  return { kind: 'json', ...route } as unknown as AdminRoute;
}

const accepted = { accepted: true } as const;

/** Every operation, in the order of the documents. */
export const adminRoutes: readonly AdminRoute[] = [
  json({
    method: 'GET',
    path: '/healthz',
    id: 'health',
    summary: 'Is the process alive? 200 as long as it answers, also while it drains.',
    isOpen: true,
    answer: shapes.health,
    run: async administered => ({ ok: true, state: (await administered.health()).state }),
  }),
  json({
    method: 'GET',
    path: '/readyz',
    id: 'readiness',
    summary: 'Does it take new clients? 503 before it listens, and as soon as it drains.',
    isOpen: true,
    answer: shapes.health,
    statusOf: ({ ok }) => (ok ? 200 : 503),
    otherStatuses: { 503: 'Not before it listens, and not while it drains.' },
    run: async administered => {
      const { isReady, state } = await administered.health();
      return { ok: isReady, state };
    },
  }),
  {
    kind: 'text',
    method: 'GET',
    path: '/metrics',
    id: 'metrics',
    summary: 'The metrics, for Prometheus.',
    run: administered => administered.metrics(),
  },
  json({
    method: 'GET',
    path: '/v1/status',
    id: 'status',
    summary: 'What runs, since when, and how much of it.',
    answer: shapes.status,
    run: administered => administered.status(),
  }),
  json({
    method: 'GET',
    path: '/v1/sessions',
    id: 'sessions',
    summary: 'Sessions of the store.',
    query: shapes.sessionQuery,
    answer: shapes.sessionList,
    run: (administered, { query }) => administered.sessions(query),
  }),
  json({
    method: 'GET',
    path: '/v1/sessions/{sid}',
    id: 'session',
    summary: 'One session, by its sid or the first characters of it (at least 4).',
    answer: shapes.sessionDetail,
    run: (administered, { params }) => administered.session(params.sid!),
  }),
  json({
    method: 'DELETE',
    path: '/v1/sessions/{sid}',
    id: 'endSession',
    summary: 'Ends one session everywhere; its sockets close with 1008.',
    answer: shapes.ended,
    run: async (administered, { params }) => ({ ended: await administered.endSession(params.sid!) }),
  }),
  json({
    method: 'DELETE',
    path: '/v1/users/{user}/sessions',
    id: 'endSessionsOfUser',
    summary: 'Ends all sessions that a user owns.',
    answer: shapes.ended,
    run: async (administered, { params }) => ({ ended: await administered.endSessionsOf(params.user!) }),
  }),
  json({
    method: 'GET',
    path: '/v1/connections',
    id: 'connections',
    summary: 'Open WebSockets, the oldest first.',
    query: shapes.connectionQuery,
    answer: shapes.connectionList,
    run: (administered, { query }) => administered.connections(query),
  }),
  json({
    method: 'POST',
    path: '/v1/connections/close',
    id: 'closeConnections',
    summary: 'Closes open WebSockets.',
    body: shapes.closeRequest,
    answer: shapes.closed,
    run: async (administered, { body }) => ({ closed: await administered.closeConnections(body) }),
  }),
  json({
    method: 'GET',
    path: '/v1/upstreams',
    id: 'upstreams',
    summary: 'The upstreams and their servers, as they are now.',
    answer: shapes.upstreamList,
    run: administered => administered.upstreams(),
  }),
  json({
    method: 'POST',
    path: '/v1/upstreams/{upstream}/drain',
    id: 'drainServer',
    summary: 'Gives a server nothing new. Answers when that has begun.',
    body: shapes.serverDrain,
    answer: shapes.accepted,
    run: async (administered, { params, body }) => {
      await administered.drainServer(params.upstream!, body);
      return accepted;
    },
  }),
  json({
    method: 'POST',
    path: '/v1/upstreams/{upstream}/resume',
    id: 'resumeServer',
    summary: 'Ends draining.',
    body: shapes.serverName,
    answer: shapes.accepted,
    run: async (administered, { params, body }) => {
      await administered.resumeServer(params.upstream!, body.server);
      return accepted;
    },
  }),
  json({
    method: 'POST',
    path: '/v1/upstreams/{upstream}/add',
    id: 'addServer',
    summary: 'Adds a server, until the process ends or the configuration is read again.',
    body: shapes.serverAddition,
    answer: shapes.accepted,
    run: async (administered, { params, body }) => {
      await administered.addServer(params.upstream!, body);
      return accepted;
    },
  }),
  json({
    method: 'POST',
    path: '/v1/upstreams/{upstream}/remove',
    id: 'removeServer',
    summary: 'Takes a server out: what is under way is finished, its WebSockets close with 1012.',
    body: shapes.serverRemoval,
    answer: shapes.accepted,
    run: async (administered, { params, body }) => {
      await administered.removeServer(params.upstream!, body);
      return accepted;
    },
  }),
  json({
    method: 'GET',
    path: '/v1/bans',
    id: 'bans',
    summary: 'Who may not come in for now.',
    query: shapes.banQuery,
    answer: shapes.banList,
    run: (administered, { query }) => administered.bans(query),
  }),
  json({
    method: 'POST',
    path: '/v1/bans',
    id: 'addBan',
    summary: 'Bans a client, in every process that shares the ledger.',
    body: shapes.banAddition,
    answer: shapes.banEntry,
    run: (administered, { body }) => administered.addBan(body),
  }),
  json({
    method: 'DELETE',
    path: '/v1/bans/{client}',
    id: 'removeBan',
    summary: 'Lifts a ban. An IPv6 network is written with its slash escaped (%2F).',
    answer: shapes.removed,
    run: async (administered, { params }) => ({ removed: await administered.removeBan(params.client!) }),
  }),
  json({
    method: 'GET',
    path: '/v1/topics',
    id: 'topics',
    summary: 'Topics and how many connections subscribe to each, the largest first.',
    query: shapes.topicQuery,
    answer: shapes.topicList,
    run: (administered, { query }) => administered.topics(query),
  }),
  json({
    method: 'GET',
    path: '/v1/limits',
    id: 'limits',
    summary: 'How much of the limits is taken.',
    answer: shapes.limitList,
    run: administered => administered.limits(),
  }),
  json({
    method: 'GET',
    path: '/v1/config',
    id: 'configuration',
    summary: 'The configuration that is in force, without secrets.',
    answer: shapes.configuration,
    run: administered => administered.configuration(),
  }),
  json({
    method: 'POST',
    path: '/v1/reload',
    id: 'reload',
    summary: 'Reads the configuration again. One that is refused changes nothing.',
    answer: shapes.reloadResult,
    statusOf: ({ ok }) => (ok ? 200 : 422),
    otherStatuses: { 422: 'The new configuration was refused; the old one is in force.' },
    run: administered => administered.reload(),
  }),
  json({
    method: 'POST',
    path: '/v1/drain',
    id: 'drain',
    summary: 'Stops gracefully. Answers when that has begun.',
    body: shapes.drainRequest,
    answer: shapes.accepted,
    run: async (administered, { body }) => {
      await administered.drain(body);
      return accepted;
    },
  }),
  json({
    method: 'GET',
    path: '/v1/log/level',
    id: 'logLevels',
    summary: 'From which level on the log has lines, in all and by part.',
    answer: shapes.logLevels,
    run: administered => administered.logLevels(),
  }),
  json({
    method: 'POST',
    path: '/v1/log/level',
    id: 'setLogLevel',
    summary:
      'Changes the level of the log, or that of one part, until the process ends or the configuration is read again.',
    body: shapes.logLevelChange,
    answer: shapes.logLevels,
    run: (administered, { body }) => administered.setLogLevel(body),
  }),
  json({
    method: 'POST',
    path: '/v1/log/reopen',
    id: 'reopenLogs',
    summary: 'Begins log files anew that were moved away.',
    answer: shapes.accepted,
    run: async administered => {
      await administered.reopenLogs();
      return accepted;
    },
  }),
  {
    kind: 'lines',
    method: 'GET',
    path: '/v1/logs',
    id: 'followLogs',
    summary: 'Lines of the log as they are written, until the client goes.',
    query: shapes.logsQuery,
    stream: 'logs',
  },
  {
    kind: 'lines',
    method: 'GET',
    path: '/v1/trace',
    id: 'trace',
    summary: 'Requests and handshakes, step by step, as they come, until the client goes.',
    query: shapes.traceQuery,
    stream: 'trace',
  },
];
