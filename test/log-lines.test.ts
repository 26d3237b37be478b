import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/** The fields of a line: the first argument of a call of a logger. */
const CALL = /\b\w*log(?:ger)?(?:\.(?:debug|info|warn|error)|\[\w+\])\(\s*(\{[^}]*\})/gi;
/** Where a line or an entry of the access log gets its name. */
const EVENT = /\bevent: '([^']*)'|\bwrite\('([^'\\ ]+)', entry\)|\bLINES_DROPPED = '([^']*)'/g;

/** One line for each error under another name than `err`, and for each event that is not in kebab-case. */
function faults(source: string): string[] {
  const fields = [...source.matchAll(CALL)].map(match => match[1]!);
  const events = [...source.matchAll(EVENT)].map(match => match[1] ?? match[2] ?? match[3]!);
  return [
    ...fields.filter(text => /[{,]\s*error\s*[:,}]/.test(text)),
    ...events.filter(event => !/^[a-z]+(-[a-z]+)*$/.test(event)),
  ];
}

test('a log line has its error as err and its event in kebab-case', () => {
  const root = new URL('..', import.meta.url);
  const sources = globSync('src/**/*.ts', { cwd: root }).map(file => ({
    file,
    source: readFileSync(new URL(file, root), 'utf8'),
  }));
  const calls = sources.flatMap(({ source }) => [...source.matchAll(CALL)]);
  expect(calls.length).toBeGreaterThan(50);
  expect(sources.flatMap(({ file, source }) => faults(source).map(fault => `${file}: ${fault}`))).toEqual([]);
});

test.each([
  ['an error under its own name', "this.#parts.logger.error({ error, id }, 'failed')", '{ error, id }'],
  [
    'an error under the name error',
    "logger.warn(\n  { upstream, error: cause },\n  'x')",
    '{ upstream, error: cause }',
  ],
  ['an event in snake_case', "logger[level]({ event: 'slow_client' }, 'x')", 'slow_client'],
  ['an event in camelCase', "{ event: 'slowClient' }", 'slowClient'],
  ['an entry of the access log in snake_case', "write('socket_opened', entry)", 'socket_opened'],
])('%s in a log line is found', (_, source, fault) => {
  expect(faults(source)).toEqual([fault]);
});

test('an error as err and an event in kebab-case pass as a log line', () => {
  expect(faults("logger.error({ err: error, event: 'slow-client' }, 'x'); write('request', entry)")).toEqual([]);
});
