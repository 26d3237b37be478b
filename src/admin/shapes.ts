import * as z from 'zod';
import { USUAL_CONNECTIONS, USUAL_ENTRIES, USUAL_SESSIONS } from './usual-limits.ts';

/*
 * What the admin API gives and takes, as JSON. Types, checks of what comes in, and the OpenAPI document are made of
 * these. Times ending in `At` are milliseconds since the epoch; a session is named by the first 8 characters of its sid.
 */

const count = z.int().min(0);
const at = z.number().meta({ description: 'Milliseconds since the epoch.' });
const ms = z.number().min(0);
const bytes = z.int().min(0);
const worker = z
  .int()
  .min(0)
  .optional()
  .meta({ description: 'Number of the worker process, where there are several.' });

export const serverState = z.enum(['starting', 'running', 'draining', 'stopped']);

const counts = z.strictObject({
  sockets: count.meta({ description: 'Open WebSockets.' }),
  handshakes: count.meta({ description: 'WebSockets that are being opened.' }),
  sessionsInMemory: count.meta({ description: 'Sessions in the memory of the process, not those of the store.' }),
  sessionsInUse: count.meta({ description: 'Sessions that a request or a socket holds.' }),
  sessionsCreated: count,
  sessionsEnded: count,
  bans: count,
});

const memory = z.strictObject({
  residentBytes: bytes,
  heapUsedBytes: bytes,
  heapTotalBytes: bytes,
  externalBytes: bytes,
});

const cpu = z.strictObject({ userMs: ms, systemMs: ms });

export const reloadResult = z.strictObject({
  ok: z.boolean(),
  errors: z.array(z.string()).optional().meta({ description: 'Why the new configuration was refused.' }),
  changed: z.array(z.string()).optional().meta({ description: 'What is different now.' }),
  needsRestart: z
    .array(z.string())
    .optional()
    .meta({ description: 'Keys of the configuration that are as they were until a restart.' }),
});
export type ReloadResult = z.infer<typeof reloadResult>;

const workerStatus = z.strictObject({
  worker: z.int().min(0),
  pid: z.int(),
  state: serverState,
  startedAt: at,
  counts,
  memory,
  cpu,
});

export const status = z.strictObject({
  version: z.string(),
  node: z.string(),
  pid: z.int(),
  state: serverState,
  isReady: z.boolean().meta({ description: 'It takes connections and is not draining.' }),
  startedAt: at,
  uptimeMs: ms,
  configFile: z.string().optional(),
  dataFolder: z.string(),
  listeners: z.array(z.strictObject({ url: z.string(), serves: z.enum(['clients', 'backends', 'administrators']) })),
  counts,
  memory,
  cpu,
  lastReload: reloadResult.extend({ at }).optional(),
  workers: z.array(workerStatus).meta({ description: 'Of each worker process; empty where one process does it all.' }),
});
export type Status = z.infer<typeof status>;

const limit = (most: number, usual: number) =>
  z.coerce
    .number()
    .int()
    .min(1)
    .max(most)
    .optional()
    .meta({ description: `Entries at most. Default ${usual}.` });

const sidPrefix = z
  .string()
  .regex(/^[\w-]{4,22}$/, { error: 'expected a sid or its first characters, at least 4 of them' });
const filterText = z.string().min(1).max(1024);

export const sessionQuery = z.strictObject({
  user: filterText.optional().meta({ description: 'Only those that this user owns.' }),
  prefix: sidPrefix.optional().meta({ description: 'Only those whose sid begins so.' }),
  context: filterText.optional().meta({ description: 'Of which application: its mount point. Default: of all.' }),
  limit: limit(10_000, USUAL_SESSIONS),
});
export type SessionQuery = z.infer<typeof sessionQuery>;

const sessionFacts = {
  sid: z.string().max(8).meta({ description: 'The first 8 characters.' }),
  context: z.string().meta({ description: '`/`, or the mount point of the application that has sessions of its own.' }),
  user: z.string().optional(),
  createdAt: at,
  lastAccessedAt: at,
  expiresAt: at.optional().meta({ description: 'When it ends if nobody uses it; left out: never.' }),
  isPersistent: z.boolean(),
  isInMemory: z.boolean(),
  attributes: count.meta({ description: 'How many.' }),
  attributeBytes: bytes,
};
export const sessionEntry = z.strictObject(sessionFacts);
export type SessionEntry = z.infer<typeof sessionEntry>;

