import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Deadline, setDeadline } from '../../base/deadlines.ts';
import { HoldfastError } from '../../base/errors.ts';
import { isConnectionSignIn, withoutConnectionSignIn } from '../../http/connection-sign-in.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { foldNames, withoutOwned } from '../../http/hop-by-hop.ts';
import { signInNeedsHttp1 } from '../../http/http1-required.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { ResponseHead } from '../../http/response-head.ts';
import type { UpgradeRequest } from '../../http/upgrade-request.ts';
import { parseExtensions } from '../../websocket/protocol/extensions.ts';
import { checkUpgradeResponse } from '../../websocket/protocol/handshake.ts';
import type { BackendConnection } from '../connection/connection.ts';
import { requestHeadText } from '../connection/request-head-text.ts';
import { type DeclinedAnswer, UpgradeClient, type UpgradeHandler } from '../connection/upgrade-client.ts';
import type { BackendExchange } from '../exchange/exchange.ts';
import { backendRequestHeaders, clientResponseHeaders } from '../exchange/headers.ts';
import { Rewriting } from '../exchange/rewriting.ts';
import type { BoundConnection } from '../upstream/bound-connections.ts';
import { errorName, type Failed, type FailureReason, failureReason, reportFailure } from '../upstream/failure.ts';
import type { Selection } from '../upstream/selection.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import type { RelayLimits } from './limits.ts';
import type { WaitingClient } from './waiting-client.ts';

export interface DialOptions extends BackendExchange {
  /** The client's handshake, found good. */
  readonly handshake: UpgradeRequest;
  /** The client's connection. */
  readonly socket: Duplex;
  readonly limits: RelayLimits;
}

/** The backend took the WebSocket. */
export interface Dialed {
  readonly status: 101;
  readonly socket: Socket;
  /** What the backend sent behind its 101. */
  readonly early: Buffer;
  readonly server: UpstreamServer;
  readonly subprotocol: string | undefined;
  /** Agreed between backend and client, end to end: permessage-deflate, or undefined. */
  readonly extensions: string | undefined;
  /** The other headers of the 101 that are for the client. */
  readonly lines: readonly HeaderLine[];
  /** All of them, as they came. */
  readonly rawHeaders: readonly string[];
}

/** The backend answered with another status than 101. */
export interface Declined {
  readonly status: number;
  readonly answer: DeclinedAnswer;
  /** Those of the answer that this client can be told. */
  readonly rawHeaders: readonly string[];
  readonly server: UpstreamServer;
}

/**
 * The handshake between us and one peer only, and framing that a handshake cannot have: never taken over from the
 * client.
 */
const HANDSHAKE_HEADERS = foldNames([
  'Sec-WebSocket-Key',
  'Sec-WebSocket-Version',
  'Sec-WebSocket-Protocol',
  'Sec-WebSocket-Extensions',
  'Sec-WebSocket-Accept',
  'Content-Length',
  'Expect',
]);

/**
 * Opens the backend's half of a WebSocket: a handshake of the client's own key, subprotocols and extensions.
 *
 * The next server is tried as long as no connection can be made, or one breaks off without an answer, within the
 * upstream's bounds for retries. A client's connection that is signed in (`bound-connections.ts`) has its handshake on
 * the backend's that belongs to it, and nowhere else.
 *
 * @returns undefined when the client has gone first. A refusal (503, 502, 504) when no server gave a proper answer.
 * Rejects only when the session cannot say what the backend is to be told.
 */
export async function dialWebSocket(
  options: DialOptions,
  client: WaitingClient,
): Promise<Dialed | Declined | Refusal | undefined> {
  const { head, handshake, limits, session, trace, upstream } = options;
  const offer = limits.compression === 'refuse' ? '' : relayableExtensions(handshake.extensions);
  const rewriting = new Rewriting(options);
  let added = session?.requestHeaders();
  if (added instanceof Promise) added = await added;
  if (trace) added = [...(added ?? []), ...trace.contextHeaders()];
  const headers = upgradeHeaders(options, rewriting, offer, added);
  if (isOverHttp2(head) && isConnectionSignIn(headers)) return signInNeedsHttp1();
  trace?.sent(headers);
  const text = requestHeadText('GET', rewriting.target, headers);
  if (text === undefined) return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be written to a backend');
  let refusal: Refusal | undefined;
  const selection = upstream.select(head, options.affinityKey ?? options.sid);
  const bound = upstream.bound.of(options.socket);
  const call: Call = { options, client, selection, bound, rewriting, text, offer };
  for (let server = bound?.server ?? selection.next(); server; server = selection.next()) {
    if (client.isGone) return undefined;
    const why = bound ? 'the connection is signed in there' : selection.whyOf(server);
    const traced = trace && { upstream: upstream.name, url: server.url, why };
    if (traced) trace.chosen(traced);
    const result = await new ServerHandshake(call, server).run();
    if (result === undefined || !('isConnected' in result)) return result;
    refusal = reportFailure(upstream, server, result);
    if (traced) trace.failed(traced, result.reason);
    server.failed(result.reason, result.isConnected);
    // A handshake has no effect before it is answered.
    if (bound || (result.isConnected && result.reason !== 'reset')) break;
  }
  return refusal ?? upstream.refusal(selection);
}

