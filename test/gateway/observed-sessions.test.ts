import { beforeEach, expect, test } from 'vitest';
import { HoldfastError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { ObservedSessions, type ObservedSessionsOptions } from '../../src/gateway/backend-session/observed/sessions.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { closing } from '../services/closing.ts';

const MINUTE = 60_000;
const IDLE = 30 * MINUTE;
/** What is known is written and asked once in so long. */
const STEP = MINUTE;
const SERVER = 'http://one';

/** A ledger that can be cut off, be deaf, and counts what it is asked. */
class TestLedger extends MemoryLedger {
  isDown = false;
  isDeaf = false;
  /** Each write takes a few turns of the event loop. */
  isSlow = false;
  puts = 0;
  gets = 0;

  override async put(key: string, value: string, ttlMs: number): Promise<void> {
    this.#check();
    if (this.isSlow) for (let turns = 0; turns < 5; turns++) await new Promise(resolve => setImmediate(resolve));
    this.puts++;
    await super.put(key, value, ttlMs);
  }

  override async get(key: string): Promise<string | undefined> {
    this.#check();
    this.gets++;
    return super.get(key);
  }

  override async take(key: string): Promise<string | undefined> {
    this.#check();
    return super.take(key);
  }

  override async publish(channel: string, message: string): Promise<void> {
    this.#check();
    if (!this.isDeaf) await super.publish(channel, message);
  }

  #check(): void {
    if (this.isDown) throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', 'down', { status: 503 });
  }
}

let clock: FakeClock;
let ledger: TestLedger;
const open = closing<ObservedSessions>();

beforeEach(() => {
  clock = new FakeClock();
  ledger = new TestLedger({ clock });
});
/** As another process on the same ledger. */
async function observe(options: Partial<ObservedSessionsOptions> = {}): Promise<ObservedSessions> {
  const sessions = new ObservedSessions({
    ...{ upstream: 'app', ledger, clock, logger: silentLogger, idleTimeoutMs: IDLE, onReplace: 'close' },
    ...options,
  });
  await sessions.start();
  open.push(sessions);
  return sessions;
}

function attach(sessions: ObservedSessions, key: string) {
  const closes: string[] = [];
  const hold = sessions.attach(key, SERVER, { close: (code, reason) => void closes.push(`${code} ${reason}`) });
  return { ...hold, closes };
}

test('a session is live for its idle time and not longer; each use counts, in whichever process', async () => {
  const [one, two] = [await observe(), await observe()];
  await one.issued('k', SERVER);
  for (let i = 0; i < 5; i++) {
    await clock.advance(IDLE - MINUTE);
    const sessions = i % 2 === 0 ? two : one;
    expect(await sessions.isLive('k')).toBe(true);
    sessions.used('k', SERVER);
  }
  await clock.advance(IDLE - 1);
  expect(await one.isLive('k')).toBe(true);
  expect(await two.isLive('k')).toBe(true);
  await clock.advance(1);
  expect(await one.isLive('k')).toBe(false);
  expect(await two.isLive('k')).toBe(false);
});

test('the ledger is asked and told once in a step, however often a session is used', async () => {
  const sessions = await observe();
  await sessions.issued('k', SERVER);
  const { touch } = attach(sessions, 'k');
  [ledger.puts, ledger.gets] = [0, 0];
  for (let second = 0; second < 300; second++) {
    for (let i = 0; i < 20; i++) {
      expect(await sessions.isLive('k')).toBe(true);
      sessions.used('k', SERVER);
      touch();
    }
    await clock.advance(1_000);
  }
  expect(ledger.puts).toBeGreaterThanOrEqual(4);
  expect(ledger.puts).toBeLessThanOrEqual(6);
  expect(ledger.gets).toBeLessThanOrEqual(20);
});

test('sockets of a session that nobody uses close with 1008, and traffic on one keeps all of them open', async () => {
  const [one, two] = [await observe(), await observe()];
  await one.issued('k', SERVER);
  const [busy, silent, other] = [attach(one, 'k'), attach(one, 'k'), attach(two, 'k')];
  for (let minute = 0; minute < 90; minute += 10) {
    busy.touch();
    await clock.advance(10 * MINUTE);
  }
  await clock.advance(IDLE - 10 * MINUTE - 1);
  expect([busy, silent, other].flatMap(({ closes }) => closes)).toEqual([]);
  await clock.advance(1);
  for (const { closes } of [busy, silent, other]) expect(closes).toEqual(['1008 session ended']);
  // What still arrives on a socket that is closing does not bring it back.
  busy.touch();
  expect(await one.isLive('k')).toBe(false);
});

