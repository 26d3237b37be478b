import { expect, test } from 'vitest';
import type { Ledger } from '../../../src/session/ledger.ts';
import { MemoryLedger } from '../../../src/session/ledgers/memory.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { ledgerConformance } from '../../../src/testing/ledger-conformance.ts';

type Listener = (message: string) => void;

/** A suite is worth what it finds: each of these ledgers breaks the contract in one way, and the named case says so. */
const BROKEN: Readonly<Record<string, (clock: FakeClock) => Ledger>> = {
  'puts for exactly one of several callers': clock =>
    new (class extends MemoryLedger {
      override async putIfAbsent(key: string, value: string, ttlMs: number) {
        const isAbsent = (await this.get(key)) === undefined;
        await super.putIfAbsent(key, value, ttlMs);
        return isAbsent;
      }
    })({ clock }),
  'puts a value over another, with a time to live of its own': clock =>
    new (class extends MemoryLedger {
      override async put(key: string, value: string, ttlMs: number) {
        await super.take(key);
        await super.put(key, value, Math.min(ttlMs, 200));
      }
    })({ clock }),
  'gives a value that is taken to exactly one of several callers': clock =>
    new (class extends MemoryLedger {
      override async take(key: string) {
        const value = await this.get(key);
        await super.take(key);
        return value;
      }
    })({ clock }),
  'adds every increment of several callers exactly once': clock =>
    new (class extends MemoryLedger {
      override async increment(key: string, by: number, ttlMs: number) {
        const sum = Number((await this.get(key)) ?? 0) + by;
        await this.take(key);
        await this.putIfAbsent(key, String(sum), ttlMs);
        return sum;
      }
    })({ clock }),
  'treats a key whose time is over as if it had never been there, in every call': () =>
    new MemoryLedger({ clock: new FakeClock() }), // its time does not pass
  'counts in a window whose length the first increment fixes': clock =>
    new (class extends MemoryLedger {
      override async increment(key: string, by: number, ttlMs: number) {
        const sum = Number((await super.take(key)) ?? 0) + by;
        await super.increment(key, sum, ttlMs);
        return sum;
      }
    })({ clock }),
  'keeps hostile keys apart': clock =>
    new (class extends MemoryLedger {
      override putIfAbsent(key: string, value: string, ttlMs: number) {
        return super.putIfAbsent(key.split('\0')[0]!, value, ttlMs);
      }
    })({ clock }),
  'gives back every text as it was, also a large one': clock =>
    new (class extends MemoryLedger {
      override putIfAbsent(key: string, value: string, ttlMs: number) {
        return super.putIfAbsent(key, value.toWellFormed(), ttlMs);
      }
    })({ clock }),
  'refuses a time to live out of range': clock =>
    new (class extends MemoryLedger {
      override increment(key: string, by: number, ttlMs: number) {
        return super.increment(key, by, Math.max(1, ttlMs || 1));
      }
    })({ clock }),
  'tells every listener of a channel, here and in another ledger, in the order of publishing': clock =>
    new (class extends MemoryLedger {
      override async publish(channel: string, message: string) {
        setTimeout(() => void super.publish(channel, message), message.length % 5);
      }
    })({ clock }),
  'does not mix channels, whatever their names are': clock =>
    new (class extends MemoryLedger {
      override subscribe(channel: string, listener: Listener) {
        return super.subscribe(channel.trim(), listener);
      }
      override publish(channel: string, message: string) {
        return super.publish(channel.trim(), message);
      }
    })({ clock }),
  'tells only what was published after subscribing, and not before subscribe has resolved': clock =>
    new (class extends MemoryLedger {
      override async subscribe(channel: string, listener: Listener) {
        const unsubscribe = await super.subscribe(channel, listener);
        await new Promise(resolve => setTimeout(resolve, 20));
        return unsubscribe;
      }
    })({ clock }),
  'tells a listener nothing from when it unsubscribes, and the others go on': clock =>
    new (class extends MemoryLedger {
      override async subscribe(channel: string, listener: Listener) {
        const unsubscribe = await super.subscribe(channel, listener);
        return async () => void setTimeout(unsubscribe, 20);
      }
    })({ clock }),
};

test.each(Object.entries(BROKEN))('the suite notices a ledger that breaks "%s"', async (title, open) => {
  const cases = new Map<string, () => Promise<void>>();
  const runner = {
    describe: (_: string, body: () => void) => body(),
    test: (name: string, body: () => Promise<void>) => cases.set(name, body),
  };
  const clock = new FakeClock();
  ledgerConformance('broken', () => ({ ledger: open(clock), advance: ms => clock.advance(ms) }), runner);
  await expect(cases.get(title)!()).rejects.toThrow();
});
