/**
 * A length of time as people write it: `'250ms'`, `'30s'`, `'20m'`, `'12h'`, `'7d'`, or a number of milliseconds. `-1`
 * means never.
 */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}` | (string & {});

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Turns a duration into milliseconds; `-1` and `'-1'` become `Infinity` (never).
 *
 * @throws {TypeError} when the value is not a duration. The message says what one looks like.
 */
export function parseDuration(value: Duration): number {
  if (value === -1 || value === '-1') return Number.POSITIVE_INFINITY;
  if (typeof value === 'number') {
    if (value >= 0) return value;
  } else {
    const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(value);
    if (match) return Number(match[1]) * UNIT_MS[match[2]!]!;
  }
  throw new TypeError(
    `not a duration: ${JSON.stringify(value)}; write for example "250ms", "30s", "20m", "12h", "7d", or -1 for never`,
  );
}
