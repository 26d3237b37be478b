import type { Clock } from '../../base/clock.ts';
import { sidPrefix } from '../../base/logger.ts';
import type { AccessFacts, RequestEntry, SocketClosedEntry, SocketOpenedEntry } from './access-entry.ts';
import { escapeField, escapeQuoted, jsonText } from './escape.ts';
import { keptFor } from './kept-text.ts';
import { withoutSecrets } from './secrets.ts';

/** How entries of the access log become lines, each with its newline; undefined where a format has none. */
export interface AccessFormat {
  /** Must entries have their `detail`? */
  readonly needsDetail: boolean;
  request(entry: RequestEntry): string;
  socketOpened(entry: SocketOpenedEntry): string | undefined;
  socketClosed(entry: SocketClosedEntry): string | undefined;
}

/** One JSON object a line. What is not known is left out. */
export function jsonFormat(clock: Clock): AccessFormat {
  const timeOf = keptFor(1, ms => new Date(ms).toISOString());
  // Written by hand, which costs half of what `JSON.stringify` does: there is a line for each request.
  const line = (event: string, facts: AccessFacts, rest: string) => {
    const { target, sid, referer } = facts;
    return (
      `{"time":"${timeOf(clock.now())}","event":"${event}"` +
      text('clientAddress', facts.clientAddress) +
      text('method', facts.method) +
      text('target', withoutSecrets(target)) +
      text('httpVersion', facts.httpVersion) +
      text('route', facts.route) +
      text('upstream', facts.upstream) +
      text('server', facts.server) +
      text('requestId', facts.requestId) +
      text('host', facts.host) +
      text('user', facts.user) +
      text('sid', sid && sidPrefix(sid)) +
      text('referer', referer && withoutSecrets(referer)) +
      text('userAgent', facts.userAgent) +
      text('traceId', facts.traceId) +
      `${rest}}\n`
    );
  };
  return {
    needsDetail: false,
    request: entry =>
      line(
        'request',
        entry,
        number('status', entry.status) +
          number('bytesSent', entry.bytesSent) +
          `,"complete":${entry.complete}` +
          number('durationMs', entry.durationMs),
      ),
    socketOpened: entry => line('socket-opened', entry, text('connectionId', entry.connectionId)),
    socketClosed: entry =>
      line(
        'socket-closed',
        entry,
        text('connectionId', entry.connectionId) +
          number('messagesReceived', entry.messagesReceived) +
          number('messagesSent', entry.messagesSent) +
          number('bytesReceived', entry.bytesReceived) +
          number('bytesSent', entry.bytesSent) +
          number('closeCode', entry.closeCode) +
          text('closeReason', entry.closeReason) +
          text('closedBy', entry.closedBy) +
          number('durationMs', entry.durationMs),
      ),
  };
}

function text(name: string, value: string | undefined): string {
  return value === undefined ? '' : `,"${name}":${jsonText(value)}`;
}

function number(name: string, value: number | undefined): string {
  return value === undefined ? '' : `,"${name}":${value}`;
}

/**
 * Apache's, so that the tools for it work, with the first 8 characters of the `sid` as one more field. An opened socket is
 * its request with status 101; a closed one has the method `CLOSE` and the close code in the place of the status.
 */
export function combinedFormat(clock: Clock): AccessFormat {
  const timeOf = keptFor(1_000, apacheTime);
  const write = (facts: AccessFacts, line: string, status: number, bytes: number | undefined) => {
    const { clientAddress, user, referer, userAgent, sid } = facts;
    return (
      `${clientAddress || '-'} - ${user ? escapeField(user) : '-'} [${timeOf(clock.now())}] "${escapeQuoted(line)}" ${status} ` +
      `${bytes || '-'} "${referer ? escapeQuoted(withoutSecrets(referer)) : '-'}" "${userAgent ? escapeQuoted(userAgent) : '-'}" ` +
      `${sid ? escapeField(sidPrefix(sid)) : '-'}\n`
    );
  };
  return {
    needsDetail: false,
    request: entry => write(entry, requestLine(entry), entry.status, entry.bytesSent),
    socketOpened: entry => write(entry, requestLine(entry), 101, undefined),
    socketClosed: entry =>
      write(entry, `CLOSE ${withoutSecrets(entry.target)} WebSocket/13`, entry.closeCode, entry.bytesSent),
  };
}

/** As it came, without secrets. Of a head that could not be read, what is known of it. */
export function requestLine({ method, target, httpVersion }: AccessFacts): string {
  return method === '' ? '-' : `${method} ${withoutSecrets(target)} HTTP/${httpVersion}`;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `22/Nov/2026:01:06:03 +0000`: Apache's %t, always UTC. */
export function apacheTime(ms: number): string {
  const iso = new Date(ms).toISOString();
  return `${iso.slice(8, 10)}/${MONTHS[Number(iso.slice(5, 7)) - 1]}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`;
}
