import assert from 'node:assert/strict';
import { setTimeout as wait } from 'node:timers/promises';
import type { Ledger } from '../session/ledger.ts';
import { HOSTILE } from './hostile-texts.ts';
import { PARALLEL, parallel, within } from './parallel.ts';
import { checkSuite, type TestRunner } from './store-conformance.ts';

/** What the suite works on. */
export interface OpenedLedger {
  readonly ledger: Ledger;
  /**
   * Another ledger on the same data, as another process would have. Left out for a ledger whose data belong to one
   * process.
   */
  readonly second?: Ledger;
  /**
   * Lets time pass for both: turns a fake clock, or waits where a server has the clock. Some 100 ms at most
   * at a time.
   */
  advance(ms: number): Promise<void>;
}

/**
 * The contract of `Ledger` as tests. Every ledger of the project passes them; so must yours.
 *
 * @param open Makes an empty ledger. Each test asks for its own and closes it, and `second`.
 *
 * @example
 * import { describe, test } from 'node:test';
 * import { MemoryLedger } from 'holdfast/session';
 * import { FakeClock, ledgerConformance } from 'holdfast/testing';
 *
 * const open = () => {
 *   const clock = new FakeClock();
 *   return { ledger: new MemoryLedger({ clock }), advance: (ms: number) => clock.advance(ms) };
 * };
 * ledgerConformance('my ledger', open, { describe, test });
 */
export function ledgerConformance(
  name: string,
  open: () => OpenedLedger | Promise<OpenedLedger>,
  runner: TestRunner,
): void {
  checkSuite('ledgerConformance', open, runner);
  runner.describe(`ledger contract: ${name}`, () => {
    for (const [title, check] of Object.entries(CASES))
      runner.test(title, async () => {
        const opened = await open();
        try {
          await check(opened);
        } finally {
          await opened.second?.close();
          await opened.ledger.close();
        }
      });
  });
}

const MINUTE = 60_000;
const MAX_TTL_MS = 400 * 86_400_000;
/** Long enough for a handful of calls to a server on a loaded machine, short enough to be waited for. */
const SHORT = 200;

