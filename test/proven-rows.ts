import { existsSync, readFileSync } from 'node:fs';
import { type TestTitle, testTitles } from './test-titles.ts';

/** The titles of the tests of a file below test/, without its ending; undefined where there is none. */
export type TitlesOf = (file: string) => readonly TestTitle[] | undefined;

const ENTRY = /^`([^`]+)` "(.+)"$/;
const FORM = '`session/owner` "a session > that a user opens is theirs from the beginning", with <br> between two';

/**
 * What is wrong with the rows of a page's tables, of which the last column names the tests that prove them: the file
 * below test/ without `.test.ts`, then the title, behind as many of its describes as tell it from others.
 */
export function unprovenRows(page: string, titlesOf: TitlesOf = titlesBelow(new URL('.', import.meta.url))): string[] {
  return tablesOf(page).flatMap(([head, ...rows]) =>
    head?.at(-1) === 'test'
      ? rows.flatMap(row => problems(row, head.length, titlesOf).map(problem => `${row[0]}: ${problem}`))
      : [`${head?.join(' | ')}: the last column is not "test"`],
  );
}

function problems(row: readonly string[], columns: number, titlesOf: TitlesOf): string[] {
  if (row.length !== columns) return [`has ${row.length} cells under ${columns} heads`];
  const cell = row.at(-1)!;
  if (cell === '') return [`names no test; write ${FORM}`];
  return cell.split(/ ?<br> ?/).flatMap(entry => {
    const [, file, title] = ENTRY.exec(entry) ?? [];
    if (file === undefined || title === undefined) return [`cannot read ${entry}; write ${FORM}`];
    const titles = titlesOf(file);
    if (!titles) return [`there is no test/${file}.test.ts`];
    const meant = titles.filter(path => path.some((_, start) => path.slice(start).join(' > ') === title));
    if (meant.length === 0) return [`test/${file}.test.ts has no test "${title}" that runs`];
    return meant.length === 1
      ? []
      : [`test/${file}.test.ts has ${meant.length} tests "${title}"; write the describe too`];
  });
}

/** The rows of each table, the one of its heads first. */
function tablesOf(page: string): string[][][] {
  const text = page.replace(/^```[\s\S]*?^```$/gm, '');
  return [...text.matchAll(/(?:^\|.*\n?)+/gm)].map(([table]) =>
    table
      .trim()
      .split('\n')
      .filter(line => !/^\|[-:| ]+$/.test(line))
      .map(cellsOf),
  );
}

function cellsOf(line: string): string[] {
  return line
    .trim()
    .replace(/^\||\|$/g, '')
    .split(/(?<!\\)\|/)
    .map(cell => cell.trim().replaceAll('\\|', '|'));
}

function titlesBelow(folder: URL): TitlesOf {
  const known = new Map<string, readonly TestTitle[] | undefined>();
  return file => {
    if (!known.has(file)) {
      const path = new URL(`${file}.test.ts`, folder);
      known.set(file, existsSync(path) ? testTitles(readFileSync(path, 'utf8')) : undefined);
    }
    return known.get(file);
  };
}
