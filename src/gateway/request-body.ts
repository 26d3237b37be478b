import type { IncomingMessage } from 'node:http';
import type { Clock, Timer } from '../base/clock.ts';
import { type Refusal, refuse } from '../http/refusal.ts';

/** What a client may do to us while it sends a body. */
export interface BodyLimits {
  readonly maxBodyBytes: number;
  /** Silence of a client whose body we are waiting for. */
  readonly clientTimeoutMs: number;
}

/** What Node's parser has made sure of: a length is a number, and there are not two. */
export type BodyKind = 'none' | 'sized' | 'chunked';

export function bodyKind({ headers }: IncomingMessage): BodyKind {
  if (headers['transfer-encoding'] !== undefined) return 'chunked';
  const length = headers['content-length'];
  return length === undefined || Number(length) === 0 ? 'none' : 'sized';
}

/** @returns 413 for a body that is announced larger than it may be. */
export function refuseAnnouncedBody({ headers }: IncomingMessage, { maxBodyBytes }: BodyLimits): Refusal | undefined {
  return Number(headers['content-length'] ?? 0) > maxBodyBytes ? tooLarge(maxBodyBytes) : undefined;
}

/**
 * Watches a request body that somebody reads, until its end: how large it is, and whether the client still sends.
 *
 * The time in which nobody reads it, because the reader is slower, is not the client's.
 */
export class BodyWatch {
  readonly #request: IncomingMessage;
  readonly #limits: BodyLimits;
  readonly #clock: Clock;
  readonly #onBroken: (refusal: Refusal) => void;
  #bytes = 0;
  #lastAt: number;
  #timer: Timer | undefined;

  /** @param onBroken Called at most once: 413 or 408. */
  constructor(request: IncomingMessage, limits: BodyLimits, clock: Clock, onBroken: (refusal: Refusal) => void) {
    this.#request = request;
    this.#limits = limits;
    this.#clock = clock;
    this.#onBroken = onBroken;
    this.#lastAt = clock.monotonic();
    request.on('data', this.#onData);
    request.on('end', this.#stop);
    request.on('close', this.#stop);
  }

  /** From now on the client is expected to send: it has no 100 to wait for. */
  expect(): void {
    if (this.#timer !== undefined || this.#limits.clientTimeoutMs === Number.POSITIVE_INFINITY) return;
    this.#request.on('resume', this.#touch);
    this.#touch();
    this.#timer = this.#clock.setTimeout(this.#check, this.#limits.clientTimeoutMs);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#touch();
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limits.maxBodyBytes) this.#break(tooLarge(this.#limits.maxBodyBytes));
  };

  readonly #touch = (): void => {
    this.#lastAt = this.#clock.monotonic();
  };

  readonly #check = (): void => {
    const { clientTimeoutMs } = this.#limits;
    if (this.#request.isPaused()) this.#touch();
    const remainingMs = this.#lastAt + clientTimeoutMs - this.#clock.monotonic();
    if (remainingMs > 0) this.#timer = this.#clock.setTimeout(this.#check, remainingMs);
    else this.#break(stalled(clientTimeoutMs));
  };

  #break(refusal: Refusal): void {
    this.#stop();
    this.#onBroken(refusal);
  }

  readonly #stop = (): void => {
    this.#clock.clearTimeout(this.#timer);
    this.#request.off('data', this.#onData);
    this.#request.off('end', this.#stop);
    this.#request.off('close', this.#stop);
    this.#request.off('resume', this.#touch);
  };
}

function tooLarge(maxBodyBytes: number): Refusal {
  const reason = `the body has more than ${maxBodyBytes} bytes; raise maxBodySize of the upstream or send less`;
  return refuse(413, 'ERR_HTTP_BODY_TOO_LARGE', reason, { headers: { Connection: 'close' } });
}

function stalled(ms: number): Refusal {
  const reason = `nothing came of the rest of the body within ${ms} ms`;
  return refuse(408, 'ERR_HTTP_BODY_TIMEOUT', reason, { headers: { Connection: 'close' } });
}
