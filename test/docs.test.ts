import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { documents, inStep } from '../scripts/docs.ts';
import { parseConfig } from '../src/config/parse.ts';
import { readSource } from '../src/config/source.ts';

const root = new URL('..', import.meta.url);

test.each(documents())('$path has the tables and examples of the code', ({ path, text }) => {
  expect(inStep(text) === text, `${path} is out of date: run npm run docs`).toBe(true);
});

test.each(documents())('the links of $path lead to files', ({ path, text }) => {
  const targets = [...text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].map(match => match[1]!);
  const page = new URL(path, root);
  expect(targets.filter(target => !existsSync(new URL(target, page)))).toEqual([]);
});

test('every program in README.md is a file under examples/', () => {
  const { text } = documents().find(({ path }) => path === 'README.md')!;
  const blocks = [...text.matchAll(/^```(?:ts|js|yaml)\n(.*)$/gm)].map(match => match[1]!);
  expect(blocks.length).toBeGreaterThanOrEqual(4);
  expect(blocks.filter(firstLine => !/^(\/\/|#) examples\//.test(firstLine))).toEqual([]);
});

const configurations = documents().flatMap(({ path, text }) =>
  [...text.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(match => ({ path, yaml: match[1]! })),
);

test.each(configurations)('a configuration in $path is valid', ({ path, yaml }) => {
  const { document, locate } = readSource(yaml, 'yaml', path);
  parseConfig(document, locate);
});

test('a page with a stale table or a stale example is noticed', () => {
  const stale = [
    '<!-- generated: src/config/config.ts LogConfig -->\n\n| key | value | meaning |\n\n<!-- /generated -->',
    '```yaml\n# examples/hello-gateway/holdfast.yaml\nlisten: []\n```',
  ];
  for (const page of stale) {
    expect(inStep(page)).not.toBe(page);
    expect(inStep(inStep(page))).toBe(inStep(page));
  }
});
