import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Status } from '../../src/admin/shapes.ts';
import { Holdfast } from '../cli/run-holdfast.ts';
import { Inspected, type Living } from '../services/inspected.ts';
import { startRedis } from '../services/redis-server.ts';
import { until } from '../services/until.ts';
import { BusyBackend } from './busy-backend.ts';
import { BusyServer } from './busy-server.ts';
import { type Counts, Crowd } from './crowd.ts';

const MIB = 1024 * 1024;

/** What the server has when all clients have left and all that ends by itself has ended. */
export interface AtRest extends Living {
  readonly afterMs: number;
  readonly residentBytes: number;
  /** By what they lead to, without the number of each. */
  readonly descriptors: Readonly<Record<string, number>>;
  readonly storeBytes: number;
  /** Until then. */
  readonly counts: Counts;
  readonly reloads: number;
  readonly modules: number;
}

export interface RunOptions {
  /** How long clients come before the first look. */
  readonly warmUpMs: number;
  /** How often they come after that. */
  readonly rounds: number;
  readonly roundMs: number;
  readonly reloadEveryMs: number;
  /** How many of each kind come at once. */
  readonly each: number;
}

/**
 * Bytes that the heap may have more after a round than after the warm-up. Most of it is what V8 compiles and optimises
 * the longer it runs; objects are counted at the end.
 */
const HEAP_GROWTH = 8 * MIB;
/** What each version of a module of endpoints keeps for good, as Node lets go of none, with the code compiled of it. */
const MODULE_BYTES = 256 * 1024;
/** The same of memory outside of the heap, for all that was allocated in between. */
const RESIDENT_GROWTH = 1.5;
/** Each reload and each client had one of these, or several. */
const PASSING = [
  'Http1Server',
  'Http2Connection',
  'TLSSocket',
  'RunningRequests',
  'SessionManager',
  'RedisLink',
  'LeavingPart',
];
/** Those in force, those that leave, and those of closed WebSockets whose turn on the timer wheel has not come. */
const MOST_PASSING = 30;

/**
 * Starts everything, lets it live as the options say, and expects that nothing is left of what has been.
 *
 * @throws what was left, or what a client or an operator has seen that must not be.
 */
export async function soak(options: RunOptions): Promise<void> {
  await using redis = await startRedis();
  using first = await BusyBackend.listen();
  using second = await BusyBackend.listen();
  await using server = await BusyServer.start([first, second], redis);
  const crowd = new Crowd(server.served);
  const rests = await longRun(server, crowd, options);
  expect(Object.fromEntries(crowd.faults)).toEqual({});
  const errors = server.served.logged().filter(({ level, event }) => level === 'error' && event !== 'reload-refused');
  expect(errors).toEqual([]);
  const [warm, ...later] = rests as [AtRest, ...AtRest[]];
  for (const rest of later) {
    expect(rest.descriptors).toEqual(warm.descriptors);
    expect(rest.handles).toEqual(warm.handles);
    const kept = (rest.modules - warm.modules) * MODULE_BYTES;
    expect(rest.heapBytes - warm.heapBytes).toBeLessThan(HEAP_GROWTH + kept);
    expect(rest.residentBytes / warm.residentBytes).toBeLessThan(RESIDENT_GROWTH);
    expect(rest.storeBytes - warm.storeBytes).toBeLessThan(MIB);
  }
  using inspected = await Inspected.connect(server.served.program.stderr);
  const census = await inspected.census();
  const left = PASSING.map(name => [name, census.get(`object ${name}`) ?? 0] as const);
  expect(left.filter(([, count]) => count > MOST_PASSING)).toEqual([]);
}

/** Lets the crowd come and go, the operator reload, rotate logs and look, and says what is left after each round. */
async function longRun(server: BusyServer, crowd: Crowd, options: RunOptions): Promise<AtRest[]> {
  const begun = performance.now();
  const rests: AtRest[] = [];
  for (let round = 0; round <= options.rounds; round++) {
    const end = performance.now() + (round === 0 ? options.warmUpMs : options.roundMs);
    crowd.come(options.each);
    const hasEnded = () => performance.now() > end;
    await Promise.all([
      every(options.reloadEveryMs, hasEnded, () => server.reload()),
      every(3_000, hasEnded, () => server.rotateLogs()),
      // The admin API gives up a follower that has gone after some seconds, and has 16 at most.
      every(2_000, hasEnded, () => look(server)),
      every(5_000, hasEnded, () => followByCommand(server)),
    ]);
    await crowd.leave();
    const rest = await atRest(server, crowd, performance.now() - begun);
    rests.push(rest);
    console.log(said(rest));
  }
  return rests;
}

