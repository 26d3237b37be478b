import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Timer } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import { isConnectionSignIn, withoutConnectionSignIn } from '../../http/connection-sign-in.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { withoutOwned } from '../../http/hop-by-hop.ts';
import { signInNeedsHttp1 } from '../../http/http1-required.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { UpgradeRequest } from '../../http/upgrade-request.ts';
import { parseExtensions } from '../../websocket/protocol/extensions.ts';
import { checkUpgradeResponse, type OutgoingHeaders } from '../../websocket/protocol/handshake.ts';
import { BackendConnection } from '../connection/connection.ts';
import { requestHeadText } from '../connection/request-head-text.ts';
import { type DeclinedAnswer, UpgradeClient } from '../connection/upgrade-client.ts';
import type { BackendExchange } from '../exchange/exchange.ts';
import { withSessionHeaders } from '../exchange/header-lines.ts';
import { backendRequestHeaders, clientResponseHeaders } from '../exchange/headers.ts';
import { Rewriting } from '../exchange/rewriting.ts';
import type { BoundConnection } from '../upstream/bound-connections.ts';
import { errorName, type FailureReason, failureReason, upstreamRefusal } from '../upstream/failure.ts';
import type { Selection } from '../upstream/selection.ts';
import type { UpstreamServer } from '../upstream/server.ts';

export interface DialOptions extends BackendExchange {
  /** The client's handshake, found good. */
  readonly handshake: UpgradeRequest;
  /** The client's connection. */
  readonly socket: Duplex;
  /** May the backend be offered the client's permessage-deflate? */
  readonly allowCompression: boolean;
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
  /** Agreed between backend and client, end to end: permessage-deflate, or undefined. */
  readonly extensions: string | undefined;
  /** The other headers of the backend's 101 that are for the client. */
  readonly headers: OutgoingHeaders;
  /** All of them, as they came. */
  readonly rawHeaders: readonly string[];
}

/** The backend answered with another status than 101. */
export interface Declined {
  readonly answer: DeclinedAnswer;
  /** Those of the answer that this client can be told. */
  readonly rawHeaders: readonly string[];
  readonly server: UpstreamServer;
}

/**
 * The handshake between us and one peer only, and framing that a handshake cannot have: never taken over from the
 * client.
 */
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
 * The next server is tried as long as no connection can be made, or one breaks off without an answer, within the
 * upstream's bounds for retries. A client's connection that is signed in (`bound-connections.ts`) has its handshake on
 * the backend's that belongs to it, and nowhere else.
 *
 * @returns `'client-gone'` when `signal` was aborted first. A refusal (503, 502, 504) when no server gave a proper
 * answer. Rejects only when the session cannot say what the backend is to be told.
 */
export async function dialWebSocket(options: DialOptions): Promise<Dialed | Declined | Refusal | 'client-gone'> {
  const { head, upstream, signal } = options;
  const offer = options.allowCompression ? relayableExtensions(options.handshake.extensions) : '';
  const added = options.session && (await options.session.requestHeaders());
  const headers = upgradeHeaders(options, offer, added);
  if (isOverHttp2(head) && isConnectionSignIn(headers)) return signInNeedsHttp1();
  let refusal: Refusal | undefined;
  const selection = upstream.select(head, options.affinityKey ?? options.sid);
  const bound = upstream.bound.of(options.socket);
  for (let server = bound?.server ?? selection.next(); server; server = selection.next()) {
    if (signal.aborted) return 'client-gone';
    const result = await dialServer(options, selection, server, bound, headers, offer);
    if (typeof result === 'string' || !('isConnected' in result)) return result;
    upstream.logger.warn(
      { upstream: upstream.name, server: server.url, reason: result.reason, err: result.error },
      'upstream failed',
    );
    selection.failed(server, result.reason, result.isConnected);
    refusal = upstreamRefusal(upstream, server, result.reason);
    // A handshake has no effect before it is answered.
    if (bound || (result.isConnected && result.reason !== 'reset')) break;
  }
  return refusal ?? upstream.refusal(selection);
}

interface Failed {
  readonly reason: FailureReason;
  readonly error: string;
  readonly isConnected: boolean;
}

