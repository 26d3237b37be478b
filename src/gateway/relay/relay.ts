import type { Duplex } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import type { HoldfastError } from '../../base/errors.ts';
import { type Logger, sidPrefix } from '../../base/logger.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import type { FrameLimit } from '../../policy/limits/frame-limit.ts';
import { breakOf, hasLeft, hearLastWords } from '../../websocket/last-words.ts';
import { checkClose } from '../../websocket/protocol/outgoing.ts';
import { type TimerWheel, WheelEntry } from '../../websocket/timer-wheel.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { Dialed } from './dial.ts';
import { type DirectionOptions, type DirectionOwner, RelayDirection, type RelayTraffic } from './direction.ts';
import type { RelayLimits } from './limits.ts';

export interface RelayOptions {
  readonly upstream: Upstream;
  /** The client's connection. */
  readonly socket: Duplex;
  readonly limits: RelayLimits;
  readonly wheel: TimerWheel;
  /** What the client may send. Left out: as much as it likes. */
  readonly frameLimit?: FrameLimit | undefined;
  /** Left out: it belongs to no session. */
  readonly attached?: AttachedSessions | undefined;
  /** Judges whole messages of the client before any of them is passed on. Default: none is looked into. */
  readonly inspect?: DirectionOptions['inspect'];
  /** For the log: who the client is. */
  readonly clientAddress?: string | undefined;
  /** For the log: as in `BackendExchange`. Default: the `sid` of its session. */
  readonly affinityKey?: string | undefined;
}

/** The sessions that a relayed WebSocket belongs to, as long as it lives. */
export interface AttachedSessions {
  /** Of the session that is ours; undefined when there is none. */
  readonly sid: string | undefined;
  /** What calls `touch`. `message`: messages of the client; `any`: each of its frames, pongs to our pings excepted. */
  readonly touchOnTraffic: 'message' | 'any' | 'never';
  /** Called at most once for what arrived together. */
  touch(): void;
  /** What the client is to be told of its session, with the 101 or another answer. */
  responseHeaders(): readonly HeaderLine[];
  /** It has been told. */
  markTold(): void;
}

type Side = 'client' | 'backend';

/** What a message of that side that is too big has exceeded. */
const LIMIT_NAMES = { client: 'maxMessageSize', backend: 'maxBackendMessageSize' } as const;

/** How a relay ended. */
export interface RelayEnd {
  /** The close code that began the end; 1005 for a close frame without code, 1006 when a connection was lost. */
  readonly code: number;
  readonly reason: string;
  readonly by: Side | 'gateway';
}

/** How long a side that was pinged may stay silent. */
const PONG_TIMEOUT_MS = 10_000;
/** The same for a side that was being sent something, which our ping may have to wait for on a slow line. */
const BUSY_PONG_TIMEOUT_MS = 60_000;
/** How long a side may take to answer a close frame that we sent on our own account. */
const CLOSE_TIMEOUT_MS = 2_000;
/** How long one side may take to answer the close frame of the other, which may have much to send before it. */
const RELAYED_CLOSE_TIMEOUT_MS = 30_000;
/** For how long what a client still sends is thrown away when its backend takes nothing any more. */
const UNWANTED_TIMEOUT_MS = 10_000;

/**
 * A live WebSocket between a client and a backend.
 *
 * Frames pass in both directions as they are, in order, with backpressure: a side that does not read stops the reading
 * of the other, so that a relay holds a bounded amount of bytes. Close codes and reasons are carried across. When one
 * side is lost, the other is closed with 1014 (the client) or 1001 (the backend); when that happens in the middle of a
 * frame it cannot be told anything, and its connection is cut. What a side has said before its connection broke counts:
 * its close frame is passed on. Who has sent a close frame is answered with its own code, however the other side answers
 * it. What a client still sends to a backend that takes nothing any more is thrown away until its close frame. A side that has ended its half of the TCP connection
 * without a close frame is still sent what the other says until that one has answered.
 *
 * It has one entry in the shared timer wheel, and no timer of its own: times are up to 200 ms late, never early.
 */
