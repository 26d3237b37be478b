import type { Timer } from '../../base/clock.ts';
import type { FailureReason } from './failure.ts';
import type { WatchOptions } from './probe.ts';

export interface EjectionOptions {
  /**
   * Requests in a row that a server may fail before it is taken out of service. One that takes no connection is taken
   * out at once.
   */
  readonly failures: number;
  /** How long a server is left alone the first time; doubled each time that it still fails. */
  readonly timeMs: number;
  readonly maxTimeMs: number;
}

/**
 * Takes a server out of service whose requests fail (passive check), so that an unreachable one costs the
 * connect timeout once and not for every request.
 *
 * Before it comes back it is tried by us, not by a request; while that fails it stays out, for twice as long each time.
 * The next failure after its return takes it out again at once.
 */
export class Ejection {
  readonly #options: EjectionOptions & WatchOptions;
  #failures = 0;
  /** Times in a row that it was tried or taken out without a success. */
  #level = 0;
  #isEjected = false;
  #isUnreachable = false;
  #returnsAt = 0;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: EjectionOptions & WatchOptions) {
    this.#options = options;
  }

  get isEjected(): boolean {
    return this.#isEjected;
  }

  /** True for one that let us wait: asking it again costs time, where one that refuses costs nothing. */
  get isUnreachable(): boolean {
    return this.#isUnreachable;
  }

  /** Time until it is tried again. 0 when it is in service. */
  get returnsInMs(): number {
    return this.#isEjected ? Math.max(0, this.#returnsAt - this.#options.clock.monotonic()) : 0;
  }

  /** @param isConnected False: it took no connection. */
  failed(reason: FailureReason, isConnected: boolean): void {
    // Our own limit, and no fault of the server.
    if (reason === 'busy' || this.#isClosed) return;
    this.#isUnreachable = reason === 'timeout' && !isConnected;
    this.#failures++;
    if (this.#isEjected || (isConnected && this.#failures < this.#options.failures)) return;
    this.#isEjected = true;
    this.#wait();
    this.#options.onChange(false, reason);
  }

  /** It gave an answer, whatever the answer was. */
  succeeded(): void {
    this.#failures = 0;
    this.#level = 0;
    if (this.#isEjected) this.#return();
  }

  close(): void {
    this.#isClosed = true;
    this.#options.clock.clearTimeout(this.#timer);
  }

  #wait(): void {
    const { clock, timeMs, maxTimeMs } = this.#options;
    const ms = Math.min(timeMs * 2 ** this.#level++, maxTimeMs);
    this.#returnsAt = clock.monotonic() + ms;
    this.#timer = clock.setTimeout(() => void this.#tryOut(), ms);
  }

  async #tryOut(): Promise<void> {
    const finding = await this.#options.probe();
    if (this.#isClosed || !this.#isEjected) return;
    if (finding) {
      this.#isUnreachable = finding.reason === 'timeout';
      this.#wait();
      return;
    }
    // On trial: the level stays until a request has succeeded.
    this.#failures = this.#options.failures - 1;
    this.#return();
  }

  #return(): void {
    this.#options.clock.clearTimeout(this.#timer);
    this.#isEjected = false;
    this.#isUnreachable = false;
    this.#options.onChange(true);
  }
}
