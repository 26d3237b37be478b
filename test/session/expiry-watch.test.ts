import { expect, test } from 'vitest';
import { ExpiryWatch, type ExpiryWatchOptions, UNWATCHED, type Watched } from '../../src/session/life/expiry-watch.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

interface Thing extends Watched {
  readonly name: number;
  /** When it is over, where this process knows better than when it was put in. */
  expiresAt?: number;
}

function newThing(name: number): Thing {
  return { name, ...UNWATCHED };
}

function watchOf(clock: FakeClock, options: Partial<ExpiryWatchOptions<Thing>>): ExpiryWatch<Thing> {
  return new ExpiryWatch<Thing>({
    clock,
    now: () => clock.now(),
    expiresAt: ({ expiresAt, livesUntil }) => expiresAt ?? livesUntil,
    ask: async () => undefined,
    onOutage: () => {},
    ...options,
  });
}

/** The same numbers each time. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

test.each([1, 2, 3, 4, 5])(
  'looks at each thing at its time and in order, whatever was moved and taken out (seed %i)',
  async seed => {
    const clock = new FakeClock();
    const random = generator(seed);
    const seen: { name: number; at: number }[] = [];
    const watch = watchOf(clock, { endAtOnce: ({ name }) => seen.push({ name, at: clock.now() }) > 0 });
    const start = clock.now();
    const things = Array.from({ length: 300 }, (_, name) => newThing(name));
    const expected = new Map<number, number>();
    for (let step = 0; step < 3_000; step++) {
      const thing = things[random(things.length)]!;
      if (random(4) === 0) {
        watch.cancel(thing);
        expected.delete(thing.name);
      } else {
        const dueAt = start + 1 + random(30_000);
        watch.schedule(thing, dueAt);
        expected.set(thing.name, dueAt);
      }
      expect(clock.pending).toBe(expected.size === 0 ? 0 : 1);
    }
    await clock.advance(30_001);
    expect(new Map(seen.map(({ name, at }) => [name, at]))).toEqual(expected);
    expect(seen).toEqual(seen.toSorted((a, b) => a.at - b.at));
    expect(clock.pending).toBe(0);
  },
);

test('what lives on is looked at again when its new time is over', async () => {
  const clock = new FakeClock();
  const seen: number[] = [];
  const start = clock.now();
  const watch = watchOf(clock, {
    async ask() {
      seen.push(clock.now() - start);
      return seen.length < 4 ? clock.now() + 1_000 : undefined;
    },
  });
  watch.schedule(newThing(1), start + 1_000);
  await clock.advance(60_000);
  expect(seen).toEqual([1_000, 2_000, 3_000, 4_000]);
});

test('a clock that was set forward, or a machine that slept, is noticed within 10 s', async () => {
  const clock = new FakeClock();
  const seen: number[] = [];
  const watch = watchOf(clock, { endAtOnce: ({ name }) => seen.push(name) > 0 });
  watch.schedule(newThing(1), clock.now() + 3_600_000);
  clock.jump(clock.now() + 3_600_000);
  await clock.advance(10_000);
  expect(seen).toEqual([1]);
});

test('what is due at once by the thousand is looked at in turns of the event loop', async () => {
  const clock = new FakeClock();
  let seen = 0;
  const watch = watchOf(clock, { endAtOnce: () => ++seen > 0 });
  const dueAt = clock.now() + 1_000;
  for (let name = 0; name < 10_000; name++) watch.schedule(newThing(name), dueAt);
  const turns: number[] = [];
  const { setTimeout } = clock;
  clock.setTimeout = (callback, ms) => {
    turns.push(seen);
    return setTimeout.call(clock, callback, ms);
  };
  await clock.advance(1_000);
  expect(seen).toBe(10_000);
  expect(Math.max(...turns.map((count, i) => count - (turns[i - 1] ?? 0)))).toBeLessThanOrEqual(200);
});

test('a watch that is closed looks at nothing and keeps no timer', async () => {
  const clock = new FakeClock();
  const seen: number[] = [];
  const watch = watchOf(clock, { endAtOnce: ({ name }) => seen.push(name) > 0 });
  watch.schedule(newThing(1), clock.now() + 1_000);
  watch.close();
  watch.schedule(newThing(2), clock.now() + 1_000);
  expect(clock.pending).toBe(0);
  await clock.advance(2_000);
  expect(seen).toEqual([]);
});

test('what was used meanwhile is not asked about', async () => {
  const clock = new FakeClock();
  const asked: number[] = [];
  const watch = watchOf(clock, {
    ask: async ({ name }) => {
      asked.push(name);
      return undefined;
    },
  });
  const start = clock.now();
  const thing = newThing(1);
  watch.schedule(thing, start + 1_000);
  thing.expiresAt = start + 5_000;
  await clock.advance(4_999);
  expect([asked, thing.livesUntil - start]).toEqual([[], 5_000]);
  await clock.advance(1);
  expect(asked).toEqual([1]);
});

test('50 are asked about at once, and an outage once a second by as many, whoever waits', async () => {
  const clock = new FakeClock();
  let underWay = 0;
  let most = 0;
  let asked = 0;
  let outages = 0;
  let isDown = true;
  const ended = new Set<number>();
  const watch = watchOf(clock, {
    async ask({ name }) {
      asked++;
      most = Math.max(most, ++underWay);
      await new Promise(resolve => setImmediate(resolve));
      underWay--;
      if (isDown) throw new Error('down');
      ended.add(name);
      return undefined;
    },
    onOutage: () => void outages++,
  });
  for (let name = 0; name < 5_000; name++) watch.schedule(newThing(name), clock.now() + 1_000);
  await clock.advance(10_900);
  expect([most, outages, ended.size]).toEqual([50, 10, 0]);
  expect(asked).toBeLessThanOrEqual(500);
  isDown = false;
  await clock.advance(1_000);
  await expect.poll(() => ended.size).toBe(5_000);
  expect(most).toBe(50);
  expect(clock.pending).toBe(0);
});

test('what is taken out while it is asked about is not put in again', async () => {
  const clock = new FakeClock();
  const answer = Promise.withResolvers<number>();
  const watch = watchOf(clock, { ask: () => answer.promise });
  const thing = newThing(1);
  watch.schedule(thing, clock.now() + 1_000);
  await clock.advance(1_000);
  watch.cancel(thing);
  answer.resolve(clock.now() + 1_000);
  await clock.advance(0);
  expect(clock.pending).toBe(0);
});

test('what is found alive although it looks over is not asked about without a pause', async () => {
  const clock = new FakeClock();
  let asked = 0;
  const watch = watchOf(clock, { ask: async () => clock.now() - ++asked });
  watch.schedule(newThing(1), clock.now() + 1_000);
  await clock.advance(2_000);
  expect(asked).toBeLessThanOrEqual(52);
});
