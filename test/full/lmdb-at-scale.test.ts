import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { LmdbLedger } from '../../src/session/ledgers/lmdb.ts';
import type { SessionRecord } from '../../src/session/store.ts';
import { LmdbStore } from '../../src/session/stores/lmdb.ts';
import type { PeerReport } from '../session/ledgers/lmdb-peer.ts';

const NOW = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;
const AT_ONCE = 256;
const USERS = 1_000;
const SIZES = [10_000, 100_000] as const;

const folders: string[] = [];
afterAll(() => Promise.all(folders.map(path => rm(path, { recursive: true }))));

function record(index: number): SessionRecord {
  return {
    // Every second one expires before the others.
    header: {
      secretHash: 'h'.repeat(43),
      createdAt: NOW,
      owner: { name: `user-${index % USERS}`, roles: ['user'] },
      idleTimeoutMs: index % 2 ? 10 * MINUTE : 120 * MINUTE,
      absoluteExpiresAt: NOW + 720 * MINUTE,
    },
    version: 1,
    lastAccessedAt: NOW,
    attributes: new Map([['cart', { value: Buffer.alloc(1_024, index % 256), version: 1 }]]),
  };
}

const sidOf = (index: number) => `session-${index.toString(36).padStart(12, '0')}`;

interface Measured {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

/** Calls for 0 to count, so many at the same time. Latencies in milliseconds. */
async function measure(count: number, atOnce: number, call: (index: number) => Promise<unknown>): Promise<Measured> {
  const latencies = new Float64Array(count);
  let next = 0;
  const startedAt = performance.now();
  const work = async () => {
    for (let index = next++; index < count; index = next++) {
      const calledAt = performance.now();
      await call(index);
      latencies[index] = performance.now() - calledAt;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  const seconds = (performance.now() - startedAt) / 1_000;
  latencies.sort();
  return { perSecond: count / seconds, p50: latencies[count >> 1]!, p99: latencies[Math.floor(count * 0.99)]! };
}

/**
 * How long `work` took, and the longest time that it kept the event loop from anything else: as a clock saw it, and
 * without what the machine spent on others meanwhile. Milliseconds.
 */
async function watched<T>(work: () => Promise<T>): Promise<{ result: T; ms: number; stall: number; busy: number }> {
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1_000;
  };
  let [stall, busy] = [0, 0];
  let last = { at: performance.now(), cpu: cpuMs() };
  const look = () => {
    const now = { at: performance.now(), cpu: cpuMs() };
    stall = Math.max(stall, now.at - last.at - 1);
    busy = Math.max(busy, now.cpu - last.cpu);
    last = now;
  };
  const timer = setInterval(look, 1);
  const startedAt = performance.now();
  const result = await work();
  const ms = performance.now() - startedAt;
  await wait(5);
  clearInterval(timer);
  return { result, ms, stall, busy };
}

/** Megabytes: the process's own, and of files that it has mapped, which the system takes back when it needs them. */
function memory(): { own: number; mapped: number } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const megabytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)![1]) / 1_024;
  return { own: megabytes('RssAnon'), mapped: megabytes('RssFile') + megabytes('RssShmem') };
}