const CASES: Readonly<Record<string, (opened: OpenedLedger) => Promise<void>>> = {
  async 'knows nothing of a key that was never put'({ ledger }) {
    assert.equal(await ledger.get('k'), undefined);
    assert.equal(await ledger.take('k'), undefined);
  },

  async 'keeps a value unless the key is there'({ ledger }) {
    assert.equal(await ledger.putIfAbsent('k', 'first', MINUTE), true);
    assert.equal(await ledger.putIfAbsent('k', 'second', MINUTE), false);
    assert.equal(await ledger.get('k'), 'first');
    assert.equal(await ledger.get('k'), 'first');
  },

  async 'puts for exactly one of several callers'({ ledger, second = ledger }) {
    const answers = await parallel(index => either(index, ledger, second).putIfAbsent('k', String(index), MINUTE));
    assert.equal(answers.filter(Boolean).length, 1);
    for (const one of [ledger, second]) assert.equal(await one.get('k'), String(answers.indexOf(true)));
  },

  async 'puts a value over another, with a time to live of its own'({ ledger, second = ledger, advance }) {
    await ledger.putIfAbsent('k', 'first', SHORT);
    await second.put('k', 'second', MINUTE);
    await second.put('new', 'there', SHORT);
    assert.equal(await ledger.get('k'), 'second');
    assert.equal(await ledger.putIfAbsent('k', 'third', MINUTE), false);
    await advance(SHORT + 50);
    assert.equal(await ledger.get('k'), 'second');
    assert.equal(await ledger.get('new'), undefined);
    await ledger.put('k', 'short', SHORT);
    await advance(SHORT + 50);
    assert.equal(await second.get('k'), undefined);
    await parallel(index => either(index, ledger, second).put('k', String(index), MINUTE));
    assert.match((await ledger.get('k')) ?? '', /^\d+$/);
    assert.equal(await second.get('k'), await ledger.get('k'));
  },

  async 'gives a value that is taken to exactly one of several callers'({ ledger, second = ledger }) {
    await ledger.putIfAbsent('k', 'value', MINUTE);
    const answers = await parallel(index => either(index, ledger, second).take('k'));
    assert.deepEqual(
      answers.filter(answer => answer !== undefined),
      ['value'],
    );
    assert.equal(await second.get('k'), undefined);
    assert.equal(await second.putIfAbsent('k', 'next', MINUTE), true);
    assert.equal(await ledger.take('k'), 'next');
  },

  async 'adds every increment of several callers exactly once'({ ledger, second = ledger }) {
    const sums = await parallel(index => either(index, ledger, second).increment('n', index + 1, MINUTE));
    const total = (PARALLEL * (PARALLEL + 1)) / 2;
    assert.equal(Math.max(...sums), total);
    assert.equal(new Set(sums).size, PARALLEL);
    assert.equal(await second.increment('n', 0, MINUTE), total);
  },

  async 'counts down as well, below 0, and exactly with large numbers'({ ledger }) {
    assert.equal(await ledger.increment('n', -3, MINUTE), -3);
    assert.equal(await ledger.increment('n', 5, MINUTE), 2);
    assert.equal(await ledger.increment('n', -2, MINUTE), 0);
    assert.equal(await ledger.increment('n', 0, MINUTE), 0);
    assert.equal(await ledger.increment('large', Number.MAX_SAFE_INTEGER - 1, MINUTE), Number.MAX_SAFE_INTEGER - 1);
    assert.equal(await ledger.increment('large', 1, MINUTE), Number.MAX_SAFE_INTEGER);
  },

  async 'treats a key whose time is over as if it had never been there, in every call'({ ledger, advance }) {
    for (const key of ['got', 'taken', 'put']) assert.equal(await ledger.putIfAbsent(key, 'old', SHORT), true);
    assert.equal(await ledger.increment('counted', 5, SHORT), 5);
    await ledger.putIfAbsent('longer', 'there', MINUTE);
    await advance(SHORT + 50);
    assert.equal(await ledger.get('got'), undefined);
    assert.equal(await ledger.take('taken'), undefined);
    assert.equal(await ledger.putIfAbsent('put', 'new', MINUTE), true);
    assert.equal(await ledger.get('put'), 'new');
    assert.equal(await ledger.increment('counted', 1, MINUTE), 1);
    assert.equal(await ledger.get('longer'), 'there');
  },

  async 'puts again for exactly one of several callers when the time is over'({ ledger, advance, second = ledger }) {
    await ledger.putIfAbsent('k', 'old', SHORT);
    await ledger.increment('n', 7, SHORT);
    await advance(SHORT + 50);
    const answers = await parallel(index => either(index, ledger, second).putIfAbsent('k', 'new', MINUTE));
    assert.equal(answers.filter(Boolean).length, 1);
    const sums = await parallel(index => either(index, ledger, second).increment('n', 1, MINUTE));
    assert.equal(Math.max(...sums), PARALLEL);
  },

  async 'begins a new time to live when a key is put again'({ ledger, advance }) {
    await ledger.putIfAbsent('taken', 'old', SHORT);
    await ledger.take('taken');
    await ledger.putIfAbsent('taken', 'new', MINUTE);
    await ledger.putIfAbsent('refused', 'old', SHORT);
    await ledger.putIfAbsent('refused', 'new', MINUTE);
    await advance(SHORT + 50);
    assert.equal(await ledger.get('taken'), 'new');
    assert.equal(await ledger.get('refused'), undefined);
  },

  async 'counts in a window whose length the first increment fixes'({ ledger, advance }) {
    await ledger.increment('not prolonged', 1, SHORT);
    await ledger.increment('not prolonged', 1, MINUTE);
    await ledger.increment('not shortened', 1, MINUTE);
    await ledger.increment('not shortened', 1, SHORT);
    await advance(SHORT + 50);
    assert.equal(await ledger.increment('not prolonged', 1, MINUTE), 1);
    assert.equal(await ledger.increment('not shortened', 1, MINUTE), 3);
  },

  async 'keeps hostile keys apart'({ ledger }) {
    for (const [index, key] of HOSTILE.entries()) {
      assert.equal(await ledger.get(key), undefined);
      assert.equal(await ledger.putIfAbsent(key, String(index), MINUTE), true);
    }
    for (const [index, key] of HOSTILE.entries()) assert.equal(await ledger.get(key), String(index));
    for (const [index, key] of HOSTILE.entries()) assert.equal(await ledger.take(key), String(index));
    for (const [index, key] of HOSTILE.entries()) assert.equal(await ledger.increment(key, index, MINUTE), index);
    for (const [index, key] of HOSTILE.entries()) assert.equal(await ledger.increment(key, 1, MINUTE), index + 1);
  },

  async 'gives back every text as it was, also a large one'({ ledger }) {
    const values = [...HOSTILE, '\u0001\0ä'.repeat(1_000), 'x'.repeat(1024 * 1024), '{"a":[1]}', '0012', '1e3'];
    for (const [index, value] of values.entries()) {
      await ledger.putIfAbsent(String(index), value, MINUTE);
      assert.equal(await ledger.get(String(index)), value);
      assert.equal(await ledger.take(String(index)), value);
    }
  },

  async 'refuses a time to live out of range'({ ledger }) {
    for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, MAX_TTL_MS + 1]) {
      await assert.rejects(async () => ledger.putIfAbsent('k', 'v', ttlMs), TypeError);
      await assert.rejects(async () => ledger.put('k', 'v', ttlMs), TypeError);
      await assert.rejects(async () => ledger.increment('n', 1, ttlMs), TypeError);
    }
    assert.equal(await ledger.get('k'), undefined);
    assert.equal(await ledger.increment('n', 0, MAX_TTL_MS), 0);
    assert.equal(await ledger.putIfAbsent('k', 'v', MAX_TTL_MS), true);
    assert.equal(await ledger.putIfAbsent('short', 'v', 1), true);
  },

  async 'refuses to add what is not an integer'({ ledger }) {
    for (const by of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
      await assert.rejects(async () => ledger.increment('n', by, MINUTE), TypeError);
    assert.equal(await ledger.increment('n', 1, MINUTE), 1);
  },

  async 'tells every listener of a channel, here and in another ledger, in the order of publishing'({
    ledger,
    second = ledger,
  }) {
    const ears = [ear(), ear(), ear()];
    for (const [index, { listener }] of ears.entries()) await either(index, ledger, second).subscribe('c', listener);
    const messages = Array.from({ length: 200 }, (_, index) => `message ${index}`);
    await Promise.all(messages.map(message => ledger.publish('c', message))); // also when none is waited for
    for (const { hears } of ears) await hears(messages);
  },

  async 'keeps the order of each of two publishers'({ ledger, second = ledger }) {
    const { heard, listener } = ear();
    await second.subscribe('c', listener);
    const publish = async (publisher: Ledger, name: string) => {
      for (let index = 0; index < 50; index++) await publisher.publish('c', `${name} ${index}`);
    };
    await Promise.all([publish(ledger, 'a'), publish(second, 'b')]);
    await within(5_000, () => heard.length >= 100, 'not every message was heard');
    for (const name of ['a', 'b'])
      assert.deepEqual(
        heard.filter(message => message.startsWith(name)),
        Array.from({ length: 50 }, (_, index) => `${name} ${index}`),
      );
  },

  async 'does not mix channels, whatever their names are'({ ledger, second = ledger }) {
    const ears = await Promise.all(
      HOSTILE.map(async (channel, index) => {
        const { hears, listener } = ear();
        await either(index, ledger, second).subscribe(channel, listener);
        return hears;
      }),
    );
    for (const [index, channel] of HOSTILE.entries()) await ledger.publish(channel, String(index));
    for (const [index, channel] of HOSTILE.entries()) await second.publish(channel, `${index} again`);
    for (const [index, hears] of ears.entries()) await hears([String(index), `${index} again`]);
  },

  async 'tells every text as it was published'({ ledger, second = ledger }) {
    const { hears, listener } = ear();
    await second.subscribe('c', listener);
    for (const message of HOSTILE) await ledger.publish('c', message);
    await hears(HOSTILE);
  },

  async 'tells only what was published after subscribing, and not before subscribe has resolved'({
    ledger,
    second = ledger,
  }) {
    await ledger.publish('c', 'too early');
    let isSubscribed = false;
    const early: string[] = [];
    const { heard, listener } = ear();
    const subscribed = second
      .subscribe('c', message => (isSubscribed ? listener(message) : early.push(message)))
      .then(() => {
        isSubscribed = true;
      });
    await parallel(index => either(index, ledger, second).publish('c', 'meanwhile'));
    await subscribed;
    await ledger.publish('c', 'late enough');
    await within(5_000, () => heard.includes('late enough'), 'what was published after subscribing was not heard');
    assert.deepEqual(early, []);
    assert.equal(heard.includes('too early'), false);
  },

  async 'tells a listener nothing from when it unsubscribes, and the others go on'({ ledger, second = ledger }) {
    const [stopped, goesOn, other] = [ear(), ear(), ear()];
    const unsubscribe = await second.subscribe('c', stopped.listener);
    await second.subscribe('c', goesOn.listener);
    await ledger.subscribe('c', other.listener);
    await ledger.publish('c', 'one');
    for (const { hears } of [stopped, goesOn, other]) await hears(['one']);
    const publishing = ledger.publish('c', 'two');
    const heardBefore = [...stopped.heard];
    await Promise.all([unsubscribe(), publishing]);
    await ledger.publish('c', 'three');
    for (const { hears } of [goesOn, other]) await hears(['one', 'two', 'three']);
    assert.deepEqual(stopped.heard, heardBefore);
    await unsubscribe(); // once more is harmless
    const again = await second.subscribe('c', stopped.listener);
    stopped.heard.length = 0;
    await ledger.publish('c', 'four');
    await stopped.hears(['four']);
    await again();
  },

  async 'keeps two subscriptions of one listener apart'({ ledger }) {
    const { hears, listener } = ear();
    const unsubscribe = await ledger.subscribe('c', listener);
    await ledger.subscribe('c', listener);
    await ledger.publish('c', 'both');
    await hears(['both', 'both']);
    await unsubscribe();
    await ledger.publish('c', 'one');
    await hears(['both', 'both', 'one']);
  },

  async 'keeps channels and keys apart'({ ledger }) {
    const { hears, listener } = ear();
    await ledger.subscribe('name', listener);
    await ledger.putIfAbsent('name', 'value', MINUTE);
    await ledger.publish('name', 'message');
    await hears(['message']);
    assert.equal(await ledger.take('name'), 'value');
  },

  async 'publishes to nobody without an error'({ ledger }) {
    await ledger.publish('c', 'message');
  },
};

function either(index: number, ledger: Ledger, second: Ledger): Ledger {
  return index % 2 ? second : ledger;
}

/** A listener, and what it has heard. */
function ear() {
  const heard: string[] = [];
  return {
    heard,
    listener: (message: string): void => void heard.push(message),
    /** It has heard, or hears within 5 s, these messages; and no more right after. */
    async hears(expected: readonly string[]): Promise<void> {
      const isThere = () => heard.length >= expected.length;
      await within(5_000, isThere, `not all of ${expected.length} messages were heard`);
      await wait(10);
      assert.deepEqual(heard, expected);
    },
  };
}
