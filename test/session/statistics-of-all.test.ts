import { hostname } from 'node:os';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { sumStatistics } from '../../src/session/reports/sums.ts';
import { Cluster, type Process, settle, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

let cluster: Cluster;
const running: Process[] = [];
beforeEach(() => {
  cluster = new Cluster(new FaultyStore());
});
afterEach(async () => {
  for (const { manager } of running.splice(0)) await manager.close();
});

async function start(options = {}): Promise<Process> {
  const process = cluster.process(options);
  await process.manager.start();
  running.push(process);
  return process;
}

test('the counters of all processes are one sum, and each has its row', async () => {
  const [one, two, three] = [await start(), await start(), await start()];
  const { cookie, sid } = await visit(one, undefined, session => session.set('a', 'x'.repeat(500)));
  await visit(two, undefined, () => {});
  await visit(two, cookie, () => {});
  await three.manager.end(sid, 'admin');
  const { sum, processes, machines, isComplete } = await two.manager.statisticsOfAll();
  expect(sum).toMatchObject({
    created: 2,
    ended: 1,
    endedBy: { admin: 1 },
    affinityBreaks: 1,
    size: { count: 3, max: one.manager.statistics().size.max },
  });
  expect(sum).toEqual(sumStatistics([two, one, three].map(({ manager }) => manager.statistics())));
  expect(processes.map(({ statistics }) => statistics.created)).toEqual([1, 1, 0]);
  expect(processes[0]!.statistics).toEqual(two.manager.statistics()); // itself first
  expect(processes.map(({ host, pid, since }) => [host, pid, since])).toEqual(
    Array(3).fill([hostname(), process.pid, cluster.clock.now()]),
  );
  expect(machines).toEqual([{ host: hostname(), processes: 3, sum }]);
  expect(isComplete).toBe(true);
});

test('a process that has gone is missed once, and then forgotten', async () => {
  const one = await start();
  const ledger = new (class extends MemoryLedger {
    override async subscribe(channel: string, listener: (message: string) => void) {
      return cluster.ledger.subscribe(channel, message => this.isDead || listener(message));
    }
    override publish(channel: string, message: string) {
      return cluster.ledger.publish(channel, message);
    }
    isDead = false;
  })();
  const two = await start({ ledger });
  await visit(two, undefined, () => {});
  expect((await one.manager.statisticsOfAll()).processes).toHaveLength(2);
  ledger.isDead = true;
  expect(await one.manager.statisticsOfAll()).toMatchObject({ processes: { length: 1 }, isComplete: false });
  expect(await one.manager.statisticsOfAll()).toMatchObject({ processes: { length: 1 }, isComplete: true });
});

test('a ledger that cannot be reached leaves the process alone, and sessions untouched', async () => {
  const one = await start();
  await start();
  cluster.ledger.publish = async () => {
    throw new Error('connection refused');
  };
  await visit(one, undefined, () => {});
  expect(await one.manager.statisticsOfAll()).toMatchObject({
    sum: { created: 1 },
    processes: { length: 1 },
    isComplete: false,
  });
  expect(one.log).toContainEqual(expect.objectContaining({ message: expect.stringContaining('could not be asked') }));
});

test('sessions of another cookie that share the ledger are not in the sum', async () => {
  const one = await start();
  const other = await start({ cookie: { name: 'other' } });
  const path = await start({ cookie: { name: 'sid', path: '/shop' } });
  for (const process of [other, path]) await visit(process, undefined, () => {});
  expect(await one.manager.statisticsOfAll()).toMatchObject({ sum: { created: 0 }, processes: { length: 1 } });
});

test('nothing is written or told as long as nobody asks', async () => {
  const told: string[] = [];
  const { publish } = cluster.ledger;
  cluster.ledger.publish = (channel, message) => {
    told.push(channel);
    return publish.call(cluster.ledger, channel, message);
  };
  const [one] = [await start(), await start()];
  await visit(one, undefined, () => {});
  await cluster.clock.advance(3_600_000 / 4);
  expect(told).toEqual([]);
});

test('what others say that is not statistics counts as nothing', async () => {
  const one = await start();
  await cluster.ledger.subscribe('session-statistics', message => {
    const { id } = JSON.parse(message) as { id: string };
    const answers = [
      'no JSON',
      '[]',
      'null',
      '{"process":1}',
      `{"process":"p0","host":"h","pid":1,"since":1,"statistics":"${'x'.repeat(70_000)}"}`,
      '{"process":"p1","host":"h","pid":1,"since":1,"statistics":null}',
      '{"process":"p2","host":"h","pid":2,"since":1,"statistics":{"created":"5","ended":1e999,"slowest":[null,{"ms":1}],"reads":{"count":3}}}',
      '{"process":"p3","host":"h","pid":3,"since":1,"statistics":{"created":2,"__proto__":{"gone":1},"newer":7}}',
    ];
    for (const answer of answers) void cluster.ledger.publish(`session-statistics ${id}`, answer);
  });
  const { sum, processes, machines } = await one.manager.statisticsOfAll();
  expect(processes.map(({ pid }) => pid)).toEqual([process.pid, 1, 2, 3]);
  expect(sum).toEqual({
    ...one.manager.statistics(),
    created: 2,
    reads: { ...one.manager.statistics().reads, count: 3 },
  });
  expect(machines.map(({ host, processes }) => [host, processes])).toEqual([
    [hostname(), 1],
    ['h', 3],
  ]);
});

test('a manager that is started several times at once listens once, and not at all once it is closed', async () => {
  const listening = new Map<string, number>();
  const { subscribe } = cluster.ledger;
  cluster.ledger.subscribe = async (channel, listener) => {
    const unsubscribe = await subscribe.call(cluster.ledger, channel, listener);
    await settle();
    listening.set(channel, (listening.get(channel) ?? 0) + 1);
    return async () => {
      listening.set(channel, listening.get(channel)! - 1);
      await unsubscribe();
    };
  };
  const one = cluster.process();
  await Promise.all([one.manager.start(), one.manager.start(), one.manager.start()]);
  expect(listening.get('session-statistics')).toBe(1);
  await one.manager.close();
  expect([...listening.values()].filter(count => count !== 0)).toEqual([]);
});

test('where listening has failed a second start tries again', async () => {
  const two = await start();
  await visit(two, undefined, () => {});
  const { subscribe } = cluster.ledger;
  let isAway = true;
  cluster.ledger.subscribe = async (channel, listener) => {
    if (isAway && channel === 'session-statistics') throw new Error('connection refused');
    return subscribe.call(cluster.ledger, channel, listener);
  };
  const one = cluster.process();
  running.push(one);
  await expect(one.manager.start()).rejects.toThrow();
  isAway = false;
  await one.manager.start();
  expect((await two.manager.statisticsOfAll()).processes).toHaveLength(2);
});

test('several who ask at once are asked for together', async () => {
  const [one, two] = [await start(), await start()];
  const [first, second] = [one.manager.statisticsOfAll(), one.manager.statisticsOfAll()];
  expect(first).toBe(second);
  expect((await first).processes).toHaveLength(2);
  expect((await two.manager.statisticsOfAll()).processes).toHaveLength(2);
});
