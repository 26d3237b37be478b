import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Comparison, Effort, Measured, Suite } from '../comparison.ts';
import { freePort } from '../free-port.ts';
import { type ServedGateway, startGateway, type Worker } from '../holdfast-serve.ts';
import type { ConnectOptions } from '../load/connect.ts';
import type { EchoOptions } from '../load/echo.ts';
import type { ForwardOptions } from '../load/forward.ts';
import { TEXT } from '../load/frames.ts';
import type { SurvivorsOptions, SurvivorsResult } from '../load/survivors.ts';
import type { WindowOptions } from '../load/window.ts';
import { connectionsOf } from '../process-usage.ts';
import { type Program, type Server, startLoad, startNodeServer, startServerOf } from '../program.ts';
import { inTurns, perMessage, TURN_MS } from '../turns.ts';

/** What a server of ours has behind it, and what it is asked by clients on kept connections. */
interface Work {
  readonly target: 'handler' | 'endpoint' | 'upstream' | 'relay';
  readonly unit: string;
  readonly limit: number;
}

/** What it writes and counts: arguments of `holdfast-operations.ts`. */
type Kept = readonly string[];

const requests = { unit: 'µs CPU/request', limit: 1.15 };
const messages = { unit: 'µs CPU/message', limit: 1.05 };

const CLIENTS = 64;
const SOCKETS = 100;

