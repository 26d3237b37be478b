const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Milliseconds of silence after which a session ends, where nothing else is said. */
export const DEFAULT_IDLE_MS = 30 * MINUTE;

/** @see NIST SP 800-63B-4 §2.1.3, §2.2.3, §2.3.3 (draft of 2023) */
export const LIFETIME_TIMES = {
  aal1: { idleTimeoutMs: Number.POSITIVE_INFINITY, absoluteTimeoutMs: 30 * DAY },
  aal2: { idleTimeoutMs: 30 * MINUTE, absoluteTimeoutMs: 12 * HOUR },
  aal3: { idleTimeoutMs: 15 * MINUTE, absoluteTimeoutMs: 12 * HOUR },
} as const;

/**
 * How often the profiles write that do so by time. @see IBM WebSphere, "Tuning parameter settings"
 * (uprs_rtuning_parameters)
 */
export const PROFILE_WRITE_MS = { 'very-high': 5 * MINUTE, high: 5 * MINUTE } as const;

/** What browsers keep a cookie at most: rfc6265bis §5.5. */
export const LONGEST_COOKIE_MS = 400 * DAY;

export const MIN_WRITE_MS = 100;
export const MAX_WRITE_MS = DAY;
export const MAX_SWEEP_MS = DAY;

/** May changes of sessions be written that often? */
export function isWriteTime(everyMs: number): boolean {
  return everyMs >= MIN_WRITE_MS && everyMs <= MAX_WRITE_MS;
}

/** As in WebSphere: a session must not be over before what was changed in it is written. */
export function endsBeforeWrite(idleMs: number, everyMs: number): boolean {
  return idleMs < 2 * everyMs;
}