test('sockets close to the millisecond when nobody uses their session, and not while another process uses it', async () => {
  for (const usedAt of [1_000, MINUTE / 2, 10 * MINUTE, IDLE - 1]) {
    const [one, two] = [await observe(), await observe()];
    const key = `used after ${usedAt}`;
    await one.issued(key, SERVER);
    expect(await two.isLive(key)).toBe(true);
    two.used(key, SERVER);
    const [here, there] = [attach(one, key), attach(two, key)];
    await clock.advance(usedAt);
    expect(await two.isLive(key)).toBe(true);
    two.used(key, SERVER);
    await clock.advance(IDLE - 1);
    expect([here.closes, there.closes, await one.isLive(key)]).toEqual([[], [], true]);
    await clock.advance(1);
    expect([here.closes, there.closes]).toEqual(Array(2).fill(['1008 session ended']));
    expect([await one.isLive(key), await two.isLive(key)]).toEqual([false, false]);
  }
});

test('what comes on a socket after the end of its session, while that is being found out, does not bring it back', async () => {
  const sessions = await observe();
  await sessions.issued('k', SERVER);
  const socket = attach(sessions, 'k');
  const answer = Promise.withResolvers<undefined>();
  ledger.get = () => answer.promise;
  await clock.advance(IDLE);
  socket.touch();
  answer.resolve(undefined);
  await clock.advance(0);
  expect(socket.closes).toEqual(['1008 session ended']);
});

test('any number of sockets costs two timers, and none when the last has gone', async () => {
  const sessions = await observe();
  const before = clock.pending;
  const holds = [];
  for (let i = 0; i < 5_000; i++) {
    await sessions.issued(`k${i}`, SERVER);
    holds.push(attach(sessions, `k${i}`));
  }
  expect(clock.pending).toBeLessThanOrEqual(before + 2);
  for (const { release } of holds) release();
  await clock.advance(2 * STEP);
  expect(clock.pending).toBe(before);
});

test('what is over closes its sockets everywhere, also where the event was lost, and stays over', async () => {
  const [one, two] = [await observe(), await observe()];
  await one.issued('k', SERVER);
  expect(await two.isLive('k')).toBe(true);
  const sockets = [attach(one, 'k'), attach(two, 'k')];
  ledger.isDeaf = true;
  await one.over('k');
  expect(sockets.map(({ closes }) => closes)).toEqual([['1008 session ended'], []]);
  // Requests that were under way in the other process are answered after it.
  await clock.advance(STEP / 2);
  two.used('k', SERVER);
  expect(await two.accepted('k', SERVER)).toBe(true); // it does not know better yet
  await clock.advance(STEP);
  expect(sockets.map(({ closes }) => closes)).toEqual(Array(2).fill(['1008 session ended']));
  for (let hours = 0; hours < 4; hours++) {
    for (const sessions of [one, two]) {
      expect(await sessions.isLive('k')).toBe(false);
      expect(await sessions.accepted('k', SERVER)).toBe(false);
      sessions.used('k', SERVER);
    }
    await clock.advance(IDLE / 2);
  }
});

test('a value that the backend gives anew is live again', async () => {
  const [one, two] = [await observe(), await observe()];
  await one.issued('k', SERVER);
  await one.over('k');
  await clock.advance(1);
  expect(await two.isLive('k')).toBe(false);
  await two.issued('k', SERVER);
  expect(await one.isLive('k')).toBe(true);
  expect(await two.isLive('k')).toBe(true);
});