export const sessionList = z.strictObject({
  sessions: z.array(sessionEntry),
  isPartial: z.boolean().meta({ description: 'There are more, or there was no time to look at all of them.' }),
  stoppedBy: z.enum(['limit', 'time']).optional().meta({
    description: 'With isPartial: more fit than were asked for, or the search took too long and was given up.',
  }),
});
export type SessionList = z.infer<typeof sessionList>;

export const sessionDetail = z.strictObject({
  ...sessionFacts,
  roles: z.array(z.string()),
  version: z.number(),
  idleTimeoutMs: ms.optional(),
  absoluteExpiresAt: at.optional(),
  attributeSizes: z
    .array(z.strictObject({ name: z.string(), bytes }))
    .meta({ description: 'Names and sizes; never a value.' }),
  sockets: count,
});
export type SessionDetail = z.infer<typeof sessionDetail>;

export const ended = z.strictObject({ ended: count });
export const closed = z.strictObject({ closed: count });

export const connectionFilter = {
  id: filterText.optional(),
  route: filterText.optional().meta({ description: 'Name of the route.' }),
  address: filterText.optional().meta({ description: "The client's address, or a block such as 192.0.2.0/24." }),
  user: filterText.optional(),
  session: sidPrefix.optional(),
};
export const connectionQuery = z.strictObject({ ...connectionFilter, limit: limit(10_000, USUAL_CONNECTIONS) });
export type ConnectionQuery = z.infer<typeof connectionQuery>;

export const connectionEntry = z.strictObject({
  id: z.string().meta({ description: 'As in the access log.' }),
  worker,
  kind: z.enum(['endpoint', 'relay']),
  route: z.string(),
  address: z.string(),
  user: z.string().optional(),
  session: z.string().max(8).optional(),
  server: z.string().optional().meta({ description: 'Of a relay: the backend.' }),
  openedAt: at,
  messagesReceived: count.meta({ description: 'Of the client.' }),
  messagesSent: count,
  bytesReceived: bytes.optional(),
  bytesSent: bytes.optional(),
});
export type ConnectionEntry = z.infer<typeof connectionEntry>;

export const connectionList = z.strictObject({
  connections: z.array(connectionEntry),
  total: count.meta({ description: 'How many fit, also beyond the limit.' }),
  isPartial: z.boolean(),
});
export type ConnectionList = z.infer<typeof connectionList>;

/** RFC 6455 §7.4: what an endpoint may send. */
const closeCode = z
  .int()
  .refine(
    code => (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code < 5000),
    {
      error: 'not a close code that can be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999',
    },
  );
const closeReason = z
  .string()
  .refine(text => Buffer.byteLength(text) <= 123, { error: 'a close reason has at most 123 bytes' });

export const closeRequest = z
  .strictObject({ ...connectionFilter, code: closeCode.optional(), reason: closeReason.optional() })
  .refine(
    ({ id, route, address, user, session }) => [id, route, address, user, session].some(one => one !== undefined),
    {
      error: 'say which connections: id, route, address, user or session',
    },
  )
  .meta({ description: 'All connections that fit every filter. Code: default 1001; reason: default none.' });
export type CloseRequest = z.infer<typeof closeRequest>;

const upstreamServer = z.strictObject({
  url: z.string(),
  weight: z.number(),
  route: z.string().optional(),
  state: z.enum(['in-service', 'ejected', 'unhealthy', 'draining']),
  returnsInMs: ms,
  active: count,
  sockets: count,
  requests: count,
  failures: count,
  ejections: count,
  worker,
});
export const upstreamEntry = z.strictObject({
  name: z.string(),
  servers: z.array(upstreamServer),
  moves: count,
  retries: count,
  clientViolations: count,
});
export type UpstreamEntry = z.infer<typeof upstreamEntry>;
export const upstreamList = z.strictObject({ upstreams: z.array(upstreamEntry) });
export type UpstreamList = z.infer<typeof upstreamList>;