function dialServer(
  options: DialOptions,
  selection: Selection,
  server: UpstreamServer,
  bound: BoundConnection | undefined,
  headers: readonly string[],
  offer: string,
): Promise<Dialed | Declined | Refusal | Failed | 'client-gone'> {
  const { handshake, head, upstream, signal } = options;
  const { clock } = upstream;
  const rewriting = new Rewriting(options);
  return new Promise((resolve: (result: Dialed | Declined | Refusal | Failed | 'client-gone') => void) => {
    let isConnected = false;
    let timer: Timer | undefined;
    let isSettled = false;
    const settle = (result: Dialed | Declined | Refusal | Failed | 'client-gone') => {
      if (isSettled) return;
      isSettled = true;
      if (typeof result === 'string' || 'reason' in result) server.end();
      else endWhenClosed(server, 'socket' in result ? result.socket : result.answer);
      clock.clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      resolve(result);
    };
    const fail = (reason: FailureReason, error: string) => settle({ reason, error, isConnected });
    const onAbort = () => {
      settle('client-gone');
      client.destroy();
    };
    const onTimeout = () => {
      fail('timeout', `no answer within ${upstream.handshakeTimeoutMs} ms`);
      client.destroy();
    };
    const text = requestHeadText('GET', rewriting.target, headers);
    if (text === undefined) {
      resolve(refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be written to a backend'));
      return;
    }
    server.begin();
    signal.addEventListener('abort', onAbort);
    const connection = bound?.connection ?? new BackendConnection(server.openSocket());
    const { socket } = connection;
    const client = new UpgradeClient(connection, text, {
      onSent() {
        isConnected = true;
        if (upstream.handshakeTimeoutMs !== Number.POSITIVE_INFINITY)
          timer = clock.setTimeout(onTimeout, upstream.handshakeTimeoutMs);
      },
      onFailed: error => fail(failureReason(error, socket), errorName(error)),
      onDeclined(answer) {
        answer.on('error', ignore);
        selection.accepted(server);
        const asksForMore = answer.statusCode === 401 && isOverHttp2(head) && isConnectionSignIn(answer.rawHeaders);
        const rawHeaders = asksForMore ? withoutConnectionSignIn(answer.rawHeaders) : answer.rawHeaders;
        if (rawHeaders === undefined) {
          settle(signInNeedsHttp1());
          answer.destroy();
        } else settle({ answer, rawHeaders, server });
      },
      onSwitched(answer, socket, early) {
        const { rawHeaders } = answer;
        socket.on('error', ignore);
        try {
          const { key, subprotocols } = handshake;
          const agreed = checkUpgradeResponse(answer, { key, subprotocols, extensions: offer });
          checkAgreedExtensions(agreed.extensions);
          const cookie = selection.accepted(server);
          const headers = withSessionHeaders(
            switchingHeaders(clientResponseHeaders(rawHeaders, upstream, rewriting)),
            cookie === undefined ? [] : [{ name: 'Set-Cookie', value: cookie }],
          );
          settle({ socket, early, server, ...agreed, extensions: agreed.extensions || undefined, headers, rawHeaders });
        } catch (error) {
          socket.destroy();
          fail('invalid', error instanceof Error ? error.message : String(error));
        }
      },
    });
  });
}

function ignore(): void {}

function isOverHttp2({ httpVersion }: RequestHead): boolean {
  return httpVersion.startsWith('2');
}

/** A function of its own, so that an idle socket keeps nothing of its handshake in memory. */
function endWhenClosed(server: UpstreamServer, carrier: Socket | DeclinedAnswer): void {
  carrier.on('close', () => server.end(carrier instanceof Socket ? carrier : undefined));
}

function upgradeHeaders(options: DialOptions, offer: string, added: readonly HeaderLine[] | undefined): string[] {
  const { handshake } = options;
  const headers = withoutOwned(backendRequestHeaders(options, new Rewriting(options), added), HANDSHAKE_HEADERS);
  headers.push('Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13');
  headers.push('Sec-WebSocket-Key', handshake.key);
  if (handshake.subprotocols.length > 0) headers.push('Sec-WebSocket-Protocol', handshake.subprotocols.join(', '));
  if (offer !== '') headers.push('Sec-WebSocket-Extensions', offer);
  return headers;
}

/**
 * The offers of permessage-deflate, which can be relayed without understanding the payload; an extension that we do not
 * know might change the framing that we read.
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

/** What was not offered might change the framing. @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE */
function checkAgreedExtensions(header: string | undefined): void {
  if (!header) return;
  const extensions = parseExtensions(header);
  if (extensions.length === 1 && extensions[0]?.name === 'permessage-deflate') return;
  throw new HoldfastError(
    'ERR_WS_BAD_HANDSHAKE',
    `the server answered 101 with the extensions ${JSON.stringify(header)}, and was offered permessage-deflate only`,
  );
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
