import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock, Timer } from '../../../base/clock.ts';
import { afterReading, RunningTime } from '../../../base/deadlines.ts';
import type { Logger } from '../../../base/logger.ts';
import { clientTermsOf } from '../../../http/client-terms.ts';
import { peerAddressOf } from '../../../http/peer.ts';
import { ClientPace, checkInterval, type PaceLimits, slowBody } from '../client-pace.ts';
import type { Newcomer } from '../newcomers.ts';
import { WireBytes } from '../wire-bytes.ts';

/** The first request of a client follows its connection at once, or never: browsers connect in advance. */
const FIRST_REQUEST_MS = 1_000;

export interface Http1ClientsOptions {
  /** Where the terms of a request say nothing else. */
  readonly pace: PaceLimits;
  /** A connection without a request for this time is ended, whatever else comes in: empty lines, for example. */
  readonly idleMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A connection and what its client may owe. */
interface Known {
  readonly socket: Socket;
  readonly wire: WireBytes;
  readonly pace: ClientPace;
  /** Until it has brought a request. */
  newcomer: Newcomer | undefined;
  /** The exchange under way. */
  request: IncomingMessage | undefined;
  response: ServerResponse | undefined;
  /** When the last look found that there was none, in the running time. */
  idleSince: number;
  hasServed: boolean;
  /** When the last look found the request answered, but its body not at its end, in the running time. */
  answeredAt: number | undefined;
  isRefused: boolean;
  taken: number;
  received: number;
}

/**
 * The connections of an HTTP/1 server, with what their clients owe: the rest of a request body, or to take what waits
 * for them.
 *
 * Looked at once a second, so that a request costs nothing for it; time in which this process could not look is not the
 * clients'. The time of a request head is Node's part.
 */
export class Http1Clients {
  readonly #options: Http1ClientsOptions;
  readonly #intervalMs: number;
  /** One for all connections: sockets live for long, and each listener of its own takes memory. */
  readonly #onClose: (this: Socket) => void;
  readonly #all = new Map<Duplex, Known>();
  readonly #time: RunningTime;
  #timer: Timer | undefined;
  #lookedAt = 0;

  constructor(options: Http1ClientsOptions) {
    this.#options = options;
    this.#intervalMs = checkInterval(options.pace);
    this.#time = new RunningTime(options.clock, 2 * this.#intervalMs);
    const leave = (socket: Socket) => this.leave(socket);
    this.#onClose = function () {
      leave(this);
    };
  }

  /** Connections that are watched. */
  get size(): number {
    return this.#all.size;
  }

