import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { Holdfast, runHoldfast } from '../cli/run-holdfast.ts';

let cwd: string;
let program: Holdfast;
let url: string;
const backend = createServer((_request, response) => response.end('backend'));
let backendUrl: string;
const index = new URL('../../src/index.ts', import.meta.url).href;
const sockets: WebSocket[] = [];

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-admin-cli-'));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  backendUrl = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
  writeFileSync(
    join(cwd, 'holdfast.config.ts'),
    `import { defineConfig, defineEndpoint } from '${index}';
     const echo = defineEndpoint({ path: '/echo', onMessage(connection, data) { connection.send(data); } });
     export default defineConfig({
       listen: [{ port: 0, host: '127.0.0.1' }],
       upstreams: { app: { servers: ['${backendUrl}', 'http://127.0.0.1:9'] } },
       routes: [
         { endpoint: echo, name: 'echo' },
         { path: '/login', session: 'create', fetch: async (request, { session }) => {
           session.set('basket', 'secret value');
           return new Response('in');
         } },
         { path: '/app/*', upstream: 'app' },
       ],
     });`,
  );
  program = new Holdfast(['serve'], { cwd });
  [, url = ''] = await program.printed(/listening on (http:\/\/\S+)/);
}, 60_000);

afterAll(async () => {
  for (const socket of sockets) socket.terminate();
  program.kill('SIGKILL');
  await program.ended;
  backend.close();
  rmSync(cwd, { recursive: true });
});

async function run(...args: string[]) {
  return runHoldfast(args, { cwd });
}

async function json(...args: string[]) {
  const { stdout, stderr, code } = await run(...args, '--json');
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout.split('\n')).toHaveLength(2);
  return JSON.parse(stdout);
}

async function login(): Promise<string> {
  const response = await fetch(`${url}/login`);
  expect(await response.text()).toBe('in');
  return response.headers.get('Set-Cookie')!.split(';')[0]!;
}

async function openSocket(cookie?: string): Promise<WebSocket> {
  const headers = { Origin: url, ...(cookie !== undefined && { Cookie: cookie }) };
  const socket = new WebSocket(`${url.replace('http', 'ws')}/echo`, { headers });
  sockets.push(socket);
  await once(socket, 'open');
  return socket;
}

/** Whoever reads it sees no whole sid, no cookie and no value. */
function expectNoSecret(text: string, cookie: string): void {
  const [, value = ''] = cookie.split('=');
  expect(text).not.toContain(value.slice(0, 20));
  expect(text).not.toMatch(/secret value/);
}

