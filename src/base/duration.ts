/**
 * A length of time as people write it: `'250ms'`, `'30s'`, `'20m'`, `'12h'`, `'7d'`, or a number of milliseconds. `-1`
 * means never.
 */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}` | (string & {});

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** 273 years: added to the time of day it is a date, whoever keeps it. */
const LONGEST_MS = 100_000 * UNIT_MS.d!;

/**
 * Turns a duration into milliseconds; `-1` and `'-1'` become `Infinity` (never).
 *
 * @throws {TypeError} when the value is not a duration. The message says what one looks like.
 */
export function parseDuration(value: Duration): number {
  if (value === -1 || value === '-1' || value === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
  const ms = millisecondsOf(value);
  if (ms > LONGEST_MS)
    throw new TypeError(`${JSON.stringify(value)} is too long a duration: more than 100000d; write -1 for never`);
  if (ms >= 0) return ms;
  throw new TypeError(
    `not a duration: ${JSON.stringify(value)}; write for example "250ms", "30s", "20m", "12h", "7d", or -1 for never`,
  );
}

/** `NaN` when it is none. */
function millisecondsOf(value: unknown): number {
  if (typeof value === 'number') return value;
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(value) : null;
  return match ? Number(match[1]) * UNIT_MS[match[2]!]! : Number.NaN;
}
