import { threadId } from 'node:worker_threads';
import { type LogFormatDirective, parseLogFormat } from '../../http/log-format.ts';
import type { AccessFacts, RequestEntry, SocketClosedEntry } from './access-entry.ts';
import { type AccessFormat, requestLine } from './access-formats.ts';
import { apacheClock } from './apache-time.ts';
import { escapeAsApache } from './escape.ts';
import { withoutSecrets } from './secrets.ts';

/** Names of cookies and of headers (lower-case) that can hold secrets: they are never written. They may still grow. */
export interface OwnFields {
  readonly cookies: ReadonlySet<string>;
  readonly headers: ReadonlySet<string>;
  /** Those by which the sessions of backends are shown. */
  readonly backendCookies: ReadonlySet<string>;
  readonly backendHeaders: ReadonlySet<string>;
}

/** What stands in the place of a secret. */
const HIDDEN = '***';
/** Headers that hold credentials, whoever named them in a format. */
const SECRET_HEADERS = new Set([
  ...['authorization', 'proxy-authorization', 'cookie', 'set-cookie', 'authentication-info'],
  ...['proxy-authentication-info', 'holdfast-session'],
]);

/** One finished thing: a request with its answer, or a WebSocket with all of its life. */
interface Ended {
  readonly facts: AccessFacts;
  readonly status: number;
  readonly bytesSent: number;
  readonly isComplete: boolean;
  readonly durationMs: number;
  readonly isSocket: boolean;
}

/** Values that Node has as one character for each byte. */
const AS_BYTES = new Set(['i', 'o', 'C', 'r', 'q', '^ti', '^to']);

type ValueOf = (ended: Ended) => string | undefined;

/**
 * Lines as Apache's `mod_log_config` writes them for the same `LogFormat`: a WebSocket has one line, at its end, with
 * status 101 and its whole life. What is not known is `-`.
 *
 * @param text It must be valid, as the configuration has found it.
 */
export function apacheFormat(text: string, own?: OwnFields): AccessFormat {
  const values = parseLogFormat(text).map(item => (typeof item === 'string' ? item : directive(item, own)));
  const line = (ended: Ended) => {
    let written = '';
    for (const value of values) written += typeof value === 'string' ? value : value(ended);
    return `${written}\n`;
  };
  return {
    needsDetail: true,
    request: entry => line(endedRequest(entry)),
    socketOpened: () => undefined,
    socketClosed: entry => line(endedSocket(entry)),
  };
}

function endedRequest(entry: RequestEntry): Ended {
  return {
    facts: entry,
    status: entry.status,
    bytesSent: entry.bytesSent,
    isComplete: entry.complete,
    durationMs: entry.detail?.elapsedMs ?? entry.durationMs,
    isSocket: false,
  };
}

function endedSocket(entry: SocketClosedEntry): Ended {
  // As Apache: what goes through a tunnel is no body.
  return {
    facts: entry,
    status: 101,
    bytesSent: 0,
    isComplete: entry.closedBy !== 'lost',
    durationMs: entry.detail?.elapsedMs ?? entry.durationMs,
    isSocket: true,
  };
}

function directive(item: LogFormatDirective, own: OwnFields | undefined): (ended: Ended) => string {
  const { statuses, isExcluded } = item;
  const read = valueOfDirective(item, own);
  const encoding = AS_BYTES.has(item.name) ? 'latin1' : 'utf8';
  return ended => {
    if (statuses && statuses.has(ended.status) === isExcluded) return '-';
    const value = read(ended);
    return value === undefined ? '-' : escapeAsApache(value, encoding);
  };
}

function valueOfDirective({ name, argument = '' }: LogFormatDirective, own: OwnFields | undefined): ValueOf {
  switch (name) {
    case 'C':
      return ({ facts }) => cookie(facts.detail?.header('cookie'), argument, own);
    case 'i':
      return header(argument, own, ({ facts }, field) => facts.detail?.header(field));
    case 'o':
      return header(argument, own, ({ facts }, field) => facts.detail?.responseHeader(field));
    case '^ti':
      return header(argument, own, ({ facts }, field) => facts.detail?.trailer(field));
    case '^to':
      // Those of an answer are passed on as they come, and not kept.
      return () => undefined;
    case 'a':
      return argument === 'c'
        ? ({ facts }) => facts.detail?.peerAddress
        : ({ facts }) => facts.clientAddress || undefined;
    case 'h':
      // Names of addresses are not looked up.
      return argument === 'c'
        ? ({ facts }) => facts.detail?.peerAddress
        : ({ facts }) => facts.clientAddress || undefined;
    case 'p':
      return ({ facts: { detail } }) => known(detail && port(detail, argument));
    case 'P':
      return () => processName(argument);
    case 't':
      return timeOf(argument);
    case 'T':
      return ({ durationMs }) => durationIn(argument, durationMs);
    case 'x':
      return ({ facts }) => facts.detail?.tlsVariable(argument);
    default:
      return VALUES[name]!;
  }
}

