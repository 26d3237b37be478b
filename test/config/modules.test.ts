import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const SOURCES = new URL('../../src/', import.meta.url);
const MODULES = JSON.stringify(new URL('config/modules.ts', SOURCES).href);

function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-modules-')));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** What a process of its own prints: vitest loads what tests import by other ways than Node does. */
function printed(script: string): unknown {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=holdfast-source', '--input-type=module', '--eval', script],
    { encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

test('a module is watched with the files of the application that it imports, and none of packages or the program', () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'node_modules/other'), { recursive: true });
  const files = {
    'package.json': '{ "type": "module" }',
    'node_modules/other/package.json': '{ "type": "module", "exports": "./index.js" }',
    'node_modules/other/index.js': 'export default 1;\n',
    'data.json': '{"answer": 42}',
    'common.cjs': 'exports.answer = require("./required.cjs");\n',
    'required.cjs': 'module.exports = 42;\n',
    'mine.mjs': 'import data from "./data.json" with { type: "json" };\nexport default data;\n',
    'typescript.ts': 'import "./script.js";\nexport const answer: number = 42;\n',
    'script.js': 'import "./common.cjs";\nimport "other";\n',
    'unused.js': '',
    'main.mjs': `import ${JSON.stringify(new URL('index.ts', SOURCES).href)};\nimport "./mine.mjs";\nimport "./typescript.ts";\n`,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const main = join(folder, 'main.mjs');

  const script = `
    import { modules } from ${MODULES};
    modules.watch();
    await import(${JSON.stringify(pathToFileURL(main).href)});
    console.log(JSON.stringify([...modules.importsOf([${JSON.stringify(main)}])].sort()));`;
  expect(printed(script)).toEqual(
    ['common.cjs', 'data.json', 'mine.mjs', 'required.cjs', 'script.js', 'typescript.ts'].map(name =>
      join(folder, name),
    ),
  );
});

test('a module that waits at its top level, and keeps the process running, is given a minute', () => {
  const path = join(temporaryFolder(), 'waiting.mjs');
  writeFileSync(path, 'globalThis.isWaiting = true;\nsetInterval(() => {}, 1e9);\nawait new Promise(() => {});\n');
  const script = `
    import { mock } from 'node:test';
    import { setImmediate as turn } from 'node:timers/promises';
    import { modules } from ${MODULES};
    mock.timers.enable({ apis: ['setTimeout'] });
    const seen = [];
    modules.load(${JSON.stringify(path)}).catch(error => seen.push(error.message));
    while (!globalThis.isWaiting) await turn();
    const after = async ms => {
      mock.timers.tick(ms);
      await turn();
      return seen.length;
    };
    console.log(JSON.stringify([await after(59_999), await after(1), ...seen]));
    process.exit();`;
  expect(printed(script)).toEqual([0, 1, 'it waits at its top level, and was not there after 60 s']);
});
