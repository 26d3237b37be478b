import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkConfig } from '../../src/config/check.ts';
import { ConfigError, formatProblem } from '../../src/config/config-error.ts';
import { readConfig } from '../../src/config/load.ts';

// Each file: a configuration, a line of dashes, and the normalised JSON or the problems; after JSON another line of
// dashes and the warnings, if any. `name.yaml.txt` is read as YAML. UPDATE_GOLDEN=1 writes what came out: read the
// difference before you commit it.
const golden = new URL('golden/', import.meta.url);
const dashes = '----------';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-golden-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function outcome(input: string, extension: string): Promise<string> {
  const file = join(folder, `holdfast${extension}`);
  writeFileSync(file, input);
  const shown = relative(process.cwd(), file);
  const plain = (text: string) => text.replaceAll(shown, `holdfast${extension}`).replaceAll(folder, '/etc/holdfast');
  try {
    const { config, locate } = await readConfig(file);
    const warnings = checkConfig(config, locate).map(formatProblem);
    return plain([JSON.stringify(config, null, 2), ...(warnings.length ? [dashes, ...warnings] : [])].join('\n'));
  } catch (error) {
    if (error instanceof ConfigError) return plain(error.problems.map(formatProblem).join('\n'));
    throw error;
  }
}

describe('a configuration file', () => {
  for (const name of readdirSync(golden).sort()) {
    test(name.replace('.txt', ''), async () => {
      const url = new URL(name, golden);
      const [input = '', ...expected] = readFileSync(url, 'utf8').split(`\n${dashes}\n`);
      const extension = /\.\w+(?=\.txt$)/.exec(name)![0];
      const actual = await outcome(`${input}\n`, extension);
      if (process.env.UPDATE_GOLDEN) writeFileSync(url, `${input}\n${dashes}\n${actual}\n`);
      else expect(actual).toBe(expected.join(`\n${dashes}\n`).trimEnd());
    });
  }
});
