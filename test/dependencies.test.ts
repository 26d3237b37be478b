import { globSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { expect, test } from 'vitest';
import BUILT_IN from '../scripts/built-in.json' with { type: 'json' };

const root = new URL('..', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');
const manifest = JSON.parse(read('package.json'));
const installed = Object.keys(manifest.dependencies).sort();
const dependencies = [...installed, ...BUILT_IN].sort();

test('the dependencies are the packages that the sources import, no more and no fewer', () => {
  const imported = globSync('src/**/*.ts', { cwd: root })
    .flatMap(file => [...read(file).matchAll(/^(?:import|export)\s+(?:[^;'"()=]*?\bfrom\s*)?['"]([^'"]+)['"]/gm)])
    .map(match => match[1]!)
    .filter(specifier => !specifier.startsWith('.') && !isBuiltin(specifier))
    .map(specifier => /^(?:@[^/]+\/)?[^/]+/.exec(specifier)![0]);
  expect(dependencies).toEqual([...new Set(imported)].sort());
});

test('what is built in is installed with the sources only', () => {
  expect(Object.keys(manifest.devDependencies)).toEqual(expect.arrayContaining(BUILT_IN));
  expect(installed.filter(name => BUILT_IN.includes(name))).toEqual([]);
});

test('each dependency has its reason in docs/decisions and is named in README.md', () => {
  const reasons = [...read('docs/decisions/0005-dependencies.md').matchAll(/^\| `([^`]+)` \|/gm)].map(
    match => match[1]!,
  );
  expect(reasons.sort()).toEqual(dependencies);
  const facts = /^\| Dependencies \| (\d+) direct: (.*?)\. Built in: (.*?)\./m.exec(read('README.md'))!;
  const named = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(match => match[1]!);
  expect(facts[1]).toBe(String(installed.length));
  expect(named(facts[2]!)).toEqual(installed);
  expect(named(facts[3]!)).toEqual(BUILT_IN);
});