export class Relay extends WheelEntry implements DirectionOwner {
  readonly server: UpstreamServer;
  /** What the client sent. */
  readonly sent: Readonly<RelayTraffic>;
  /** Who the client is, where that is known. */
  readonly clientAddress: string | undefined;
  /** What the client was sent. */
  readonly received: Readonly<RelayTraffic>;
  /** Settles when both connections are gone. Never rejects. */
  readonly closed: Promise<RelayEnd>;
  readonly #client: Peer;
  readonly #backend: Peer;
  readonly #limits: RelayLimits;
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  readonly #attached: AttachedSessions | undefined;
  #touchedMessages = 0;
  readonly #logger: Logger;
  readonly #logFields: object;
  readonly #upstream: Upstream;
  #resolveClosed!: (end: RelayEnd) => void;
  #end: RelayEnd | undefined;
  // In the wheel's time.
  readonly #openedAt: number;
  #activeAt: number;
  /** Once it has begun to end. */
  #endsAt = Number.POSITIVE_INFINITY;
  /** To the backend, when it was last looked at. */
  #passedBytes = 0;

  constructor(options: RelayOptions, dialed: Dialed, early: Buffer) {
    super();
    const { socket, limits, wheel, upstream, attached, frameLimit, affinityKey: sid = attached?.sid } = options;
    this.server = dialed.server;
    this.#limits = limits;
    this.#clock = upstream.clock;
    this.#wheel = wheel;
    this.#attached = attached;
    this.#logger = upstream.logger;
    this.#upstream = upstream;
    this.clientAddress = options.clientAddress;
    this.#logFields = {
      upstream: upstream.name,
      server: dialed.server.url,
      sid: sid === undefined ? undefined : sidPrefix(sid),
    };
    this.closed = new Promise(resolve => {
      this.#resolveClosed = resolve;
    });
    const shared = { allowRsv1: dialed.extensions !== undefined, wheel };
    const { maxMessageBytes, maxBackendMessageBytes } = limits;
    const [source, target] = [socket, dialed.socket];
    const ends = { source, target, maxMessageBytes };
    const up = new RelayDirection(this, { from: 'client', ...ends, ...shared, frameLimit, inspect: options.inspect });
    const back = { source: target, target: source, maxMessageBytes: maxBackendMessageBytes };
    const down = new RelayDirection(this, { from: 'backend', ...back, ...shared, answerer: frameLimit });
    this.sent = up.traffic;
    this.received = down.traffic;
    this.#client = newPeer('client', socket, up, down);
    this.#backend = newPeer('backend', dialed.socket, down, up);
    this.#openedAt = this.#activeAt = wheel.now;
    this.#schedule();
    this.#listen(this.#client, early);
    this.#listen(this.#backend, dialed.early);
  }

  /**
   * How long each side took to answer our last ping, in milliseconds, with fractions. Undefined before the first
   * answer.
   */
  get roundTripMs(): { readonly client: number | undefined; readonly backend: number | undefined } {
    return { client: this.#client.roundTripMs, backend: this.#backend.roundTripMs };
  }

  /**
   * Closes both sides, each where its current frame ends: 1008 when the session ended, 1001 when the server drains.
   *
   * @throws {RangeError} when the code cannot be sent or the reason is longer than 123 bytes.
   */
  close(code: number, reason = ''): void {
    checkClose(code, reason);
    this.#closeBoth({ code, reason, by: 'gateway' }, code, code);
  }

  /** Cuts both connections without a close frame. */
  terminate(): void {
    this.#client.socket.destroy();
    this.#backend.socket.destroy();
  }

  onPassed(direction: RelayDirection): void {
    this.#activeAt = this.#wheel.now;
    const attached = this.#attached;
    if (direction.from !== 'client' || attached === undefined || attached.touchOnTraffic === 'never') return;
    const { messages } = direction.traffic;
    if (attached.touchOnTraffic === 'message' && messages === this.#touchedMessages) return;
    this.#touchedMessages = messages;
    attached.touch();
  }

  onPingSent(direction: RelayDirection, sequence: number): void {
    const [, target] = this.#sides(direction);
    target.lastPing = sequence;
    target.pingSentAt = this.#clock.monotonic();
  }

  onPong(direction: RelayDirection, sequence: number): void {
    const [source] = this.#sides(direction);
    // An answer to an earlier ping says nothing about the line.
    if (sequence === source.lastPing) source.roundTripMs = this.#clock.monotonic() - source.pingSentAt;
  }

  onSourceDone(direction: RelayDirection): void {
    const [source, target] = this.#sides(direction);
    const { error, closeFrame } = direction;
    const own = target.incoming.closeFrame;
    if (closeFrame) {
      this.#endWith({ ...closeFrame, by: source.side }, RELAYED_CLOSE_TIMEOUT_MS);
      if (source.side === 'backend') this.#watchLast();
    } else if (own) {
      // A broken answer to a close frame changes nothing for who has sent that.
      this.#logger.info({ ...this.#logFields, by: source.side, code: error!.code }, error!.message);
      target.outgoing.close(own.code, own.reason);
      this.#limit(CLOSE_TIMEOUT_MS);
    } else {
      const code = error!.closeCode!;
      const isTooBig = code === CloseCode.messageTooBig;
      const message = isTooBig ? error!.message.replace('maxMessageSize', LIMIT_NAMES[source.side]) : error!.message;
      this.#logViolation(source.side, message, error!);
      const end: RelayEnd = { code, reason: message, by: source.side };
      const isTooMany = error!.code === 'ERR_POLICY_RATE';
      const told = isTooBig ? this.#limitText(source.side) : isTooMany ? 'too many messages' : '';
      if (target.side === 'backend') this.#closeAfterAnswers(end, told);
      // A message of the backend that is too big would come again on the next connection: the client gets the code.
      else this.#closeBoth(end, isTooBig ? code : CloseCode.badGateway, code, told);
    }
    this.#finishHandshake(source);
  }

  onTargetDone(direction: RelayDirection): void {
    const [source, target] = this.#sides(direction);
    this.#finishHandshake(target);
    // Its own close frame is still to come, behind what nobody wants.
    if (source.side === 'client' && !direction.isSourceDone && target.incoming.closeFrame)
      this.#limit(UNWANTED_TIMEOUT_MS);
  }

  override onTimer(): void {
    if (this.#end !== undefined) {
      if (this.#wheel.now < this.#endsAt) return this.#watchLast();
      // Who has said goodbye, and got no answer, hears the own code.
      const silent = [this.#client, this.#backend].filter(({ incoming }) => !incoming.isSourceDone);
      const [last] = silent;
      const isWaiting = silent.length === 1 && !last!.incoming.isTargetDone && !last!.socket.destroyed;
      if (isWaiting && this.#end.by !== 'gateway') return void last!.socket.destroy();
      const { outgoing } = this.#client;
      if (outgoing.closeInstead === undefined || outgoing.isTargetDone || outgoing.isInsideFrame)
        return this.terminate();
      outgoing.close(outgoing.closeInstead.code, outgoing.closeInstead.reason);
      return this.#limit(CLOSE_TIMEOUT_MS);
    }
    const { now } = this.#wheel;
    if (now >= this.#activeAt + this.#limits.idleTimeoutMs) return this.close(CloseCode.goingAway, 'idle');
    if (now >= this.#lifetimeEndsAt) return this.close(CloseCode.goingAway, 'maximum lifetime reached');
    for (const peer of [this.#client, this.#backend]) {
      if (!this.#checkAlive(peer, now)) return this.#lose(peer, 'no sign of life');
    }
    this.#schedule();
  }

  get #lifetimeEndsAt(): number {
    return this.#openedAt + this.#limits.maxLifetimeMs;
  }

  #listen(peer: Peer, early: Buffer): void {
    const { socket, incoming } = peer;
    // Else Node would end the other half as soon as the peer has ended its own.
    socket.allowHalfOpen = true;
    hearLastWords(socket);
    socket.on('end', () => this.#onEnd(peer));
    socket.on('close', () => {
      incoming.leave();
      if (!incoming.isSourceDone && !peer.isHalfClosed) this.#lose(peer, 'connection lost');
      else if (incoming.isSourceDone) this.#endAfter(peer);
      this.#settleIfGone();
    });
    incoming.start(early);
  }

  /** The side has ended its half of the connection. What it is sent may still arrive. */
  #onEnd(peer: Peer): void {
    const { incoming, outgoing } = peer;
    if (incoming.isSourceDone) {
      if (incoming.isTargetDone && outgoing.isTargetDone) outgoing.endTarget();
      this.#endAfter(peer);
      return;
    }
    this.#lose(peer, breakOf(peer.socket) ? 'connection lost' : 'ended without a close frame');
  }

  /**
   * A backend that has said goodbye and ended waits for no answer to it, as after an error of the client's: neither do
   * we. What its client is still sending is thrown away.
   */
  #endAfter({ side, incoming, outgoing }: Peer): void {
    if (side !== 'backend' || !incoming.isTargetDone) return;
    incoming.endTarget();
    outgoing.waitNoMore();
  }

  /** A backend that has said goodbye, and takes nothing any more, holds its client up for no longer than that. */
  #watchLast(): void {
    const { incoming, outgoing } = this.#backend;
    const { bytes } = outgoing.traffic;
    const isStuck = incoming.closeFrame !== undefined && !outgoing.isTargetDone && this.#client.incoming.isPaused;
    if (isStuck && bytes === this.#passedBytes) outgoing.waitNoMore();
    this.#passedBytes = bytes;
    if (this.#wheel.now < this.#endsAt)
      this.#wheel.schedule(this, Math.min(CLOSE_TIMEOUT_MS, this.#endsAt - this.#wheel.now));
  }

  /** Closes one side when the other is not there any more, or has nothing more to say. */
  #lose(peer: Peer, reason: string): void {
    const other = peer === this.#client ? this.#backend : this.#client;
    if (peer.side === 'backend' && this.#end === undefined)
      this.#logger.warn(this.#logFields, `backend lost: ${reason}`);
    peer.isHalfClosed = peer.socket.readableEnded && peer.socket.writable && breakOf(peer.socket) === undefined;
    if (!peer.isHalfClosed) peer.socket.destroy();
    const own = other.incoming.closeFrame;
    if (other.outgoing.isInsideFrame) other.socket.destroy();
    // A side that has sent its close frame gets the same back, as from a peer that answered.
    else if (own) other.outgoing.close(own.code, own.reason);
    else if (other.outgoing.closeInstead) {
      const { code, reason: told } = other.outgoing.closeInstead;
      other.outgoing.close(code, told);
    } else
      other.outgoing.close(other.side === 'client' ? this.#upstream.closeCodes.lostBackend : CloseCode.goingAway, '');
    this.#endWith({ code: CloseCode.abnormal, reason, by: peer.side }, CLOSE_TIMEOUT_MS);
    this.#finishHandshake(peer);
  }

  /** Every client can break the rules as often as it likes, and that is no fault of the operator's. */
  #logViolation(by: Side, message: string, { closeCode, code }: HoldfastError): void {
    const fields = { ...this.#logFields, by, closeCode, code };
    if (by === 'backend') return this.#logger.warn(fields, message);
    // A rule of the user's has its own line; the protocol was kept.
    if (code === 'ERR_POLICY_INSPECTION') return this.#logger.info(fields, message);
    this.#upstream.clientViolated();
    this.#logger.info({ event: 'client-violation', address: this.clientAddress, ...fields }, message);
  }

  /** The reason of a 1009: short enough for a close frame. */
  #limitText(by: Side): string {
    const { maxMessageBytes, maxBackendMessageBytes } = this.#limits;
    return `message over ${by === 'client' ? maxMessageBytes : maxBackendMessageBytes} bytes (${LIMIT_NAMES[by]})`;
  }

  /** @param told The reason that both sides get. */
  #closeBoth(end: RelayEnd, clientCode: number, backendCode: number, told = end.reason): void {
    this.#client.outgoing.close(clientCode, told);
    this.#backend.outgoing.close(backendCode, told);
    this.#endWith(end, CLOSE_TIMEOUT_MS);
  }

  /**
   * Ends a relay whose client broke the rules: what the backend answers to all that came before still reaches it, and
   * then the code. So it sees what it would see without us in between.
   */
  #closeAfterAnswers(end: RelayEnd, told: string): void {
    this.#client.outgoing.closeInstead = { code: end.code, reason: told };
    this.#backend.outgoing.close(CloseCode.goingAway, '');
    this.#endWith(end, CLOSE_TIMEOUT_MS);
    // It may have said goodbye already.
    if (this.#backend.incoming.isSourceDone) this.#client.outgoing.close(end.code, told);
  }

  /**
   * Both close frames are through on one side: RFC 6455 §7.1.1, the server ends the TCP connection, the client waits
   * for it.
   */
  #finishHandshake(peer: Peer): void {
    if (!(peer.incoming.isSourceDone || peer.isHalfClosed) || !peer.outgoing.isTargetDone) return;
    if (peer.side === 'client' || peer.incoming.error || peer.socket.readableEnded) peer.outgoing.endTarget();
    this.#limit(CLOSE_TIMEOUT_MS);
  }

  /** The first cause counts. From now on there is no heartbeat, only a time after which both connections are cut. */
  #endWith(end: RelayEnd, timeoutMs: number): void {
    this.#end ??= end;
    this.#limit(timeoutMs);
  }

  #limit(ms: number): void {
    this.#endsAt = this.#wheel.now + ms;
    this.#wheel.schedule(this, ms);
  }

  #settleIfGone(): void {
    if (!this.#client.socket.closed || !this.#backend.socket.closed) return;
    this.#wheel.cancel(this);
    this.#resolveClosed(this.#end!);
  }

  #schedule(): void {
    const due = Math.min(
      this.#activeAt + this.#limits.idleTimeoutMs,
      this.#lifetimeEndsAt,
      this.#checkDueAt(this.#client),
      this.#checkDueAt(this.#backend),
    );
    this.#wheel.schedule(this, Math.max(0, due - this.#wheel.now));
  }

  #checkDueAt({ answerDueAt, askedAt, incoming }: Peer): number {
    if (incoming.isHeld) return Math.max(askedAt, incoming.heardAt) + this.#limits.heartbeatMs;
    return answerDueAt === Number.POSITIVE_INFINITY ? incoming.heardAt + this.#limits.heartbeatMs : answerDueAt;
  }

  /** Pings a side that has been silent. @returns false when it has not answered in time. */
  #checkAlive(peer: Peer, now: number): boolean {
    const { incoming, outgoing } = peer;
    // A side that is not read, because the other takes nothing, cannot show that it lives.
    // Nor can one that has sent too much; but what is written to it finds out whether its system still knows it.
    if (incoming.isHeld) {
      if (hasLeft(peer.socket)) return false;
      if (now >= this.#checkDueAt(peer)) {
        outgoing.ping();
        peer.askedAt = now;
      }
      peer.answerDueAt = Number.POSITIVE_INFINITY;
      return true;
    }
    if (incoming.isPaused) incoming.heardAt = now;
    const isAnswerDue = peer.answerDueAt !== Number.POSITIVE_INFINITY;
    if (isAnswerDue && incoming.heardAt < peer.askedAt) return now < peer.answerDueAt;
    peer.answerDueAt = Number.POSITIVE_INFINITY;
    if (now < incoming.heardAt + this.#limits.heartbeatMs) return true;
    if (!outgoing.ping()) {
      // It has yet to take what it was sent before.
      incoming.heardAt = now;
      return true;
    }
    const other = peer === this.#client ? this.#backend : this.#client;
    const wasSentTo = other.incoming.heardAt > now - this.#limits.heartbeatMs;
    peer.askedAt = now;
    peer.answerDueAt = now + (wasSentTo ? BUSY_PONG_TIMEOUT_MS : PONG_TIMEOUT_MS);
    return true;
  }

  #sides(direction: RelayDirection): [source: Peer, target: Peer] {
    return direction.from === 'client' ? [this.#client, this.#backend] : [this.#backend, this.#client];
  }
}

/** One side of a relay. */
interface Peer {
  readonly side: 'client' | 'backend';
  readonly socket: Duplex;
  /** What it sends. */
  readonly incoming: RelayDirection;
  /** What it is sent. */
  readonly outgoing: RelayDirection;
  /** It ended its half of the TCP connection without a close frame. */
  isHalfClosed: boolean;
  /**
   * When it was last pinged, and when it is lost if it has stayed silent since (`Infinity`: nothing is due), in the
   * wheel's time.
   */
  askedAt: number;
  answerDueAt: number;
  /** The number of our last ping. */
  lastPing: number;
  /** In the clock's time. */
  pingSentAt: number;
  roundTripMs: number | undefined;
}

function newPeer(side: Peer['side'], socket: Duplex, incoming: RelayDirection, outgoing: RelayDirection): Peer {
  return {
    ...{ side, socket, incoming, outgoing, isHalfClosed: false },
    ...{ askedAt: 0, answerDueAt: Number.POSITIVE_INFINITY, lastPing: 0, pingSentAt: 0, roundTripMs: undefined },
  };
}
