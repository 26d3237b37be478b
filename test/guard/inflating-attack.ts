import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import type { DeflateOptions } from '../../src/websocket/protocol/permessage-deflate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { Served, type Wire } from './served.ts';

/** Nobody waits longer. */
const LONGEST_MS = 5_000;
const crowd = fileURLToPath(new URL('./inflating-crowd.ts', import.meta.url));

/**
 * An echo for others, without compression and with it, and endpoints to attack; `/busy` says how long its event loop
 * was busy at a time.
 */
const module = `
const discard = { compression: true, onMessage() {} };
const echo = (connection, data) => void connection.send(data);
const beginning = (connection, data) => void connection.send(data.length + ' ' + data.slice(0, 4));
// The CPU time that passes from one tick of a timer to the next: what blocks the event loop shows in it on a busy
// machine, too.
let ticks = [];
const cpu = () => { const { user, system } = process.threadCpuUsage(); return (user + system) / 1000; };
let last = cpu();
setInterval(() => { const now = cpu(); ticks.push(now - last); last = now; }, 1);
const busy = () => {
  const sorted = ticks.sort((a, b) => a - b);
  ticks = [];
  return Response.json({ p99: sorted[Math.floor(sorted.length * 0.99)] ?? 0, most: sorted.at(-1) ?? 0, count: sorted.length });
};
const endpoint = options => ({ endpoint: defineEndpoint(options) });
export default defineConfig({ listen, session: false, routes: [
  endpoint({ path: '/attacked', ...discard }),
  endpoint({ path: '/attacked-1MiB', maxMessageSize: '1MiB', ...discard }),
  endpoint({ path: '/attacked-16MiB', maxMessageSize: '16MiB', ...discard }),
  endpoint({ path: '/attacked-echo', compression: true, onMessage: echo }),
  endpoint({ path: '/attacked-await', compression: true, async onMessage(c, d) { await undefined; c.send(d); } }),
  endpoint({ path: '/attacked-later', compression: true, async onMessage(c, d) { await new Promise(setImmediate); c.send(d); } }),
  { path: '/busy', fetch: busy },
  endpoint({ path: '/echo', onMessage: echo }),
  endpoint({ path: '/beginnings', compression: true, onMessage: beginning }),
  endpoint({ path: '/beginnings-later', compression: true, async onMessage(c, d) { await new Promise(setImmediate); beginning(c, d); } }),
  endpoint({ path: '/compressed', compression: { threshold: 1 }, onMessage: echo }),
] });
`;

export interface Latencies {
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
  readonly count: number;
}

export interface Attack {
  readonly wire: Wire;
  /** Attackers. 0: nobody attacks, for comparison. */
  readonly count: number;
  /** What their messages inflate to. 0: large ones that inflate to nothing, slowly. */
  readonly bytes: number;
  readonly path: string;
  readonly seconds: number;
}

export interface Damage {
  /** Of others without compression, and of others whose messages are compressed too, in milliseconds. */
  readonly plain: Latencies;
  readonly compressed: Latencies;
  /** CPU time in milliseconds that others wait for at most: between two looks at what has arrived. */
  readonly busy: { readonly p99: number; readonly most: number; readonly count: number };
  /** What the attack has added to the resident memory of the process at most. */
  readonly grownBytes: number;
}

export function attackedServer(): Promise<Served> {
  return Served.module(module);
}

/** Over HTTP/2 each client has a TCP connection of its own. */
export async function compressingClient(
  server: Served,
  wire: Wire,
  path: string,
  compression?: DeflateOptions,
): Promise<WebSocketClient> {
  if (wire === 'http/2') return (await Http2Client.connect(server.url(wire))).webSocket(path, {}, compression);
  return testClient(server.url(wire) + path, {
    tls: { rejectUnauthorized: false },
    ...(compression && { compression }),
  });
}

/** What others notice while a crowd in a process of its own sends what inflates to the limit. */
export async function attack(server: Served, { wire, count, bytes, path, seconds }: Attack): Promise<Damage> {
  await using plain = await compressingClient(server, wire, '/echo');
  await using compressed = await compressingClient(server, wire, '/compressed', { threshold: 1 });
  const url = server.url(wire).replace('localhost', '127.0.0.1');
  const attackers = spawn(process.execPath, [crowd, url, wire, path, `${count}`, `${bytes}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const memory = { before: server.residentBytes(), most: 0 };
  try {
    await once(attackers.stdout, 'data');
    await askBusy(server);
    const until = performance.now() + seconds * 1000;
    const [first, second] = await Promise.all([
      measure(plain, until, 10),
      // What 200 who flood leave for each is half of a hundredth of the time.
      measure(compressed, until, 50),
      watch(server, memory, until),
    ]);
    return { plain: first, compressed: second, busy: await askBusy(server), grownBytes: memory.most - memory.before };
  } finally {
    attackers.stdin.end();
    attackers.kill('SIGKILL');
    await once(attackers, 'close');
  }
}

/** Asking begins the count anew. */
async function askBusy(server: Served): Promise<Damage['busy']> {
  try {
    const answer = await fetch(`${server.url('http/1')}/busy`, { signal: AbortSignal.timeout(LONGEST_MS) });
    return (await answer.json()) as Damage['busy'];
  } catch {
    return { p99: LONGEST_MS, most: LONGEST_MS, count: 0 };
  }
}

async function watch(server: Served, memory: { most: number }, until: number): Promise<void> {
  while (performance.now() < until) {
    memory.most = Math.max(memory.most, server.residentBytes());
    await sleep(50);
  }
}

/**
 * The next message when the answer is there and a pause has passed. No answer counts as one that took as long as
 * anybody waits for it.
 */
async function measure(client: WebSocketClient, until: number, pauseMs: number): Promise<Latencies> {
  const times: number[] = [];
  while (performance.now() < until) {
    const start = performance.now();
    client.send(`a message of somebody else ${times.length}`);
    const answer = await Promise.race([client.receive(), sleep(LONGEST_MS, 'late' as const, { ref: false })]);
    if (answer === undefined) throw new Error('the connection ended');
    times.push(performance.now() - start);
    if (answer === 'late') break;
    await sleep(pauseMs);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => Math.round(times[Math.floor(share * times.length)]! * 10) / 10;
  return { p50: at(0.5), p99: at(0.99), most: at(1 - 1 / times.length), count: times.length };
}