const duration = z
  .union([z.string().max(32), z.number()])
  .meta({ description: 'Such as `30s`; a number: milliseconds.' });
const serverUrl = z.string().min(1).max(2048);
export const serverDrain = z.strictObject({
  server: serverUrl,
  sockets: z.enum(['close', 'stay']).optional(),
  over: duration.optional(),
});
export type ServerDrain = z.infer<typeof serverDrain>;
export const serverName = z.strictObject({ server: serverUrl });
export const serverRemoval = z.strictObject({ server: serverUrl, over: duration.optional() });
export type ServerRemoval = z.infer<typeof serverRemoval>;
export const serverAddition = z.strictObject({
  server: serverUrl,
  weight: z.number().min(0).max(1_000_000).optional(),
  route: z.string().min(1).max(256).optional(),
});
export type ServerAddition = z.infer<typeof serverAddition>;

export const banEntry = z.strictObject({
  client: z.string().meta({ description: 'An IPv4 address, or the /64 of an IPv6 address.' }),
  until: at,
  jail: z.string().optional().meta({ description: 'Left out: by hand.' }),
  reason: z.string(),
  offence: count,
});
export type BanEntry = z.infer<typeof banEntry>;
export const banQuery = z.strictObject({ limit: limit(50_000, USUAL_ENTRIES) });
export type BanQuery = z.infer<typeof banQuery>;
export const banList = z.strictObject({ bans: z.array(banEntry), total: count, isPartial: z.boolean() });
export type BanList = z.infer<typeof banList>;
export const banAddition = z.strictObject({
  address: z.string().min(1).max(64),
  for: duration.optional(),
  reason: z.string().max(256).optional(),
});
export type BanAddition = z.infer<typeof banAddition>;
export const removed = z.strictObject({ removed: z.boolean() });

export const topicQuery = z.strictObject({ limit: limit(10_000, USUAL_ENTRIES) });
export type TopicQuery = z.infer<typeof topicQuery>;
export const topicList = z.strictObject({
  topics: z.array(z.strictObject({ topic: z.string(), subscribers: count })),
  total: count,
  isPartial: z.boolean(),
});
export type TopicList = z.infer<typeof topicList>;

export const limitList = z.strictObject({
  limits: z.array(
    z.strictObject({
      of: z.string().meta({ description: 'Whose limit: of the server, of an application, of a route.' }),
      limit: z.string(),
      most: z.number(),
      keys: count.meta({ description: 'Clients, sessions or users that have something of it now.' }),
      highest: count.meta({ description: 'What the one with the most has.' }),
      isShared: z.boolean(),
      worker,
    }),
  ),
});
export type LimitList = z.infer<typeof limitList>;

export const configuration = z.strictObject({
  configFile: z.string().optional(),
  config: z.record(z.string(), z.unknown()).meta({ description: 'Without secrets: `***` stands for each.' }),
});
export type Configuration = z.infer<typeof configuration>;

export const drainRequest = z.strictObject({ over: duration.optional() });
export type DrainRequest = z.infer<typeof drainRequest>;
export const accepted = z.strictObject({ accepted: z.literal(true) });

const logLevel = z.enum(['debug', 'info', 'warn', 'error', 'silent']);
export const logLevels = z.strictObject({ level: logLevel, parts: z.record(z.string(), logLevel) });
export type LogLevels = z.infer<typeof logLevels>;
export const logLevelChange = z.strictObject({ level: logLevel, part: z.string().min(1).max(64).optional() });
export type LogLevelChange = z.infer<typeof logLevelChange>;

const flag = z.enum(['true', 'false']);
export const logsQuery = z.strictObject({
  level: logLevel.optional(),
  part: filterText.optional(),
  access: flag.optional().meta({ description: 'Also lines of the access log. Default false.' }),
});
export const traceQuery = z.strictObject({
  session: sidPrefix.optional(),
  address: filterText.optional(),
  path: filterText.optional(),
});

export const health = z.strictObject({ ok: z.boolean(), state: serverState });

export const failure = z.strictObject({ code: z.string(), message: z.string() });