async function every(ms: number, hasEnded: () => boolean, act: () => Promise<void>): Promise<void> {
  while (!hasEnded()) {
    const next = performance.now() + ms;
    await act();
    await pause(Math.max(0, next - performance.now()));
  }
}

/** As dashboards and operators do. */
async function look({ admin, served }: BusyServer): Promise<void> {
  for (const path of ['status', 'sessions', 'connections', 'upstreams', 'bans', 'topics', 'limits', 'config'])
    await admin.get(`/v1/${path}`);
  await metricsOf(admin.path);
  const signal = AbortSignal.timeout(300);
  await Promise.all([
    admin.follow('/v1/trace', {}, () => {}, signal).catch(ignoreAbort),
    admin.follow('/v1/logs', { level: 'debug' }, () => {}, signal).catch(ignoreAbort),
  ]);
  // One that reads nothing, and breaks off.
  const deaf = connect(admin.path).on('error', () => {});
  deaf.write('GET /v1/trace HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await pause(100);
  deaf.destroy();
  if (!served.isAlive) throw new Error('the server has ended');
}

function ignoreAbort(error: Error): void {
  if (error.name !== 'AbortError' && !/aborted|gave no answer/.test(error.message)) throw error;
}

async function metricsOf(path: string): Promise<string> {
  const socket = connect(path);
  await once(socket, 'connect');
  socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  let text = '';
  for await (const part of socket.setEncoding('utf8')) text += part;
  return text;
}

async function followByCommand({ served: { folder } }: BusyServer): Promise<void> {
  const programs = [
    ['trace', '--path', '/app'],
    ['logs', '-f'],
  ].map(args => new Holdfast(args, { cwd: folder }));
  await pause(2_000);
  programs[0]!.kill('SIGINT');
  programs[1]!.kill('SIGKILL');
  await Promise.all(programs.map(({ ended }) => ended));
}

/** @throws when something does not end. */
async function atRest(server: BusyServer, crowd: Crowd, afterMs: number): Promise<AtRest> {
  const { served, admin } = server;
  let left = '';
  try {
    await until(async () => {
      const { counts } = await admin.get<Status>('/v1/status');
      const { sockets, handshakes, sessionsInMemory, sessionsInUse, bans } = counts;
      const metrics = await metricsOf(admin.path);
      const toBackends = [
        ...metrics.matchAll(/^holdfast_upstream_(?:connections|active|sockets)\{.*\} [1-9]\d*$/gm),
      ].map(String);
      const clients = clientsOf(server);
      const open = { sockets, handshakes, sessionsInMemory, sessionsInUse, bans, toBackends, clients };
      left = JSON.stringify(open);
      return Object.values(open).every(value => value === 0 || (Array.isArray(value) && value.length === 0));
    }, 60_000);
  } catch {
    throw new Error(`when all clients had left for a minute there was still something: ${left}`);
  }
  using inspected = await Inspected.connect(served.program.stderr);
  const living = await inspected.living();
  const descriptors = descriptorsOf(server);
  return {
    ...living,
    ...{ afterMs, descriptors, residentBytes: served.residentBytes(), storeBytes: server.storeBytes },
    ...{ counts: { ...crowd.counts }, reloads: server.reloads, modules: server.modules },
  };
}

/** Connections that the server has not closed yet, whatever became of the other end. */
function clientsOf({ served }: BusyServer): number {
  const ports = [served.port('http/1'), served.port('tls')].map(port =>
    port.toString(16).toUpperCase().padStart(4, '0'),
  );
  const ends = new RegExp(`^ *\\d+: \\w+:(?:${ports.join('|')}) \\w+:\\w+ (?!0A)(?:\\S+ +){6}[1-9]`, 'gm');
  return readFileSync('/proc/net/tcp', 'utf8').match(ends)?.length ?? 0;
}

function descriptorsOf({ served }: BusyServer): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const target of served.descriptors()) {
    const kind = target.replace(/\d{3,}/g, 'N');
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** For the record of who runs it. */
function said({
  afterMs,
  counts,
  reloads,
  modules,
  heapBytes,
  residentBytes,
  descriptors,
  storeBytes,
}: AtRest): string {
  const mib = (bytes: number) => `${(bytes / MIB).toFixed(1)} MiB`;
  const open = Object.values(descriptors).reduce((all, count) => all + count, 0);
  const done = Object.entries({ ...counts, reloads, modules }).map(([what, count]) => `${count} ${what}`);
  return `after ${Math.round(afterMs / 1_000)} s: ${done.join(', ')}; heap ${mib(heapBytes)}, resident ${mib(residentBytes)}, ${open} descriptors, store ${mib(storeBytes)}`;
}
