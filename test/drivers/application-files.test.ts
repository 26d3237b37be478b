import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const source = fileURLToPath(new URL('../../src/drivers/application-files.ts', import.meta.url));

// In a process of its own: what is in a stack trace depends on what loads the modules.
test('why a module cannot be loaded names its line, and none of the program, also in a folder with a space', () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'application files-')));
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  try {
    mkdirSync(join(folder, 'program/drivers'), { recursive: true });
    copyFileSync(source, join(folder, 'program/drivers/application-files.ts'));
    write('program/refuse.ts', "export function refuse(): never {\n  throw new TypeError('not a path');\n}\n");
    write('own.ts', "import { refuse } from './program/refuse.ts';\n\nrefuse();\n");
    write(
      'main.ts',
      `import { loadFailure } from './program/drivers/application-files.ts';
       await import('./own.ts').catch(error => console.log(loadFailure(error)));`,
    );
    const said = execFileSync(process.execPath, [join(folder, 'main.ts')], { encoding: 'utf8' });
    expect(said).toBe(`not a path (${join(folder, 'own.ts')}:3)\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
