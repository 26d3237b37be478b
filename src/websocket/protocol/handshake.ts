import { hash, randomBytes } from 'node:crypto';
import { HoldfastError } from '../../base/errors.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { joinHeaders, type ResponseHead } from '../../http/response-head.ts';
import { hasToken, isFieldValue, isToken } from '../../http/token.ts';
import { describe } from './outgoing.ts';

/** Headers to send; a list becomes one line each. */
export type OutgoingHeaders = Readonly<Record<string, string | readonly string[]>>;

/** RFC 6455 §1.3. */
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The `Sec-WebSocket-Accept` that answers a key (RFC 6455 §4.2.2). */
export function acceptKey(key: string): string {
  return hash('sha1', key + ACCEPT_GUID, 'base64');
}

/**
 * The whole head of the 101 response, to be written as it is.
 *
 * @throws {TypeError} when a header cannot be sent: its name or value is malformed (an embedded line break above all),
 * or the handshake itself sets it.
 */
export function upgradeResponse(response: {
  key: string;
  subprotocol?: string | undefined;
  extensions?: string | undefined;
  headers?: OutgoingHeaders | undefined;
  /** Beside them: what tells the client of its session, or what of a backend's headers passes. */
  lines?: readonly HeaderLine[] | undefined;
}): string {
  let head =
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    `Sec-WebSocket-Accept: ${acceptKey(response.key)}\r\n`;
  if (response.subprotocol !== undefined) head += headerLine('Sec-WebSocket-Protocol', response.subprotocol);
  if (response.extensions) head += headerLine('Sec-WebSocket-Extensions', response.extensions);
  head += applicationHeaders(response.headers);
  for (const { name, value } of response.lines ?? []) head += headerLine(name, value);
  return `${head}\r\n`;
}

export interface UpgradeRequestOptions {
  /** With its port when it is not the scheme's own. */
  host: string;
  /** Path and query, percent-encoded. */
  path: string;
  /** Offered in this order. */
  subprotocols?: readonly string[] | undefined;
  /** The value of `Sec-WebSocket-Extensions`. */
  extensions?: string | undefined;
  origin?: string | undefined;
  headers?: OutgoingHeaders | undefined;
}

/**
 * The client's opening handshake (RFC 6455 §4.1) with a fresh random key.
 *
 * @throws {TypeError} when host, path, a subprotocol or a header cannot be sent.
 */
export function createUpgradeRequest(options: UpgradeRequestOptions): { key: string; bytes: Buffer } {
  const { host, path, subprotocols = [], extensions, origin } = options;
  if (!/^\/[\x21-\x7e]*$/.test(path))
    throw new TypeError(`cannot request the path ${JSON.stringify(path)}; begin it with "/" and percent-encode it`);
  if (!/^[\x21-\x7e]+$/.test(host)) throw new TypeError(`cannot request from the host ${JSON.stringify(host)}`);
  if (!subprotocols.every(isToken) || new Set(subprotocols).size !== subprotocols.length)
    throw new TypeError(`subprotocols must be different tokens, not ${JSON.stringify(subprotocols)}`);

  const key = randomBytes(16).toString('base64');
  let head =
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n`;
  if (origin !== undefined) head += headerLine('Origin', origin);
  if (subprotocols.length > 0) head += headerLine('Sec-WebSocket-Protocol', subprotocols.join(', '));
  if (extensions) head += headerLine('Sec-WebSocket-Extensions', extensions);
  return { key, bytes: Buffer.from(`${head}${applicationHeaders(options.headers)}\r\n`, 'latin1') };
}

/**
 * Judges the server's answer to `createUpgradeRequest` (RFC 6455 §4.1). The extensions it agreed to are returned
 * unread; they are undefined when it agreed to none.
 *
 * @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE, with the status when the server refused. The connection must be cut
 * then.
 */
export function checkUpgradeResponse(
  { status, rawHeaders }: Pick<ResponseHead, 'status' | 'rawHeaders'>,
  request: { key: string; subprotocols?: readonly string[] | undefined; extensions?: string | undefined },
): { subprotocol: string | undefined; extensions: string | undefined } {
  if (status !== 101)
    throw new HoldfastError('ERR_WS_BAD_HANDSHAKE', `the server answered the handshake with ${status} instead of 101`, {
      status,
    });
  const headers: Readonly<Record<string, string | undefined>> = joinHeaders(rawHeaders);
  const fail = (what: string) => new HoldfastError('ERR_WS_BAD_HANDSHAKE', `the server answered 101, but ${what}`);
  if (headers.upgrade?.toLowerCase() !== 'websocket') throw fail('its Upgrade header is not "websocket"');
  if (!hasToken(headers.connection, 'upgrade')) throw fail('its Connection header does not name Upgrade');
  if (headers['sec-websocket-accept'] !== acceptKey(request.key))
    throw fail('its Sec-WebSocket-Accept does not answer the key of this request; is a cache in between?');
  // Some servers answer with an empty header where they have nothing to say.
  const subprotocol = headers['sec-websocket-protocol'] || undefined;
  if (subprotocol !== undefined && !request.subprotocols?.includes(subprotocol))
    throw fail(`it chose the subprotocol ${JSON.stringify(subprotocol)}, which was not offered`);
  const extensions = headers['sec-websocket-extensions'] || undefined;
  if (extensions !== undefined && !request.extensions) throw fail('it uses extensions, and none was offered');
  return { subprotocol, extensions };
}

/** Headers that the handshake sets itself, and framing that it cannot have. */
const OWN_HEADERS = new Set([
  'host',
  'upgrade',
  'connection',
  'content-length',
  'transfer-encoding',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-accept',
  'sec-websocket-protocol',
  'sec-websocket-extensions',
]);

function applicationHeaders(headers: OutgoingHeaders = {}): string {
  let lines = '';
  for (const [name, values] of Object.entries(headers)) {
    if (OWN_HEADERS.has(name.toLowerCase())) throw new TypeError(`the header ${name} is set by the handshake itself`);
    for (const value of Array.isArray(values) ? values : [values]) lines += headerLine(name, value);
  }
  return lines;
}

/** @throws {TypeError} when it cannot be sent. */
export function headerLine(name: string, value: string): string {
  if (!isToken(name)) throw new TypeError(`not a header name: ${JSON.stringify(name)}`);
  // In JavaScript a status or a number of seconds may come as a number.
  if (typeof value !== 'string' && typeof value !== 'number')
    throw new TypeError(`the value of the header ${name} is a string, not ${describe(value)}; write it as text`);
  // The value may be a cookie: it is not repeated in the message.
  if (!isFieldValue(String(value)))
    throw new TypeError(`the value of the header ${name} has a line break or a character that headers cannot have`);
  return `${name}: ${value}\r\n`;
}
