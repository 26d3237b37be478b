import { createHash, randomBytes } from 'node:crypto';
import { HoldfastError } from '../../base/errors.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { joinHeaders, type ResponseHead } from '../../http/response-head.ts';
import { hasToken, isToken } from '../../http/token.ts';
import { describe } from './outgoing.ts';

/** What a good opening handshake asks for. */
export interface UpgradeRequest {
  readonly key: string;
  /** Subprotocols the client offers, in its order; each once. */
  readonly subprotocols: string[];
  /** The `Sec-WebSocket-Extensions` header as sent; `''` when there is none. */
  readonly extensions: string;
}

/** Headers to send; a list becomes one line each. */
export type OutgoingHeaders = Readonly<Record<string, string | readonly string[]>>;

/** RFC 6455 §1.3. */
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The base64 of exactly 16 bytes: two bits of the last letter carry data, the other four are zero. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** RFC 9110 §5.5: no control characters but the tab; CR and LF would begin a header of their own. */
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * Judges an opening handshake by RFC 6455 §4.2.1.
 *
 * @returns 405 for another method than GET; 426 when the request does not ask for a WebSocket, or for another version
 * than 13; 400 for everything else that is wrong.
 */
export function parseUpgrade(head: RequestHead): UpgradeRequest | Refusal {
  const { headers } = head;
  if (head.method !== 'GET')
    return badHandshake(405, `the method is ${head.method}; a WebSocket handshake is a GET request`, { Allow: 'GET' });
  if (head.host === '') return badHandshake(400, 'the handshake has no Host header');
  if (!hasToken(headers.upgrade, 'websocket'))
    return refuse(426, 'ERR_WS_UPGRADE_REQUIRED', 'the request does not ask for an upgrade to websocket', {
      headers: { Upgrade: 'websocket' },
    });
  // Node's parser also lets HTTP/2.0 through, which RFC 6455 knows no handshake for. That of RFC 8441 is an upgrade by
  // now.
  if (head.httpVersion !== '1.1' && !head.isUpgrade)
    return badHandshake(400, `the request is HTTP/${head.httpVersion}; a WebSocket handshake needs HTTP/1.1`);
  if (!hasToken(headers.connection, 'upgrade'))
    return badHandshake(400, 'the Connection header does not name Upgrade; a proxy in between may have taken it off');

  // A client of another version may follow other rules for all that comes below, so the version is judged first.
  const version = headers['sec-websocket-version'];
  if (version?.includes(','))
    return badHandshake(400, 'the handshake has more than one Sec-WebSocket-Version; it must name one');
  if (version !== '13')
    return refuse(426, 'ERR_WS_BAD_VERSION', `the WebSocket version is ${version ?? 'missing'}; 13 is spoken here`, {
      headers: { Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' },
    });

  // Node joins repeated headers with commas, which the base64 alphabet does not have: two keys are never one good key.
  const key = headers['sec-websocket-key'];
  if (key === undefined || !KEY.test(key))
    return badHandshake(400, 'the Sec-WebSocket-Key is not the base64 of 16 bytes, or there is not exactly one');

  // Where the frames begin behind a body is not said anywhere, and HTTP implementations differ.
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0)
    return badHandshake(400, 'the handshake announces a body; frames follow its empty line');

  const subprotocols = parseSubprotocols(headers['sec-websocket-protocol']);
  if (subprotocols === undefined)
    return badHandshake(400, 'the Sec-WebSocket-Protocol header is not a list of different names');
  return { key, subprotocols, extensions: headers['sec-websocket-extensions'] ?? '' };
}

/** The `Sec-WebSocket-Accept` that answers a key (RFC 6455 §4.2.2). */
export function acceptKey(key: string): string {
  return createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
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
}): string {
  let head =
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    `Sec-WebSocket-Accept: ${acceptKey(response.key)}\r\n`;
  if (response.subprotocol !== undefined) head += headerLine('Sec-WebSocket-Protocol', response.subprotocol);
  if (response.extensions) head += headerLine('Sec-WebSocket-Extensions', response.extensions);
  return `${head}${applicationHeaders(response.headers)}\r\n`;
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
  const subprotocol = headers['sec-websocket-protocol'];
  if (subprotocol !== undefined && !request.subprotocols?.includes(subprotocol))
    throw fail(`it chose the subprotocol ${JSON.stringify(subprotocol)}, which was not offered`);
  const extensions = headers['sec-websocket-extensions'];
  if (extensions !== undefined && !request.extensions) throw fail('it uses extensions, and none was offered');
  return { subprotocol, extensions };
}

function badHandshake(status: number, reason: string, headers?: Record<string, string>): Refusal {
  return refuse(status, 'ERR_WS_BAD_HANDSHAKE', reason, headers && { headers });
}

/** RFC 6455 §4.1: the elements are tokens, and all different. */
function parseSubprotocols(header: string | undefined): string[] | undefined {
  if (header === undefined) return [];
  const names = header.split(',').map(name => name.trim());
  return names.every(isToken) && new Set(names).size === names.length ? names : undefined;
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
  if (!FIELD_VALUE.test(String(value)))
    throw new TypeError(`the value of the header ${name} has a line break or a character that headers cannot have`);
  return `${name}: ${value}\r\n`;
}
