import * as z from 'zod';
import { isAttributeName, MAX_ATTRIBUTE_NAME } from '../base/attribute-name.ts';
import { parseDate } from '../base/date.ts';
import type { Duration } from '../base/duration.ts';
import { nearestName } from '../base/nearest-name.ts';
import { type ByteRateText, parseByteRate, parseRate, type RateText } from '../base/rate.ts';
import { parseRedisAddresses } from '../base/redis-address.ts';
import type { AssertionConfig, SessionApiConfig } from '../gateway/backend-session/identity.ts';
import type { UpstreamSessionConfig } from '../gateway/backend-session/observed/options.ts';
import type { WebSocketRouteConfig } from '../gateway/relay/limits.ts';
import type { FetchHandler } from '../gateway/targets/fetch.ts';
import type { AffinityOptions } from '../gateway/upstream/affinity.ts';
import type { UpstreamCookiesConfig } from '../gateway/upstream/cookies.ts';
import type {
  UpstreamEjectionConfig,
  UpstreamHealthConfig,
  UpstreamServerConfig,
} from '../gateway/upstream/options.ts';
import { isAddressOrBlock } from '../http/address-block.ts';
import { isCookieDomain, isCookiePath } from '../http/cookies.ts';
import { expressionProblem, isExpressionText } from '../http/expression.ts';
import { isHostPattern } from '../http/host-names.ts';
import { isKnownMethod } from '../http/methods.ts';
import { parseOriginRule } from '../http/origin.ts';
import { type PatternFault, readRoutePattern } from '../http/route-pattern.ts';
import { parseServerAddress } from '../http/server-address.ts';
import { isFieldValue, isToken } from '../http/token.ts';
import { trackingProblem } from '../http/tracking-list.ts';
import type { CorsOptions } from '../policy/cors.ts';
import type { CustomPolicy, CustomPolicyConfig } from '../policy/custom.ts';
import type { InspectConfig, InspectedPlace, InspectRule } from '../policy/inspection.ts';
import type { TransportConfig } from '../policy/transport.ts';
import type { Ledger } from '../session/ledger.ts';
import type { UserLimit } from '../session/life/user-sessions.ts';
import type { SessionManager } from '../session/manager.ts';
import type { ConflictPolicy } from '../session/record/write-policy.ts';
import type { SessionStore } from '../session/store.ts';
import type { DispatchOptions } from '../websocket/endpoint-options.ts';
import { authOfPolicy, authScheme } from './auth-schema.ts';
import { anomaliesSchema, bansSchema } from './bans.ts';
import { isSessionManager } from './brought-manager.ts';
import type {
  AcceptConfig,
  AddressesConfig,
  AdminConfig,
  ApplicationConfig,
  AssertionsConfig,
  CertificateConfig,
  ClientCertificateConfig,
  CloseCodesConfig,
  Config,
  ConstraintConfig,
  DrainConfig,
  HstsConfig,
  Http2Config,
  InternalConfig,
  LimitsConfig,
  ListenConfig,
  PathsConfig,
  PolicyConfig,
  RememberMeConfig,
  RouteConfig,
  SessionCacheConfig,
  SessionConfig,
  SessionCookieConfig,
  SessionWarnConfig,
  StoreConfig,
  TicketsConfig,
  TlsConfig,
  UpstreamConfig,
  UpstreamTlsConfig,
} from './config.ts';
import { logSchema } from './log-schema.ts';
import {
  DURATION,
  duration,
  flag,
  headerName,
  measured,
  type Shape,
  SIZE,
  secret,
  section,
  size,
  text,
  textLike,
  whole,
} from './schema-parts.ts';
import { isWarningCode, WARNING_CODES, type WarningCode } from './warning-codes.ts';
import { MOST_WORKERS } from './worker-rules.ts';

const share = z.number().refine(value => value >= 0 && value <= 1, {
  error: ({ input }) => `expected a number from 0 to 1, got ${input}`,
});

const pathPattern = z.string().superRefine((value, context) => {
  const message = patternProblem(value);
  if (message) context.addIssue({ code: 'custom', message: `${JSON.stringify(value)} is not a path: ${message}` });
});

const SEMICOLON = 'leave out the ";": path parameters are no part of what a route matches';