async function run(size: number) {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-scale-'));
  folders.push(path);
  let store = new LmdbStore({ path });
  const create = await measure(size, AT_ONCE, index => store.create(sidOf(index), record(index)));
  await store.close();
  const bytes = (await stat(join(path, 'data.mdb'))).size;

  const before = memory();
  const openedAt = performance.now();
  store = new LmdbStore({ path });
  expect(await store.count()).toBe(size);
  const startMs = performance.now() - openedAt;
  const opened = memory();

  const random = () => sidOf(Math.floor(Math.random() * size));
  const glance = await measure(20_000, 1, async () => store.glance(random()));
  const read = await measure(20_000, 1, () => store.read(random()));
  const value = Buffer.alloc(1_024, 1);
  const commit = await measure(10_000, AT_ONCE, () => store.commit(random(), { set: new Map([['cart', value]]) }));
  const commitAlone = await measure(100, 1, () => store.commit(random(), { set: new Map([['cart', value]]) }));
  const owner = await measure(200, 1, index => store.sidsOf(`user-${index}`));
  expect(await store.sidsOf('user-1')).toHaveLength(size / USERS);

  // All are in use: each index entry is early.
  const accesses = new Map(Array.from({ length: size }, (_, index) => [sidOf(index), NOW + 5 * MINUTE]));
  const touch = await watched(() => store.touch(accesses));
  const correct = await watched(() => store.expired(NOW + 14 * MINUTE, 500));
  expect(correct.result).toEqual([]);

  // Half of them expire, and are ended as the sweeper does it.
  const now = NOW + 20 * MINUTE;
  const sweep = await watched(async () => {
    let ended = 0;
    for (;;) {
      const sids = await store.expired(now, 500);
      for (let start = 0; start < sids.length; start += 50) {
        const claims = sids.slice(start, start + 50).map(sid => store.delete(sid, now));
        ended += (await Promise.all(claims)).filter(Boolean).length;
      }
      if (sids.length < 500) return ended;
    }
  });
  expect(sweep.result).toBe(size / 2);
  expect(await store.count()).toBe(size / 2);
  const all = await watched(() => store.expired(NOW + 1_000 * MINUTE, size));
  expect(all.result).toHaveLength(size / 2);
  const list = await watched(async () => {
    let listed = 0;
    for await (const _sid of store.sids()) listed++;
    return listed;
  });
  expect(list.result).toBe(size / 2);
  const worked = memory();
  await store.close();
  return {
    ...{ create, startMs, glance, read, commit, commitAlone, owner, touch, correct, sweep, all, list },
    bytesPerSession: bytes / size,
    ...{ before, opened, worked },
  };
}

test.skipIf(process.platform !== 'linux')(
  '100,000 sessions in lmdb: what each call costs hardly grows, and nothing stalls the process',
  async () => {
    const small = await run(SIZES[0]);
    const large = await run(SIZES[1]);
    print(small, large);

    expect(large.startMs, 'start').toBeLessThan(500);
    expect(large.bytesPerSession, 'bytes on disk per session').toBeLessThan(5_000);
    expect(large.opened.own - large.before.own, 'own memory after opening').toBeLessThan(20);
    expect(large.worked.own - large.before.own, 'own memory after everything was read and written').toBeLessThan(400);
    expect(large.worked.mapped - large.before.mapped, 'mapped memory').toBeLessThan(1_000);

    // What a call costs follows the depth of a tree: one more level at most.
    for (const call of ['glance', 'read', 'owner'] as const) {
      expect(large[call].p50, `${call} p50 at 100,000`).toBeLessThan(10 * small[call].p50 + 0.5);
      expect(large[call].p99, `${call} p99`).toBeLessThan(20);
    }
    expect(large.glance.perSecond, 'glances').toBeGreaterThan(20_000);
    expect(large.read.perSecond, 'reads').toBeGreaterThan(5_000);
    for (const call of ['create', 'commit'] as const) {
      expect(large[call].perSecond, `${call} per second`).toBeGreaterThan(small[call].perSecond / 5);
      expect(large[call].perSecond, `${call} per second`).toBeGreaterThan(500);
      expect(large[call].p99, `${call} p99`).toBeLessThan(1_000);
    }
    for (const work of ['touch', 'correct', 'sweep', 'all', 'list'] as const) {
      expect(large[work].busy, `the longest stall by ${work}, without others`).toBeLessThan(50);
      expect(large[work].stall, `the longest stall by ${work}`).toBeLessThan(250);
      // Ten times as many take ten times as long, not a hundred times.
      expect(large[work].ms, work).toBeLessThan(40 * small[work].ms + 1_000);
    }
  },
);

type Results = Awaited<ReturnType<typeof run>>;

