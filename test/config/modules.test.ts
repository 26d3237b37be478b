import { spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const SOURCES = new URL('../../src/', import.meta.url);

test('a module is watched with the files of the application that it imports, and none of the program', () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-modules-')));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'data.json'), '{"answer": 42}');
  writeFileSync(
    join(folder, 'mine.mjs'),
    'import data from "./data.json" with { type: "json" };\nexport default data;\n',
  );
  const main = join(folder, 'main.mjs');
  writeFileSync(
    main,
    `import ${JSON.stringify(new URL('index.ts', SOURCES).href)};\nimport mine from "./mine.mjs";\nexport default mine;\n`,
  );

  // A process of its own: vitest loads what tests import by other ways than Node does.
  const script = `
    import { modules } from ${JSON.stringify(new URL('config/modules.ts', SOURCES).href)};
    modules.watch();
    await import(${JSON.stringify(pathToFileURL(main).href)});
    console.log(JSON.stringify([...modules.importsOf([${JSON.stringify(main)}])].sort()));`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=holdfast-source', '--input-type=module', '--eval', script],
    { encoding: 'utf8' },
  );

  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual([join(folder, 'data.json'), join(folder, 'mine.mjs')]);
});
