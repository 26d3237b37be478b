import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

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
  const outputs = await Promise.all(
    programs.map(
      program =>
        new Promise<string>(resolve => {
          const parameters = ['-p', program, '--pretty', 'false', '--checkers', '1'];
          execFile('node_modules/.bin/tsc', parameters, { cwd: root }, (error, stdout, stderr) =>
            // What is wrong elsewhere is for the check of the whole repository to tell.
            resolve(error && !stdout ? stderr : stdout.replace(/^(?!examples\/).*\n/gm, '')),
          );
        }),
    ),
  );
  expect(outputs.join('')).toBe('');
});
