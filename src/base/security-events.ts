import type { LogLevel } from './logger.ts';

interface Kind {
  /** Of its lines among those of the server's log. A log of their own has all of them. */
  readonly level: LogLevel;
  /** One sentence, for `docs/reference/security-log.md`. */
  readonly what: string;
}

/**
 * Every security event by its name, which is API: what reads the lines finds them by it. The table of
 * `docs/reference/security-log.md` is made of these.
 */
export const SECURITY_EVENTS = {
  'login-succeeded': { level: 'info', what: 'A user has signed in: `user`, `scheme`.' },
  'login-failed': {
    level: 'warn',
    what: 'Credentials that are not good: `scheme`, and `user`, the name that was tried, where there is one.',
  },
  'credentials-expired': {
    level: 'info',
    what: 'Credentials that have ended, as of a page that was asleep: a token, a certificate, a one-time ticket, what a service or function says. No jail counts it; the signature of such a token is not looked at.',
  },
  logout: { level: 'info', what: 'A user has signed out.' },
  'role-missing': { level: 'info', what: 'A user who is signed in may not do what was asked for (403).' },
  'user-gone': {
    level: 'info',
    what: 'A user with open sockets was removed, lost a role, or has credentials that are over: the sockets close (1008).',
  },
  refused: {
    level: 'info',
    what: 'A policy has refused a request (401, 403, 421, 429), or its path led round a route: `status`, `code`, `method`.',
  },
  'inspection-matched': {
    level: 'warn',
    what: 'A rule of `policy.inspect` matches: `rule`, `action` (`deny` or `log`), `method`, `path`. Nothing of what was found.',
  },
  'inspection-ban': { level: 'warn', what: 'The same for a rule whose `action` is `ban`.' },
  'not-found': { level: 'debug', what: 'A request for a path that does not exist here, as scans send them: `path`.' },
  'bad-request': {
    level: 'debug',
    what: 'What is no request that can be understood (400, 431, 501, 505): `status`.',
  },
  'bad-handshake': { level: 'debug', what: 'A handshake of a WebSocket that breaks the rules (400, 426): `status`.' },
  honeypot: { level: 'info', what: 'A request for a path of `bans.jails.honeypot`: `path`.' },
  'client-violation': {
    level: 'info',
    what: 'A client has broken the protocol of WebSockets, or a limit on messages (1002, 1007, 1008, 1009): `closeCode`, `code`.',
  },
  'slow-client': {
    level: 'debug',
    what: 'A client that did not finish its TLS handshake, its request head (408) or a body (408) in time, or did not take an answer; or one that kept too many connections without a request. No jail counts it: bad networks do the same.',
  },
  'tls-handshake-failed': {
    level: 'debug',
    what: "A client and this server could not agree on TLS: `failure` is OpenSSL's word for why, such as `UNSUPPORTED_PROTOCOL`, `NO_SHARED_CIPHER`, `HTTP_REQUEST` (plain HTTP to a port of TLS) or `SSLV3_ALERT_CERTIFICATE_UNKNOWN` (the client does not trust the certificate). A client that only leaves has none. No jail counts it: any page can make a browser do it.",
  },
  'client-certificate-refused': {
    level: 'warn',
    what: "A client showed no certificate where one is required, or one that is not good: `failure` is OpenSSL's word for why, such as `CERT_REVOKED`, with `subject` and `serialNumber`.",
  },
  'client-certificate-ended': {
    level: 'warn',
    what: 'A certificate was revoked, or is over, while its client was connected: WebSockets close (1008), and the connection ends.',
  },
  'proxy-header': {
    level: 'warn',
    what: 'A connection was cut for its PROXY header: bad, late, missing where it is required, or of a stranger.',
  },
  'wrong-api-token': {
    level: 'warn',
    what: 'Requests to the API for backends without a good token; `count` since the line before.',
  },
  'dead-secret': {
    level: 'warn',
    what: 'A session was shown by a secret that was replaced long ago: `sid`. The request is anonymous.',
  },
  'two-live-sessions': {
    level: 'warn',
    what: 'Two cookies with live sessions, one of which was planted: `sids`. The request is anonymous.',
  },
  'unauthorized-session-request': { level: 'warn', what: 'A user has shown the session of another: `sid`, `user`.' },
  'session-ambiguous': {
    level: 'info',
    what: "A request shows several of a backend's own sessions, and none of them is taken: `upstream`.",
  },
  'session-renewed': {
    level: 'info',
    what: 'A backend has given a session a new secret, or signed a user in: `sid`, `user`.',
  },
  'session-replaced': {
    level: 'info',
    what: 'A sign-in by another user has ended a session: `sid`, whose it was (`owner`), and who signed in (`user`).',
  },
  'session-taken-over': {
    level: 'info',
    what: 'The same where the session goes on under the new owner (`ownerRule: false`).',
  },
  'session-end': { level: 'info', what: 'A session has ended: `sid`, `reason`.' },
  'session-new-network': {
    level: 'info',
    what: 'A session is used from a network that it was not used from before: `sid`, `user`, and the `action` of `anomalies`.',
  },
  'session-new-agent': { level: 'info', what: 'The same with another `User-Agent`.' },
  'session-two-places': {
    level: 'warn',
    what: 'A session is used from two networks at once: `sid`, `user`, `action`.',
  },
  'session-rate': { level: 'warn', what: 'A session is used at a rate that no person has: `sid`, `user`, `action`.' },
  banned: {
    level: 'warn',
    what: 'A client is banned: `client` (an IPv4 address, or the /64 of `address`), `jail`, `until`, and which ban of this client it is (`offence`: 1 for the first).',
  },
  'ban-due': { level: 'warn', what: 'A client has reached the threshold of a `jail`, and `bans.action` is `log`.' },
  'ban-spared': {
    level: 'warn',
    what: 'The same of a client that sends forwarded headers and is no trusted proxy: it may speak for many.',
  },
  'ban-lifted': { level: 'info', what: 'A ban was removed by hand: `client`. One that is over has no line.' },
} as const satisfies Readonly<Record<string, Kind>>;

export type SecurityEventName = keyof typeof SECURITY_EVENTS;

function isSecurityEventName(name: unknown): name is SecurityEventName {
  return typeof name === 'string' && Object.hasOwn(SECURITY_EVENTS, name);
}

/**
 * True for lines about an attempt that may be an attack, and about what became of a user's session: each is worth a
 * line of its own, and they are the last that are dropped. A refusal is one when it was the client that was refused
 * (401, 403, 421, 429), and not what was asked for; or when it asked in a way that leads round a route.
 */
export function isSecurityEvent(fields: object): boolean {
  const { event, status, code } = fields as { event?: unknown; status?: unknown; code?: unknown };
  if (event !== 'refused') return isSecurityEventName(event);
  return OF_CLIENTS.has(status) || code === 'ERR_ROUTE_AMBIGUOUS';
}

const OF_CLIENTS: ReadonlySet<unknown> = new Set([401, 403, 421, 429]);