const PATTERN_REMEDIES: Readonly<Record<PatternFault['fault'], (segment: string, pattern: string) => string>> = {
  start: (_, pattern) => `it starts with "/"; write "/${pattern}"`,
  query: () => 'a query or fragment is never part of it',
  star: () => '"*" stands alone as the last segment, for example "/api/*"',
  braces: segment => (segment.includes(';') ? SEMICOLON : `write ":${segment.slice(1, -1)}" instead of "${segment}"`),
  name: segment => (segment.includes(';') ? SEMICOLON : `"${segment}" is not a name; write for example "/:room"`),
  semicolon: () => SEMICOLON,
  empty: () => 'write "/" once',
  'empty-before-star': () => 'write "/" once',
  unmatchable: segment => `"${segment}" can never match: a path has no dot segments, backslashes or broken escapes`,
  repeated: segment => `name the second "${segment}" differently`,
};

function patternProblem(pattern: string): string | undefined {
  const read = readRoutePattern(pattern);
  if ('fault' in read) return PATTERN_REMEDIES[read.fault](read.segment, pattern);
  // Legal in a pattern, where it is escaped; in a file it is a slip.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  const slip = pattern.split('/').find(segment => /[\x00-\x1f\x7f]/.test(segment));
  return slip && PATTERN_REMEDIES.unmatchable(slip, pattern);
}

const address = textLike(
  isAddressOrBlock,
  'not an address; write for example "10.0.0.1", "192.168.0.0/24" or "fd00::/8"',
);

const server = textLike(
  value => parseServerAddress(value) !== undefined,
  'not a server; write scheme, host and port only, for example "http://localhost:3000", or "unix:" and the path of a socket',
);

const redirect = textLike(
  value => value.startsWith('/') || /^https?:/.test(URL.canParse(value) ? new URL(value).protocol : ''),
  'not a place to redirect to; write a path or an absolute http(s) URL',
);

// A store's URL can hold a password: messages name its scheme only.
const storeUrl = z
  .string()
  .superRefine(checkStoreUrl)
  // YAML takes it without quotes, as it does not take `memory:`.
  .transform(value => (value === 'memory' ? 'memory:' : value));

function checkStoreUrl(value: string, context: z.core.$RefinementCtx<string>): void {
  if (/^memory:?$/.test(value) || /^lmdb:./.test(value)) return;
  if (/^rediss?(\+sentinel)?:\/\//.test(value)) {
    try {
      return void parseRedisAddresses([value]);
    } catch (error) {
      return context.addIssue({ code: 'custom', message: (error as Error).message.replace(/^redis: /, '') });
    }
  }
  if (/^postgres(ql)?:\/\/./.test(value) && URL.canParse(value)) return;
  if (/^postgres(ql)?:/.test(value)) {
    const message = 'cannot be read as an address; write postgres://user@host:5432/database';
    return context.addIssue({ code: 'custom', message });
  }
  const scheme = /^[a-z][\w+.-]*:/i.exec(value)?.[0];
  context.addIssue({
    code: 'custom',
    message: `${scheme === 'lmdb:' ? '"lmdb:" without a folder' : scheme === undefined ? 'a text without a scheme' : `"${scheme}"`} is not a store; write "memory:", "lmdb:" and a folder, for example "lmdb:./data", or a URL such as "redis://localhost:6379" or "postgres://localhost/app"`,
  });
}

const sessionStore = z.custom<SessionStore>(
  value => typeof value === 'object' && value !== null && 'commit' in value && typeof value.commit === 'function',
  { error: 'expected a session store' },
);

const hstsAge = measured({ ...DURATION, example: '"365d"' }, 'browsers take a number of seconds');

const certificate: Shape<CertificateConfig> = { certificate: text, key: text };

const tls = section<TlsConfig>('tls', {
  ...certificate,
  certificates: z.array(section<CertificateConfig>('a certificate', certificate)).optional(),
  minVersion: z.enum(['TLSv1.2', 'TLSv1.3']).optional(),
  clientCertificates: section<ClientCertificateConfig>('clientCertificates', {
    ca: text,
    crl: z
      .union([text, z.array(text).min(1, { error: 'is empty' })], { error: 'expected a file, or a list' })
      .optional(),
    mode: z.enum(['require', 'request']).optional(),
  }).optional(),
  hsts: z
    .union([
      hstsAge,
      section<HstsConfig>('hsts', { maxAge: hstsAge, includeSubDomains: flag.optional(), preload: flag.optional() }),
    ])
    .optional(),
});

const hostPattern = textLike(isHostPattern, 'not a host; write a name without port, or "*.example.com"');

const socketMode = textLike(value => /^0?[0-7]{3}$/.test(value), 'not the mode of a file; write for example "0660"');

/** The one above means "leave it as it is" (chown(2)). */
const MAX_GID = 2 ** 32 - 2;

