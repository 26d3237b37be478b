import { escapeControls } from './escape.ts';

const COLOURS: Readonly<Record<string, string>> = { debug: '90', info: '32', warn: '33', error: '31' };

/**
 * A line of the log for people: time of day, level, part, message, then the other fields as `name=value`, and the stack
 * of an error below.
 *
 * @param line One JSON object, as other destinations have it.
 */
export function prettyLine(line: string, isColoured: boolean): string {
  const { level, time, pid: _, part, msg, err, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const paint = (code: string, text: string) => (isColoured ? `\x1b[${code}m${text}\x1b[0m` : text);
  const name = String(level).toUpperCase().padEnd(5);
  const fields = Object.entries(rest).map(([key, value]) => paint('90', `${escapeControls(key)}=`) + shown(value));
  const head = [
    paint('90', timeOfDay(String(time))),
    paint(COLOURS[String(level)] ?? '0', name),
    ...(typeof part === 'string' ? [paint('36', part)] : []),
    escapeControls(String(msg ?? '')),
    ...fields,
  ].join(' ');
  return `${head}\n${errorLines(err)}`;
}

function timeOfDay(time: string): string {
  const date = new Date(time);
  const two = (value: number) => String(value).padStart(2, '0');
  const ms = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

function shown(value: unknown): string {
  if (typeof value !== 'string') return escapeControls(JSON.stringify(value) ?? String(value));
  return /^[^\s"=]+$/.test(value) ? escapeControls(value) : escapeControls(JSON.stringify(value));
}

function errorLines(error: unknown): string {
  if (error === undefined) return '';
  const { stack } = (typeof error === 'object' && error !== null ? error : {}) as { stack?: unknown };
  const text = typeof stack === 'string' ? stack : (JSON.stringify(error) ?? '');
  return text
    .split('\n')
    .map(part => `    ${escapeControls(part.trim())}\n`)
    .join('');
}
