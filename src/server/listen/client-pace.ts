import { type Refusal, refuse } from '../../http/refusal.ts';

/** What a client that owes something is held to. */
export interface PaceLimits {
  /** Time without a byte. `Infinity`: neither this nor the rate counts. */
  readonly silenceMs: number;
  /** Bytes a second, on average; 0: any. */
  readonly bytesPerSecond: number;
}

/** How often clients are looked at, at the longest. Their times are late by as much. */
const CHECK_INTERVAL_MS = 1_000;
/** The time that a client has before its rate counts, for slow starts. */
const GRACE_MS = 20_000;

/**
 * Does a client keep up: does it send what it owes, or take what waits for it?
 *
 * Only time in which it owes something counts. Of that it has 20 s, and more with every byte; what it has earned is
 * never more than the
 * silence that is borne anyway, so that a quick start does not pay for hours of trickling.
 */
export class ClientPace {
  #silentMs = 0;
  #creditMs = GRACE_MS;

  /**
   * It has owed something for this time, in which these bytes have moved.
   *
   * @param silenceMs In the place of that of the limits.
   * @returns why it is too slow.
   */
  owed(ms: number, bytes: number, limits: PaceLimits, silenceMs = limits.silenceMs): string | undefined {
    const { bytesPerSecond } = limits;
    if (silenceMs === Number.POSITIVE_INFINITY) return undefined;
    this.#silentMs = bytes > 0 ? 0 : this.#silentMs + ms;
    if (this.#silentMs >= silenceMs) return `nothing moved within ${silenceMs} ms`;
    if (bytesPerSecond === 0) return undefined;
    const earnedMs = (bytes * 1_000) / bytesPerSecond;
    this.#creditMs = Math.min(Math.max(GRACE_MS, silenceMs), this.#creditMs + earnedMs - ms);
    return this.#creditMs > 0 ? undefined : `less than ${bytesPerSecond} bytes a second moved`;
  }

  /** It owes nothing: what comes next begins anew. */
  caughtUp(): void {
    this.#silentMs = 0;
    this.#creditMs = Math.max(GRACE_MS, this.#creditMs);
  }
}

export function slowBody(why: string): Refusal {
  const reason = `the rest of the body did not come: ${why}`;
  // What is still to come is not waited for, and nothing else can come behind it.
  return refuse(408, 'ERR_HTTP_BODY_TIMEOUT', reason, { headers: { Connection: 'close' } });
}

/** How often clients that are held to this are looked at, in milliseconds. */
export function checkInterval({ silenceMs }: PaceLimits): number {
  return Math.min(CHECK_INTERVAL_MS, Math.max(10, silenceMs / 4));
}
