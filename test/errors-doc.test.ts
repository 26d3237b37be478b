import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const root = new URL('..', import.meta.url);
const source = readFileSync(new URL('src/base/errors.ts', root), 'utf8');
const page = readFileSync(new URL('docs/reference/errors.md', root), 'utf8');

const union = /export type ErrorCode =([\s\S]*?);/.exec(source)![1]!;
const codes = [...union.matchAll(/'(ERR_[A-Z0-9_]+)'/g)].map(match => match[1]!);
const entries = page.split(/^### /m).slice(1);

test('docs/reference/errors.md has exactly one heading per error code', () => {
  expect(codes.length).toBeGreaterThan(20);
  expect(entries.map(entry => entry.split('\n')[0]!).sort()).toEqual([...codes].sort());
});

test.each(entries.map(entry => [entry.split('\n')[0]!, entry] as const))(
  '%s says what it means, what a client sees, and what to do',
  (_code, entry) => {
    const [, meaning, client, remedy] = entry.split('\n').filter(line => line.trim() !== '');
    expect(meaning).toMatch(/^[A-Z].*\.$/);
    expect(client).toMatch(/^- \*\*Client sees:\*\* /);
    expect(remedy).toMatch(/^- \*\*What to do:\*\* /);
  },
);
