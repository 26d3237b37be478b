import { apacheTime } from './access-formats.ts';
import { keptFor } from './kept-text.ts';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December'],
];
const DAY_MS = 86_400_000;

/**
 * Writes times as `%{…}t` of a `LogFormat`, in UTC. Milliseconds have fractions.
 *
 * @param format `''` for `[day/month/year:hour:minute:second zone]`; `sec`, `msec`, `usec`, `msec_frac`, `usec_frac`; or
 * letters of strftime(3), as `%Y-%m-%d`.
 */
export function apacheClock(format: string): (ms: number) => string {
  switch (format) {
    case '':
      return keptFor(1_000, ms => `[${apacheTime(ms)}]`);
    case 'sec':
      return ms => String(Math.floor(ms / 1_000));
    case 'msec':
      return ms => String(Math.floor(ms));
    case 'usec':
      return ms => String(Math.floor(ms * 1_000));
    case 'msec_frac':
      return ms => padded(Math.floor(ms) % 1_000, 3);
    case 'usec_frac':
      return ms => padded(Math.floor(ms * 1_000) % 1_000_000, 6);
    default:
      return keptFor(1_000, ms => {
        const date = new Date(ms);
        return format.replaceAll(/%([\s\S])/g, (_, letter) => LETTERS[letter]?.(date) ?? letter);
      });
  }
}

function padded(value: number, length = 2, fill = '0'): string {
  return String(value).padStart(length, fill);
}

function of(format: string): (date: Date) => string {
  return date => format.replaceAll(/%([\s\S])/g, (_, letter) => LETTERS[letter]!(date));
}

const hourOf12 = (date: Date) => date.getUTCHours() % 12 || 12;
const startOfYear = (date: Date) => Date.UTC(date.getUTCFullYear(), 0, 1);
const dayOfYear = (date: Date) => Math.floor((date.getTime() - startOfYear(date)) / DAY_MS);
const weekOfYear = (date: Date, firstDay: number) =>
  Math.floor((dayOfYear(date) + 7 - ((date.getUTCDay() - firstDay + 7) % 7)) / 7);

/** The Thursday of its week: it lies in the year that the week belongs to (ISO 8601). */
function thursday(date: Date): Date {
  return new Date(date.getTime() + (4 - (date.getUTCDay() || 7)) * DAY_MS);
}

/** strftime(3), as in the locale C. */
const LETTERS: Readonly<Record<string, (date: Date) => string>> = {
  a: date => DAYS[date.getUTCDay()]!.slice(0, 3),
  A: date => DAYS[date.getUTCDay()]!,
  b: date => MONTHS[date.getUTCMonth()]!.slice(0, 3),
  B: date => MONTHS[date.getUTCMonth()]!,
  c: of('%a %b %e %H:%M:%S %Y'),
  C: date => padded(Math.floor(date.getUTCFullYear() / 100)),
  d: date => padded(date.getUTCDate()),
  D: of('%m/%d/%y'),
  e: date => padded(date.getUTCDate(), 2, ' '),
  F: of('%Y-%m-%d'),
  g: date => padded(thursday(date).getUTCFullYear() % 100),
  G: date => String(thursday(date).getUTCFullYear()),
  h: of('%b'),
  H: date => padded(date.getUTCHours()),
  I: date => padded(hourOf12(date)),
  j: date => padded(dayOfYear(date) + 1, 3),
  k: date => padded(date.getUTCHours(), 2, ' '),
  l: date => padded(hourOf12(date), 2, ' '),
  m: date => padded(date.getUTCMonth() + 1),
  M: date => padded(date.getUTCMinutes()),
  n: () => '\n',
  p: date => (date.getUTCHours() < 12 ? 'AM' : 'PM'),
  P: date => (date.getUTCHours() < 12 ? 'am' : 'pm'),
  r: of('%I:%M:%S %p'),
  R: of('%H:%M'),
  s: date => String(Math.floor(date.getTime() / 1_000)),
  S: date => padded(date.getUTCSeconds()),
  t: () => '\t',
  T: of('%H:%M:%S'),
  u: date => String(date.getUTCDay() || 7),
  U: date => padded(weekOfYear(date, 0)),
  V: date => padded(Math.floor(dayOfYear(thursday(date)) / 7) + 1),
  w: date => String(date.getUTCDay()),
  W: date => padded(weekOfYear(date, 1)),
  x: of('%m/%d/%y'),
  X: of('%H:%M:%S'),
  y: date => padded(date.getUTCFullYear() % 100),
  Y: date => String(date.getUTCFullYear()),
  z: () => '+0000',
  Z: () => 'UTC',
  '%': () => '%',
};
