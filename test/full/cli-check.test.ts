import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runHoldfast } from '../cli/run-holdfast.ts';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-check-'));
});
afterEach(() => rmSync(cwd, { recursive: true }));

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
        'mine.yaml:1: sesion: unknown key "sesion" in the configuration; did you mean "session"?',
        'mine.yaml:4: routes[0].upstream: route "/": upstream "app" is not defined; add it under "upstreams" or fix the name',
        'mine.yaml: 2 errors\n',
      ].join('\n'),
      stderr: '',
    });
  });

  test('prints warnings and ends with 0, with --strict with 1', async () => {
    write('holdfast.json', '{ "routes": [] }');
    const stdout =
      'holdfast.json:1: warning: nothing is served: there are no routes and no endpoints\nholdfast.json: 1 warning\n';
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
      expect.stringMatching(/^holdfast\.yaml:2: the tag "!env" is not understood/),
      expect.stringMatching(/^holdfast\.yaml:5: map keys must be unique: "1" is the same key as 1$/),
      expect.stringMatching(/^holdfast\.yaml:7: "\*\/foo" is read as an alias.* put quotes around/),
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
      stdout: expect.stringContaining('holdfast.yaml:3: routes[0].x-policy: unknown key "x-policy"'),
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
      'holdfast.yaml:4: routes[1]: warning: route "/chat" takes WebSockets for a server that route "/socket" leads to, which has a stricter policy; if that server takes them at any path, give both the same policy, or this one "websocket: false"\nholdfast.yaml: 1 warning\n',
    ]);
  });

  test('finds the files that are named and not there', async () => {
    write('cert.pem', '');
    write(
      'holdfast.yaml',
      'listen:\n  - port: 8443\n    tls: { certificate: cert.pem, key: key.pem }\nroutes:\n  - path: /*\n    files: cert.pem\n',
    );
    const { code, stdout } = await runHoldfast(['check'], { cwd });
    expect(code).toBe(1);
    expect(stdout.replaceAll(cwd, '')).toBe(
      [
        'holdfast.yaml:3: listen[0].tls.key: there is no file /key.pem; create it or fix the path',
        'holdfast.yaml:6: routes[0].files: /cert.pem is not a folder',
        'holdfast.yaml: 2 errors\n',
      ].join('\n'),
    );
  });

  test('says which files it looks for when there is none', async () => {
    const { code, stderr } = await runHoldfast(['check'], { cwd });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^holdfast: no configuration in .*; write one of holdfast\.config\.ts, holdfast\.yaml/);
  });
});