test('sockets of a session that was replaced close with 1012 in every process, or belong to the new one', async () => {
  for (const onReplace of ['close', 'rebind'] as const) {
    const [one, two] = [await observe({ onReplace }), await observe({ onReplace })];
    await one.issued('old', SERVER);
    const sockets = [attach(one, 'old'), attach(two, 'old')];
    await one.issued('new', SERVER);
    await one.over('old', 'new');
    await clock.advance(1);
    // One whose handshake was under way.
    sockets.push(attach(two, 'old'));
    const closes = () => sockets.map(socket => socket.closes);
    if (onReplace === 'close') expect(closes()).toEqual(Array(3).fill(['1012 session renewed']));
    else {
      expect(closes()).toEqual([[], [], []]);
      for (const { touch } of sockets) touch(); // counts for the new one
      await two.over('new');
      await clock.advance(1);
      expect(closes()).toEqual(Array(3).fill(['1008 session ended']));
    }
    for (const sessions of open.splice(0)) sessions.close();
    ledger = new TestLedger({ clock });
  }
});

test('an outage of the ledger ends no session: what is not known is an error, and what has ended is told afterwards', async () => {
  const [one, two] = [await observe(), await observe()];
  for (const key of ['kept', 'ended']) {
    await one.issued(key, SERVER);
    await two.isLive(key);
  }
  const [kept, ended] = [attach(two, 'kept'), attach(two, 'ended')];
  ledger.isDown = true;
  await one.over('ended');
  await one.issued('new', SERVER); // not told to anybody
  expect(await one.isLive('kept')).toBe(true);
  expect(await one.isLive('new')).toBe(true);
  await expect(two.isLive('new')).rejects.toMatchObject({ status: 503 });
  await clock.advance(5 * STEP);
  await expect(one.isLive('kept')).rejects.toMatchObject({ status: 503 });
  expect([...kept.closes, ...ended.closes]).toEqual([]);
  ledger.isDown = false;
  await clock.advance(STEP);
  expect([...kept.closes, ...ended.closes]).toEqual(['1008 session ended']);
  expect(await one.isLive('kept')).toBe(true);
  expect(await one.isLive('new')).toBe(true);
  expect(await two.isLive('new')).toBe(true);
});

test('which server a session is on is known to processes that ask for it the first time', async () => {
  const places: string[] = [];
  const one = await observe();
  const two = await observe({ onPlace: (key, server) => places.push(`${key} ${server}`) });
  await one.issued('k', SERVER);
  await two.isLive('k');
  await two.isLive('k');
  await clock.advance(2 * STEP);
  await two.isLive('k');
  expect(places).toEqual([`k ${SERVER}`]);
});

test('ids that anybody can make up are bounded; those that the backend gives are not', async () => {
  const sessions = await observe();
  for (let i = 0; i < 100_000; i++) await sessions.accepted(`made-up-${i}`, SERVER);
  expect(await sessions.accepted('one-more', SERVER)).toBe(false);
  await sessions.issued('given', SERVER);
  expect(await sessions.isLive('given')).toBe(true);
  expect(await sessions.isLive('made-up-0')).toBe(true); // long out of this process' memory
  await clock.advance(IDLE);
  expect(await sessions.accepted('one-more', SERVER)).toBe(true);
});

test('what the ledger has not heard yet it hears before the end: uses, writes under way, and ends', async () => {
  const here = await observe();
  const keys = Array.from({ length: 300 }, (_, i) => `key ${i}`);
  for (const key of [...keys, 'late', 'over']) await here.issued(key, SERVER);
  ledger.isDown = true;
  await here.over('over');
  ledger.isDown = false;
  await clock.advance(STEP - 1);
  for (const key of keys) here.used(key, SERVER);
  ledger.isSlow = true;
  // Its write begins at once.
  await clock.advance(1);
  here.used('late', SERVER);
  await here.close();
  const { puts } = ledger;
  ledger.isSlow = false;
  const there = await observe();
  expect(await there.isLive('over')).toBe(false);
  await clock.advance(IDLE - 2);
  for (const key of [...keys, 'late']) expect(await there.isLive(key)).toBe(true);
  for (let turns = 0; turns < 100; turns++) await new Promise(resolve => setImmediate(resolve));
  expect(ledger.puts).toBe(puts);
});

test('an outage of the ledger does not hinder the end', async () => {
  const here = await observe();
  await here.issued('a', SERVER);
  here.used('a', SERVER);
  ledger.isDown = true;
  await here.over('b');
  await here.close();
});
