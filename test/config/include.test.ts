import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/config/config-error.ts';
import { readConfig } from '../../src/config/load.ts';
import { loadConfig } from './load-config.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-include-'));
  mkdirSync(join(folder, 'conf.d'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

const route = (path: string) => `routes: [{ path: ${path}, upstream: app }]\n`;

/** `file:line: path: message` of each problem. */
async function problemsOf(file: string): Promise<string[]> {
  const error = await loadConfig(file).then(
    () => expect.fail('was accepted'),
    error => error,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).problems.map(
    ({ file: of, line, path, message }) => `${basename(of!)}:${line}: ${path}: ${message}`,
  );
}

describe('a configuration may stand in several files', () => {
  test('whose lists come behind each other, by the bytes of their names, and whose keys beside each other', async () => {
    const main = write(
      'holdfast.yaml',
      `include: conf.d/*.yaml\n${route('/first')}upstreams: { app: { servers: [http://127.0.0.1:1] } }\n`,
    );
    write('conf.d/b.yaml', route('/third'));
    write('conf.d/B.yaml', `${route('/second')}upstreams: { other: { servers: [http://127.0.0.1:2] } }\n`);
    write('conf.d/10.json', '{ "listen": [{ "port": 0 }] }');
    const { routes, upstreams, listen } = await loadConfig(main);
    expect(routes!.map(({ path }) => path)).toEqual(['/first', '/second', '/third']);
    expect(Object.keys(upstreams!)).toEqual(['app', 'other']);
    expect(listen).toBeUndefined();
  });

  test('as a list of files and globs, of files that include others, each once', async () => {
    const main = write('holdfast.yaml', 'include: [conf.d/a.yaml, conf.d/*.yaml, "none/*.yaml"]\n');
    write('conf.d/a.yaml', `include: ../upstreams.json\n${route('/a')}`);
    write('conf.d/b.yaml', route('/b'));
    write('upstreams.json', '{ "upstreams": { "app": { "servers": ["http://127.0.0.1:1"] } } }');
    const { routes, upstreams } = await loadConfig(main);
    expect(routes!.map(({ path }) => path)).toEqual(['/a', '/b']);
    expect(Object.keys(upstreams!)).toEqual(['app']);
  });

  test('and paths in each are relative to it', async () => {
    const main = write('holdfast.yaml', 'include: conf.d/auth.yaml\nauth: { staff: { type: basic, file: users } }\n');
    write('conf.d/auth.yaml', 'auth: { guests: { type: basic, file: guests } }\n');
    const { auth, dataFolder } = await loadConfig(main);
    expect(auth).toMatchObject({
      staff: { file: join(folder, 'users') },
      guests: { file: join(folder, 'conf.d/guests') },
    });
    expect(dataFolder).toBe(join(folder, '.holdfast'));
  });

  test('and a value has its place in the file where it stands', async () => {
    const main = write(
      'holdfast.yaml',
      `include: conf.d/*.yaml\n\n\n${route('/first')}upstreams: { app: { servers: [http://127.0.0.1:1] } }\n`,
    );
    write('conf.d/a.yaml', `\n${route('/second')}`);
    const { locate } = await readConfig(main);
    const places = [
      ['routes', 0, 'path'],
      ['routes', 1, 'path'],
      ['upstreams', 'app'],
    ].map(path => locate(path));
    expect(places.map(({ file, line }) => `${basename(file!)}:${line}`)).toEqual([
      'holdfast.yaml:4',
      'a.yaml:2',
      'holdfast.yaml:5',
    ]);
  });

  test('and each file has its own anchors', async () => {
    const main = write(
      'holdfast.yaml',
      `include: conf.d/a.yaml\nx-all: &all { path: /a, upstream: app }\nroutes: [*all]\n`,
    );
    write('conf.d/a.yaml', `x-all: &all { servers: [http://127.0.0.1:1] }\nupstreams: { app: *all }\n`);
    expect(await loadConfig(main)).toMatchObject({
      routes: [{ path: '/a' }],
      upstreams: { app: { servers: ['http://127.0.0.1:1'] } },
    });
  });

  test('with variables of the environment in each', async () => {
    const main = write('holdfast.yaml', `include: "\${NOWHERE:-conf.d}/*.yaml"\nlisten: [{ port: 0 }]\n`);
    write('conf.d/a.yaml', 'listen: [{ port: "${NO_PORT:-8001}" }, { port: "${NO_PORT:-8002}" }]\n');
    expect((await loadConfig(main)).listen).toEqual([{ port: 0 }, { port: 8001 }, { port: 8002 }]);
  });
});

describe('what is wrong between files is an error with its place', () => {
  test.each([
    [
      'upstreams: { app: { servers: [http://127.0.0.1:2] } }\n',
      'a.yaml:1: upstreams.app: stands in FOLDER/holdfast.yaml:2, too; keep one of the two',
    ],
    ['dataFolder: other\n', 'a.yaml:1: dataFolder: stands in FOLDER/holdfast.yaml:3, too; keep one of the two'],
    ['include: ../holdfast.yaml\n', 'a.yaml:1: include: FOLDER/holdfast.yaml includes itself'],
    ['include: a.yaml\n', 'a.yaml:1: include: FOLDER/conf.d/a.yaml includes itself'],
    ['- 1\n', 'a.yaml:1: : expected keys and values'],
    [
      'include: [b.yaml, none.yaml]\n',
      'a.yaml:1: include[0]: there is no file FOLDER/conf.d/b.yaml; correct the name, or write a glob, which may match nothing',
    ],
    [
      'include: ../users.txt\n',
      'a.yaml:1: include: FOLDER/users.txt is none of .yaml, .yml, .json; name what is to be included',
    ],
    ['include: { a: 1 }\n', 'a.yaml:1: include: expected the name of a file, or a glob such as "conf.d/*.yaml"'],
    ['include: folder.yaml\n', 'folder.yaml:undefined: : is not a file; name one'],
    ['sesion: {}\n', 'a.yaml:1: sesion: unknown key "sesion" in the configuration; did you mean "session"?'],
    [
      'routes: [{ path: /a, upstream: ap }]\n',
      'a.yaml:1: routes[0].upstream: route "/a": upstream "ap" is not defined; did you mean "app"? Else add it under "upstreams"',
    ],
  ])('%s', async (text, problem) => {
    const main = write(
      'holdfast.yaml',
      'include: conf.d/a.yaml\nupstreams: { app: { servers: [http://127.0.0.1:1] } }\ndataFolder: data\n',
    );
    write('conf.d/a.yaml', text);
    write('users.txt', '');
    mkdirSync(join(folder, 'conf.d/folder.yaml'));
    const shown = (await problemsOf(main)).map(line => line.replaceAll(/\S*holdfast-include-\w+/g, 'FOLDER'));
    expect(shown).toEqual([problem]);
  });
});

test('a file that two links lead to is read once', async () => {
  write('conf.d/a.yaml', 'session: { idleTimeout: 20m }\n');
  symlinkSync('a.yaml', join(folder, 'conf.d', 'b.yaml'));
  expect((await loadConfig(write('holdfast.yaml', 'include: conf.d/*.yaml\n'))).session).toEqual({
    idleTimeout: 1_200_000,
  });
});

test('a file that includes itself by a link is an error', async () => {
  symlinkSync('holdfast.yaml', join(folder, 'again.yaml'));
  expect(await problemsOf(write('holdfast.yaml', 'include: again.yaml\n'))).toEqual([
    expect.stringMatching(/again\.yaml includes itself$/),
  ]);
});

test('what is included is a file with text: a pipe is not waited for, nor are other encodings guessed', async () => {
  execFileSync('mkfifo', [join(folder, 'pipe.yaml')]);
  expect(await problemsOf(write('holdfast.yaml', 'include: pipe.yaml\n'))).toEqual([
    expect.stringMatching(/: is not a file; name one$/),
  ]);
  writeFileSync(join(folder, 'latin.yaml'), Buffer.from('x-a: caf\xe9\n', 'latin1'));
  expect(await problemsOf(write('holdfast.yaml', 'include: latin.yaml\n'))).toEqual([
    expect.stringMatching(/is not text in UTF-8; save it as UTF-8$/),
  ]);
  writeFileSync(join(folder, 'wide.yaml'), Buffer.from('\ufeffa: 1\n', 'utf16le'));
  expect(await problemsOf(write('holdfast.yaml', 'include: wide.yaml\n'))).toEqual([
    expect.stringMatching(/is not text in UTF-8 but in UTF-16; save it as UTF-8$/),
  ]);
});