describe('commands that ask a running server', () => {
  test('status says what it does, for people and for programs', async () => {
    const { stdout, code } = await run('status');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^state +running, ready$/m);
    expect(stdout).toMatch(new RegExp(`^listens on +${url.replace('127.0.0.1', 'localhost')}`, 'm'));
    expect(Math.max(...stdout.split('\n').map(line => line.length))).toBeLessThanOrEqual(120);
    expect(await json('status')).toMatchObject({ state: 'running', pid: program.process.pid, workers: [] });
  });

  test('sessions are listed by prefix, shown by it, and ended', async () => {
    const cookie = await login();
    const { sessions } = await json('sessions');
    expect(sessions).toHaveLength(1);
    const [{ sid }] = sessions;
    expect(sid).toHaveLength(8);
    const list = await run('sessions', 'list');
    expect(list.stdout).toMatch(new RegExp(`^SESSION +USER +CREATED.*\\n${sid} `));
    const show = await run('sessions', 'show', sid);
    expect(show.stdout).toMatch(/^ATTRIBUTE +SIZE\nbasket +\d+ B$/m);
    for (const { stdout } of [list, show]) expectNoSecret(stdout, cookie);
    expect((await run('sessions', 'end', sid)).stdout).toBe('1 session ended\n');
    expect((await run('sessions', 'list')).stdout).toBe('no sessions\n');
    const gone = await run('sessions', 'show', sid);
    expect([gone.code, gone.stderr]).toEqual([1, `holdfast: there is no session ${sid}; it has ended, or never was\n`]);
  });

  test('connections are listed and closed with a code', async () => {
    const [first, second] = [await openSocket(await login()), await openSocket()];
    first.send('hello');
    await once(first, 'message');
    const { connections, total } = await json('connections', 'list', '--route', 'echo');
    expect(total).toBe(2);
    expect(connections[0]).toMatchObject({
      ...{ kind: 'endpoint', route: 'echo', address: '127.0.0.1', messagesReceived: 1, messagesSent: 1 },
      session: expect.stringMatching(/^[\w-]{8}$/),
    });
    const table = await run('connections');
    expect(Math.max(...table.stdout.split('\n').map(line => line.length))).toBeLessThanOrEqual(120);
    const closed = once(first, 'close');
    await run('connections', 'close', connections[0].id, '--code', '4001', '--reason', 'asked to');
    expect((await closed).map(String)).toEqual(['4001', 'asked to']);
    const goingAway = once(second, 'close');
    expect((await run('connections', 'close', '--address', '127.0.0.0/8')).stdout).toBe('1 connection closing\n');
    expect((await goingAway)[0]).toBe(1001);
  });

  test('servers of an upstream are listed, drained and resumed', async () => {
    expect((await run('upstreams', 'drain', 'app', backendUrl, '--stay')).stdout).toMatch(/gets nothing new/);
    expect((await run('upstreams')).stdout).toMatch(new RegExp(`^app +${backendUrl} +draining`, 'm'));
    await run('upstreams', 'resume', 'app', backendUrl);
    expect((await json('upstreams')).upstreams[0].servers[0].state).toBe('in-service');
    const unknown = await run('upstreams', 'drain', 'ap', backendUrl);
    expect([unknown.code, unknown.stderr]).toEqual([1, 'holdfast: there is no upstream "ap"; did you mean "app"?\n']);
    const other = await run('upstreams', 'resume', 'app', 'http://127.0.0.1:1');
    expect(other.stderr).toMatch(/has no server http:\/\/127\.0\.0\.1:1; it has http/);
    await run('upstreams', 'add', 'app', 'http://127.0.0.1:8');
    await run('upstreams', 'remove', 'app', 'http://127.0.0.1:8');
    expect((await json('upstreams')).upstreams[0].servers).toHaveLength(2);
  });

  test('bans are added, listed and lifted', async () => {
    expect((await run('bans')).stdout).toBe('nobody is banned\n');
    expect((await run('bans', 'add', '2001:db8::7', '--for', '2h', '--reason', 'asked to')).stdout).toMatch(
      /^2001:db8::\/64 is banned for (2 h|1 h 59 min)$/m,
    );
    expect((await run('bans')).stdout).toMatch(/^2001:db8::\/64 .* hand .* asked to$/m);
    expect((await run('bans', 'remove', '2001:db8::/64')).code).toBe(0);
    expect(await run('bans', 'remove', '2001:db8::7')).toMatchObject({
      code: 1,
      stdout: '2001:db8::7 was not banned\n',
    });
    const wrong = await run('bans', 'add', 'example.com');
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringMatching(/not a client: "example\.com"/)]);
  });

  test.each([
    [['sessions', 'lst'], /unknown action "lst"; did you mean "list"\?/],
    [['sessions', 'show'], /SID is missing; write: holdfast sessions show SID/],
    [['sessions', 'end'], /name one session \(SID\), or with --user all of a user/],
    [['sessions', 'show', 'abcd', '--user', 'x'], /--user has no effect here/],
    [['connections', 'close'], /name one connection/],
    [['connections', '--limit', 'many'], /--limit: "many" is not a whole number/],
    [['bans', 'add', '192.0.2.7', 'x'], /unexpected argument "x"/],
  ])('a wrong command line is explained, with exit code 2: %j', async (args, message) => {
    const { code, stderr } = await run(...args);
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  test('a server is found although its configuration was broken meanwhile, and by its socket', async () => {
    const other = mkdtempSync(join(tmpdir(), 'holdfast-admin-yaml-'));
    writeFileSync(join(other, 'holdfast.yaml'), 'listen: [{ port: 0, host: 127.0.0.1 }]\nsession: false\n');
    const second = new Holdfast(['serve'], { cwd: other });
    try {
      await second.printed(/listening on/);
      writeFileSync(join(other, 'holdfast.yaml'), 'listen: [{ prt: 0 }]\n');
      expect((await runHoldfast(['status'], { cwd: other })).code).toBe(0);
      const socket = join(other, '.holdfast/admin.sock');
      const { stdout } = await runHoldfast(['status', '--socket', socket, '--json'], { cwd: tmpdir() });
      expect(JSON.parse(stdout).pid).toBe(second.process.pid);
    } finally {
      second.kill('SIGKILL');
      await second.ended;
    }
    const { code, stderr } = await runHoldfast(['status', '--socket', join(other, '.holdfast/admin.sock')]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/its server has ended; start it with "holdfast serve"/)]);
    rmSync(other, { recursive: true });
  });

  test('where no server runs it says so, and what to do', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'holdfast-admin-none-'));
    const { code, stdout, stderr } = await runHoldfast(['status'], { cwd: empty });
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/nobody answers at .*\.holdfast\/admin\.sock; start one with "holdfast serve"/);
    rmSync(empty, { recursive: true });
  });

  test('of two servers with one data folder it asks which one is meant', async () => {
    const second = new Holdfast(['serve'], { cwd });
    try {
      await second.printed(/listening on/);
      const { code, stderr } = await run('status');
      expect([code, stderr]).toEqual([1, expect.stringMatching(/--socket .*admin\.sock, --socket .*admin-2\.sock/)]);
    } finally {
      second.kill('SIGTERM');
      expect(await second.ended).toBe(0);
    }
    expect((await run('status')).code).toBe(0);
  });

  test('logs are followed from a level on, and levels are changed', async () => {
    const following = new Holdfast(['logs', '-f', '--level', 'debug'], { cwd });
    await new Promise(resolve => setTimeout(resolve, 1_500));
    await run('bans', 'add', '192.0.2.8');
    await following.printed(/"event":"banned"/);
    following.kill('SIGINT');
    expect(await following.ended).toBe(0);
    expect((await run('logs', 'level', 'session', 'debug')).stdout).toMatch(/^session +debug$/m);
    expect((await run('logs', 'level', 'warn')).stdout).toMatch(/^all +warn$/m);
    expect((await run('logs', 'level', 'loud')).code).toBe(1);
    expect((await run('logs', 'reopen')).code).toBe(0);
    await run('bans', 'remove', '192.0.2.8');
  });

  test('a reader that ends early is no error', async () => {
    const bin = new URL('../../bin/holdfast.js', import.meta.url).pathname;
    const child = spawn('sh', ['-c', `"$0" -C holdfast-source "${bin}" status | head -1`, process.execPath], { cwd });
    let stderr = '';
    child.stderr.on('data', text => {
      stderr += text;
    });
    const [code] = await once(child, 'close');
    expect([code, stderr]).toEqual([0, '']);
  });

  test('commands end although the module of the configuration has begun something that does not', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-admin-timer-'));
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `setInterval(() => {}, 60_000);\nexport default { dataFolder: ${JSON.stringify(join(cwd, '.holdfast'))} };`,
    );
    const { code, stdout } = await runHoldfast(['status'], { cwd: folder });
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^state +running/)]);
    rmSync(folder, { recursive: true });
  });

  test('logs end with 0 when the server ends, and repeated drains only make its drain shorter', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-admin-drain-'));
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `import { defineConfig, defineEndpoint } from '${index}';
       const echo = defineEndpoint({ path: '/echo', closeTimeout: '1h' });
       export default defineConfig({ listen: [{ port: 0, host: '127.0.0.1' }], routes: [{ endpoint: echo }] });`,
    );
    const server = new Holdfast(['serve'], { cwd: folder });
    const [, at = ''] = await server.printed(/listening on (http:\/\/\S+)/);
    const follower = new Holdfast(['logs', '-f'], { cwd: folder });
    const busy = new WebSocket(`${at.replace('http', 'ws')}/echo`, { headers: { Origin: at } });
    sockets.push(busy);
    await once(busy, 'open');
    // It never answers the close frame.
    busy.pause();
    const drain = (...args: string[]) => runHoldfast(['drain', ...args], { cwd: folder });
    expect((await drain('--over', '60s')).code).toBe(0);
    for (const args of [[], ['--over', '50s'], [], []]) expect(await drain(...args)).toMatchObject({ code: 0 });
    expect(server.process.exitCode).toBeNull();
    const begun = performance.now();
    expect((await drain('--over', '1s')).code).toBe(0);
    expect(await server.ended).toBe(0);
    expect(performance.now() - begun).toBeLessThan(20_000);
    expect([await follower.ended, follower.stderr]).toEqual([0, 'the server has ended\n']);
    rmSync(folder, { recursive: true });
  }, 60_000);

  test('drain stops it as SIGTERM does, and waits for its end when it is told to', async () => {
    const socket = await openSocket();
    const closed = once(socket, 'close');
    const { code, stdout } = await run('drain', '--wait', '--over', '5s');
    expect([code, stdout]).toEqual([0, 'the server has ended\n']);
    expect((await closed)[0]).toBe(1001);
    expect(await program.ended).toBe(0);
  });
});
