import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkFiles } from '../../src/config/check-files.ts';
import { ConfigError } from '../../src/config/config-error.ts';
import { readConfig } from '../../src/config/load.ts';
import { loadConfig } from './load-config.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-environment-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function write(text: string, name = 'holdfast.yaml'): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** `line: path: message` of each problem. */
async function problemsOf(file: string): Promise<string[]> {
  const error = await loadConfig(file).then(
    () => expect.fail('was accepted'),
    error => error,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).problems.map(({ line, path, message }) => `${line}: ${path}: ${message}`);
}

describe('a variable of the environment stands in a text', () => {
  test('as a part of it, or several of them', async () => {
    vi.stubEnv('BACKEND_HOST', 'app.internal');
    vi.stubEnv('BACKEND_PORT', '3000');
    const file = write('upstreams: { app: { servers: ["http://${BACKEND_HOST}:${BACKEND_PORT}"] } }\n');
    expect((await loadConfig(file)).upstreams!.app!.servers).toEqual(['http://app.internal:3000']);
  });

  test.each([
    ['not set', undefined],
    ['empty', ''],
  ])('with a default for one that is %s', async (_, value) => {
    vi.stubEnv('STORE', value);
    const file = write('session: { store: "${STORE:-memory:}" }\n');
    expect((await loadConfig(file)).session).toMatchObject({ store: 'memory:' });
  });

  test.each(['yaml', 'json'])(
    'and is a number or a truth value where one is expected, also between quotes (%s)',
    async format => {
      vi.stubEnv('PORT', '8123');
      vi.stubEnv('EXPOSE', 'true');
      const text =
        format === 'yaml'
          ? 'listen:\n  - port: ${PORT}\n  - port: "${OTHER:-8124}"\nexposeReason: ${EXPOSE}\n'
          : '{ "listen": [{ "port": "${PORT}" }, { "port": "${OTHER:-8124}" }], "exposeReason": "${EXPOSE}" }';
      const { listen, exposeReason } = await loadConfig(write(text, `holdfast.${format}`));
      expect(listen).toEqual([{ port: 8123 }, { port: 8124 }]);
      expect(exposeReason).toBe(true);
    },
  );

  test('and stays text where text is expected, though it looks like a number', async () => {
    vi.stubEnv('USER_NAME', '12345');
    const file = write('auth:\n  staff: { type: basic, file: users, roles: { user: ["${USER_NAME}"] } }\nroutes: []\n');
    expect((await loadConfig(file)).auth!.staff).toMatchObject({ roles: { user: ['12345'] } });
  });

  test('and what follows "$${" is no variable', async () => {
    const file = write('auth: { staff: { type: basic, file: users, realm: "the $${HOME} of ${NAME:-all}" } }\n');
    expect((await loadConfig(file)).auth!.staff).toMatchObject({ realm: 'the ${HOME} of all' });
  });

  test('and in keys, and in what is left out, it is nothing', async () => {
    const file = write('x-old: "${NOT_SET}"\nupstreams: { "${APP}": { servers: ["http://127.0.0.1:1"] } }\n');
    vi.stubEnv('NOT_SET', undefined);
    expect(Object.keys((await loadConfig(file)).upstreams!)).toEqual(['${APP}']);
  });
});

describe('what is wrong with a variable is an error with its place', () => {
  test.each([
    [
      'listen: [{ port: 0 }]\nsession:\n  store: ${NOT_SET}\n',
      '3: session.store: the environment variable NOT_SET is not set; set it, or give a default: ${NOT_SET:-...}',
    ],
    [
      'session:\n  store: "${NOT SET}"\n',
      '2: session.store: "${NOT SET}" is not a variable; write ${NAME} or ${NAME:-default}, and "$${" where "${" is meant',
    ],
    [
      'session:\n  store: "${STORE"\n',
      '2: session.store: "${STORE" is not a variable; write ${NAME} or ${NAME:-default}, and "$${" where "${" is meant',
    ],
  ])('%s', async (text, problem) => {
    vi.stubEnv('NOT_SET', undefined);
    expect(await problemsOf(write(text))).toEqual([problem]);
  });

  test('and its value is not shown, which may be a secret', async () => {
    vi.stubEnv('SECRET', 'correct horse battery staple, and so on until it is longer than sixty characters');
    const problems = await problemsOf(
      write('listen:\n  - port: ${SECRET}\nheaderTimeout: ${SECRET}\nsession: { store: "${SECRET}" }\n'),
    );
    expect(problems).toHaveLength(3);
    expect(problems.join('\n')).not.toContain('horse');
    expect(problems[0]).toBe('2: listen[0].port: expected a number, got "${SECRET}"');
  });

  test('nor is it in a warning', async () => {
    vi.stubEnv('RANGE', '10.1.2.3/8');
    const { hide } = await readConfig(write('trustedProxies: ["${RANGE}"]\n'));
    expect(hide({ path: '', message: 'got "10.1.2.3/8"' }).message).toBe('got "${RANGE}"');
  });
});

test('a default that holds another variable is an error, since it would stay as it is', async () => {
  vi.stubEnv('NUM', '1');
  expect(await problemsOf(write('trustedProxies: ["${A:-${NUM}}"]\n'))).toEqual([
    expect.stringMatching(/^1: trustedProxies\[0\]: the default of \$\{A\} holds another variable/),
  ]);
});

test('the value of a variable is not in what is said of a file that it names', async () => {
  vi.stubEnv('SECRET', 's3cr3t-value');
  const { config, locate, hide } = await readConfig(
    write('listen: [{ port: 1, tls: { certificate: "a${SECRET}", key: "${SECRET}b" } }]\n'),
  );
  expect((await checkFiles(config, locate)).map(hide).map(({ message }) => message.replaceAll(folder, ''))).toEqual([
    'there is no file /a${SECRET}; create it or fix the path',
    'there is no file /${SECRET}b; create it or fix the path',
  ]);
  expect(await problemsOf(write('include: "${SECRET}.yaml"\n'))).toEqual([
    expect.stringMatching(/there is no file .*\$\{SECRET\}\.yaml/),
  ]);
});
