/** A column of a table for people. */
export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string | number | undefined;
  /** Numbers stand at the right. */
  readonly isNumber?: true;
  /** What is longer is cut. Default 40. */
  readonly width?: number;
}

const USUAL_WIDTH = 40;

/** Rows under their titles, in columns that are as wide as they need to be. Nothing in it can work on a terminal. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = rows.map(row =>
    columns.map(({ value, width = USUAL_WIDTH }) => cut(printable(value(row) ?? '-'), width)),
  );
  const titles = columns.map(({ title }) => title);
  const widths = columns.map((_, i) => Math.max(...[titles, ...cells].map(line => line[i]!.length)));
  const lineOf = (line: readonly string[]) =>
    line
      .map((cell, i) => (columns[i]!.isNumber ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [titles, ...cells].map(line => `${lineOf(line)}\n`).join('');
}

/** Names and values, one on each line. */
export function facts(pairs: readonly (readonly [name: string, value: string | number | undefined])[]): string {
  const given = pairs.filter(([, value]) => value !== undefined);
  const width = Math.max(0, ...given.map(([name]) => name.length));
  return given.map(([name, value]) => `${name.padEnd(width)}  ${printable(value!)}\n`).join('');
}

/** Names of users and of topics come from the network: none of them may move the cursor or end a line. */
export function printable(value: string | number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return String(value).replaceAll(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, '?');
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

/** `2026-11-29 10:30:00`, UTC. */
export function time(at: number | undefined): string | undefined {
  return at === undefined ? undefined : new Date(at).toISOString().slice(0, 19).replace('T', ' ');
}

const UNITS: readonly (readonly [ms: number, unit: string])[] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1_000, 's'],
];

/** How long, in its two largest units: `2 d 3 h`. */
export function span(ms: number | undefined): string | undefined {
  if (ms === undefined) return undefined;
  const parts: string[] = [];
  let rest = Math.max(0, ms);
  for (const [size, unit] of UNITS) {
    const count = Math.floor(rest / size);
    if (count > 0) parts.push(`${count} ${unit}`);
    if (count > 0 || parts.length > 0) rest -= count * size;
    if (parts.length === 2) break;
  }
  return parts.length === 0 ? '0 s' : parts.join(' ');
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.5 MiB`. */
export function byteText(bytes: number | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < BYTE_UNITS.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}