const listen = section<ListenConfig>('listen', {
  port: whole(0, 65_535).optional(),
  host: text.optional(),
  reusePort: flag.optional(),
  socket: text.optional(),
  mode: socketMode.optional(),
  group: z.union([text, whole(0, MAX_GID)]).optional(),
  activation: text.optional(),
  fd: whole(3, 65_535).optional(),
  hosts: z.array(hostPattern).min(1, { error: 'is empty' }).optional(),
  tls: z.union([z.literal('self-signed'), tls]).optional(),
  http2: z.union([flag, section<Http2Config>('http2', { websocket: flag.optional() })]).optional(),
  publicPort: whole(1, 65_535).optional(),
  redirect: z.literal('https').optional(),
  acmeChallenge: text.optional(),
  proxyProtocol: z.enum(['required', 'optional']).optional(),
});

// RFC 6265 §4.1.1: a token.
const cookieName = textLike(isToken, 'not a cookie name');

const cookieDomain = textLike(isCookieDomain, 'not a domain; write for example "example.com"');

const cookiePath = textLike(isCookiePath, 'not a cookie path; it starts with "/"');

const ownHosts = z
  .array(textLike(value => isHostPattern(value) && !value.startsWith('*'), 'not a host; write a name without port'))
  .min(1, { error: 'is empty' });

const internal = section<InternalConfig>('internal', {
  port: whole(0, 65_535),
  host: text.optional(),
  hosts: ownHosts.optional(),
  tls: z.union([z.literal('self-signed'), tls]).optional(),
});

const admin = section<AdminConfig>('admin', {
  port: whole(0, 65_535).optional(),
  host: text.optional(),
  hosts: ownHosts.optional(),
  tokenFile: text.optional(),
  tls: z.union([z.literal('self-signed'), tls]).optional(),
  socket: z.union([flag, text]).optional(),
});

const cookie = section<SessionCookieConfig>('cookie', {
  name: cookieName.optional(),
  domain: cookieDomain.optional(),
  path: cookiePath.optional(),
  sameSite: z.enum(['strict', 'lax', 'none']).optional(),
  persistent: flag.optional(),
  partitioned: flag.optional(),
});

const storeConfig = section<StoreConfig>('store', {
  url: z.union([storeUrl, z.array(storeUrl).min(1, { error: 'is empty' })]),
  maxSize: size.optional(),
  prefix: textLike(
    value => /^[\w.:/-]{1,64}$/.test(value),
    'not a prefix; take letters, digits and . : / _ -',
  ).optional(),
  acknowledge: section<NonNullable<StoreConfig['acknowledge']>>('acknowledge', {
    replicas: whole(1),
    timeout: measured(DURATION, 'a commit could wait for ever').optional(),
  }).optional(),
  schema: textLike(
    value => /^(?!pg_)[a-z_][a-z0-9_]{0,39}$/.test(value),
    'not a schema name; take a-z, 0-9 and _, at most 40, with a letter or _ in front and not pg_',
  ).optional(),
  poolSize: whole(1).optional(),
  migrate: flag.optional(),
  transactionPooler: flag.optional(),
  listenUrl: storeUrl.optional(),
  commandTimeout: measured(DURATION, 'a request could wait for ever').optional(),
  clientName: textLike(
    value => /^[!-9;-~]{1,40}$/.test(value),
    'not a name for connections; take up to 40 letters, digits and signs of ASCII, without spaces and ":"',
  ).optional(),
});

const ledger = z.custom<Ledger>(
  value => typeof value === 'object' && value !== null && 'putIfAbsent' in value && 'publish' in value,
  { error: 'expected a ledger object; a store by URL brings its own' },
);

/** It may be a secret: it is not repeated. */
const fieldValue = secret(
  z.string().refine(isFieldValue, { error: 'has a character that headers cannot have; write one line' }),
);

const trackingKind = z.enum(['cookie', 'header', 'url']);

const sessionManager = z.custom<SessionManager>(isSessionManager, { error: 'expected a session manager' });

const attributeName = textLike(
  isAttributeName,
  `not the name of an attribute; that has 1 to ${MAX_ATTRIBUTE_NAME} characters`,
);