function print(...results: Results[]): void {
  const calls = ['create', 'commit', 'commitAlone', 'read', 'glance', 'owner'] as const;
  const works = ['touch', 'correct', 'sweep', 'all', 'list'] as const;
  const rows: Record<string, Record<string, string>> = {};
  for (const [index, result] of results.entries()) {
    const size = SIZES[index]!.toLocaleString('en');
    const add = (row: string, text: string) => {
      rows[row] = { ...rows[row], [size]: text };
    };
    for (const call of calls) {
      const { perSecond, p50, p99 } = result[call];
      add(call, `${Math.round(perSecond)}/s, p50 ${p50.toFixed(3)} ms, p99 ${p99.toFixed(3)} ms`);
    }
    for (const work of works) {
      const { ms, stall, busy } = result[work];
      add(work, `${ms.toFixed(0)} ms, longest stall ${stall.toFixed(1)} ms (own ${busy.toFixed(1)} ms)`);
    }
    add('start', `${result.startMs.toFixed(1)} ms`);
    add('disk', `${result.bytesPerSession.toFixed(0)} bytes per session`);
    for (const moment of ['before', 'opened', 'worked'] as const) {
      const { own, mapped } = result[moment];
      add(`memory ${moment}`, `${own.toFixed(0)} MB own, ${mapped.toFixed(0)} MB mapped`);
    }
  }
  console.table(rows);
}

test('an event reaches another process within milliseconds, and facts cost what a synced write costs', async () => {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-scale-'));
  folders.push(path);
  const ledger = new LmdbLedger({ path });
  const put = await measure(20_000, AT_ONCE, index => ledger.putIfAbsent(`fact-${index}`, 'value', MINUTE));
  const increment = await measure(20_000, AT_ONCE, index => ledger.increment(`counter-${index % 8}`, 1, MINUTE));
  const get = await measure(20_000, 1, index => ledger.get(`fact-${index}`));
  const take = await measure(20_000, AT_ONCE, index => ledger.take(`fact-${index}`));

  const program = fileURLToPath(new URL('../session/ledgers/lmdb-peer.ts', import.meta.url));
  const peer = fork(program, [path], { execArgv: ['-C', 'holdfast-source'], serialization: 'advanced' });
  const heardAt = new Map<string, bigint>();
  peer.on('message', (report: PeerReport) => {
    if (report.is === 'heard') heardAt.set(report.message, report.at);
  });
  await once(peer, 'message');
  peer.send({ do: 'listen' });
  await once(peer, 'message');
  const calledAt = new Map<string, bigint>();
  const acknowledgedAt = new Map<string, bigint>();
  for (let index = 0; index < 1_000; index++) {
    const message = `message ${index}`;
    calledAt.set(message, process.hrtime.bigint());
    await ledger.publish('c', message);
    acknowledgedAt.set(message, process.hrtime.bigint());
    await wait(2);
  }
  await expect.poll(() => heardAt.size, { timeout: 5_000 }).toBe(1_000);
  const since = (times: ReadonlyMap<string, bigint>) => {
    const all = Array.from(times, ([message, at]) => Number(heardAt.get(message)! - at) / 1e6).sort((a, b) => a - b);
    return { p50: all[500]!, p99: all[990]! };
  };
  const [afterCall, afterWrite] = [since(calledAt), since(acknowledgedAt)];
  peer.kill();
  await ledger.close();

  const latency = ({ p50, p99 }: { p50: number; p99: number }) => `p50 ${p50.toFixed(3)} ms, p99 ${p99.toFixed(3)} ms`;
  const rate = (measured: Measured) => `${Math.round(measured.perSecond)}/s, ${latency(measured)}`;
  console.table({
    ...{ putIfAbsent: rate(put), 'increment (8 keys)': rate(increment), get: rate(get), take: rate(take) },
    'publish to listener': latency(afterCall),
    'written to listener': latency(afterWrite),
  });
  expect(put.perSecond).toBeGreaterThan(500);
  expect(increment.perSecond).toBeGreaterThan(500);
  expect(afterCall.p50).toBeLessThan(20);
  expect(afterWrite.p50).toBeLessThan(5);
  expect(afterCall.p99).toBeLessThan(500);
});
