import { pino } from 'pino';
import { type Clock, systemClock } from '../base/clock.ts';
import { toError } from '../base/errors.ts';
import { LINES_DROPPED, type Logger, sidPrefix } from '../base/logger.ts';
import { isSecurityEvent } from '../base/security-events.ts';
import type { LogConfig } from '../config/config.ts';
import { withoutSocketTickets } from '../http/query-ticket.ts';
import { withoutTickets } from '../session/identity/ticket.ts';
import type { LineRank, LineSink, OutputListener } from './line-output.ts';
import { standardError, standardOutput } from './standard-output.ts';

/** The server's own log: one JSON object a line, from the level of the configuration upwards. Default: to stderr. */
export function createLogger(config: LogConfig = {}, sink: LineSink = standardError()): Logger {
  return pino(
    {
      level: config.level ?? 'info',
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { err: describeError },
    },
    destinationOf(sink),
  );
}

/**
 * Never throws, whatever an application has thrown: pino's own changes the error for a moment, and reads all that it
 * has.
 */
function describeError(error: Error): unknown {
  try {
    return pino.stdSerializers.err(error);
  } catch {
    const { name, message, stack } = toError(error);
    return { type: name, message, stack };
  }
}

/** Where pino writes: a line's fields say how much it matters. */
function destinationOf(sink: LineSink) {
  const destination = {
    // Lets pino set `lastObj` for each line.
    [pino.symbols.needsMetadataGsym]: true,
    lastObj: undefined as object | undefined,
    write(line: string) {
      sink.write(line, rankOf(destination.lastObj));
    },
  };
  return destination;
}

function rankOf(fields: object | undefined): LineRank {
  if (!fields) return 'ordinary';
  if ((fields as { event?: unknown }).event === LINES_DROPPED) return 'notice';
  return isSecurityEvent(fields) ? 'security' : 'ordinary';
}

/** Counts lines that were dropped, by output. */
export interface LostLineMeters {
  readonly lostLines: { add(output: string, lines: number): void };
}

/** From now on this log says what became of lines that could not be written, its own and those of the access log. */
export function reportLostLines(logger: Logger, meters?: LostLineMeters): void {
  const listener = lostLines(logger, meters);
  standardOutput().listener = listener;
  standardError().listener = listener;
}

/** Says in this log what becomes of lines of another output. */
export function lostLines(logger: Logger, meters?: LostLineMeters): OutputListener {
  return {
    onTrouble({ output, code }) {
      logger.error(
        { event: 'log-output-failed', output, code },
        `${output} cannot be written (${code}); lines wait, and are dropped when there are too many`,
      );
    },
    onLost({ output, code, lines, securityLines }) {
      meters?.lostLines.add(output, lines);
      const why = code === 'EAGAIN' ? 'nobody read them' : `they could not be written (${code})`;
      const level = securityLines > 0 ? 'error' : 'warn';
      logger[level](
        { event: LINES_DROPPED, output, code, lines, securityLines },
        `${lines} lines of ${output} were dropped, because ${why}`,
      );
    },
  };
}

/**
 * What is known of a request whoever answers it. Everything in it may come from the network and is escaped when
 * written.
 */
export interface AccessFacts {
  readonly clientAddress: string;
  readonly method: string;
  /** As on the request line. Values of query parameters that look like secrets are not written. */
  readonly target: string;
  readonly httpVersion: string;
  /** The route's name. */
  readonly route?: string;
  /** The upstream that the request was taken to, and the URL of its server, as far as one was chosen. */
  readonly upstream?: string;
  readonly server?: string;
  readonly user?: string;
  /** The whole `sid`: its first 8 characters are written. */
  readonly sid?: string;
  readonly referer?: string;
  readonly userAgent?: string;
}

export interface RequestEntry extends AccessFacts {
  readonly status: number;
  /** Bytes of the response body that were written to the client. One that leaves may not have taken all of them. */
  readonly bytesSent: number;
  /** False for what broke off, whichever side has gone. */
  readonly complete: boolean;
  readonly durationMs: number;
}

/** What went through a socket. */
export interface SocketTraffic {
  /** The same in the line of the opening and that of the closing. */
  readonly connectionId: string;
  readonly messagesReceived?: number;
  readonly messagesSent?: number;
  readonly bytesReceived?: number;
  readonly bytesSent?: number;
}

export interface SocketClosedEntry extends AccessFacts, SocketTraffic {
  readonly closeCode: number;
  readonly closeReason?: string;
  readonly durationMs: number;
}

/** One line for each finished request, one when a socket opens and one when it closes. */
export interface AccessLog {
  /** False when nothing is written anywhere: then entries need not be made. */
  readonly isOn: boolean;
  request(entry: RequestEntry): void;
  socketOpened(entry: AccessFacts & Pick<SocketTraffic, 'connectionId'>): void;
  socketClosed(entry: SocketClosedEntry): void;
}

const nothing = () => {};

/**
 * Writes the access log in the format of the configuration to stdout, by default none.
 *
 * `combined` is Apache's, so that the tools for it work, with the first 8 characters of the `sid` as one more field. An
 * opened socket is its request with status 101; a closed one has the method `CLOSE` and the close code in the place of
 * the status.
 */
