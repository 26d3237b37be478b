import { expect, test } from 'vitest';
import { StoreClock } from '../../src/session/process/store-clock.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Cluster, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const AHEAD = 31 * 60_000;
const HOUR = 3_600_000;

/** A store on a machine whose clock is behind ours. */
class TimedStore extends FaultyStore {
  interruptions = 0;
  asked = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    super();
    this.#now = now;
  }

  async time(): Promise<number> {
    this.asked++;
    if (this.failing.has('time')) throw new Error('not allowed');
    return this.#now();
  }
}

function create() {
  const own = new FakeClock();
  const start = own.now() - AHEAD;
  const store = new TimedStore(() => start + own.monotonic());
  const warnings: Record<string, unknown>[] = [];
  const warn = (fields: object) => void warnings.push(fields as Record<string, unknown>);
  const logger = { debug() {}, info() {}, warn, error: warn };
  const clock = new StoreClock(own, store, logger);
  return { own, store, clock, warnings, there: () => start + own.monotonic() };
}
const settled = () => new Promise(resolve => setImmediate(resolve));

test('the time is that of the store, and a difference of more than a second is warned of', async () => {
  const { own, clock, warnings, there } = create();
  expect([clock.isKnown, clock.now()]).toEqual([false, own.now()]);
  await clock.settle();
  expect([clock.isKnown, clock.now(), clock.settle()]).toEqual([true, there(), undefined]);
  expect(clock.fromOwn(own.now() + 5)).toBe(there() + 5);
  expect(warnings).toEqual([{ event: 'store-clock-offset', offsetMs: AHEAD }]);
});

test('it is measured again each hour, after a jump of the own clock, and after a lost connection; none of them moves it', async () => {
  const { own, store, clock, there } = create();
  await clock.settle();
  const measured = async (then: () => unknown) => {
    store.asked = 0;
    await then();
    expect(clock.now()).toBe(there());
    await settled();
    return store.asked > 0;
  };
  expect(await measured(() => own.advance(HOUR - 1))).toBe(false);
  expect(await measured(() => own.advance(1))).toBe(true);
  expect(await measured(() => own.jump(own.now() + AHEAD))).toBe(true);
  expect(await measured(() => own.jump(own.now() - 900))).toBe(false);
  expect(await measured(() => store.interruptions++)).toBe(true);
});

test('half of the round trip is taken off, of the quickest of some', async () => {
  const { own, store, clock, there } = create();
  const { time } = store;
  const trips = [400, 100, 300];
  store.time = async () => {
    const trip = trips.shift()!;
    await own.advance(trip / 2);
    const answer = await time.call(store);
    await own.advance(trip / 2);
    return answer;
  };
  await clock.settle();
  expect(clock.now()).toBe(there());
});

test('where it cannot be measured nothing is swept or ended in the store, which is said, and it is tried again', async () => {
  const cluster = new Cluster(new TimedStore(() => 0));
  const start = cluster.clock.now();
  const store = new TimedStore(() => start + cluster.clock.monotonic());
  const other = new Cluster(store, { idleTimeoutMs: 60_000, sweep: { everyMs: 10_000 } });
  const one = other.process();
  const { cookie, sid } = await visit(one, undefined, () => {});
  const late = new Cluster(store, { idleTimeoutMs: 60_000, sweep: { everyMs: 10_000 } });
  store.failing.add('time');
  late.clock.jump(late.clock.now() + AHEAD);
  const two = late.process();
  await two.manager.start();
  expect(await two.request(cookie).get()).toBeUndefined();
  await late.clock.advance(30_000);
  expect([await store.count(), two.ends]).toEqual([1, []]);
  expect(two.log.some(({ event }) => event === 'store-clock-unknown')).toBe(true);
  store.failing.clear();
  await late.clock.advance(20_000);
  expect((await two.request(cookie).get())?.id).toBe(sid);
});

test('a store without a clock has that of this machine', async () => {
  const own = new FakeClock();
  const clock = new StoreClock(own, {}, { debug() {}, info() {}, warn() {}, error() {} });
  expect([clock.isKnown, clock.settle(), await clock.check()]).toEqual([true, undefined, true]);
  own.jump(own.now() + AHEAD);
  expect([clock.now(), clock.fromOwn(7)]).toEqual([own.now(), 7]);
});

test('what applications read as a time is in whole milliseconds, also where the clock of the store has fractions', async () => {
  const begin = Date.now();
  const store = new TimedStore(() => begin + cluster.clock.monotonic() + 0.37);
  const cluster = new Cluster(store);
  const one = cluster.process();
  await one.manager.start();
  const { sid } = await visit(one, undefined, ({ createdAt, lastAccessedAt }) => {
    expect([createdAt, lastAccessedAt]).toEqual([begin + 1, begin + 1]);
  });
  const times = { createdAt: begin + 1, lastAccessedAt: begin + 1, absoluteExpiresAt: begin + 12 * HOUR + 1 };
  expect(await one.manager.info(sid)).toMatchObject(times);
  expect(await one.manager.peek(sid)).toMatchObject(times);
  await one.manager.close();
});
