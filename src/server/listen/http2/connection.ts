import type { IncomingMessage } from 'node:http';
import http2, { type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../../base/clock.ts';
import { type RunningTime, setDeadline } from '../../../base/deadlines.ts';
import type { Logger } from '../../../base/logger.ts';
import { clientTermsOf } from '../../../http/client-terms.ts';
import { peerAddressOf } from '../../../http/peer.ts';
import { ClientPace, type PaceLimits, slowBody } from '../client-pace.ts';
import type { Newcomer } from '../newcomers.ts';
import { isBroken, WireBytes } from '../wire-bytes.ts';
import type { Http2Request, Http2Response } from './exchange.ts';
import { resetStream } from './stream.ts';

export interface Http2ConnectionOptions {
  readonly clock: Clock;
  readonly pace: PaceLimits;
  /** A connection without a stream for this time is ended. */
  readonly keepAliveMs: number;
  /** Time until the first request, and none without one; and until our settings are acknowledged. */
  readonly headTimeoutMs: number;
  readonly logger: Logger;
  /** By which all of it is judged. */
  readonly time: RunningTime;
  /** Leaves with the first request. */
  readonly newcomer: Newcomer;
}

/** A client with streams is pinged so often, and has as long to answer as it may be silent, within these bounds. */
const PING_MS = 20_000;
const MIN_PONG_MS = 10_000;
const MAX_PONG_MS = 60_000;
/** A client that has ended its side is looked at so often, */
const HALF_CLOSED_STEP_MS = 1_000;
/** given up when nothing has left for so many looks, */
const GIVE_UP_AFTER = 5;
/** and after so many in any case: it may be one that throws away what it gets, and waits for us to end. */
const LAST_LOOK = 30;
/** How long the rest of a body may still come that nobody reads; a client that is answered need not send it. */
const UNWANTED_MS = 1_000;
/** On the wire, at most: 17 bytes (RFC 9113 §6.7) in a record of TLS. */
const PING_BYTES = 100;
/** NGHTTP2_ERR_PROTO: what Node says of any violation, whether a stream or the connection has to end for it. */
const VIOLATION = -505;

/** A request and its answer. */
interface Exchange {
  readonly stream: ServerHttp2Stream;
  readonly request: Http2Request;
  readonly response: Http2Response;
  readonly pace: ClientPace;
  received: number;
  /** Bytes of the answer that have left, as far as writes have left as a whole. */
  taken: number;
  /** What may have left of the next write: Node does not say it. */
  partly: number;
  /** When the last look found the request answered, but its body not at its end. */
  answeredAt: number | undefined;
  isRefused: boolean;
}

/** A connection of HTTP/2 and what its client owes, stream by stream. */
export class Http2Connection {
  readonly session: ServerHttp2Session;
  readonly socket: TLSSocket;
  readonly #options: Http2ConnectionOptions;
  readonly #wire: WireBytes;
  readonly #pace = new ClientPace();
  readonly #exchanges = new Set<Exchange>();
  readonly #begunAt: number;
  /** Sockets, too. */
  readonly #streams = new Set<ServerHttp2Stream>();
  #hasServed = false;
  #idleSince: number;
  #taken = 0;
  /** When the last ping was sent or answered. */
  #pingedAt: number;
  #isPinged = false;
  #isHalfClosed = false;
  /** Pings since the last look: what they move is not an answer. */
  #pingBytes = 0;
  /** Streams that were reset for a violation. */
  #violated = 0;
  #violation: { readonly error: Error; readonly violated: number } | undefined;

  constructor(session: ServerHttp2Session, socket: TLSSocket, options: Http2ConnectionOptions) {
    this.session = session;
    this.socket = socket;
    this.#options = options;
    this.#wire = new WireBytes(socket);
    this.#begunAt = this.#idleSince = this.#pingedAt = options.time.read();
    // Answers may still be under way when the client ends its side; Node would end the other one, too.
    socket.allowHalfOpen = true;
    socket.on('end', this.#onHalfClosed);
    const { destroy } = session;
    // Node ends the connection for every violation. By then nghttp2 has done what RFC 9113 §5.4 asks for: the stream is
    // reset, or GOAWAY is said.
    session.destroy = (error, code) => {
      const { errno, code: name } = (error ?? {}) as NodeJS.ErrnoException;
      if (errno === VIOLATION && name === 'ERR_HTTP2_ERROR')
        this.#violation ??= { error: error!, violated: this.#violated };
      else destroy.call(session, error, code);
    };
    // Settings that a client has not acknowledged hold the session, and by this the socket and why it ended, which holds
    // what Node has of the session: a circle through native code, of which nothing would ever be let go of.
    session.once('close', () => Reflect.deleteProperty(session, 'destroy'));
  }

  /** When it began to wait for a request; undefined while there is a stream, and before there was one. */
  get idleSince(): number | undefined {
    return this.#hasServed && this.#streams.size === 0 ? this.#idleSince : undefined;
  }

  beginStream(stream: ServerHttp2Stream): void {
    this.#streams.add(stream);
    this.#hasServed = true;
    this.#options.newcomer.leave();
    stream.once('close', () => {
      this.#streams.delete(stream);
      this.#idleSince = this.#options.time.read();
      if (this.#isHalfClosed && this.#streams.size === 0) this.session.close();
      if (stream.rstCode === http2.constants.NGHTTP2_PROTOCOL_ERROR) this.#violated++;
    });
  }

  /** Ends it now: Node would first wait for a write that is under way, and so for a client that reads nothing. */
  cut(): void {
    this.session.destroy();
    if (this.#wire.waiting > 0 || isBroken(this.socket)) this.socket.destroy();
  }

  /**
   * The client sends nothing more, and not even what makes room for a long answer. What it has asked for as a whole is
   * answered, if that is soon: there is no way to find out whether it waits or has gone.
   */
  readonly #onHalfClosed = (): void => {
    this.#isHalfClosed = true;
    for (const stream of this.#streams) if (stream.state.remoteClose !== 1) stream.destroy();
    if (this.#streams.size === 0) return this.session.close();
    let { taken } = this.#wire;
    let idle = 0;
    let looks = 0;
    const look = () => {
      idle = this.#wire.taken === taken ? idle + 1 : 0;
      if (idle === GIVE_UP_AFTER || ++looks === LAST_LOOK)
        return this.#end('its side is ended, and nothing of its answers leaves');
      taken = this.#wire.taken;
      deadline = setDeadline(this.#options.clock, HALF_CLOSED_STEP_MS, look);
    };
    let deadline = setDeadline(this.#options.clock, HALF_CLOSED_STEP_MS, look);
    this.session.once('close', () => deadline?.clear());
  };

  /** What the client owes of this exchange is looked at until its stream is closed. */
  watch(stream: ServerHttp2Stream, request: Http2Request, response: Http2Response): void {
    const exchange: Exchange = {
      ...{ stream, request, response, pace: new ClientPace(), received: 0, taken: 0, partly: 0 },
      ...{ answeredAt: undefined, isRefused: false },
    };
    this.#exchanges.add(exchange);
    stream.once('close', () => this.#exchanges.delete(exchange));
  }

  /** @param now In the running time. @param ms Since the last look. */
  look(now: number, ms: number): void {
    // Nobody else says so, and what waits for a write would wait for good.
    if (isBroken(this.socket)) return this.cut();
    const taken = this.#wire.taken - this.#taken;
    this.#taken += taken;
    const takenOfAnswers = Math.max(0, taken - this.#pingBytes);
    this.#pingBytes = 0;
    // RFC 9113 §6.5.3: until then our limits do not bind it.
    if (this.session.pendingSettingsAck && now - this.#begunAt >= this.#options.headTimeoutMs)
      return this.#end('our settings were not acknowledged');
    const why = this.#wire.waiting > 0 ? this.#pace.owed(ms, taken, this.#options.pace) : this.#lookAtQuiet(now);
    if (why !== undefined) this.#end(why);
    else for (const exchange of this.#exchanges) this.#lookAt(exchange, takenOfAnswers, now, ms);
  }

  /** The client has taken all that the connection was given. */
  #lookAtQuiet(now: number): string | undefined {
    this.#pace.caughtUp();
    const { headTimeoutMs, keepAliveMs, pace } = this.#options;
    const violation = this.#violation;
    this.#violation = undefined;
    if (violation?.violated === this.#violated) return violation.error.message;
    if (this.#streams.size === 0) {
      this.#pingedAt = now;
      // A head that comes in too slowly is not a stream yet.
      return now - this.#idleSince < (this.#hasServed ? keepAliveMs : headTimeoutMs) ? undefined : 'no request came';
    }
    // It could not answer a ping.
    if (this.#isHalfClosed) return undefined;
    // A client that has begun a head can send nothing else before its end (RFC 9113 §6.10): no answer to a ping either.
    const sinceMs = now - this.#pingedAt;
    const pongMs = Math.min(MAX_PONG_MS, Math.max(MIN_PONG_MS, pace.silenceMs));
    if (this.#isPinged) return sinceMs < pongMs ? undefined : 'a ping was not answered';
    if (sinceMs >= Math.min(PING_MS, pace.silenceMs)) this.#ping(now);
    return undefined;
  }

  #ping(now: number): void {
    this.#pingedAt = now;
    this.#pingBytes += PING_BYTES;
    this.#isPinged = this.session.ping(() => {
      this.#isPinged = false;
    });
  }

  #lookAt(exchange: Exchange, takenByAll: number, now: number, ms: number): void {
    const { stream, request, response, pace } = exchange;
    const isWaiting = stream.writableLength > 0;
    const isAnswered = stream.writableFinished;
    const terms = clientTermsOf(request as unknown as IncomingMessage);
    const isAwaited = terms?.isBodyAwaited === true;
    const isBodyOwed = !stream.readableEnded && !stream.isPaused() && (isAnswered || isAwaited);
    if (isAnswered) exchange.answeredAt ??= now;
    const received = request.bytesReceived - exchange.received;
    exchange.received += received;
    const moved = takenOf(exchange, takenByAll) + (isBodyOwed ? received : 0);
    const isRead = request.listenerCount('data') + request.listenerCount('readable') > 0;
    const unreadMs = isRead ? this.#options.pace.silenceMs : UNWANTED_MS;
    if (isAnswered && !isAwaited && now - exchange.answeredAt! >= unreadMs)
      return this.#endStream(exchange, 'the rest of a body that nobody waits for took too long');
    if (!isWaiting && !isBodyOwed) return pace.caughtUp();
    const why = pace.owed(ms, moved, this.#options.pace, terms?.clientTimeoutMs);
    if (why === undefined) return;
    if (isWaiting || response.headersSent || !terms?.onSlowBody || exchange.isRefused)
      return this.#endStream(exchange, why);
    exchange.isRefused = true;
    pace.caughtUp();
    terms.onSlowBody(slowBody(why));
  }

  #endStream({ stream }: Exchange, why: string): void {
    const address = peerAddressOf(this.socket);
    this.#options.logger.debug({ event: 'slow-client', address }, `stream ended: ${why}`);
    // RFC 9113 §8.1: what is answered needs no more of its request.
    if (stream.writableFinished) stream.close(http2.constants.NGHTTP2_NO_ERROR);
    else resetStream(stream, http2.constants.NGHTTP2_CANCEL);
  }

  #end(why: string): void {
    const address = peerAddressOf(this.socket);
    this.#options.logger.debug({ event: 'slow-client', address }, `connection ended: ${why}`);
    this.cut();
  }
}

/**
 * Of the answer, since the last look. Of the write that is under way it is what it may be at most: all that the
 * connection has taken.
 */
function takenOf(exchange: Exchange, takenByAll: number): number {
  const { stream, response } = exchange;
  const taken = response.bytesWritten - stream.writableLength - exchange.taken;
  const before = exchange.partly;
  exchange.taken += taken;
  exchange.partly = taken > 0 ? 0 : Math.min(stream.writableLength, before + takenByAll);
  return Math.max(0, taken + exchange.partly - before);
}
