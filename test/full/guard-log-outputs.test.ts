import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { Served } from '../guard/served.ts';
import { accepts, freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

const ROUTES = `
trustedProxies: [127.0.0.1]
upstreams: { gone: { servers: [http://127.0.0.1:1], ejection: false } }
session: false
routes:
  - { path: /a, redirect: /b }
  - { path: /gone/*, upstream: gone }
  - { path: /guarded/*, upstream: gone, policy: { origins: [https://allowed.example], transport: confidential } }
`;

const get = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`;

/**
 * Sends them all on one connection, a hundred at a time. @returns the status of each answer, and the longest wait for a
 * hundred.
 */
async function send(port: number, requests: readonly string[]) {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.setEncoding('latin1');
  const statuses: number[] = [];
  let longestMs = 0;
  try {
    for (let start = 0; start < requests.length; start += 100) {
      const batch = requests.slice(start, start + 100);
      const begun = performance.now();
      socket.write(batch.join(''));
      statuses.push(...(await answers(socket, batch.length)));
      longestMs = Math.max(longestMs, performance.now() - begun);
    }
  } finally {
    socket.destroy();
  }
  return { statuses, longestMs };
}

/** Each from an address of its own, and with a long line in the log. */
function refusals(count: number, network: number): string[] {
  const origin = `https://${'x'.repeat(180)}.example`;
  return Array.from({ length: count }, (_, i) =>
    get(`/guarded/${i}`, `X-Forwarded-For: 10.${network}.${i >> 8}.${i & 255}\r\nOrigin: ${origin}\r\n`),
  );
}

async function answers(socket: Socket, count: number): Promise<number[]> {
  const statuses: number[] = [];
  let text = '';
  const limit = AbortSignal.timeout(15_000);
  while (statuses.length < count) {
    const [more] = (await once(socket, 'data', { signal: limit })) as [string];
    text += more;
    const whole = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)];
    statuses.push(...whole.map(([, status]) => Number(status)));
    // The end of one status line may be in the next piece.
    text = text.slice(-12);
  }
  return statuses;
}

