import type { Clock } from '../../base/clock.ts';
import { sidPrefix } from '../../base/logger.ts';
import type { AccessFacts, RequestEntry, SocketClosedEntry, SocketOpenedEntry } from './access-entry.ts';
import { escapeField, escapeQuoted, jsonLine } from './escape.ts';
import { withoutSecrets } from './secrets.ts';

/** How entries of the access log become lines, each with its newline; undefined where a format has none. */
export interface AccessFormat {
  /** Must entries have their `detail`? */
  readonly needsDetail: boolean;
  request(entry: RequestEntry): string;
  socketOpened(entry: SocketOpenedEntry): string | undefined;
  socketClosed(entry: SocketClosedEntry): string | undefined;
}

/** One JSON object a line. */
export function jsonFormat(clock: Clock): AccessFormat {
  const line = (event: string, { sid, target, referer, detail: _, ...rest }: AccessFacts) => {
    const fields = {
      time: new Date(clock.now()).toISOString(),
      event,
      ...rest,
      target: withoutSecrets(target),
      ...(referer !== undefined && { referer: withoutSecrets(referer) }),
      ...(sid !== undefined && { sid: sidPrefix(sid) }),
    };
    return jsonLine(fields);
  };
  return {
    needsDetail: false,
    request: entry => line('request', entry),
    socketOpened: entry => line('socket-opened', entry),
    socketClosed: entry => line('socket-closed', entry),
  };
}

/**
 * Apache's, so that the tools for it work, with the first 8 characters of the `sid` as one more field. An opened socket is
 * its request with status 101; a closed one has the method `CLOSE` and the close code in the place of the status.
 */
export function combinedFormat(clock: Clock): AccessFormat {
  const write = (facts: AccessFacts, line: string, status: number, bytes: number | undefined) => {
    const { clientAddress, user, referer, userAgent, sid } = facts;
    return (
      `${clientAddress || '-'} - ${user ? escapeField(user) : '-'} [${apacheTime(clock.now())}] "${escapeQuoted(line)}" ${status} ` +
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