export function createAccessLog(config: LogConfig = {}, sink?: LineSink, clock: Clock = systemClock): AccessLog {
  switch (config.access ?? 'off') {
    case 'off':
      return { isOn: false, request: nothing, socketOpened: nothing, socketClosed: nothing };
    case 'combined':
      return combinedLog(sink ? guarded(sink) : standardOutput(), clock);
    case 'json':
      return jsonLog(sink ? guarded(sink) : standardOutput(), clock);
  }
}

/** Somebody else's. */
function guarded(sink: LineSink): LineSink {
  return {
    write(line) {
      try {
        const outcome = sink.write(line);
        if (outcome instanceof Promise) outcome.catch(nothing);
      } catch {
        // A log stops no traffic.
      }
    },
  };
}

function jsonLog(sink: LineSink, clock: Clock): AccessLog {
  const write = (event: string, { sid, target, referer, ...rest }: AccessFacts) => {
    const line = {
      time: new Date(clock.now()).toISOString(),
      event,
      ...rest,
      target: withoutSecrets(target),
      ...(referer !== undefined && { referer: withoutSecrets(referer) }),
      ...(sid !== undefined && { sid: sidPrefix(sid) }),
    };
    sink.write(`${JSON.stringify(line)}\n`);
  };
  return {
    isOn: true,
    request: entry => write('request', entry),
    socketOpened: entry => write('socket-opened', entry),
    socketClosed: entry => write('socket-closed', entry),
  };
}

function combinedLog(sink: LineSink, clock: Clock): AccessLog {
  const write = (facts: AccessFacts, line: string, status: number, bytes: number | undefined) => {
    const { clientAddress, user, referer, userAgent, sid } = facts;
    sink.write(
      `${clientAddress || '-'} - ${user ? escapeField(user) : '-'} [${apacheTime(clock.now())}] "${escapeQuoted(line)}" ${status} ` +
        `${bytes || '-'} "${referer ? escapeQuoted(withoutSecrets(referer)) : '-'}" "${userAgent ? escapeQuoted(userAgent) : '-'}" ` +
        `${sid ? escapeField(sidPrefix(sid)) : '-'}\n`,
    );
  };
  const requestLine = ({ method, target, httpVersion }: AccessFacts) =>
    `${method} ${withoutSecrets(target)} HTTP/${httpVersion}`;
  return {
    isOn: true,
    request: entry => write(entry, requestLine(entry), entry.status, entry.bytesSent),
    socketOpened: entry => write(entry, requestLine(entry), 101, undefined),
    socketClosed: entry =>
      write(entry, `CLOSE ${withoutSecrets(entry.target)} WebSocket/13`, entry.closeCode, entry.bytesSent),
  };
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `22/Nov/2026:01:06:03 +0000`: Apache's %t, always UTC. */
function apacheTime(ms: number): string {
  const iso = new Date(ms).toISOString();
  return `${iso.slice(8, 10)}/${MONTHS[Number(iso.slice(5, 7)) - 1]}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`;
}

/** Nothing from the network may end a line, a quoted field, or work as a terminal escape (Apache does the same). */
function escapeQuoted(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return value.replaceAll(/["\\\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, character => {
    if (character === '"' || character === '\\') return `\\${character}`;
    const code = character.charCodeAt(0);
    return code > 0xff ? `\\u${code.toString(16)}` : `\\x${code.toString(16).padStart(2, '0')}`;
  });
}

/** For a field without quotes, which a space would end. */
function escapeField(value: string): string {
  return escapeQuoted(value).replaceAll(' ', '\\x20');
}

const SECRET_NAME = /token|ticket|secret|passw|pwd|key|code|session|sid|auth|sig/i;

/** Also where letters of it are escaped: the application undoes that. */
function isSecretName(name: string): boolean {
  return SECRET_NAME.test(
    name.replaceAll(/%([0-7][\da-f])/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
  );
}

/**
 * Takes the values of path and query parameters that are likely to open something (`;jsessionid=`), and tickets
 * wherever they are: links end up in queries, too.
 */
function withoutSecrets(target: string): string {
  // RFC 3986 §3.2.1: in a target with a scheme it stands before the host.
  const hidden = withoutSocketTickets(target.replace(/^([a-z][a-z\d+.-]*:\/\/)[^/?#]*@/i, '$1***@'));
  const text = withoutTickets(hidden).replaceAll(/;([^=;/?#&]*)=[^;/?#&]*/g, (parameter, name) =>
    isSecretName(name) ? `;${name}=***` : parameter,
  );
  return /[?#]/.test(text) ? text.replaceAll(/([&#]?)([^&#]+)/g, withoutSecret) : text;
}

/** One look at each character: the longest URL that there can be must cost nothing, whatever it repeats. */
function withoutSecret(whole: string, separator: string, part: string): string {
  let start = separator === '' ? part.indexOf('?') : 0;
  while (start !== -1) {
    const equals = part.indexOf('=', start);
    if (equals === -1) return whole;
    if (isSecretName(part.slice(start, equals))) return `${separator}${part.slice(0, equals + 1)}***`;
    start = part.indexOf('?', equals); // a URL as a value may have parameters of its own
  }
  return whole;
}