/** Directives without an argument that matters. */
const VALUES: Readonly<Record<string, ValueOf>> = {
  A: ({ facts }) => facts.detail?.localAddress || undefined,
  b: ({ bytesSent }) => (bytesSent === 0 ? undefined : known(bytesSent)),
  B: ({ bytesSent }) => known(bytesSent),
  D: ({ durationMs }) => String(Math.round(durationMs * 1_000)),
  f: ({ facts: { server, target }, isSocket }) => {
    if (server === undefined) return undefined;
    const url = isSocket ? server.replace(/^http/, 'ws') : server;
    return `proxy:${url.replace(/\/$/, '')}${withoutSecrets(target)}`;
  },
  H: ({ facts }) => protocol(facts),
  I: ({ facts }) => known(facts.detail?.wire?.received),
  k: ({ facts }) => known(facts.detail?.earlierRequests),
  l: () => undefined,
  L: ({ facts }) => facts.detail?.logId,
  m: ({ facts }) => facts.method || undefined,
  O: ({ facts }) => known(facts.detail?.wire?.sent),
  q: ({ facts }) => {
    const target = withoutSecrets(facts.target);
    const mark = target.indexOf('?');
    return mark === -1 ? '' : target.slice(mark);
  },
  r: ({ facts }) => requestLine(facts),
  R: ({ facts }) => facts.detail?.handler,
  s: ({ status }) => String(status),
  S: ({ facts: { detail } }) => known(detail?.wire && detail.wire.received + detail.wire.sent),
  u: ({ facts: { user } }) => (user === '' ? '""' : user),
  U: ({ facts }) => pathOf(facts.target),
  v: ({ facts }) => hostName(facts.host),
  V: ({ facts }) => hostName(facts.host),
  X: ({ isComplete, isSocket, facts }) => {
    if (!isComplete) return 'X';
    return !isSocket && facts.detail?.isKept ? '+' : '-';
  },
};

function known(value: number | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}

function header(
  name: string,
  own: OwnFields | undefined,
  read: (ended: Ended, name: string) => string | undefined,
): ValueOf {
  const field = name.toLowerCase();
  // Asked for each line: the format is made before the sessions are.
  const isSecret = () => SECRET_HEADERS.has(field) || own?.headers.has(field) || own?.backendHeaders.has(field);
  return ended => {
    const value = read(ended, field);
    if (value === undefined) return undefined;
    return isSecret() ? HIDDEN : withoutSecrets(value);
  };
}

/** The first of this name; one of ours is hidden. */
function cookie(line: string | undefined, name: string, own: OwnFields | undefined): string | undefined {
  for (const pair of line?.split(';') ?? []) {
    const equals = pair.indexOf('=');
    if (equals === -1 || pair.slice(0, equals).trim() !== name) continue;
    return own?.cookies.has(name) || own?.backendCookies.has(name)
      ? HIDDEN
      : withoutSecrets(pair.slice(equals + 1).trim());
  }
  return undefined;
}

function port(detail: NonNullable<AccessFacts['detail']>, of: string): number {
  if (of === 'local') return detail.localPort;
  return of === 'remote' ? detail.peerPort : detail.publicPort;
}

function processName(format: string): string {
  if (format === 'tid') return String(threadId);
  if (format === 'hextid') return threadId.toString(16);
  return format === '' || format === 'pid' ? String(process.pid) : format;
}

function timeOf(argument: string): ValueOf {
  const isEnd = argument.startsWith('end:');
  const write = apacheClock(argument.replace(/^(?:begin|end):/, ''));
  return ({ facts: { detail }, durationMs }) => detail && write(detail.startedAt + (isEnd ? durationMs : 0));
}

function durationIn(unit: string, ms: number): string {
  switch (unit) {
    case '':
    case 's':
      return String(Math.trunc(ms / 1_000));
    case 'ms':
      return String(Math.trunc(ms));
    case 'us':
      return String(Math.round(ms * 1_000));
    default:
      return unit;
  }
}

function protocol({ httpVersion }: AccessFacts): string {
  // As Apache of what is not HTTP.
  if (httpVersion === '') return 'HTTP/1.0';
  return `HTTP/${httpVersion.includes('.') ? httpVersion : `${httpVersion}.0`}`;
}

/** Decoded, without the query. */
function pathOf(target: string): string {
  const text = withoutSecrets(target);
  const path = text.replace(/^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
  try {
    return decodeURIComponent(path) || '/';
  } catch {
    return path || '/';
  }
}

/** Without its port, and without the brackets of an IPv6 address. */
function hostName(host: string | undefined): string | undefined {
  return host?.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1') || undefined;
}
