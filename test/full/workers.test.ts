import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { Status } from '../../src/admin/shapes.ts';
import { Holdfast } from '../cli/run-holdfast.ts';

let cwd: string;
let program: Holdfast | undefined;
const sockets: WebSocket[] = [];
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-workers-'));
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate();
  program?.kill('SIGKILL');
  await program?.ended;
  rmSync(cwd, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

const index = new URL('../../src/index.ts', import.meta.url).href;
/** `/pid` says which process has answered, `/count` counts in the session, `/echo` sends back with the process. */
const config = (more = '', routes = '', count: number | string = 2) => `
  import { defineConfig, defineEndpoint } from '${index}';
  import { greeting } from './greeting.js';
  const echo = defineEndpoint({
    path: '/echo',
    onMessage: (connection, data) => connection.send(process.pid + ' ' + data),
  });
  export default defineConfig({
    workers: ${JSON.stringify(count)},
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: { store: 'lmdb:sessions' },
    drain: { timeout: '4s' },
    routes: [
      { path: '/pid', session: 'none', fetch: () => new Response(String(process.pid)) },
      { path: '/greeting', session: 'none', fetch: () => new Response(greeting) },
      { path: '/count', session: 'create', fetch: (request, { session }) => {
        session.set('count', (session.get('count') ?? 0) + 1);
        return new Response(String(session.get('count')));
      } },
      { endpoint: echo },
      ${routes}
    ],
    metrics: true,
    log: { access: 'off' },
    ${more}
  });
`;

/** `/leak` takes all descriptors of its process for 1.5 s. */
const leaking = `import { closeSync, openSync } from 'node:fs'; ${config(
  '',
  `{ path: '/leak', session: 'none', fetch: () => {
    const opened = [];
    let isOver = false;
    const more = () => {
      try { while (!isOver) opened.push(openSync('/dev/null')); } catch {}
      if (!isOver) setImmediate(more);
    };
    more();
    setTimeout(() => { isOver = true; opened.forEach(fd => closeSync(fd)); }, 1_500);
    return new Response(String(process.pid));
  } },`,
)}`;

interface Served {
  readonly url: string;
  readonly port: number;
}

async function serve(text = config(), args: readonly string[] = [], maxDescriptors?: number): Promise<Served> {
  writeFileSync(join(cwd, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(cwd, 'greeting.js'), "export const greeting = 'hello';\n");
  writeFileSync(join(cwd, 'holdfast.config.ts'), text);
  program = new Holdfast(['serve', '--config', 'holdfast.config.ts', ...args], { cwd, maxDescriptors });
  const [, url] = await program.printed(/listening on (http:\/\/\S+)/);
  return { url: url!.replace('localhost', '127.0.0.1'), port: Number(new URL(url!).port) };
}

/** On a connection of its own, unless an agent is given. */
async function get(url: string, options: { agent?: Agent; headers?: Record<string, string> } = {}) {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request(url, { agent: false, ...options }, resolve)
    .on('error', reject)
    .end();
  const response = await promise;
  let body = '';
  for await (const chunk of response.setEncoding('utf8')) body += chunk;
  return { status: response.statusCode, body, headers: response.headers };
}

async function admin<T>(method: string, path: string, body?: object): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const socketPath = join(cwd, '.holdfast/admin.sock');
  const headers = { 'Content-Type': 'application/json' };
  request({ socketPath, method, path, headers, agent: false }, resolve)
    .on('error', reject)
    .end(body && JSON.stringify(body));
  const response = await promise;
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  if (response.statusCode !== 200) throw new Error(`${response.statusCode} ${text}`);
  return path === '/metrics' ? (text as T) : JSON.parse(text);
}

const status = () => admin<Status>('GET', '/v1/status');

async function open(url: string, headers: Record<string, string> = {}): Promise<WebSocket> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/echo`, { headers });
  sockets.push(socket);
  socket.on('error', () => {});
  await new Promise<void>((resolve, reject) => socket.once('open', resolve).once('error', reject));
  return socket;
}

async function answerOf(socket: WebSocket): Promise<string> {
  const answer = new Promise<string>(resolve => socket.once('message', data => resolve(String(data))));
  socket.send('who');
  return answer;
}

/** Which process has it. */
async function pidOf(socket: WebSocket): Promise<number> {
  return Number((await answerOf(socket)).split(' ')[0]);
}

const closeOf = (socket: WebSocket) => new Promise<number>(resolve => socket.once('close', resolve));

/** One at each of two workers. */
async function openAtEach(url: string): Promise<Map<number, WebSocket>> {
  const found = new Map<number, WebSocket>();
  for (let tries = 0; tries < 20 && found.size < 2; tries++) {
    const socket = await open(url);
    found.set(await pidOf(socket), socket);
  }
  expect(found.size).toBe(2);
  return found;
}

async function until(what: () => Promise<boolean> | boolean, ms = 30_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await what())) {
    if (Date.now() > end) throw new Error(`never true: ${what}\n${program!.stderr}`);
    await sleep(50);
  }
}

/** As the metrics say. */
async function requestsCounted(): Promise<number> {
  const metrics = await admin<string>('GET', '/metrics');
  const requests = [...metrics.matchAll(/^holdfast_requests_total\{[^}]*\} (\d+)/gm)];
  return requests.reduce((sum, [, count]) => sum + Number(count), 0);
}

const areReady = (count: number) => async () => {
  const { workers } = await status();
  return workers.length === count && workers.every(({ state }) => state === 'running');
};

describe('workers', () => {
  test('share the connections of a port, and are one server for its administration', async () => {
    const { url } = await serve();
    const pids = new Map<string, number>();
    for (let i = 0; i < 100; i++) {
      const { body } = await get(`${url}/pid`);
      pids.set(body, (pids.get(body) ?? 0) + 1);
    }
    expect(pids.size).toBe(2);
    for (const count of pids.values()) expect(count).toBeGreaterThanOrEqual(40);
    expect(pids.has(String(program!.process.pid))).toBe(false);

    await openAtEach(url);
    const { workers, counts, isReady, pid } = await status();
    expect([isReady, pid]).toEqual([true, program!.process.pid]);
    expect(new Set(workers.map(one => String(one.pid)))).toEqual(new Set(pids.keys()));
    expect(counts.sockets).toBe(sockets.length);
    const { connections, total } = await admin<{ connections: { worker: number }[]; total: number }>(
      'GET',
      '/v1/connections',
    );
    expect(total).toBe(sockets.length);
    expect(new Set(connections.map(({ worker }) => worker))).toEqual(new Set(workers.map(({ worker }) => worker)));
    expect(await requestsCounted()).toBeGreaterThanOrEqual(100);
  });

  test('have the sessions of all, and each counts on where another has stopped', async () => {
    const { url } = await serve();
    const first = await get(`${url}/count`);
    const cookie = first.headers['set-cookie']![0]!.split(';')[0]!;
    const counts = [];
    for (let i = 0; i < 6; i++) counts.push((await get(`${url}/count`, { headers: { Cookie: cookie } })).body);
    expect(counts).toEqual(['2', '3', '4', '5', '6', '7']);
  });

  test('one that is killed takes along its own sockets and no totals, and another one takes its place', async () => {
    const { url } = await serve();
    const first = await get(`${url}/count`);
    const Cookie = first.headers['set-cookie']![0]!.split(';')[0]!;
    const [[dying, gone], [living, stays]] = [...(await openAtEach(url))] as [[number, WebSocket], [number, WebSocket]];
    const closed = closeOf(gone);
    await Promise.all(Array.from({ length: 20 }, () => get(`${url}/pid`)));
    const counted = await requestsCounted();
    expect(counted).toBeGreaterThan(20);
    process.kill(dying, 'SIGKILL');
    expect(await closed).toBe(1006);
    expect(await requestsCounted()).toBeGreaterThanOrEqual(counted);
    expect(await pidOf(stays)).toBe(living);
    expect((await get(`${url}/count`, { headers: { Cookie } })).body).toBe('2');
    await until(areReady(2));
    const { workers } = await status();
    expect(workers.map(({ pid }) => pid)).not.toContain(dying);
    expect(program!.stderr).toMatch(/"event":"worker-ended".*"signal":"SIGKILL"/);
    await openAtEach(url);
  });

  test('no connection that was on its way to a worker that ends is lost', async () => {
    const { url } = await serve();
    const { workers } = await status();
    const dying = workers[0]!.pid;
    process.kill(dying, 'SIGSTOP');
    let answered = 0;
    const answers = Array.from({ length: 40 }, () => get(`${url}/pid`).finally(() => answered++));
    // One is on its way to the one that stands still, and holds up no other.
    await until(() => answered === 39);
    process.kill(dying, 'SIGKILL');
    const bodies = (await Promise.all(answers)).map(({ body }) => body);
    expect(bodies).not.toContain(String(dying));
    expect(bodies).toHaveLength(40);
  });

  test('one that is killed under load loses no session, and fails nobody but those that it has', async () => {
    const { url } = await serve();
    const failures: string[] = [];
    let isOver = false;
    const visitors = Array.from({ length: 12 }, async () => {
      const first = await get(`${url}/count`);
      const Cookie = first.headers['set-cookie']![0]!.split(';')[0]!;
      let [last, answers] = [1, 1];
      while (!isOver) {
        try {
          const { status, body, headers } = await get(`${url}/count`, { headers: { Cookie } });
          expect([status, headers['set-cookie']]).toEqual([200, undefined]);
          expect(Number(body)).toBeGreaterThan(last);
          last = Number(body);
          answers++;
        } catch (error) {
          failures.push((error as Error).message);
        }
      }
      return { last, answers };
    });
    await sleep(2_000);
    const dying = (await status()).workers[1]!.pid;
    process.kill(dying, 'SIGKILL');
    await sleep(500);
    await until(areReady(2));
    await sleep(1_000);
    isOver = true;
    for (const { last, answers } of await Promise.all(visitors)) {
      expect(answers).toBeGreaterThan(10);
      // What the killed one has counted may have had no answer.
      expect(last - answers).toBeLessThanOrEqual(1);
    }
    expect(failures.length).toBeLessThanOrEqual(12);
  });

  test('while none of them runs the status says so, a reload starts them at the same port, and a stop ends with 0', async () => {
    const dies = `import { existsSync } from 'node:fs'; if (process.send && existsSync('die')) process.exit(7);`;
    const { url } = await serve(`${dies} ${config()}`, ['--no-watch']);
    writeFileSync(join(cwd, 'die'), '');
    // So that both have had connections of the port.
    for (const pid of (await openAtEach(url)).keys()) process.kill(pid, 'SIGKILL');
    await until(() => (program!.stderr.match(/"event":"worker-ended"/g) ?? []).length >= 2);
    expect(await status()).toMatchObject({ state: 'running', isReady: false, workers: [] });
    const pauses = [...program!.stderr.matchAll(/"pauseMs":(\d+)/g)].map(([, ms]) => Number(ms));
    // Both end at the same time: that is one failure.
    expect(pauses[0]).toBe(100);
    expect(pauses[1]).toBeLessThanOrEqual(100);
    // The next ones start later than a reload takes.
    await until(() => /"pauseMs":400\b/.test(program!.stderr));
    rmSync(join(cwd, 'die'));
    await admin('POST', '/v1/reload');
    await until(areReady(2));
    const living = await openAtEach(url);
    writeFileSync(join(cwd, 'die'), '');
    for (const pid of living.keys()) process.kill(pid, 'SIGKILL');
    program!.kill('SIGTERM');
    expect(await program!.ended).toBe(0);
  });

  test('more clients than there are descriptors are no end of the supervisor', async () => {
    const dies = `import { existsSync } from 'node:fs'; if (process.send && existsSync('die')) process.exit(7);`;
    const { url, port } = await serve(`${dies} ${config()}`, ['--no-watch'], 200);
    writeFileSync(join(cwd, 'die'), '');
    for (const { pid } of (await status()).workers) process.kill(pid, 'SIGKILL');
    await until(() => (program!.stderr.match(/"event":"worker-ended"/g) ?? []).length >= 2);
    const clients = Array.from({ length: 300 }, () => connect(port, '127.0.0.1').on('error', () => {}));
    await until(() => /"event":"connections-not-taken"/.test(program!.stderr));
    rmSync(join(cwd, 'die'));
    await until(areReady(2));
    for (const client of clients) client.destroy();
    expect((await get(`${url}/pid`)).status).toBe(200);
  });

  test('a worker that had no descriptor left gets connections again, and none has been lost', async () => {
    const { url } = await serve(leaking, ['--no-watch'], 200);
    const { body: pid } = await get(`${url}/leak`);
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(`${url}/pid`)));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
    await until(async () => (await get(`${url}/pid`)).body === pid);
  });

  test('connections wait while no worker has a descriptor left, and none is lost', async () => {
    const { url } = await serve(leaking, ['--no-watch'], 200);
    const pids = await Promise.all([get(`${url}/leak`), get(`${url}/leak`)]);
    expect(new Set(pids.map(({ body }) => body)).size).toBe(2);
    const answers = await Promise.all(Array.from({ length: 20 }, () => get(`${url}/pid`)));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect(program!.stderr).not.toContain('connections-not-taken');
  });

  test('a drain that is asked for twice while they start ends with 0, when they have', async () => {
    const slow = "if (process.send) { console.error('a worker'); await new Promise(go => setTimeout(go, 1_000)); }";
    const served = serve(`${slow} ${config()}`, ['--no-watch']);
    await until(() => program!.stderr.includes('a worker'));
    for (let i = 0; i < 2; i++) await admin('POST', '/v1/drain', { over: '1s' });
    await served;
    expect(await program!.ended).toBe(0);
  });

  test('one that stands still holds up neither the others nor the administration', async () => {
    const { url } = await serve();
    const [stopped, awake] = (await status()).workers;
    process.kill(stopped!.pid, 'SIGSTOP');
    try {
      // One of them is given to the one that stands still.
      for (let i = 0; i < 2; i++) get(`${url}/pid`).catch(() => {});
      await sleep(500);
      const before = Date.now();
      const bodies = (await Promise.all(Array.from({ length: 20 }, () => get(`${url}/pid`)))).map(({ body }) => body);
      expect(new Set(bodies)).toEqual(new Set([String(awake!.pid)]));
      expect((await status()).workers).toHaveLength(1);
      // What one of them is asked for all is asked of the other one.
      expect(await admin('GET', '/v1/sessions')).toMatchObject({ sessions: [] });
      expect(Date.now() - before).toBeLessThan(9_000);
    } finally {
      process.kill(stopped!.pid, 'SIGCONT');
    }
    await until(areReady(2));
  });

  test('those that stand still for longer than connections are held go on, with the sockets that they have', async () => {
    const { url } = await serve();
    const before = await openAtEach(url);
    for (const pid of before.keys()) process.kill(pid, 'SIGSTOP');
    // Several for each: the channel to a worker has one on the way at a time, and the others wait in this process.
    for (let i = 0; i < 20; i++) get(`${url}/pid`).catch(() => {});
    await until(() => /"event":"connections-not-taken"/.test(program!.stderr));
    for (const pid of before.keys()) process.kill(pid, 'SIGCONT');
    await until(areReady(2));
    expect((await status()).workers.map(({ pid }) => pid).sort()).toEqual([...before.keys()].sort());
    for (const [pid, socket] of before) expect(await pidOf(socket)).toBe(pid);
    expect(before.has(Number((await get(`${url}/pid`)).body))).toBe(true);
    expect(program!.stderr).not.toMatch(/"event":"worker-ended"/);
  });

  test('a port that is taken fails the start, with its reason', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise(resolve => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    await expect(serve(config().replace('port: 0', `port: ${port}`))).rejects.toThrow(
      new RegExp(`cannot listen on 127.0.0.1 port ${port}`),
    );
    expect(await program!.ended).toBe(1);
    other.close();
  });

  test('sessions in memory are an error where there are several', async () => {
    await expect(serve(config('', '').replace("'lmdb:sessions'", "'memory:'"))).rejects.toThrow(
      /session\.store: sessions in memory are of one worker/,
    );
    expect(await program!.ended).toBe(1);
  });

  test('a drain closes the sockets of all, and ends with 0', async () => {
    const { url } = await serve();
    const closed = [...(await openAtEach(url)).values()].map(closeOf);
    program!.kill('SIGTERM');
    expect(await Promise.all(closed)).toEqual([1001, 1001]);
    expect(await program!.ended).toBe(0);
  });

  test('a reload is one of all; one that is refused changes none', async () => {
    const { url } = await serve(config(), ['--no-watch']);
    const stays = await open(url);
    const added = `{ path: '/new', session: 'none', fetch: () => new Response('new ' + process.pid) },`;
    writeFileSync(join(cwd, 'holdfast.config.ts'), config('', added));
    expect(await admin('POST', '/v1/reload')).toMatchObject({
      ok: true,
      changed: expect.arrayContaining(['route added: /new']),
    });
    const bodies = new Set<string>();
    for (let i = 0; i < 10; i++) bodies.add((await get(`${url}/new`)).body);
    expect([...bodies].every(body => body.startsWith('new '))).toBe(true);
    expect(bodies.size).toBe(2);

    writeFileSync(join(cwd, 'holdfast.config.ts'), config('nonsense: true,', added));
    const refused = await admin<{ ok: boolean }>('POST', '/v1/reload').catch((error: Error) => error.message);
    expect(JSON.stringify(refused)).toMatch(/nonsense/);
    expect((await get(`${url}/new`)).status).toBe(200);
    expect(await pidOf(stays)).toBeGreaterThan(0);
  });

  test('where a module behind the configuration has changed, new workers take the places of all', async () => {
    const { url } = await serve();
    const before = await openAtEach(url);
    const closed = [...before.values()].map(closeOf);
    writeFileSync(join(cwd, 'greeting.js'), "export const greeting = 'welcome';\n");
    // Without a word: the file is watched.
    await until(async () => (await get(`${url}/greeting`)).body === 'welcome');
    expect(await Promise.all(closed)).toEqual([1012, 1012]);
    await until(areReady(2));
    for (let i = 0; i < 4; i++) expect((await get(`${url}/greeting`)).body).toBe('welcome');
    const { workers } = await status();
    expect(workers.some(({ pid }) => before.has(pid))).toBe(false);
    expect(program!.stderr).toMatch(/"event":"workers-rolled"/);
  });

  test('where a file behind handlers in threads has changed, workers stay, and new threads in each of them run it', async () => {
    const handlers = `
      import { greeting } from './greeting.js';
      export function onMessage(connection) { connection.send(process.pid + ' ' + greeting); }
    `;
    writeFileSync(join(cwd, 'handlers.js'), handlers);
    const { url } = await serve(`
      import { defineConfig, defineEndpoint } from '${index}';
      const handlers = new URL('./handlers.js', import.meta.url);
      export default defineConfig({
        workers: 2,
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: false,
        dispatch: { computing: { threads: 1 } },
        routes: [{ endpoint: defineEndpoint({ path: '/echo', dispatch: 'computing', handlers }) }],
      });
    `);
    const open = await openAtEach(url);
    const answers = () => Promise.all([...open.values()].map(answerOf));
    expect(await answers()).toEqual([...open.keys()].map(pid => `${pid} hello`));
    writeFileSync(join(cwd, 'greeting.js'), "export const greeting = 'welcome';\n");
    // Without a word: the file is watched.
    await until(async () => (await answers()).every(answer => answer.endsWith(' welcome')));
    expect((await status()).workers.map(({ pid }) => pid).sort()).toEqual([...open.keys()].sort());
    expect(program!.stderr).not.toMatch(/"event":"workers-rolled"/);
  });

  test('a broken module of endpoints is refused, taken once when it is mended, and run by no supervisor', async () => {
    const loadedBy = join(cwd, 'loaded-by');
    const write = (text: string) =>
      writeFileSync(
        join(cwd, 'endpoints/a.mjs'),
        `import { appendFileSync } from 'node:fs';
        import { defineEndpoint } from '${index}';
        appendFileSync(${JSON.stringify(loadedBy)}, process.pid + ' ');
        ${text}
        export default defineEndpoint({ path: '/a', onMessage: () => {} });`,
      );
    mkdirSync(join(cwd, 'endpoints'));
    write('');
    const text = 'workers: 2\nlisten: [{ port: 0, host: 127.0.0.1 }]\nsession: false\nendpoints: [endpoints/*.mjs]\n';
    writeFileSync(join(cwd, 'holdfast.yaml'), text);
    program = new Holdfast(['serve'], { cwd });
    await program.printed(/listening on/);
    // What changes before files are watched counts as known, and nothing tells when they are.
    await sleep(1_000);
    write("throw new Error('not today');");
    await until(() => program!.stderr.includes('endpoints/a.mjs cannot be loaded: not today'));
    write('// mended');
    await until(() => /"event":"reloaded"/.test(program!.stderr));
    // The file is looked at twice in this time.
    await sleep(1_500);
    expect(program!.stderr.match(/"event":"reload(?:ed|-refused)"/g)).toHaveLength(2);
    expect(readFileSync(loadedBy, 'utf8').split(' ')).not.toContain(String(program!.process.pid));
  });

  test('what changes while they are replaced reaches those that are new already', async () => {
    const { url } = await serve(config(), ['--no-watch']);
    const slow = "console.error('second version'); await new Promise(go => setTimeout(go, 2_000));";
    writeFileSync(join(cwd, 'greeting.js'), `${slow} export const greeting = 'welcome';\n`);
    await admin('POST', '/v1/reload', {});
    await until(() => program!.stderr.includes('second version'));
    // The first new one has loaded that, and does not serve yet.
    writeFileSync(join(cwd, 'greeting.js'), "export const greeting = 'good day';\n");
    await admin('POST', '/v1/reload', {});
    await until(async () => {
      const bodies = await Promise.all(Array.from({ length: 6 }, () => get(`${url}/greeting`)));
      return bodies.every(({ body }) => body === 'good day');
    });
  });

  test('a reload that is asked for while they start waits until they serve', async () => {
    const slow = "if (process.send) { console.error('a worker'); await new Promise(go => setTimeout(go, 2_000)); }";
    const served = serve(`${slow} ${config()}`, ['--no-watch']);
    await until(() => program!.stderr.includes('a worker'));
    const route = "{ path: '/new', session: 'none', fetch: () => new Response('new') },";
    writeFileSync(join(cwd, 'holdfast.config.ts'), config('', route));
    program!.kill('SIGHUP');
    const { url } = await served;
    await until(() => /"event":"reload(ed|-refused)"/.test(program!.stderr));
    expect(program!.stderr).not.toMatch(/"event":"reload-refused"/);
    for (let i = 0; i < 4; i++) expect((await get(`${url}/new`)).body).toBe('new');
  });

  test('a reload that closes the admin socket has its answer there, however long the workers take', async () => {
    const slow =
      'if (process.send && globalThis.isRead) await new Promise(go => setTimeout(go, 1_100)); globalThis.isRead = true;';
    await serve(`${slow} ${config()}`, ['--no-watch']);
    writeFileSync(join(cwd, 'holdfast.config.ts'), `${slow} ${config('admin: false,')}`);
    expect(await admin('POST', '/v1/reload')).toMatchObject({ ok: true });
    await expect(status()).rejects.toThrow(/ENOENT/);
  });

  test('there are more or fewer of them after a reload', async () => {
    const { url } = await serve(config('', '', 2), ['--no-watch']);
    const [stays] = [...(await openAtEach(url)).values()];
    writeFileSync(join(cwd, 'holdfast.config.ts'), config('', '', 3));
    await admin('POST', '/v1/reload');
    await until(areReady(3));
    writeFileSync(join(cwd, 'holdfast.config.ts'), config('', '', 1));
    await admin('POST', '/v1/reload');
    await until(areReady(1));
    expect((await status()).workers[0]!.worker).toBe(1);
    expect([WebSocket.OPEN, WebSocket.CLOSED]).toContain(stays!.readyState);
    expect((await get(`${url}/pid`)).status).toBe(200);
  });

  test('limits of all hold for all of them together, and a ban by hand for each', async () => {
    const { url } = await serve(
      config("policy: { limits: { connectionsPerAddress: 3, scope: 'all' } }, bans: { allow: ['192.0.2.1'] },", ''),
    );
    for (let i = 0; i < 3; i++) await open(url);
    // They tell each other within 200 ms.
    await sleep(500);
    await expect(open(url)).rejects.toThrow(/429/);
    await expect(open(url)).rejects.toThrow(/429/);
    await admin('POST', '/v1/bans', { address: '127.0.0.1', for: '1m' });
    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        get(`${url}/pid`).then(
          ({ status }) => status,
          () => 403,
        ),
      ),
    );
    expect(new Set(answers)).toEqual(new Set([403]));
  });

  test('levels, reopened files and followed lines are those of all', async () => {
    const { url } = await serve(
      config(`log: { access: { file: 'access.log', format: 'combined' } },`).replace(/log: \{ access: 'off' \},/, ''),
    );
    const follow = request({
      socketPath: join(cwd, '.holdfast/admin.sock'),
      path: '/v1/logs?access=true',
      agent: false,
    });
    const lines: string[] = [];
    follow.on('response', (response: IncomingMessage) => {
      response.setEncoding('utf8').on('data', (text: string) => lines.push(...text.trim().split('\n')));
    });
    follow.on('error', () => {}).end();
    await sleep(1_000);
    const hits = async () => {
      for (let i = 0; i < 6; i++) await get(`${url}/pid`);
    };
    await hits();
    await until(() => lines.filter(line => line.includes('/pid')).length >= 6);
    await until(() => readFileSync(join(cwd, 'access.log'), 'utf8').split('\n').length > 6);
    const { renameSync } = await import('node:fs');
    renameSync(join(cwd, 'access.log'), join(cwd, 'access.log.1'));
    program!.kill('SIGUSR2');
    await until(() => /"event":"logs-reopened"/.test(program!.stderr));
    await hits();
    await until(() => readFileSync(join(cwd, 'access.log'), 'utf8').split('\n').length > 6);
    expect(readFileSync(join(cwd, 'access.log.1'), 'utf8').split('\n')).toHaveLength(7);
    const levels = await admin<{ level: string }>('POST', '/v1/log/level', { level: 'debug' });
    expect(levels.level).toBe('debug');
    follow.destroy();
  });

  test('end by themselves when their supervisor is killed', async () => {
    const { url } = await serve();
    const [socket] = [...(await openAtEach(url)).values()];
    const closed = closeOf(socket!);
    const { workers } = await status();
    program!.kill('SIGKILL');
    expect(await closed).toBe(1012);
    await until(() => workers.every(({ pid }) => !isAlive(pid)));
  });

  test('end with their supervisor also while their start hangs', async () => {
    // A process that has something to do does not end by itself.
    const hanging = `{ endpoint: defineEndpoint({ path: '/hangs', onMessage() {}, init: () => {
      console.error('worker ' + process.pid);
      setInterval(() => {}, 1_000);
      return new Promise(() => {});
    } }) },`;
    const served = serve(config('', hanging), ['--no-watch']).catch(() => {});
    const pids = () => [...program!.stderr.matchAll(/^worker (\d+)$/gm)].map(([, pid]) => Number(pid));
    await until(() => program !== undefined && pids().length === 2);
    program!.kill('SIGTERM');
    try {
      await until(() => !pids().some(isAlive), 5_000);
    } finally {
      for (const pid of pids().filter(isAlive)) process.kill(pid, 'SIGKILL');
    }
    await served;
  });

  test('take over a listener at a socket file, and see its clients as local', async () => {
    await serve(
      config('', '').replace(
        "listen: [{ port: 0, host: '127.0.0.1' }]",
        "listen: [{ port: 0, host: '127.0.0.1' }, { socket: 'app.sock' }]",
      ),
    );
    const pids = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const socket: Socket = connect(join(cwd, 'app.sock'));
      let text = '';
      socket
        .setEncoding('utf8')
        .on('data', data => (text += data))
        .on('end', () => resolve(text))
        .on('error', reject);
      socket.write('GET /pid HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      pids.add(/\r\n\r\n[\s\S]*?(\d+)/.exec(await promise)![1]!);
    }
    expect(pids.size).toBe(2);
  });

  test('keep-alive connections stay with the worker that has them', async () => {
    const { url } = await serve();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const pids = new Set<string>();
    for (let i = 0; i < 10; i++) pids.add((await get(`${url}/pid`, { agent })).body);
    expect(pids.size).toBe(1);
    agent.destroy();
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