  /** Watches a connection until it is closed. @param newcomer Who leaves with the first request. */
  add(socket: Socket, newcomer?: Newcomer): void {
    const now = this.#time.read();
    this.#all.set(socket, {
      ...{ socket, wire: new WireBytes(socket), pace: new ClientPace(), newcomer, idleSince: now },
      ...{ request: undefined, response: undefined, answeredAt: undefined },
      ...{ hasServed: false, isRefused: false, taken: 0, received: 0 },
    });
    socket.on('close', this.#onClose);
    if (this.#timer !== undefined) return;
    this.#lookedAt = now;
    this.#schedule();
  }

  /** Something else has taken the connection over. */
  leave(socket: Duplex): void {
    this.#all.get(socket)?.newcomer?.leave();
    this.#all.delete(socket);
    socket.off('close', this.#onClose);
    if (this.#all.size > 0) return;
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The next request of its connection is worked on from now on. */
  begin(request: IncomingMessage, response: ServerResponse): void {
    const known = this.#all.get(request.socket);
    if (!known) return;
    known.request = request;
    known.response = response;
    known.hasServed = true;
    known.newcomer?.leave();
    known.newcomer = undefined;
    known.answeredAt = undefined;
    known.isRefused = false;
    known.pace.caughtUp();
  }

  /** No connection is kept behind an answer that has not begun. */
  endAfterAnswers(): void {
    for (const { response } of this.#all.values()) if (response) response.shouldKeepAlive = false;
  }

  /** Has it brought no request so far? */
  isNew(socket: Duplex): boolean {
    return this.#all.get(socket)?.newcomer !== undefined;
  }

  /** Is there a connection that was just made, whose first request may be on its way? */
  get mayHaveSent(): boolean {
    const now = this.#time.read();
    for (const { newcomer, idleSince } of this.#all.values())
      if (newcomer !== undefined && now - idleSince < FIRST_REQUEST_MS) return true;
    return false;
  }

  /** Ends connections of these clients: one that has a request under way, after its answer. */
  endOf(hits: (address: string) => boolean): void {
    for (const known of this.#of(hits)) {
      if (isIdle(known)) known.socket.destroy();
      else if (known.response) known.response.shouldKeepAlive = false;
    }
  }

  cutOf(hits: (address: string) => boolean): void {
    end(this.#of(hits));
  }

  #of(hits: (address: string) => boolean): Known[] {
    return [...this.#all.values()].filter(({ socket }) => hits(peerAddressOf(socket)));
  }

  /** Ends connections that wait for a request, those that have waited longest first. @returns how many. */
  endIdle(limit: number): number {
    const idle = [...this.#all.values()].filter(known => known.hasServed && isIdle(known));
    return end(idle.sort((a, b) => a.idleSince - b.idleSince).slice(0, limit));
  }

  #schedule(): void {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = this.#options.clock.setTimeout(() => afterReading(this.#look), this.#intervalMs);
  }

  readonly #look = (): void => {
    const now = this.#time.read();
    const ms = now - this.#lookedAt;
    this.#lookedAt = now;
    for (const known of this.#all.values()) this.#lookAt(known, now, ms);
    if (this.#all.size > 0) this.#schedule();
  };

  #lookAt(known: Known, now: number, ms: number): void {
    const { socket, wire, request, response } = known;
    const taken = wire.taken - known.taken;
    const received = wire.received - known.received;
    known.taken += taken;
    known.received += received;
    const isAnswered = response?.writableFinished === true;
    const isWaiting = wire.waiting > 0 || socket.writableLength > 0;
    if (isAnswered && !isWaiting && request!.complete) {
      known.request = known.response = undefined;
      known.idleSince = now;
    }
    if (!isWaiting && known.request === undefined) {
      known.pace.caughtUp();
      if (known.hasServed && now - known.idleSince >= this.#options.idleMs) this.#end(known, 'no request came');
      return;
    }
    const terms = request && clientTermsOf(request);
    if (isAnswered) known.answeredAt ??= now;
    const isAwaited = terms?.isBodyAwaited === true;
    // A body that is not read may not come for ever, at whatever rate.
    if (isAnswered && !isAwaited && now - known.answeredAt! >= this.#options.pace.silenceMs)
      return this.#end(known, 'the rest of a body that nobody reads took too long');
    const isBodyOwed = request !== undefined && !request.complete && !socket.isPaused() && (isAnswered || isAwaited);
    if (!isWaiting && !isBodyOwed) return known.pace.caughtUp();
    const moved = taken + (isBodyOwed ? received : 0);
    const why = known.pace.owed(ms, moved, this.#options.pace, terms?.clientTimeoutMs);
    if (why === undefined) return;
    if (isWaiting || isAnswered || response!.headersSent || !terms?.onSlowBody || known.isRefused)
      return this.#end(known, why);
    known.isRefused = true;
    known.pace.caughtUp();
    terms.onSlowBody(slowBody(why));
  }

  #end({ socket }: Known, why: string): void {
    this.#options.logger.debug({ event: 'slow-client', address: peerAddressOf(socket) }, `connection ended: ${why}`);
    socket.destroy();
  }
}

/** Between two looks the exchange may be over already. */
function isIdle({ request, response, wire }: Known): boolean {
  return (request === undefined || (request.complete && response!.writableFinished)) && wire.waiting === 0;
}

function end(all: readonly Known[]): number {
  for (const { socket } of all) socket.destroy();
  return all.length;
}
