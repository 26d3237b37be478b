import { expect, test } from 'vitest';
import { referencePages, withTables } from '../scripts/reference.ts';

test.each(referencePages())('the tables of $path are those of the sources', ({ path, text }) => {
  expect(withTables(text) === text, `${path} is out of date: run npm run docs`).toBe(true);
});

test('every page is found and has rows', () => {
  const pages = referencePages();
  expect(pages.map(({ path }) => path).sort()).toEqual(['docs/reference/config.md', 'docs/reference/endpoint.md']);
  for (const { text } of pages) expect(text).toMatch(/^\| `\w+` .*\|$/m);
});
