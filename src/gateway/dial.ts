import http, { type ClientRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Timer } from '../base/clock.ts';
import { HoldfastError } from '../base/errors.ts';
import { withoutOwned } from '../http/hop-by-hop.ts';
import { type Refusal, refuse } from '../http/refusal.ts';
import { parseExtensions } from '../websocket/protocol/extensions.ts';
import { checkUpgradeResponse, type OutgoingHeaders, type UpgradeRequest } from '../websocket/protocol/handshake.ts';
import type { BackendExchange } from './backend-exchange.ts';
import { backendRequestHeaders, clientResponseHeaders } from './backend-headers.ts';
import type { UpstreamServer } from './upstream.ts';
import { errorName, type FailureReason, failureReason, upstreamRefusal } from './upstream-failure.ts';

export interface DialOptions extends BackendExchange {
  /** The client's handshake, found good. */
  readonly handshake: UpgradeRequest;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

/** The backend took the WebSocket. */
export interface Dialed {
  readonly socket: Socket;
  /** What the backend sent behind its 101. */
  readonly early: Buffer;
  readonly server: UpstreamServer;
  readonly subprotocol: string | undefined;
  /** Agreed between backend and client, end to end. */
  readonly extensions: string | undefined;
  /** The other headers of the backend's 101 that are for the client. */
  readonly headers: OutgoingHeaders;
}

/** The backend answered with another status than 101. */
export interface Declined {
  readonly answer: IncomingMessage;
  readonly server: UpstreamServer;
}

/** The handshake between us and one peer only, and framing that a handshake cannot have: never taken over from the client. */
const HANDSHAKE_HEADERS = [
  'Sec-WebSocket-Key',
  'Sec-WebSocket-Version',
  'Sec-WebSocket-Protocol',
  'Sec-WebSocket-Extensions',
  'Sec-WebSocket-Accept',
  'Content-Length',
  'Expect',
];

/**
 * Opens the backend's half of a WebSocket: a handshake of the client's own key, subprotocols and extensions.
 *
 * Servers are tried in order as long as no connection can be made.
 *
 * @returns `'client-gone'` when `signal` was aborted first. A refusal (503, 502, 504) when no server gave a proper answer.
 * Never rejects.
 */
export async function dialWebSocket(options: DialOptions): Promise<Dialed | Declined | Refusal | 'client-gone'> {
  const { upstream, logger, signal } = options;
  const offer = relayableExtensions(options.handshake.extensions);
  const headers = upgradeHeaders(options, offer);
  let refusal: Refusal | undefined;
  for (const server of upstream.servers) {
    if (signal.aborted) return 'client-gone';
    const result = await dialServer(options, server, headers, offer);
    if (typeof result === 'string' || !('isConnected' in result)) return result;
    logger.warn(
      { upstream: upstream.name, server: server.url, reason: result.reason, error: result.error },
      'upstream failed',
    );
    refusal = upstreamRefusal(upstream, server, result.reason);
    if (result.isConnected) break;
  }
  return refusal!;
}

interface Failed {
  readonly reason: FailureReason;
  readonly error: string;
  readonly isConnected: boolean;
}

function dialServer(
  options: DialOptions,
  server: UpstreamServer,
  headers: readonly string[],
  offer: string,
): Promise<Dialed | Declined | Refusal | Failed | 'client-gone'> {
  const { head, handshake, upstream, clock, signal, ownCookies } = options;
  return new Promise((resolve: (result: Dialed | Declined | Refusal | Failed | 'client-gone') => void) => {
    let isConnected = false;
    let timer: Timer | undefined;
    let request: ClientRequest;
    const settle = (result: Dialed | Declined | Failed | 'client-gone') => {
      clock.clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      resolve(result);
    };
    const fail = (reason: FailureReason, error: string) => settle({ reason, error, isConnected });
    const onAbort = () => {
      settle('client-gone');
      request.destroy();
    };
    const onConnected = () => {
      isConnected = true;
      if (upstream.handshakeTimeoutMs === Number.POSITIVE_INFINITY) return;
      timer = clock.setTimeout(
        () =>
          request.destroy(
            new HoldfastError('ERR_UPSTREAM_TIMEOUT', `no answer within ${upstream.handshakeTimeoutMs} ms`, {
              status: 504,
            }),
          ),
        upstream.handshakeTimeoutMs,
      );
    };
    try {
      request = http.request({
        createConnection: () => upstream.openSocket(server),
        method: 'GET',
        path: head.query === '' ? head.path : `${head.path}?${head.query}`,
        headers,
      });
    } catch {
      // Node refuses to write some characters that its own parser lets through.
      resolve(refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be written to a backend'));
      return;
    }
    signal.addEventListener('abort', onAbort);
    request.on('socket', socket => {
      if (socket.connecting) socket.once('connect', onConnected);
      else onConnected();
    });
    request.on('error', error => fail(failureReason(error, isConnected), errorName(error)));
    request.on('response', answer => {
      answer.on('error', () => {});
      // Node's parser lets through what is no status.
      if (answer.statusCode! < 200) {
        fail('invalid', `status ${answer.statusCode}`);
        answer.destroy();
      } else settle({ answer, server });
    });
    request.on('upgrade', (answer, socket, early) => {
      socket.on('error', () => {});
      if (signal.aborted) {
        socket.destroy();
        return;
      }
      try {
        const agreed = checkUpgradeResponse(
          { status: answer.statusCode!, headers: answer.headers as Record<string, string | undefined> },
          { key: handshake.key, subprotocols: handshake.subprotocols, extensions: offer },
        );
        const headers = switchingHeaders(clientResponseHeaders(answer.rawHeaders, ownCookies));
        settle({ socket, early, server, ...agreed, headers });
      } catch (error) {
        socket.destroy();
        fail('invalid', error instanceof Error ? error.message : String(error));
      }
    });
    request.end();
  });
}

function upgradeHeaders(options: DialOptions, offer: string): string[] {
  const { head, handshake, upstream } = options;
  const identity = {
    sessionHeader: upstream.sessionHeader,
    sid: options.sid,
    ownCookies: options.ownCookies,
  };
  const headers = withoutOwned(backendRequestHeaders(head, identity), HANDSHAKE_HEADERS);
  headers.push('Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13');
  headers.push('Sec-WebSocket-Key', handshake.key);
  if (handshake.subprotocols.length > 0) headers.push('Sec-WebSocket-Protocol', handshake.subprotocols.join(', '));
  if (offer !== '') headers.push('Sec-WebSocket-Extensions', offer);
  return headers;
}

/**
 * The offers of permessage-deflate, which can be relayed without understanding the payload; an extension that we do not know
 * might change the framing that we read.
 */
function relayableExtensions(header: string): string {
  return parseExtensions(header)
    .filter(extension => extension?.name === 'permessage-deflate')
    .map(extension => {
      let text = extension!.name;
      for (const [name, value] of extension!.params) text += value === true ? `; ${name}` : `; ${name}=${value}`;
      return text;
    })
    .join(', ');
}

/** What of a 101's headers the handshake does not set itself, repeated ones together. */
function switchingHeaders(headers: readonly string[]): OutgoingHeaders {
  const grouped: Record<string, string[]> = Object.create(null);
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (/^(?:sec-websocket-.*|content-length|host)$/i.test(name)) continue;
    (grouped[name] ??= []).push(headers[i + 1]!);
  }
  return grouped;
}