describe('an output that nobody reads', () => {
  let server: Served;
  beforeAll(async () => {
    server = await Served.yaml(`log: { access: json }\n${ROUTES}`);
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  test('a stalled stdout and stderr delay nobody, lines of the access log are dropped, and it is said once how many', async () => {
    const { stdout, stderr } = server.program.process;
    const port = server.port('http/1');
    stdout!.pause();
    stderr!.pause();
    const before = server.residentBytes();
    // Lines of 1 KiB: more than 1 MiB of them, and whatever the operating system keeps for a reader.
    const plain = Array.from({ length: 4_000 }, (_, i) => get(`/a?${i}-${'x'.repeat(1_000)}`));
    const { statuses, longestMs } = await send(port, [...refusals(900, 0), ...plain]);
    expect(statuses.filter(status => status === 308)).toHaveLength(4_000);
    expect(statuses.filter(status => status === 403)).toHaveLength(900);
    expect(longestMs).toBeLessThan(5_000);
    expect(server.residentBytes() - before).toBeLessThan(100 * 1024 * 1024);

    stdout!.resume();
    stderr!.resume();
    const lines = () => server.logged();
    const dropped = await until(() => lines().find(({ event }) => event === 'log-lines-dropped'));
    expect(dropped).toMatchObject({ output: 'stdout', code: 'EAGAIN', securityLines: 0, lines: expect.any(Number) });
    const received = () => lines().filter(({ event, target }) => event === 'request' && String(target).startsWith('/'));
    await until(() => received().length + (dropped.lines as number) === 4_900);
    expect(received().length).toBeGreaterThan(1_000);
    expect(lines().filter(({ event }) => event === 'log-lines-dropped')).toHaveLength(1);
    // Every refusal has its line: they came from 900 addresses.
    expect(new Set(lines().flatMap(line => (line.event === 'refused' ? [line.address] : []))).size).toBe(900);
  });

  test('a closed stdout ends no request, and the log says so once', async () => {
    server.program.process.stdout!.destroy();
    const { statuses } = await send(server.port('http/1'), Array(300).fill(get('/a')));
    expect(statuses).toEqual(Array(300).fill(308));
    const failed = () => server.logged().filter(({ event }) => event === 'log-output-failed');
    await until(() => failed().length > 0);
    expect(failed()).toEqual([expect.objectContaining({ level: 'error', output: 'stdout', code: 'EPIPE' })]);
  });

  test('a stdout that is closed and a stderr that nobody reads do not keep the process from ending with 0', async () => {
    server.program.process.stderr!.pause();
    await send(server.port('http/1'), refusals(900, 7));
    const exited = once(server.program.process, 'exit');
    server.program.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });
});

test('a server whose stderr is a full disk and whose stdout is closed answers, and ends with 0', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-guard-'));
  const full = openSync('/dev/full', 'w');
  const port = await freePort();
  const config = `listen: [{ port: ${port}, host: 127.0.0.1 }]\nlog: { access: combined, level: debug }\n${ROUTES}`;
  writeFileSync(join(folder, 'holdfast.yaml'), config);
  const program = new Holdfast(['serve'], { cwd: folder, stdio: ['ignore', 'pipe', full] });
  try {
    await until(() => accepts(port));
    program.process.stdout!.destroy();
    const { statuses } = await send(port, [...Array(200).fill(get('/a')), ...Array(200).fill(get('/nowhere'))]);
    expect(statuses).toEqual([...Array(200).fill(308), ...Array(200).fill(404)]);
    program.kill('SIGTERM');
    expect(await program.ended).toBe(0);
  } finally {
    program.kill('SIGKILL');
    closeSync(full);
    rmSync(folder, { recursive: true });
  }
});

describe('what a client or an outage can make of the log', () => {
  let folder: string;
  let program: Holdfast;
  let port: number;
  let log: number;
  const file = () => join(folder, 'error.log');
  const lines = () =>
    readFileSync(file(), 'utf8')
      .trim()
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line) as Record<string, unknown>);
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-guard-'));
    writeFileSync(
      join(folder, 'holdfast.yaml'),
      `listen: [{ port: 0, host: 127.0.0.1 }]\nlog: { level: debug }\n${ROUTES}`,
    );
    log = openSync(file(), 'a');
    program = new Holdfast(['serve'], { cwd: folder, stdio: ['ignore', 'pipe', log] });
    port = Number((await program.printed(/listening on http:.*:(\d+)/))[1]);
  });
  afterAll(async () => {
    program.kill('SIGKILL');
    await program.ended;
    closeSync(log);
    rmSync(folder, { recursive: true });
  });

  test.each([
    ['404s of paths of its choice', (i: number) => get(`/nowhere/${i}`), 404],
    ['requests to a backend that is away', (i: number) => get(`/gone/${i}`), 503],
    [
      'bad handshakes with varied headers',
      (i: number) =>
        get(`/gone/${i}`, `Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: ${i}\r\n`),
      undefined,
    ],
    [
      'methods of its choice',
      (i: number) => `M${'ABCDEFGHIJ'[i % 10]} /a HTTP/1.1\r\nHost: localhost\r\n\r\n`,
      undefined,
    ],
  ] as const)('%s make a bounded number of lines', async (_, request, status) => {
    const before = statSync(file()).size;
    if (status === undefined) {
      // Each of these ends its connection.
      for (let i = 0; i < 300; i++) await exchange(port, request(i));
    } else {
      const { statuses } = await send(
        port,
        Array.from({ length: 3_000 }, (_, i) => request(i)),
      );
      expect(statuses).toEqual(Array(3_000).fill(status));
    }
    // No more is written, either.
    await wait(50);
    expect(statSync(file()).size - before).toBeLessThan(8_000);
  });

  test('refusals of one address have a line each up to a rate, and those of another address still have theirs', async () => {
    const from = (address: string) => get('/guarded/x', `X-Forwarded-For: ${address}\r\n`);
    const seen = (address: string) => lines().filter(line => line.event === 'refused' && line.address === address);
    await send(port, Array(500).fill(from('198.51.100.1')));
    await send(port, Array(5).fill(from('198.51.100.2')));
    await until(() => seen('198.51.100.2').length === 5);
    expect(seen('198.51.100.1')).toHaveLength(20);
    // An IPv6 client has a /64 of addresses.
    await send(
      port,
      Array.from({ length: 500 }, (_, i) => from(`2001:db8:0:7::${i.toString(16)}`)),
    );
    await send(port, [from('2001:db8:0:8::1')]);
    await until(() => seen('2001:db8:0:8::1').length === 1);
    expect(lines().filter(line => String(line.address).startsWith('2001:db8:0:7:'))).toHaveLength(20);
  });

  test('the counts follow, at the latest when the server stops', async () => {
    program.kill('SIGTERM');
    expect(await program.ended).toBe(0);
    const counted = (fields: object) =>
      lines()
        .filter(line => Object.entries(fields).every(([key, value]) => line[key] === value))
        .reduce((sum, line) => sum + (Number(line.repeated) || 1), 0);
    expect(counted({ event: 'refused', status: 404 })).toBe(3_000);
    expect(counted({ msg: 'upstream failed' })).toBeGreaterThanOrEqual(3_000);
    expect(counted({ event: 'refused', address: '198.51.100.1' })).toBe(500);
  });
});

async function exchange(port: number, request: string): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {}).resume();
  socket.write(request);
  await once(socket, 'data');
  socket.destroy();
}