/** What the handshakes with the servers that are tried have in common. */
interface Call {
  readonly options: DialOptions;
  readonly client: WaitingClient;
  readonly selection: Selection;
  readonly bound: BoundConnection | undefined;
  readonly rewriting: Rewriting;
  readonly text: string;
  readonly offer: string;
}

type Result = Dialed | Declined | Refusal | Failed | undefined;

/** The handshake with one server. */
class ServerHandshake implements UpgradeHandler {
  readonly #call: Call;
  readonly #server: UpstreamServer;
  readonly #connection: BackendConnection;
  #resolve: ((result: Result) => void) | undefined;
  #isConnected = false;
  #deadline: Deadline | undefined;

  constructor(call: Call, server: UpstreamServer) {
    this.#call = call;
    this.#server = server;
    server.begin();
    this.#connection = call.bound?.connection ?? server.openConnection();
  }

  run(): Promise<Result> {
    return new Promise(resolve => {
      this.#resolve = resolve;
      this.#call.client.onGone = this.#onClientGone;
      new UpgradeClient(this.#connection, this.#call.text, this);
    });
  }

  onSent(): void {
    const { clock, handshakeTimeoutMs } = this.#call.options.upstream;
    this.#isConnected = true;
    this.#deadline = setDeadline(clock, handshakeTimeoutMs, this.#onTimeout);
  }

  onFailed(error: Error): void {
    this.#fail(failureReason(error, this.#connection.socket), errorName(error));
  }

  onDeclined(answer: DeclinedAnswer): void {
    const { options, selection } = this.#call;
    const { upstream } = options;
    const { status, rawHeaders } = answer.head;
    answer.on('error', ignore);
    selection.accepted(this.#server);
    const asksForMore = status === 401 && isOverHttp2(options.head) && isConnectionSignIn(rawHeaders);
    const passed = asksForMore ? withoutConnectionSignIn(rawHeaders) : rawHeaders;
    if (passed === undefined) {
      this.#settle({ ...signInNeedsHttp1(), upstream: upstream.name, server: this.#server.url });
      answer.destroy();
    } else this.#settle({ status, answer, rawHeaders: passed, server: this.#server });
  }

  onSwitched(answer: ResponseHead, socket: Socket, early: Buffer): void {
    const { offer, options, rewriting, selection } = this.#call;
    const server = this.#server;
    socket.on('error', ignore);
    try {
      const { key, subprotocols } = options.handshake;
      const agreed = checkUpgradeResponse(answer, { key, subprotocols, extensions: offer });
      const { subprotocol } = agreed;
      const extensions = agreed.extensions || undefined;
      checkAgreedExtensions(extensions);
      const cookie = selection.accepted(server);
      const { rawHeaders } = answer;
      const lines = switchingLines(clientResponseHeaders(answer, options.upstream, rewriting));
      if (cookie !== undefined) lines.push({ name: 'Set-Cookie', value: cookie });
      this.#settle({ status: 101, socket, early, server, subprotocol, extensions, lines, rawHeaders });
    } catch (error) {
      socket.destroy();
      this.#fail('invalid', error instanceof Error ? error.message : String(error));
    }
  }

  readonly #onTimeout = (): void => {
    this.#fail('timeout', `no answer within ${this.#call.options.upstream.handshakeTimeoutMs} ms`);
    this.#connection.destroy();
  };

  readonly #onClientGone = (): void => {
    this.#settle(undefined);
    this.#connection.destroy();
  };

  #fail(reason: FailureReason, error: string): void {
    this.#settle({ reason, error, isConnected: this.#isConnected });
  }

  #settle(result: Result): void {
    const resolve = this.#resolve;
    if (resolve === undefined) return;
    this.#resolve = undefined;
    const { client } = this.#call;
    if (result === undefined || 'reason' in result) this.#server.end();
    else endWhenClosed(this.#server, 'socket' in result ? result.socket : result.answer);
    this.#deadline?.clear();
    client.onGone = undefined;
    resolve(result);
  }
}

function ignore(): void {}

function isOverHttp2({ httpVersion }: RequestHead): boolean {
  return httpVersion.startsWith('2');
}

/** A function of its own, so that an idle socket keeps nothing of its handshake in memory. */
function endWhenClosed(server: UpstreamServer, carrier: Socket | DeclinedAnswer): void {
  carrier.on('close', () => server.end(carrier instanceof Socket ? carrier : undefined));
}

function upgradeHeaders(
  options: DialOptions,
  rewriting: Rewriting,
  offer: string,
  added: readonly HeaderLine[] | undefined,
): string[] {
  const { handshake } = options;
  const headers = withoutOwned(backendRequestHeaders(options, rewriting, added), HANDSHAKE_HEADERS);
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
  const message = `the server answered 101 with the extensions ${JSON.stringify(header)}, and was offered permessage-deflate only`;
  throw new HoldfastError('ERR_WS_BAD_HANDSHAKE', message);
}

/** What of a 101's headers the handshake does not set itself. */
function switchingLines(headers: readonly string[]): HeaderLine[] {
  const lines: HeaderLine[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (!/^(?:sec-websocket-.*|content-length|host)$/i.test(name)) lines.push({ name, value: headers[i + 1]! });
  }
  return lines;
}
