import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/config/config-error.ts';
import { findConfig } from '../../src/config/load.ts';
import { loadConfig } from './load-config.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-config-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

async function failure(file: string): Promise<ConfigError> {
  const error = await loadConfig(file).then(
    () => expect.fail('was accepted'),
    error => error,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return error;
}

describe('loadConfig', () => {
  test.each(['holdfast.config.ts', 'holdfast.mts', 'holdfast.mjs'])('takes the default export of %s', async name => {
    const typed = name.endsWith('ts') ? 'const port: number = 0;' : 'const port = 0;';
    const config = await loadConfig(
      write(
        name,
        `${typed} export default { listen: [{ port }], routes: [{ path: '/', fetch: () => new Response('here') }] };`,
      ),
    );
    expect(config.listen).toEqual([{ port: 0 }]);
    const response = await config.routes![0]!.fetch!(new Request('http://localhost/'), {} as never);
    expect(await response.text()).toBe('here');
  });

  test('passes a live store on with its methods, also one that has a url', async () => {
    const store = "class Store { url = new URL('redis://localhost'); commit() {} }";
    const { session } = await loadConfig(
      write('a.mjs', `${store} export default { session: { store: new Store() } };`),
    );
    expect(session).toMatchObject({ store: { commit: expect.any(Function) } });
  });

  test('says so when a module has no default export', async () => {
    const error = await failure(write('a.ts', 'export const config = {};'));
    expect(error.code).toBe('ERR_CONFIG_INVALID');
    expect(error.message).toMatch(/has no default export; write "export default defineConfig/);
  });

  test('names the file of a module that throws, and keeps the cause', async () => {
    const file = write('a.mjs', 'throw new RangeError("no such thing");');
    const error = await failure(file);
    expect(error.message).toMatch(/a\.mjs: cannot be loaded: no such thing \(\/.*a\.mjs:1\)$/);
    expect(error.cause).toMatchObject({ message: 'no such thing' });
  });

  test('names the file in the problems of a module', async () => {
    const error = await failure(write('a.mjs', 'export default { sesion: {} };'));
    expect(error.message).toMatch(
      /a\.mjs: sesion: unknown key "sesion" in the configuration; did you mean "session"\?$/,
    );
  });

  test('gives line and column of a problem in YAML', async () => {
    const error = await failure(write('a.yaml', 'listen:\n  - port: eighty\n'));
    expect(error.problems).toMatchObject([{ path: 'listen[0].port', line: 2, column: 11 }]);
  });

  test('refuses a file that is not there with ERR_CONFIG_NOT_FOUND', async () => {
    const error = await failure(join(folder, 'holdfast.yaml'));
    expect(error.code).toBe('ERR_CONFIG_NOT_FOUND');
    expect(error.message).toMatch(/holdfast\.yaml: there is no such file/);
  });

  test('refuses an extension that it does not know', async () => {
    const error = await failure(write('holdfast.toml', ''));
    expect(error.message).toMatch(/its name ends in \.yaml/);
  });
});

describe('findConfig', () => {
  test('prefers TypeScript over YAML over JSON', () => {
    write('holdfast.json', '{}');
    expect(findConfig(folder)).toBe(join(folder, 'holdfast.json'));
    write('holdfast.yaml', '');
    expect(findConfig(folder)).toBe(join(folder, 'holdfast.yaml'));
    write('holdfast.config.ts', '');
    expect(findConfig(folder)).toBe(join(folder, 'holdfast.config.ts'));
  });

  test('names the files it looked for when there is none', () => {
    expect(() => findConfig(folder)).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG_NOT_FOUND',
        message: expect.stringContaining('holdfast.config.ts, holdfast.yaml, holdfast.yml, holdfast.json'),
      }),
    );
  });
});