/** Two servers in one process, one that keeps this and one that keeps nothing, and what they need. */
async function startBoth({ target }: Work, kept: Kept, checkout: string | undefined) {
  await using parts = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-operations-'));
  parts.defer(() => rm(folder, { recursive: true }));
  const backend = parts.use(await startBackend(target));
  const subject = backend === null ? target : String(backend.port);
  const ports = [await freePort(), await freePort()] as const;
  const args = [subject, folder, ...ports.map(String), ...kept];
  const { pid } = parts.use(await startServerOf(checkout, 'holdfast-operations.ts', ...args));
  const all = parts.move();
  return { pid, ports, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

function startClients({ target }: Work, port: number, window: WindowOptions): Program {
  if (target === 'handler' || target === 'upstream') return startLoad('forward.ts', forwardOptions(port, window));
  return startLoad('echo.ts', {
    ...{ ...window, port, path: '/', protocol: 'plain', connections: SOCKETS },
    ...{ size: 64, opcode: TEXT, inFlight: 1 },
  } satisfies EchoOptions);
}

function windowOf(pid: number, { warmUpMs, measureMs }: Effort, byTurns?: true): WindowOptions {
  return byTurns ? { pid, warmUpMs, measureMs: TURN_MS, inTurns: true } : { pid, warmUpMs, measureMs };
}

function forwardOptions(port: number, window: WindowOptions): ForwardOptions {
  return { ...window, port, connections: CLIENTS, answerSize: 1024, requestSize: 0, hasSession: false };
}

async function startBackend(target: Work['target']): Promise<Server | null> {
  if (target === 'upstream') return startNodeServer('http-backend.ts');
  return target === 'relay' ? startNodeServer('ws.ts', 'echo') : null;
}

/**
 * CPU time for one request or message, in µs, with what is kept and without. Both servers are in one process: two processes
 * that do the same differ by more than logs cost, each time they are started.
 */
function keeping(row: string, work: Work, kept: Kept): Comparison {
  const alone = (index: 0 | 1) => async (effort: Effort) => {
    await using both = await startBoth(work, kept, effort.checkout);
    await using load = startClients(work, both.ports[index], windowOf(both.pid, effort));
    return perMessage(await load.next());
  };
  return {
    ...{ row: `${row}: ${kept.join(', ')}`, peer: 'without', unit: work.unit, limit: work.limit },
    ...{ ours: alone(0), theirs: alone(1) },
    async sideBySide(effort) {
      await using both = await startBoth(work, kept, effort.checkout);
      const window = windowOf(both.pid, effort, true);
      await using our = startClients(work, both.ports[0], window);
      await using their = startClients(work, both.ports[1], window);
      // The compiler is at work on what only one of them runs long after it is done with the rest.
      return await inTurns(our, their, { ...effort, warmUpMs: 2 * effort.warmUpMs });
    },
  };
}

const onRequests: readonly Kept[] = [
  ['metrics'],
  ['metrics', 'json'],
  ['metrics', 'combined'],
  ['metrics', 'LogFormat'],
  ['metrics', 'json', 'combined'],
];
const onMessages: readonly Kept[] = [['metrics'], ['metrics', 'json']];

/** Of two workers and of one process: a gateway before a backend of its own, and the load on it. */
async function startServed(workers: number, effort: Effort, load: 'kept' | 'new', byTurns?: true) {
  await using parts = new AsyncDisposableStack();
  const backend = parts.use(
    await (load === 'kept' ? startNodeServer('http-backend.ts') : startNodeServer('ws.ts', 'echo')),
  );
  const gateway = parts.use(await startGateway(backend.port, workers, effort.checkout));
  const window = windowOf(gateway.pid, effort, byTurns);
  const running = parts.use(
    load === 'kept'
      ? startLoad('forward.ts', forwardOptions(gateway.port, window))
      : startLoad('connect.ts', { ...window, port: gateway.port, path: '/', lines: 50 } satisfies ConnectOptions),
  );
  const all = parts.move();
  return { gateway, load: running, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** CPU time of all processes for one request or connection, in µs: of two workers with their supervisor, and of one process. */
function together(row: string, unit: string, load: 'kept' | 'new', limit: number | null): Comparison {
  const alone = (workers: number) => async (effort: Effort) => {
    await using served = await startServed(workers, effort, load);
    return perMessage(await served.load.next());
  };
  return {
    ...{ row: `${row}, two workers`, peer: 'one process', unit, limit },
    ...{ ours: alone(2), theirs: alone(1) },
    async sideBySide(effort) {
      await using our = await startServed(2, effort, load, true);
      await using their = await startServed(1, effort, load, true);
      return await inTurns(our.load, their.load, effort);
    },
  };
}

/** How much of all the busier of two workers has: up to 60 % passes. */
function share(
  what: string,
  measure: (gateway: ServedGateway, worker: Worker) => number | Promise<number>,
): Comparison {
  const ours = async (effort: Effort) => {
    await using served = await startServed(2, effort, 'kept', true);
    const { gateway, load } = served;
    load.tell(String(effort.warmUpMs));
    await load.next();
    // The load keeps its connections while it waits for its next turn.
    const each = await Promise.all((await gateway.workers()).map(worker => measure(gateway, worker)));
    return Math.max(...each) / each.reduce((sum, one) => sum + one, 0);
  };
  const theirs = async () => 0.5;
  return { ...{ row: `${what} of the busier worker`, peer: 'half of all', unit: 'share', limit: 1.2 }, ours, theirs };
}

/** At connections whose worker lives: the 99th percentile of their latencies behind the end of the other, and before. */
async function whileOneIsKilled(effort: Effort): Promise<Measured> {
  await using backend = await startNodeServer('http-backend.ts');
  await using gateway = await startGateway(backend.port, 2, effort.checkout);
  const [victim] = await gateway.workers();
  const options: SurvivorsOptions = {
    ...{ port: gateway.port, connections: CLIENTS, pauseMs: 50, victim: victim!.pid },
    ...{ warmUpMs: effort.warmUpMs, measureMs: effort.measureMs },
  };
  await using load = startLoad('survivors.ts', options);
  const { beforeP99Ms, afterP99Ms, survivors, lost } = await load.next<SurvivorsResult>();
  if (lost === 0 || survivors === 0) throw new Error(`${lost} connections were lost, and ${survivors} were not`);
  return { ours: afterP99Ms, theirs: beforeP99Ms };
}

const killed: Comparison = {
  ...{ row: 'p99, while the other of two workers is killed', peer: 'before', unit: 'ms', limit: 3, about: 'peers' },
  ours: async effort => (await whileOneIsKilled(effort)).ours,
  theirs: async effort => (await whileOneIsKilled(effort)).theirs,
  sideBySide: whileOneIsKilled,
};

export const suite: Suite = {
  title: `logs and metrics on against off, ${CLIENTS} clients and ${SOCKETS} WebSockets on kept connections`,
  comparisons: [
    ...onRequests.map(kept => keeping('GET, handler', { target: 'handler', ...requests }, kept)),
    ...onRequests.map(kept => keeping('GET, forwarded', { target: 'upstream', ...requests }, kept)),
    ...onMessages.map(kept => keeping('echo 64 B, endpoint', { target: 'endpoint', ...messages }, kept)),
    ...onMessages.map(kept => keeping('echo 64 B, relay', { target: 'relay', ...messages }, kept)),
    together('GET, forwarded', 'µs CPU/request', 'kept', 1.1),
    together('relay: connect, one echo, reset', 'µs CPU/connect', 'new', null),
    share('connections', ({ port }, { pid }) => connectionsOf(pid, port)),
    share('requests', async (gateway, { worker }) => (await gateway.requests()).get(worker) ?? 0),
    killed,
  ],
};
