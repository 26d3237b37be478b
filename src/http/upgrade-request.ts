import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { type Refusal, refuse } from './refusal.ts';
import { hasToken, isToken } from './token.ts';

/** What a good opening handshake asks for. */
export interface UpgradeRequest {
  readonly key: string;
  /** Subprotocols the client offers, in its order; each once. */
  readonly subprotocols: string[];
  /** The `Sec-WebSocket-Extensions` header as sent; `''` when there is none. */
  readonly extensions: string;
  /** Selected when the target selects none, though the client has not offered it to the target. */
  readonly fallbackSubprotocol?: string | undefined;
}

/** What a handshake is judged by. */
interface HandshakeFacts {
  readonly method: string;
  readonly host: string;
  readonly httpVersion: string;
  readonly headers: IncomingHttpHeaders;
  readonly isUpgrade: boolean;
}

/**
 * The base64 of exactly 16 bytes. Of the last letter two bits carry data. The other four should be zero, which some
 * clients do not know; as nothing is made of the key but its hash, they may be anything.
 */
const KEY = /^[A-Za-z0-9+/]{22}==$/;

/** An extended CONNECT of HTTP/2 (RFC 8441), which the listener has put into the words of a handshake in HTTP/1.1. */
export interface ExtendedConnect {
  readonly isExtendedConnect: true;
}

/** RFC 6455 §4.2.1, items 1 to 4. RFC 9110 §7.8: an Upgrade in HTTP/1.0 is ignored. */
export function asksForWebSocket(request: IncomingMessage): boolean {
  const { connection, upgrade } = request.headers;
  return (
    request.method === 'GET' &&
    (request.httpVersion === '1.1' || (request as Partial<ExtendedConnect>).isExtendedConnect === true) &&
    hasToken(upgrade, 'websocket') &&
    hasToken(connection, 'upgrade')
  );
}

/**
 * Judges an opening handshake by RFC 6455 §4.2.1.
 *
 * @returns 405 for another method than GET; 426 when the request does not ask for a WebSocket, or for another version
 * than 13; 400 for everything else that is wrong.
 */
export function parseUpgrade(head: HandshakeFacts): UpgradeRequest | Refusal {
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
  if (subprotocols === undefined) return badHandshake(400, 'the Sec-WebSocket-Protocol header is not a list of names');
  return { key, subprotocols, extensions: headers['sec-websocket-extensions'] ?? '' };
}

function badHandshake(status: number, reason: string, headers?: Record<string, string>): Refusal {
  return refuse(status, 'ERR_WS_BAD_HANDSHAKE', reason, headers && { headers });
}

/** Tokens, each once. RFC 9110 §5.6.1.2: an empty place in a list is none. */
function parseSubprotocols(header: string | undefined): string[] | undefined {
  if (header === undefined) return [];
  const names = header
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '');
  return names.every(isToken) ? [...new Set(names)] : undefined;
}
