import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runHoldfast } from '../cli/run-holdfast.ts';
import { freePort } from '../services/free-port.ts';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-check-'));
});
afterEach(() => rmSync(cwd, { recursive: true }));

const WHERE = 'what a [code] means: holdfast check --explain CODE, or docs/reference/config-warnings.md';

const write = (name: string, text: string) => writeFileSync(join(cwd, name), text);

describe('holdfast check', () => {
  test('ends with 0 for a configuration that is fine', async () => {
    write('holdfast.yaml', 'routes: [{ path: /, redirect: /a }]\n');
    expect(await runHoldfast(['check'], { cwd })).toEqual({ code: 0, stdout: 'holdfast.yaml: ok\n', stderr: '' });
  });

  test('prints file, line, path and message of every error and ends with 1', async () => {
    write('mine.yaml', 'sesion: {}\nroutes:\n  - path: /\n    upstream: app\n');
    expect(await runHoldfast(['check', '--config', 'mine.yaml'], { cwd })).toEqual({
      code: 1,
      stdout: [
        'mine.yaml:1:1: sesion: unknown key "sesion" in the configuration; did you mean "session"?',
        'mine.yaml:4:15: routes[0].upstream: route "/": upstream "app" is not defined; add it under "upstreams" or fix the name',
        'mine.yaml: 2 errors\n',
      ].join('\n'),
      stderr: '',
    });
  });

  test('prints JSON that cannot steer a terminal, whatever the file holds', async () => {
    write('holdfast.json', JSON.stringify({ 'a\u009b2J\u2028': 1, routes: [{ path: '/', redirect: '/a' }] }));
    const { code, stdout } = await runHoldfast(['check', '--json'], { cwd });
    expect([code, JSON.parse(stdout).errors[0].path]).toEqual([1, '["a\u009b2J\u2028"]']);
    expect(stdout).toMatch(/^[\u0020-\u007e]*\n$/);
  });

  test('prints warnings and ends with 0, with --strict with 1', async () => {
    write('holdfast.json', '{ "routes": [] }');
    const stdout = `holdfast.json:1:1: warning: nothing is served: there are no routes and no endpoints [nothing-served]\nholdfast.json: 1 warning\n${WHERE}\n`;
    expect(await runHoldfast(['check'], { cwd })).toEqual({ code: 0, stdout, stderr: '' });
    expect(await runHoldfast(['check', '--strict'], { cwd })).toEqual({ code: 1, stdout, stderr: '' });
  });

  test('names line and remedy of what YAML reads as something else', async () => {
    write(
      'holdfast.yaml',
      'session:\n  cookie: { name: !env SID }\nupstreams:\n  1: { servers: [http://localhost:1] }\n  "1": { servers: [http://localhost:2] }\nroutes:\n  - { path: */foo, upstream: app }\n',
    );
    const { code, stdout } = await runHoldfast(['check'], { cwd });
    expect(code).toBe(1);
    expect(stdout.trimEnd().split('\n')).toEqual([
      expect.stringMatching(/^holdfast\.yaml:2:\d+: the tag "!env" is not understood/),
      expect.stringMatching(/^holdfast\.yaml:5:\d+: map keys must be unique: "1" is the same key as 1$/),
      expect.stringMatching(/^holdfast\.yaml:7:\d+: "\*\/foo" is read as an alias.* put quotes around/),
      'holdfast.yaml: 3 errors',
    ]);
  });

  test('leaves out the keys at the top that are for anchors, and no others', async () => {
    const start = 'x-policy: &policy { origins: [self] }\nroutes:\n';
    write('holdfast.yaml', `${start}  - { path: /, redirect: /a, policy: *policy }\n`);
    expect(await runHoldfast(['check'], { cwd })).toMatchObject({ code: 0, stdout: 'holdfast.yaml: ok\n' });
    write('holdfast.yaml', `${start}  - { path: /, redirect: /a, x-policy: *policy }\n`);
    expect(await runHoldfast(['check'], { cwd })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('holdfast.yaml:3:30: routes[0].x-policy: unknown key "x-policy"'),
    });
  });

  test('dials upstreams with --probe, and nothing without', async () => {
    const port = await freePort();
    write(
      'holdfast.yaml',
      `upstreams:\n  app:\n    servers:\n      - http://127.0.0.1:${port}\nroutes: [{ path: /*, upstream: app }]\n`,
    );
    const ok = { code: 0, stdout: 'holdfast.yaml: ok\n', stderr: '' };
    expect(await runHoldfast(['check', '--strict'], { cwd })).toEqual(ok);
    const { code, stdout } = await runHoldfast(['check', '--probe', '--strict'], { cwd });
    expect([code, stdout.split('\n')[0]]).toEqual([
      1,
      `holdfast.yaml:4:9: upstreams.app.servers[0]: warning: http://127.0.0.1:${port}: ECONNREFUSED: nothing listens there; start the backend, or correct host and port [upstream-probe]`,
    ]);
  });

  test('prints an object for programs with --json, also of a file that cannot be read', async () => {
    write('holdfast.yaml', 'routes: []\nsession:\n  idleTimeout: 20h\n');
    const { code, stdout } = await runHoldfast(['check', '--json'], { cwd });
    expect([code, JSON.parse(stdout)]).toEqual([
      0,
      {
        file: 'holdfast.yaml',
        errors: [],
        warnings: [
          expect.objectContaining({ code: 'nothing-served', path: '', line: 1 }),
          expect.objectContaining({
            code: 'idle-after-absolute',
            path: 'session.idleTimeout',
            ...{ file: 'holdfast.yaml', line: 3, column: 16 },
          }),
        ],
        accepted: [],
      },
    ]);
    write('holdfast.yaml', 'routes: *none\n');
    const broken = await runHoldfast(['check', '--json'], { cwd });
    expect(broken.code).toBe(1);
    expect(JSON.parse(broken.stdout).errors).toEqual([
      { path: '', message: expect.stringMatching(/alias/), file: 'holdfast.yaml', line: 1, column: 9 },
    ]);
  });

  test.each([
    ['throws', 'throw new Error("boom");', 'cannot be loaded: boom'],
    ['does not end', 'await new Promise(() => {});', 'cannot be loaded: it waits at its top level for something'],
    [
      'has getters that throw',
      'export default { get session() { throw new Error("boom"); } };',
      'cannot be read: boom',
    ],
  ])('prints an object also of a module that %s', async (_, text, message) => {
    write('holdfast.config.ts', text);
    const { code, stdout, stderr } = await runHoldfast(['check', '--json'], { cwd });
    expect([code, stderr]).toEqual([1, '']);
    expect(JSON.parse(stdout).errors).toEqual([
      { path: '', file: 'holdfast.config.ts', message: expect.stringContaining(message) },
    ]);
  });

  test('leaves out what is accepted, says how much that is, and is content with --strict', async () => {
    write('holdfast.yaml', 'accept: [nothing-served]\n');
    const stdout = 'holdfast.yaml: ok, 1 warning accepted\n';
    expect(await runHoldfast(['check', '--strict'], { cwd })).toEqual({ code: 0, stdout, stderr: '' });
    const { stdout: json } = await runHoldfast(['check', '--json'], { cwd });
    expect(JSON.parse(json)).toMatchObject({ warnings: [], accepted: [{ code: 'nothing-served' }] });
  });

  test('explains a warning by its code, and names the nearest one of a code that there is not', async () => {
    const { code, stdout } = await runHoldfast(['check', '--explain', 'self-signed'], { cwd });
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^self-signed\n\n.*What to do:/s)]);
    expect(await runHoldfast(['check', '--explain', 'selfsigned'], { cwd })).toEqual({
      code: 2,
      stdout: '',
      stderr: 'holdfast: check: "selfsigned" is not the code of a warning; did you mean "self-signed"?\n',
    });
  });

  test('tells of routes that lead round a stricter one', async () => {
    write(
      'holdfast.yaml',
      [
        'upstreams: { app: { servers: [http://localhost:3000] } }',
        'routes:',
        '  - { path: /socket, upstream: app, policy: { origins: [https://a.example, self] } }',
        '  - { path: /chat, upstream: app, policy: { origins: any }, session: none }',
        '',
      ].join('\n'),
    );
    const { code, stdout } = await runHoldfast(['check'], { cwd });
    expect([code, stdout]).toEqual([
      0,
      `holdfast.yaml:4:5: routes[1]: warning: route "/chat" takes WebSockets for a server that route "/socket" leads to, which has a stricter policy; if that server takes them at any path, give both the same policy, or this one "websocket: false" [round-a-stricter-route]\nholdfast.yaml: 1 warning\n${WHERE}\n`,
    ]);
  });

  test('finds the files that are named and not there', async () => {
    write('cert.pem', '');
    write(
      'holdfast.yaml',
      'listen:\n  - port: 8443\n    tls: { certificate: cert.pem, key: key.pem }\nroutes:\n  - path: /*\n    files: cert.pem\nlog: { security: { file: logs/security.log } }\n',
    );
    const { code, stdout } = await runHoldfast(['check'], { cwd });
    expect(code).toBe(1);
    expect(stdout.replaceAll(cwd, '')).toBe(
      [
        'holdfast.yaml:3:40: listen[0].tls.key: there is no file /key.pem; create it or fix the path',
        'holdfast.yaml:6:12: routes[0].files: /cert.pem is not a folder',
        'holdfast.yaml:7:26: log.security.file: there is no folder /logs; create it or fix the path',
        'holdfast.yaml: 3 errors\n',
      ].join('\n'),
    );
  });

  describe('of handlers in threads', () => {
    const product = new URL('../../src/index.ts', import.meta.url).href;
    const endpoint = (path: string, file: string, more = '') =>
      `defineEndpoint({ path: '${path}', dispatch: { threads: 8 }, handlers: new URL('./${file}', import.meta.url), ${more} })`;

    /** What it prints, without the name of the folder. */
    async function checked(file = 'holdfast.yaml') {
      const { code, stdout, stderr } = await runHoldfast(['check', '--config', file], { cwd });
      return { code, lines: stdout.replaceAll(realpathSync(cwd), '').trimEnd().split('\n'), stderr };
    }

    beforeEach(() => {
      write('fine.ts', 'export function onMessage(): void {}\n');
      write('throws.ts', 'const prices: number[] = [];\n\nif (prices.length === 0) throw new Error("no prices");\n');
      write('imports.ts', "import './throws.ts';\nexport function onMessage(): void {}\n");
      write('syntax.ts', 'export function onMessage( { let x = ; }\n');
      write('none.ts', 'export const answer = 42;\n');
      write('misspelled.ts', 'export function onMesage(): void {}\n');
      write('ends.ts', 'process.exit(3);\n');
    });

    test('finds what makes a start fail, in its words, for each endpoint of a module', async () => {
      const files = ['fine', 'missing', 'throws', 'imports', 'syntax', 'none', 'misspelled', 'ends'];
      const endpoints = [
        ...files.map(file => endpoint(`/${file}`, `${file}.ts`)),
        endpoint('/twice', 'fine.ts', 'onMessage() {}'),
      ];
      write(
        'holdfast.config.ts',
        `import { defineConfig, defineEndpoint } from '${product}';
        const endpoints = [${endpoints.join(',\n')}];
        export default defineConfig({ session: false, routes: endpoints.map(endpoint => ({ endpoint })) });\n`,
      );
      const { code, lines, stderr } = await checked('holdfast.config.ts');
      expect([code, stderr]).toEqual([1, '']);
      const start = (index: number, name: string, file = name) =>
        `holdfast.config.ts: routes[${index}].endpoint: endpoint /${name}: the handlers of /${file}.ts`;
      const callbacks = 'onOpen, onMessage, onFragment, onPing, onPong, onAuthExpiring, onTimeout, onError, onClose';
      expect(lines).toEqual([
        `${start(1, 'missing')} cannot be loaded: there is no such file`,
        `${start(2, 'throws')} cannot be loaded: no prices (/throws.ts:3)`,
        `${start(3, 'imports')} cannot be loaded: no prices (/throws.ts:3)`,
        expect.stringMatching(/^holdfast\.config\.ts: routes\[4\].* cannot be loaded: .* \(\/syntax\.ts:1\)$/),
        `${start(5, 'none')}: it exports none of ${callbacks}`,
        `${start(6, 'misspelled')}: there is no callback "onMesage"; did you mean "onMessage"?`,
        `${start(7, 'ends')} cannot be loaded: a thread of handlers has ended with exit code 3`,
        `${start(8, 'twice', 'fine')}: "onMessage" is in the definition of the endpoint too; remove one of the two`,
        'holdfast.config.ts: 8 errors',
      ]);
    });

    test('finds it for endpoints that modules declare, and for those of mounted applications', async () => {
      const shared = (path: string, file: string) =>
        `defineEndpoint({ path: '${path}', dispatch: 'computing', handlers: new URL('./${file}', import.meta.url) })`;
      write(
        'charts.ts',
        `import { defineEndpoint } from '${product}';
        export const fine = ${shared('/fine', 'fine.ts')};
        export const wrong = ${shared('/wrong', 'missing.ts')};\n`,
      );
      write(
        'holdfast.yaml',
        'dispatch: { computing: { threads: 2 } }\nroutes:\n  - mount: /app\n    application:\n      endpoints: [charts.ts]\n',
      );
      const { code, lines } = await checked();
      expect(code).toBe(1);
      expect(lines[0]).toBe(
        'holdfast.yaml:5:18: routes[0].application.endpoints: endpoint /wrong: the handlers of /missing.ts cannot be loaded: there is no such file',
      );
      write(
        'holdfast.yaml',
        'dispatch: { computing: { concurrency: 2 } }\nendpoints: [nothing-here.ts, charts.ts]\nsession: false\n',
      );
      expect((await checked()).lines).toEqual([
        expect.stringMatching(
          /^holdfast\.yaml:2:\d+: endpoints: endpoint \/fine: "handlers" run in threads, and dispatch policy "computing" has none/,
        ),
        expect.stringMatching(/^holdfast\.yaml:2:\d+: endpoints: endpoint \/wrong: "handlers" run in threads/),
        'holdfast.yaml: 2 errors',
      ]);
      write('holdfast.yaml', 'endpoints: [nothing-here.ts]\nsession: false\n');
      expect((await checked()).lines[0]).toMatch(/^holdfast\.yaml:1:\d+: endpoints: no file matches/);
    });

    test('says of a module under `endpoints` what a start says, with its place in the configuration and in the module', async () => {
      const ofModule = async (text: string) => {
        write('a.ts', `import { defineEndpoint } from '${product}';\n${text}\n`);
        write('holdfast.yaml', 'session: false\nlisten: [{ port: 0 }]\nendpoints: [a.ts]\n');
        const [{ lines }, { code, stderr }] = await Promise.all([checked(), runHoldfast(['serve'], { cwd })]);
        expect([code, stderr.replaceAll(realpathSync(cwd), '')]).toEqual([1, `holdfast: ${lines[0]}\n`]);
        return lines[0];
      };
      const at = 'holdfast.yaml:3:12: endpoints: /a.ts';
      expect(await ofModule("export const a = defineEndpoint({ path: '/:a/:a' });")).toMatch(
        /^holdfast\.yaml:3:12: endpoints: \/a\.ts cannot be loaded: path: not a route pattern: .* \(\/a\.ts:2\)$/,
      );
      expect(await ofModule('await new Promise(() => {});')).toBe(
        `${at} cannot be loaded: it waits at its top level for something that never comes`,
      );
      const twice = "export const [a, b] = ['a', 'b'].map(name => defineEndpoint({ path: '/same' }));";
      expect(await ofModule(twice)).toMatch(/^holdfast\.yaml:1:1: the routes "a\.ts#a" .* match the same requests/);
    });

    test('loads them in a thread, and ends although the modules have begun something', async () => {
      write(
        'where.ts',
        `import { isMainThread } from 'node:worker_threads';
        if (isMainThread) throw new Error('in the main thread');
        setInterval(() => {}, 1000);
        export function onMessage(): void {}\n`,
      );
      write(
        'holdfast.config.ts',
        `import { defineConfig, defineEndpoint } from '${product}';
        setInterval(() => {}, 1000);
        export default defineConfig({ session: false, routes: [{ endpoint: ${endpoint('/', 'where.ts')} }] });\n`,
      );
      expect(await checked('holdfast.config.ts')).toEqual({ code: 0, lines: ['holdfast.config.ts: ok'], stderr: '' });
    });
  });

  test('reads the files that a start reads, and says what is wrong in them', async () => {
    write('groups', 'alice bob\n');
    write('tls.crt', 'text');
    write('tls.key', 'text');
    write('short', 'short');
    write(
      'holdfast.yaml',
      [
        'listen: [{ port: 0, tls: { certificate: tls.crt, key: tls.key } }]',
        'auth: { login: { type: session, groups: groups } }',
        'session: { keyFiles: [short] }',
        'routes: [{ mount: /app, application: { session: { keyFiles: [short] }, routes: [{ path: /, redirect: /a }] } }]',
        '',
      ].join('\n'),
    );
    const { code, stdout } = await runHoldfast(['check'], { cwd });
    expect(code).toBe(1);
    expect(stdout).toMatch(/^holdfast\.yaml:3:\d+: session\.keyFiles\[0\]: .* does not hold a key; /m);
    expect(stdout).toMatch(
      /^holdfast\.yaml:4:\d+: routes\[0\]\.application\.session\.keyFiles\[0\]: .* does not hold a key; /m,
    );
    expect(stdout).toMatch(
      /^holdfast\.yaml:1:\d+: listen\[0\]\.tls\.certificate: the certificate .* cannot be used: .* holds no certificate in PEM/m,
    );
    expect(stdout).toMatch(/^holdfast\.yaml:2:\d+: auth\.login\.groups: .* cannot be used: line 1 names no group; /m);
  });

  test('says which files it looks for when there is none', async () => {
    const { code, stderr } = await runHoldfast(['check'], { cwd });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^holdfast: no configuration in .*; write one of holdfast\.config\.ts, holdfast\.yaml/);
    const json = await runHoldfast(['check', '--json'], { cwd });
    expect([json.code, json.stderr, JSON.parse(json.stdout)]).toEqual([
      1,
      '',
      {
        file: '',
        errors: [{ path: '', message: expect.stringMatching(/^no configuration in /) }],
        warnings: [],
        accepted: [],
      },
    ]);
  });
});