const session = section<SessionConfig>('session', {
  manager: sessionManager.optional(),
  store: z
    .union([storeUrl, sessionStore, storeConfig], {
      error: 'expected "memory:", "lmdb:PATH", the URL of a redis or postgres, or a session store',
    })
    .optional(),
  ledger: ledger.optional(),
  keyFiles: z.array(text).min(1, { error: 'is empty; name at least one file' }).optional(),
  tracking: z
    .union(
      [
        trackingKind,
        z.array(trackingKind).superRefine((kinds, context) => {
          const message = trackingProblem(kinds);
          if (message) context.addIssue({ code: 'custom', message });
        }),
      ],
      { error: 'expected "cookie", "header" or "url", or a list of them' },
    )
    .optional(),
  header: headerName.optional(),
  urlParameter: headerName.optional(),
  cookie: cookie.optional(),
  lifetime: z.enum(['aal1', 'aal2', 'aal3']).optional(),
  idleTimeout: duration.optional(),
  absoluteTimeout: duration.optional(),
  renewalTimeout: duration.optional(),
  profile: z.enum(['very-high', 'high', 'medium', 'failover']).optional(),
  write: z
    .union([
      z.enum(['end-of-request', 'manual']),
      section<{ every: Duration }>('write', { every: measured(DURATION, 'use "manual" to write by sync() only') }),
    ])
    .optional(),
  contents: z.enum(['set', 'get-and-set', 'all']).optional(),
  conflicts: z
    .union(
      [
        z.enum(['last-wins', 'reject']),
        z.custom<Extract<ConflictPolicy, (...args: never) => unknown>>(value => typeof value === 'function'),
      ],
      {
        error: 'expected "last-wins", "reject", or (in TypeScript or JavaScript) a function that merges',
      },
    )
    .optional(),
  coherence: z.enum(['strict', 'relaxed']).optional(),
  cache: section<SessionCacheConfig>('cache', { sessions: whole(0).optional(), memory: size.optional() }).optional(),
  overflow: z.enum(['refuse', 'evict']).optional(),
  maxSessions: whole(1).optional(),
  anonymousShare: share.optional(),
  maxSessionsPerUser: section<UserLimit>('maxSessionsPerUser', {
    max: whole(1),
    whenReached: z.enum(['refuse', 'end-oldest']),
  }).optional(),
  rememberMe: section<RememberMeConfig>('rememberMe', {
    idleTimeout: measured(DURATION, 'a cookie that is found years later would still be good'),
    absoluteTimeout: measured(DURATION, 'browsers keep no cookie for longer than 400 days'),
  }).optional(),
  ownerRule: flag.optional(),
  maxAttributeSize: size.optional(),
  maxSessionSize: size.optional(),
  warnSize: section<SessionWarnConfig>('warnSize', { attribute: size.optional(), session: size.optional() }).optional(),
  attributes: z.record(z.string(), z.literal('apart')).optional(),
  sweep: z
    .union([
      section<{ every: Duration }>('sweep', { every: measured(DURATION, 'expired sessions would stay') }),
      section<{ atHours: readonly number[] }>('sweep', {
        atHours: z.array(whole(0, 23)).min(1, { error: 'is empty; name at least one hour' }),
      }),
    ])
    .optional(),
  storeTimeout: duration.optional(),
  touchOnTraffic: z.enum(['message', 'any', 'never']).optional(),
});

const sessionOrNone = z.union([z.literal(false), sessionManager, session], {
  error: 'expected false or keys and values, or (in TypeScript or JavaScript) a SessionManager',
});

const affinityKind = z.enum(['session', 'route', 'cookie', 'address', 'none']);

const affinity = section<AffinityOptions>('affinity', {
  by: affinityKind,
  strict: flag.optional(),
  cookie: cookieName.optional(),
  urlParameter: textLike(value => /^[\w.-]+$/.test(value), 'not a name; take letters, digits and . _ -').optional(),
  separator: z.enum(['.', '!', ':', '+']).optional(),
});

const status = whole(200, 599);

const health = section<UpstreamHealthConfig>('health', {
  path: textLike(value => /^\/[\x21-\x7e]*$/.test(value), 'not a path; it starts with "/"').optional(),
  websocket: flag.optional(),
  status: z
    .tuple([status, status], { error: 'expected the lowest and the highest status, for example [200, 299]' })
    .optional(),
  headers: z.record(headerName, fieldValue).optional(),
  interval: measured(DURATION, 'a server would be checked once only').optional(),
  timeout: measured(DURATION, 'a check could wait for ever').optional(),
  unhealthyAfter: whole(1).optional(),
  healthyAfter: whole(1).optional(),
});

const ejection = section<UpstreamEjectionConfig>('ejection', {
  failures: whole(1).optional(),
  time: measured(DURATION, 'a server would never come back').optional(),
  maxTime: measured(DURATION, 'a server would never come back').optional(),
});

