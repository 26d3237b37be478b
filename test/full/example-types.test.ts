import { globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { DeclaredPackage } from './declared-package.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** What an application's sessions hold is declared for a whole program, so each of these is one. */
const programs = globSync('examples/*/tsconfig.json', { cwd: root }).map(dirname).sort();

test('examples that declare what their sessions hold, and only these, have a tsconfig', () => {
  const declaring = globSync('examples/*/*.ts', { cwd: root }).filter(file =>
    readFileSync(`${root}/${file}`, 'utf8').includes("declare module 'holdfast'"),
  );
  expect(declaring.map(dirname).sort()).toEqual(programs);
  const excluded = readFileSync(`${root}/tsconfig.json`, 'utf8').match(/"examples\/[\w-]+"/g) ?? [];
  expect(excluded.map(name => JSON.parse(name)).sort()).toEqual(programs);
});

test('examples that declare what their sessions hold use it as declared', async () => {
  expect(programs.length).toBeGreaterThan(0);
  await using declared = await DeclaredPackage.emit();
  const compile = (program: string) =>
    declared.compile(basename(program), {
      extends: join(root, program, 'tsconfig.json'),
      include: [join(root, program)],
    });
  expect((await Promise.all(programs.map(compile))).join('')).toBe('');
});
