import { globSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { expect, test } from 'vitest';

const root = new URL('..', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');
const dependencies = Object.keys(JSON.parse(read('package.json')).dependencies).sort();

test('the dependencies are the packages that the sources import, no more and no fewer', () => {
  const imported = globSync('src/**/*.ts', { cwd: root })
    .flatMap(file => [...read(file).matchAll(/^(?:import|export)\s+(?:[^;'"()=]*?\bfrom\s*)?['"]([^'"]+)['"]/gm)])
    .map(match => match[1]!)
    .filter(specifier => !specifier.startsWith('.') && !isBuiltin(specifier))
    .map(specifier => /^(?:@[^/]+\/)?[^/]+/.exec(specifier)![0]);
  expect(dependencies).toEqual([...new Set(imported)].sort());
});

test('each dependency has its reason in docs/decisions and is named in README.md', () => {
  const reasons = [...read('docs/decisions/0005-dependencies.md').matchAll(/^\| `([^`]+)` \|/gm)].map(
    match => match[1]!,
  );
  expect(reasons.sort()).toEqual(dependencies);
  const facts = /^\| Dependencies \| (\d+) direct: (.*?)\./m.exec(read('README.md'))!;
  expect(facts[1]).toBe(String(dependencies.length));
  expect([...facts[2]!.matchAll(/`([^`]+)`/g)].map(match => match[1]!)).toEqual(dependencies);
});
