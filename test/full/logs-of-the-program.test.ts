import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { accepts, freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

let folder: string;
let port: number;
const programs: Holdfast[] = [];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-logs-'));
  port = await freePort();
});
afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.kill('SIGKILL');
    await program.ended;
  }
  rmSync(folder, { recursive: true, force: true });
});

function serve(log: string, options: ConstructorParameters<typeof Holdfast>[1] = {}, more = ''): Holdfast {
  const config = `listen: [{ port: ${port}, host: 127.0.0.1, hosts: [localhost] }]\nlog: ${log}\nsession: false\nroutes: [{ path: /a, redirect: /b }]\n${more}`;
  writeFileSync(join(folder, 'holdfast.yaml'), config);
  return started(new Holdfast(['serve'], { cwd: folder, ...options }));
}

function started(program: Holdfast): Holdfast {
  programs.push(program);
  return program;
}

function ask(path = '/a', send = request, options: object = { port }): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = send({ host: '127.0.0.1', path, agent: false, ...options }, answer => {
      answer.resume();
      resolve(answer.statusCode);
    });
    asked.on('error', reject).end();
  });
}

/** Its command is in the foreground of a terminal, and what comes on stdin is typed there. */
const TERMINAL = ['python3', '-c', 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)'];
const ESCAPE = '\x1b[';

describe('the log of holdfast serve', () => {
  const plain = { NO_COLOR: '', TERM: 'xterm' };

  test.each([
    ['has colours', {}, true],
    ['has none with NO_COLOR', { NO_COLOR: '1' }, false],
    ['has none on a terminal that knows none', { TERM: 'dumb' }, false],
    ['has colours with FORCE_COLOR, whatever NO_COLOR says', { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
    ['has none with FORCE_COLOR=0', { FORCE_COLOR: '0' }, false],
  ])('on a terminal is for people and %s', async (_, env, isColoured) => {
    const server = serve('{}', { env: { ...plain, ...env }, under: TERMINAL, stdio: ['pipe', 'pipe', 'pipe'] });
    await server.printed(/event=.*started/);
    await until(() => accepts(port));
    expect(server.stdout.includes(ESCAPE)).toBe(isColoured);
    const lines = server.stdout.split('\r\n').filter(line => line !== '' && !line.startsWith('listening on'));
    for (const line of lines.filter(each => !each.startsWith('    ')))
      expect(stripVTControlCharacters(line)).toMatch(/^\d\d:\d\d:\d\d\.\d{3}/);
    // Ctrl+C.
    server.process.stdin!.write('\x03');
    expect(await server.ended).toBe(0);
    expect(server.stdout).toMatch(/SIGINT: draining/);
  });

  test('in a pipe is JSON, line by line, whatever the environment says of colours', async () => {
    const server = serve('{ access: json }', { env: { FORCE_COLOR: '1', NO_COLOR: '1' } });
    await server.printed(/"event":"started"/);
    expect(await ask()).toBe(308);
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
    const lines = `${server.stdout}${server.stderr}`.trimEnd().split('\n');
    expect(lines.map(line => JSON.parse(line).event)).toEqual(
      expect.arrayContaining(['request', 'started', 'draining']),
    );
  });

  test('for people in a pipe has colours only with FORCE_COLOR', async () => {
    for (const [FORCE_COLOR, isColoured] of [
      ['0', false],
      ['1', true],
    ] as const) {
      const server = serve('{ server: { format: pretty } }', { env: { FORCE_COLOR } });
      await server.printed(/event=.*started/);
      expect(server.stderr.includes(ESCAPE)).toBe(isColoured);
      server.kill('SIGTERM');
      await server.ended;
    }
  });

  test('has warnings of Node as lines, and the error that ends the process', async () => {
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `setTimeout(() => process.emitWarning('be\\nwarned', 'DeprecationWarning', 'DEP1'), 10);
       const fetch = () => { setTimeout(() => { throw new Error('nobody\\ncatches it') }); return new Response('') };
       export default { listen: [{ port: ${port}, host: '127.0.0.1', hosts: ['localhost'] }], session: false, routes: [{ path: '/a', fetch }] };`,
    );
    const server = started(new Holdfast(['serve'], { cwd: folder }));
    await server.printed(/"event":"node-warning"/);
    await until(() => accepts(port));
    await ask().catch(() => {});
    expect(await server.ended).toBe(1);
    const lines = server.stderr
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(lines).toContainEqual(
      expect.objectContaining({ event: 'node-warning', err: expect.objectContaining({ code: 'DEP1' }) }),
    );
    expect(lines.at(-1)).toMatchObject({ event: 'uncaught-error', err: { message: 'nobody\ncatches it' } });
  });

  test('leaves errors to a program that catches them itself', async () => {
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `process.on('uncaughtException', error => console.log('mine: ' + error.message));
       const fetch = () => { setTimeout(() => { throw new Error('caught') }); return new Response('') };
       export default { listen: [{ port: ${port}, host: '127.0.0.1', hosts: ['localhost'] }], session: false, routes: [{ path: '/a', fetch }] };`,
    );
    const server = started(new Holdfast(['serve'], { cwd: folder }));
    await until(() => accepts(port));
    expect(await ask()).toBe(200);
    await server.printed(/mine: caught/);
    expect(await ask()).toBe(200);
    expect(server.stderr).not.toContain('uncaught-error');
  });

  test('says that SIGUSR1 opens no inspector', async () => {
    const server = serve('{}');
    await server.printed(/"event":"started"/);
    server.kill('SIGUSR1');
    await server.printed(/"event":"signal-ignored"/);
    expect(await accepts(9229)).toBe(false);
    expect(server.stderr).not.toMatch(/debugger/i);
  });

  // Before it runs our first line, such a process has nothing that keeps the signal from ending it.
  test('takes no notice of SIGUSR1 with --disable-sigusr1, as the unit and the image have it', async () => {
    const server = serve('{}', { env: { NODE_OPTIONS: '--disable-sigusr1' } });
    await server.printed(/"event":"started"/);
    for (let i = 0; i < 5; i++) {
      server.kill('SIGUSR1');
      await sleep(20);
    }
    expect(await ask()).toBe(308);
    expect(await accepts(9229)).toBe(false);
    expect(server.stderr).not.toMatch(/debugger/i);
  });
});

