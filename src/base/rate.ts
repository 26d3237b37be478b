import { parseDuration } from './duration.ts';
import { parseSize } from './size.ts';

/**
 * So many in a time: `'20/s'`, `'600/m'`, `'1000/10m'`. All of them may come at once; they are given back evenly over
 * that time, of whole seconds. `-1` means no limit.
 */
export type RateText = -1 | `${number}/${string}` | (string & {});

/** The same in bytes: `'256KiB/s'`, `'10MiB/m'`. */
export type ByteRateText = RateText;

/** What can come at once, and the time in which it is given back. */
export interface Rate {
  /** At least 1. */
  readonly count: number;
  /** Whole seconds. */
  readonly windowMs: number;
}

const EXAMPLES = 'write for example "20/s", "600/m", "1000/10m", or -1 for no limit';
const BYTE_EXAMPLES = 'write for example "256KiB/s", "10MiB/m", or -1 for no limit';

/**
 * @returns undefined for -1.
 * @throws {TypeError} when the value is not a rate. The message says what one looks like.
 */
export function parseRate(value: RateText): Rate | undefined {
  return read(value, text => (/^\d+$/.test(text) ? Number(text) : Number.NaN), EXAMPLES);
}

/**
 * @returns undefined for -1.
 * @throws {TypeError} when the value is not a rate of bytes. The message says what one looks like.
 */
export function parseByteRate(value: ByteRateText): Rate | undefined {
  return read(value, parseSize, BYTE_EXAMPLES);
}

function read(value: unknown, parseCount: (text: string) => number, examples: string): Rate | undefined {
  if (value === -1 || value === '-1') return undefined;
  const [, amount, time] = (typeof value === 'string' && /^([^/\s]+)\s*\/\s*([^/\s]+)$/.exec(value)) || [];
  if (amount !== undefined && time !== undefined) {
    const count = quietly(() => parseCount(amount));
    const windowMs = quietly(() => parseDuration(/^\d/.test(time) ? time : `1${time}`));
    const isWhole = Number.isSafeInteger(count) && count >= 1 && windowMs >= 1_000 && windowMs % 1_000 === 0;
    if (isWhole && windowMs !== Number.POSITIVE_INFINITY) return { count, windowMs };
  }
  throw new TypeError(`not a rate: ${JSON.stringify(value)}; ${examples} (a count of at least 1, whole seconds)`);
}

function quietly(parse: () => number): number {
  try {
    return parse();
  } catch {
    return Number.NaN;
  }
}
