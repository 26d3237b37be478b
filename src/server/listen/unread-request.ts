import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { http } from '../../http/node-http.ts';

/** What a request line says. */
export interface RequestLine {
  readonly method: string;
  readonly target: string;
  /** `1.1` */
  readonly httpVersion: string;
}

/**
 * A request line as a whole, of whichever method and version. Nothing else is taken for one: it may as well be a part of
 * a body, which belongs in no log.
 */
const REQUEST_LINE = /^([!#$%&'*+.^_`|~\w-]{1,100}) ([^\r\n]{1,16000}?) HTTP\/(\d\.\d)\r?\n/;
const END_OF_HEAD = '\r\n\r\n';

/** How a client begins that speaks HTTP/2 at once (RFC 9113 §3.4). */
export const PREFACE: RequestLine = { method: 'PRI', target: '*', httpVersion: '2.0' };

/** A request of which no more is known than its connection and, where it could be read, its first line. */
export function unreadRequest(socket: Socket, line?: RequestLine): IncomingMessage {
  const request = new http.IncomingMessage(socket);
  request.method = line?.method ?? '';
  request.url = line?.target ?? '';
  request.httpVersion = line?.httpVersion ?? '';
  request.httpVersionMajor = Number(request.httpVersion.split('.')[0]);
  return request;
}

/**
 * The first line of the request that could not be read.
 *
 * @param packet What was read last.
 * @param parsedBytes Where in it the error is. An earlier request may stand before that.
 */
export function requestLineIn(packet: Buffer | undefined, parsedBytes: number = 0): RequestLine | undefined {
  if (packet === undefined) return undefined;
  const before = packet.subarray(0, parsedBytes).lastIndexOf(END_OF_HEAD, parsedBytes - END_OF_HEAD.length - 1);
  const start = before === -1 ? 0 : before + END_OF_HEAD.length;
  const text = packet.toString('latin1', start, start + 16_200).replace(/^(?:\r?\n)+/, '');
  const [, method, target, httpVersion] = REQUEST_LINE.exec(text) ?? [];
  return method === undefined ? undefined : { method, target: target!, httpVersion: httpVersion! };
}