describe('a named pipe as a log', () => {
  const log = '{ access: { file: pipe, format: json } }';
  let pipe: string;
  beforeEach(() => {
    pipe = join(folder, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
  });

  function contentOf(fd: number): string {
    const buffer = Buffer.alloc(1_048_576);
    try {
      return buffer.toString('utf8', 0, readSync(fd, buffer));
    } catch {
      return '';
    }
  }

  test('may get its reader after the server has started, which then has all lines', async () => {
    serve(log);
    await until(() => accepts(port));
    for (let i = 0; i < 5; i++) await ask(`/a?${i}`);
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    let text = '';
    await until(() => {
      text += contentOf(reader);
      return text.includes('/a?4');
    });
    expect(text.match(/"target":"\/a\?\d"/g)).toHaveLength(5);
    closeSync(reader);
  });

  test('whose reader does not read holds up neither requests nor the end of the server', async () => {
    const reader = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    const server = serve(log);
    await until(() => accepts(port));
    // A pipe has 64 KiB.
    for (let i = 0; i < 200; i++) expect(await ask(`/a?${'x'.repeat(1_000)}`)).toBe(308);
    const begun = performance.now();
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(server.stderr).toMatch(/"event":"log-lines-dropped".*"output":".*pipe"/);
    closeSync(reader);
  });

  test('that nobody ever reads does not keep a server from ending', async () => {
    const server = serve(log);
    await until(() => accepts(port));
    for (let i = 0; i < 200; i++) await ask(`/a?${'x'.repeat(1_000)}`);
    server.kill('SIGTERM');
    expect(await server.ended).toBe(0);
  });
});

test('logs -f and the file of the log have every line while the file is rotated', async () => {
  const server = serve('{ level: info, server: { file: server.log }, access: { format: json, file: access.log } }');
  await until(() => accepts(port));
  const follower = started(new Holdfast(['logs', '-f', '--access'], { cwd: folder }));
  // Its first line says that it follows.
  await until(async () => {
    await ask('/a?before');
    return follower.stdout.includes('/a?before');
  });
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) await ask(`/a?${round}-${i}`);
    renameSync(join(folder, 'access.log'), join(folder, `access.log.${round}`));
    server.kill('SIGUSR2');
    await until(() => readFileSync(join(folder, 'server.log'), 'utf8').split('logs-reopened').length > round + 1);
  }
  const wanted = Array.from({ length: 60 }, (_, i) => `/a?${Math.floor(i / 20)}-${i % 20}`);
  const targets = (text: string) => [...text.matchAll(/"target":"(\/a\?\d-\d+)"/g)].map(([, target]) => target);
  await until(() => targets(follower.stdout).length >= 60);
  expect(targets(follower.stdout)).toEqual(wanted);
  const files = ['access.log.0', 'access.log.1', 'access.log.2', 'access.log'];
  expect(targets(files.map(file => readFileSync(join(folder, file), 'utf8')).join(''))).toEqual(wanted);
  follower.kill('SIGINT');
  expect(await follower.ended).toBe(0);
});

test('%p of a LogFormat is the port of the Host, or else the public one', async () => {
  const secure = await freePort();
  writeFileSync(
    join(folder, 'holdfast.yaml'),
    `listen:
  - { port: ${port}, host: 127.0.0.1, hosts: [localhost] }
  - { port: ${secure}, host: 127.0.0.1, hosts: [localhost], tls: self-signed, publicPort: 8443 }
log: { access: 'is %p %{local}p' }
session: false
routes: [{ path: /a, redirect: /b }]
`,
  );
  const server = started(new Holdfast(['serve'], { cwd: folder }));
  await until(() => accepts(secure));
  const tls = { port: secure, rejectUnauthorized: false };
  await ask('/a', request, { port, headers: { Host: 'localhost' } });
  await ask('/a', tlsRequest, { ...tls, headers: { Host: 'localhost' } });
  await ask('/a', tlsRequest, { ...tls, headers: { Host: 'localhost:444' } });
  const { connect } = await import('node:http2');
  const session = connect(`https://localhost:${secure}`, { rejectUnauthorized: false });
  const stream = session.request({ ':path': '/a', ':authority': 'localhost' });
  stream.resume();
  await new Promise(resolve => stream.once('close', resolve));
  session.destroy();
  await until(
    () =>
      server.stdout
        .trimEnd()
        .split('\n')
        .filter(line => line.startsWith('is')).length === 4,
  );
  expect(server.stdout.split('\n').filter(line => line.startsWith('is'))).toEqual([
    `is 80 ${port}`,
    `is 8443 ${secure}`,
    `is 444 ${secure}`,
    `is 8443 ${secure}`,
  ]);
});