const httpHeader = textLike(isToken, 'not a header name');

/** With `*` at its end: all that begin so. */
const headerNames = z.array(
  textLike(
    value => /^[\w!#$%&'+.^`|~-]+\*?$/.test(value),
    'not a header name; take a name, or the beginning of one with "*" behind it',
  ),
);

const upstreamSession = section<UpstreamSessionConfig>('session', {
  mode: z.enum(['managed', 'observed']),
  cookie: cookieName.optional(),
  header: httpHeader.optional(),
  duplicates: z.enum(['reject', 'first', 'last']).optional(),
  suffix: z.enum(['.', '!', ':', '+']).optional(),
  idleTimeout: measured(DURATION, 'what visitors make up would be kept for ever').optional(),
  trust: z.enum(['issued', 'accepted']).optional(),
  trustUntil: textLike(
    value => parseDate(value) !== undefined,
    'not a date; write for example 2027-01-31, or 2027-01-31T06:00:00Z',
  ).optional(),
  onReplace: z.enum(['close', 'rebind']).optional(),
  touchOnTraffic: z.enum(['message', 'any', 'never']).optional(),
});

const sessionApi = section<SessionApiConfig>('sessionApi', {
  // As in the names of attributes: what stands before a colon.
  scope: textLike(
    value => /^[^:\s][^:]{0,54}$/.test(value),
    'not a scope; take up to 55 characters without ":"',
  ).optional(),
  tokenFile: text.optional(),
  tokenVariable: textLike(value => /^[A-Za-z_]\w*$/.test(value), 'not the name of a variable').optional(),
});

const assertion = section<AssertionConfig>('assertion', {
  header: httpHeader.optional(),
  audience: text.optional(),
  lifetime: measured({ ...DURATION, example: '"60s"' }, 'a stolen one would be good for ever').optional(),
});

const upstream = section<UpstreamConfig>('an upstream', {
  servers: z
    .array(
      z.union([
        server,
        section<UpstreamServerConfig>('a server', {
          url: server,
          weight: whole(1, 1000).optional(),
          route: text.optional(),
        }),
      ]),
    )
    .min(1, { error: 'is empty; name at least one server' }),
  balance: z.enum(['round-robin', 'least-connections', 'in-order']).optional(),
  affinity: z.union([affinityKind, affinity]).optional(),
  health: health.optional(),
  ejection: z.union([z.literal(false), ejection]).optional(),
  retries: whole(0, 100).optional(),
  maxConnections: whole(1).optional(),
  maxIdleConnections: whole(0).optional(),
  idleConnectionTimeout: duration.optional(),
  tls: section<UpstreamTlsConfig>('tls', {
    ca: text.optional(),
    serverName: text.optional(),
    certificate: text.optional(),
    key: text.optional(),
    verify: flag.optional(),
  }).optional(),
  connectTimeout: duration.optional(),
  answerTimeout: duration.optional(),
  handshakeTimeout: duration.optional(),
  maxHeaderSize: measured({ ...SIZE, example: '"64KiB"' }, 'a server could fill the memory').optional(),
  maxBodySize: size.optional(),
  clientTimeout: duration.optional(),
  sessionHeader: httpHeader.optional(),
  userHeader: z.union([z.literal(false), httpHeader]).optional(),
  rolesHeader: z.union([z.literal(false), httpHeader]).optional(),
  removeHeaders: headerNames.optional(),
  passHeaders: headerNames.optional(),
  controlsSession: flag.optional(),
  session: upstreamSession.optional(),
  sessionApi: z.union([flag, sessionApi], { error: 'expected true, false or keys and values' }).optional(),
  assertion: z.union([flag, assertion], { error: 'expected true, false or keys and values' }).optional(),
  cookies: section<UpstreamCookiesConfig>('cookies', {
    prefix: textLike(
      value => isToken(value) && !value.startsWith('__'),
      'not a beginning of a cookie name; write for example "app1_"',
    ).optional(),
    domain: z.union([z.literal(false), cookieDomain], { error: 'expected a domain, or false' }).optional(),
    path: cookiePath.optional(),
  }).optional(),
});

const webSocketRoute = section<WebSocketRouteConfig>('websocket', {
  idleTimeout: duration.optional(),
  heartbeat: duration.optional(),
  maxLifetime: duration.optional(),
  maxMessageSize: size.optional(),
  maxBackendMessageSize: size.optional(),
  compression: z.enum(['end-to-end', 'refuse']).optional(),
});

/** A RegExp, or the text of one. */
function expression(use: 'whole' | 'search'): z.ZodType<string | RegExp> {
  const error = 'expected an expression between slashes, such as "/[a-z]+/"';
  return z
    .union([z.string().refine(isExpressionText, { error, abort: true }), z.instanceof(RegExp)], { error })
    .superRefine((value, context) => {
      const message = expressionProblem(value, use);
      if (message) context.addIssue({ code: 'custom', message });
    });
}

const wholeExpression = expression('whole');

const originText = textLike(
  value => value === 'self' || isOrigin(value),
  'not an origin that can be let in; write "self", "https://example.com" or "https://*.example.com", without a path, or an expression between slashes',
);

const originRule = z
  .union([z.string(), z.instanceof(RegExp)], { error: 'expected an origin or a regular expression' })
  .superRefine((value, context) => {
    const isExpression = typeof value !== 'string' || isExpressionText(value);
    for (const { message } of (isExpression ? wholeExpression : originText).safeParse(value).error?.issues ?? [])
      context.addIssue({ code: 'custom', message });
  });

/** A comma is legal in the host of a URL, and in no `Origin`: such an entry matches no page. */
function isOrigin(value: string): boolean {
  return !value.includes(',') && parseOriginRule(value) !== undefined;
}

const addressList = z.array(address).min(1, { error: 'is empty; leave it out, or name at least one address' });

/** A text that stays one: there is no number for it. */
function rate<T extends RateText | ByteRateText>(parse: (value: T) => unknown): z.ZodType<T> {
  return z.union([z.number(), z.string()], { error: 'expected a rate such as "20/s"' }).transform((value, context) => {
    try {
      parse(value as T);
      return value as T;
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
      return z.NEVER;
    }
  }) as unknown as z.ZodType<T>;
}

const most = z.union([z.literal(-1), whole(1)], { error: 'expected a whole number of at least 1, or -1 for no limit' });

const limits = section<LimitsConfig>('limits', {
  connections: most.optional(),
  connectionsPerAddress: most.optional(),
  connectionsPerSession: most.optional(),
  connectionsPerUser: most.optional(),
  requests: rate(parseRate).optional(),
  requestsPerAddress: rate(parseRate).optional(),
  handshakes: rate(parseRate).optional(),
  handshakesPerAddress: rate(parseRate).optional(),
  newSessionsPerAddress: rate(parseRate).optional(),
  messages: rate(parseRate).optional(),
  bytes: rate(parseByteRate).optional(),
  whenExceeded: z.enum(['wait', 'drop', 'close']).optional(),
  scope: z.enum(['process', 'all']).optional(),
});

const searchExpression = expression('search');

const inspectedPlace = textLike(
  value => /^(?:path|query|headers|body|messages|header:[!#$%&'*+.^`|~\w-]+)$/.test(value),
  'not a place that can be inspected; write path, query, headers, header:NAME, body or messages',
) as z.ZodType<InspectedPlace>;

const inspect = section<InspectConfig>('inspect', {
  rules: z
    .array(
      section<InspectRule>('a rule', {
        name: textLike(
          value => /^[\w.:/-]{1,64}$/.test(value),
          'not a name; take up to 64 letters, digits and . : / _ -',
        ),
        in: z.union([inspectedPlace, z.array(inspectedPlace).min(1, { error: 'is empty; name at least one place' })]),
        match: searchExpression,
        view: z.enum(['raw', 'decoded']).optional(),
        action: z.enum(['deny', 'log', 'ban']).optional(),
      }),
    )
    .min(1, { error: 'is empty; write "inspect: false" for none' }),
  maxBodySize: measured({ ...SIZE, example: '"64KiB"' }, 'a client could fill the memory').optional(),
  otherBodies: z.enum(['refuse', 'pass']).optional(),
});

const customPolicy = z.custom<CustomPolicy>(value => typeof value === 'function', {
  error: 'expected a function; only a configuration in TypeScript or JavaScript can hold one',
});

const policy = section<PolicyConfig>('policy', {
  addresses: section<AddressesConfig>('addresses', {
    allow: addressList.optional(),
    deny: addressList.optional(),
  }).optional(),
  origins: z.union([z.literal('any'), z.array(originRule)]).optional(),
  cors: z
    .union([
      flag,
      section<CorsOptions>('cors', {
        credentials: flag.optional(),
        headers: z.array(headerName).optional(),
        expose: z.array(headerName).min(1, { error: 'is empty; leave it out for none' }).optional(),
        maxAge: measured({ ...DURATION, example: '"10m"' }, 'browsers forget after some hours anyway').optional(),
      }),
    ])
    .optional(),
  inspect: z.union([z.literal(false), inspect], { error: 'expected false or keys and values' }).optional(),
  custom: z
    .union([
      customPolicy,
      section<CustomPolicyConfig>('custom', {
        judge: customPolicy,
        timeout: measured(DURATION, 'a request could wait for ever').optional(),
      }),
    ])
    .optional(),
  transport: z
    .union([
      z.enum(['any', 'confidential']),
      section<TransportConfig>('transport', {
        confidential: z.enum(['refuse', 'redirect']).optional(),
        upgradeInsecureRequests: flag.optional(),
      }),
    ])
    .optional(),
  auth: authOfPolicy.optional(),
  roles: z.array(text).optional(),
  limits: limits.optional(),
  tickets: z
    .union([
      flag,
      section<TicketsConfig>('tickets', {
        lifetime: measured({ ...DURATION, example: '"10s"' }, 'a ticket is for now')
          .refine(value => Number(value) <= 60_000, { error: 'is more than 60s: a ticket is for now' })
          .optional(),
      }),
    ])
    .optional(),
});

const fetchHandler = z.custom<FetchHandler>(value => typeof value === 'function', {
  error: 'expected a function; only a configuration in TypeScript or JavaScript can hold one',
});

// The mark of `websocket/endpoint.ts`, which this part may not import; it holds across two loaded copies of the
// package.
const endpointBrand = Symbol.for('holdfast.endpoint');

const endpoint = z.custom<NonNullable<RouteConfig['endpoint']>>(
  value => typeof value === 'object' && value !== null && endpointBrand in value,
  {
    error:
      'expected what defineEndpoint returned; only a configuration in TypeScript or JavaScript can hold one, others list the module under "endpoints"',
  },
);

const methods = z
  .array(
    textLike(
      value => isKnownMethod(value) && value !== 'CONNECT',
      'not a method that a request can have here; write for example "GET"',
    ),
  )
  .min(1, { error: 'is empty; leave it out for every method' });

const constraints = z.array(
  section<ConstraintConfig>('a constraint', {
    paths: z.array(pathPattern).min(1, { error: 'is empty; write for example [/admin/*]' }),
    methods: methods.optional(),
    otherMethods: z.enum(['refuse', 'allow']).optional(),
    auth: z.union([text, z.array(text).min(1, { error: 'is empty; leave it out' })]).optional(),
    roles: z.array(text).optional(),
    transport: z.enum(['any', 'confidential']).optional(),
  }),
);

const application = section<ApplicationConfig>('application', {
  routes: z.lazy(() => z.array(route)).optional(),
  constraints: constraints.optional(),
  endpoints: z.array(text).optional(),
  files: text.optional(),
  fetch: fetchHandler.optional(),
  session: sessionOrNone.optional(),
});

const route: z.ZodType<RouteConfig> = section<RouteConfig>('a route', {
  name: text.optional(),
  host: hostPattern.optional(),
  path: z.union([pathPattern, z.array(pathPattern).min(1, { error: 'is empty' })]).optional(),
  methods: methods.optional(),
  session: z.enum(['none', 'existing', 'create', 'auto']).optional(),
  crossSiteSignIn: flag.optional(),
  touch: flag.optional(),
  attributes: z.array(attributeName).min(1, { error: 'is empty; leave it out for none' }).optional(),
  endpoint: endpoint.optional(),
  fetch: fetchHandler.optional(),
  upstream: text.optional(),
  rewrite: pathPattern.optional(),
  rewriteLinks: flag.optional(),
  paths: section<PathsConfig>('paths', {
    mergeSlashes: flag.optional(),
    backslash: z.enum(['refuse', 'pass']).optional(),
  }).optional(),
  files: text.optional(),
  redirect: redirect.optional(),
  mount: textLike(
    value => /^(\/[^/*:?#\s]+)+$/.test(value) && patternProblem(value) === undefined,
    'not a mount point; write a path without patterns and without "/" at its end, for example "/shop"',
  ).optional(),
  application: application.optional(),
  websocket: z.union([flag, webSocketRoute]).optional(),
  policy: policy.optional(),
});

const dispatch = section<DispatchOptions>('dispatch', {
  concurrency: whole(1).optional(),
  threads: whole(1).optional(),
  threadMemory: size.optional(),
  queue: whole(0).optional(),
  whenFull: z.enum(['wait', 'close']).optional(),
});

const warningCode: z.ZodType<WarningCode> = z
  .string()
  .refine(isWarningCode, { error: ({ input }) => unknownCode(String(input)) })
  .meta({ enum: [...WARNING_CODES] }) as z.ZodType<WarningCode>;

function unknownCode(code: string): string {
  const near = nearestName(code, WARNING_CODES);
  const remedy = near ? `did you mean "${near}"?` : 'take one that "holdfast check" prints in brackets';
  return `${JSON.stringify(code)} is not the code of a warning; ${remedy}`;
}

const accepted: z.ZodType<WarningCode | AcceptConfig> = z.union(
  [warningCode, section<AcceptConfig>('an accepted warning', { warning: warningCode, at: text })],
  { error: 'expected the code of a warning, or "warning" and "at"' },
);

const stopTime = (example: string) =>
  measured({ ...DURATION, example, takesZero: true }, 'a server that is to stop would never do so');

const drain = section<DrainConfig>('drain', {
  timeout: stopTime('"10s"').optional(),
  over: stopTime('"5s"').optional(),
  delay: stopTime('"5s"').optional(),
});

const KNOWN_CODES: readonly number[] = [1000, 1001, 1008, 1012, 1013, 1014];
const closeCode = z
  .number({ error: 'expected a close code such as 1001' })
  .refine(code => KNOWN_CODES.includes(code) || (Number.isInteger(code) && code >= 3000 && code <= 4999), {
    error: ({ input }) => `expected one of ${KNOWN_CODES.join(', ')}, or 3000 to 4999, got ${input}`,
  })
  .meta({ type: 'integer', minimum: 1000, maximum: 4999 });

const closeCodes = section<CloseCodesConfig>('closeCodes', {
  goingAway: closeCode.optional(),
  restart: closeCode.optional(),
  renewal: closeCode.optional(),
  lostBackend: closeCode.optional(),
});

const WORKERS = {
  error: `expected a whole number from 1 to ${MOST_WORKERS}, or "auto" for one of each core`,
};

/**
 * What a configuration may hold, field by field. Rules that concern several fields are in `references.ts`.
 *
 * Its output is a `Config` again: durations are milliseconds, sizes bytes, -1 stays -1.
 */
export const configSchema: z.ZodType<Config> = section<Config>('the configuration', {
  listen: z.array(listen).min(1, { error: 'is empty; leave it out for port 8080' }).optional(),
  session: sessionOrNone.optional(),
  upstreams: z.record(z.string(), upstream).optional(),
  internal: internal.optional(),
  admin: z.union([z.literal(false), admin]).optional(),
  assertions: section<AssertionsConfig>('assertions', {
    issuer: text.optional(),
    keyFiles: z.array(text).min(1, { error: 'is empty; name at least one file' }).optional(),
  }).optional(),
  auth: z.record(z.string(), authScheme).optional(),
  routes: z.array(route).optional(),
  constraints: constraints.optional(),
  policy: policy.optional(),
  bans: bansSchema.optional(),
  anomalies: anomaliesSchema.optional(),
  endpoints: z.array(text).optional(),
  dispatch: z.record(z.string(), dispatch).optional(),
  trustedProxies: z.array(address).optional(),
  headerTimeout: measured({ ...DURATION, example: '"10s"' }, 'a client could hold a connection for ever').optional(),
  unusedConnections: most.optional(),
  unusedConnectionsPerAddress: most.optional(),
  maxHeaderSize: measured({ ...SIZE, example: '"16KiB"' }, 'a client could fill the memory').optional(),
  maxBodySize: size.optional(),
  clientTimeout: measured({ ...DURATION, example: '"60s"' }, 'a client could hold a connection for ever').optional(),
  keepAliveTimeout: measured({ ...DURATION, example: '"75s"' }, 'a client could hold a connection for ever').optional(),
  clientRate: size.optional(),
  dataFolder: text.optional(),
  diskReserve: measured({ ...SIZE, endless: 'for none' }).optional(),
  exposeReason: flag.optional(),
  requestId: z
    .union([z.string().refine(isToken), z.literal(false)], {
      error: 'expected the name of a header, such as "X-Request-ID", or false',
    })
    .optional(),
  log: logSchema.optional(),
  accept: z.array(accepted).optional(),
  metrics: flag.optional(),
  tracing: flag.optional(),
  workers: z.union([z.literal('auto'), z.int().min(1, WORKERS).max(MOST_WORKERS, WORKERS)], WORKERS).optional(),
  drain: drain.optional(),
  closeCodes: closeCodes.optional(),
});
