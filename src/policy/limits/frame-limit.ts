import type { Clock } from '../../base/clock.ts';
import type { Rate } from '../../base/rate.ts';
import { takeTokens } from './token-bucket.ts';

/** What happens to a client that sends too much. */
export type WhenExceeded = 'wait' | 'drop' | 'close';

/** What a client may send over one WebSocket. */
export interface FrameRule {
  readonly of: 'messages' | 'bytes';
  readonly rate: Rate;
  readonly whenExceeded: WhenExceeded;
}

/** What becomes of a frame; more than 0: it is taken, and for so many milliseconds none after it. */
export type FrameVerdict = number;
export const PASS = 0;
/** The message that begins with this frame is not passed on, nor what it has cost. */
export const DROP: FrameVerdict = -1;
export const CLOSE: FrameVerdict = -2;

const CLOSE_FRAME = 8;
const PONG_FRAME = 10;
/** A fragment of as much pays by its bytes. */
const LARGE_FRAGMENT_BYTES = 1024;
/** Of a second or more, a fiftieth: no rate is missed by it, and what has arrived is not cut into single frames. */
const SHORTEST_WAIT_MS = 20;

/**
 * What one client sends over one WebSocket, held to its rates: two numbers for each.
 *
 * As messages count messages, whatever their size and the number of their frames; pings; pongs that nobody has asked
 * for; and fragments of less than 1 KiB between the first and the last of a message, which cost as much as a message.
 * Close frames cost nothing. Under `drop` whole messages are dropped and nothing else: a ping wants its answer (RFC 6455
 * §5.5.2), and a message of which a part is missing is broken; of these, too many make the client wait.
 */
export class FrameLimit {
  readonly clock: Clock;
  readonly #rules: readonly FrameRule[];
  /** When the bucket of each rule is full again. */
  readonly #fullAt: number[];
  readonly #mayDrop: boolean;
  readonly #waitsForBytes: boolean;
  /** When what is being read has arrived: the clock is asked once for all its frames. */
  #now: number;
  #pongsDue = 0;
  #isDropping = false;

  constructor(rules: readonly FrameRule[], clock: Clock) {
    this.#rules = rules;
    this.#mayDrop = rules.some(({ whenExceeded }) => whenExceeded === 'drop');
    this.#waitsForBytes = rules.some(({ of, whenExceeded }) => of === 'bytes' && whenExceeded === 'wait');
    this.clock = clock;
    this.#now = clock.monotonic();
    this.#fullAt = rules.map(() => Number.NEGATIVE_INFINITY);
  }

  /** The client was sent a ping, to which it owes a pong. */
  expectPong(): void {
    this.#pongsDue++;
  }

  /** A frame begins. `drop` says so for each data frame of the message. */
  take(opcode: number, fin: boolean, payloadLength: number): FrameVerdict {
    if (opcode === CLOSE_FRAME) return PASS;
    const isControl = opcode > CLOSE_FRAME;
    if (!isControl && opcode === 0 && this.#isDropping) return DROP;
    if (opcode === PONG_FRAME && this.#pongsDue > 0) {
      this.#pongsDue--;
      return PASS;
    }
    const isMessage = !isControl && opcode !== 0;
    if (isMessage) this.#isDropping = false;
    const isCounted = opcode !== 0 || (!fin && payloadLength < LARGE_FRAGMENT_BYTES);
    const now = this.#now;
    const before = isMessage && this.#mayDrop ? this.#fullAt.slice() : undefined;
    let verdict: FrameVerdict = PASS;
    for (let i = 0; i < this.#rules.length; i++) {
      const { of, rate, whenExceeded } = this.#rules[i]!;
      const cost = of === 'messages' ? Number(isCounted) : payloadLength;
      // Bytes that wait are counted as they arrive.
      if (cost === 0 || (of === 'bytes' && whenExceeded === 'wait')) continue;
      const taken = takeTokens(rate, this.#fullAt[i]!, now, cost);
      if (taken !== undefined) {
        this.#fullAt[i] = taken;
        continue;
      }
      if (whenExceeded === 'close') return CLOSE;
      if (whenExceeded === 'drop' && before) {
        // It costs nothing, or a flood would keep out what is within the rate.
        this.#restore(before);
        this.#isDropping = true;
        return DROP;
      }
      verdict = Math.max(verdict, this.#charge(i, cost, now));
    }
    return verdict;
  }

  /**
   * Bytes have arrived, or are read at last: called before their frames are. @returns milliseconds for which no more are
   * to be read.
   */
  takeBytes(length: number): number {
    this.#now = this.clock.monotonic();
    if (!this.#waitsForBytes) return 0;
    let wait = 0;
    for (let i = 0; i < this.#rules.length; i++) {
      const { of, whenExceeded } = this.#rules[i]!;
      if (of !== 'bytes' || whenExceeded !== 'wait') continue;
      wait = Math.max(wait, this.#charge(i, length, this.#now));
    }
    return wait;
  }

  /** @returns milliseconds until the debt is paid, if there is one. */
  #charge(i: number, cost: number, now: number): number {
    const { count, windowMs } = this.#rules[i]!.rate;
    const fullAt = Math.max(this.#fullAt[i]!, now) + (cost * windowMs) / count;
    this.#fullAt[i] = fullAt;
    const debtMs = fullAt - now - windowMs;
    return debtMs > 0 ? Math.max(SHORTEST_WAIT_MS, Math.ceil(debtMs)) : 0;
  }

  #restore(before: readonly number[]): void {
    for (const [i, fullAt] of before.entries()) this.#fullAt[i] = fullAt;
  }
}
