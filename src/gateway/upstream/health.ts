import type { Timer } from '../../base/clock.ts';
import type { Finding, WatchOptions } from './probe.ts';

export interface HealthOptions {
  readonly intervalMs: number;
  /** Checks in a row that must fail before the server is out of service. */
  readonly unhealthyAfter: number;
  /** Checks in a row that must succeed before it is back. */
  readonly healthyAfter: number;
}

/** Asks a server again and again how it is (active check). Until the first answer it counts as healthy. */
export class HealthCheck {
  readonly #options: HealthOptions & WatchOptions;
  #isHealthy = true;
  /** Checks in a row that said otherwise. */
  #against = 0;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: HealthOptions & WatchOptions) {
    this.#options = options;
  }

  get isHealthy(): boolean {
    return this.#isHealthy;
  }

  /** The first check is made at once. */
  start(): void {
    void this.#tick();
  }

  close(): void {
    this.#isClosed = true;
    this.#options.clock.clearTimeout(this.#timer);
  }

  async #tick(): Promise<void> {
    const { clock, intervalMs, probe } = this.#options;
    const finding = await probe();
    if (this.#isClosed) return;
    // One that we could not make says nothing of the server.
    if (finding?.reason !== 'busy') this.#judge(finding);
    this.#timer = clock.setTimeout(() => void this.#tick(), intervalMs);
  }

  #judge(finding: Finding): void {
    const { healthyAfter, unhealthyAfter, onChange } = this.#options;
    const isWell = finding === undefined;
    this.#against = isWell === this.#isHealthy ? 0 : this.#against + 1;
    if (this.#against < (isWell ? healthyAfter : unhealthyAfter) || this.#against === 0) return;
    this.#against = 0;
    this.#isHealthy = isWell;
    onChange(isWell, finding && `${finding.reason}: ${finding.error}`);
  }
}
