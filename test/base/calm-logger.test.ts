import { beforeEach, describe, expect, test } from 'vitest';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { HoldfastError } from '../../src/base/errors.ts';
import { type Logger, silentLogger } from '../../src/base/logger.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

let clock: FakeClock;
let lines: Record<string, unknown>[];
let log: CalmLogger;
beforeEach(() => {
  clock = new FakeClock();
  lines = [];
  const note = (level: string) => (fields: object, message: string) => lines.push({ level, ...fields, message });
  log = new CalmLogger({ debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') }, clock);
});

describe('a failure that repeats', () => {
  test('is one line, then one every 10 s with a count, and nothing when it is over', async () => {
    for (let second = 0; second < 25; second++) {
      for (let i = 0; i < 100; i++) log.warn({ upstream: 'app', reason: 'refused', err: `attempt ${i}` }, 'failed');
      await clock.advance(1_000);
    }
    expect(lines.map(({ repeated }) => repeated)).toEqual([undefined, 999, 1_000]);
    await clock.advance(60_000);
    expect(lines.map(({ repeated }) => repeated)).toEqual([undefined, 999, 1_000, 501 - 1]);
    expect(lines.at(-1)).toEqual({
      level: 'warn',
      upstream: 'app',
      reason: 'refused',
      err: 'attempt 99',
      repeated: 500,
      message: 'failed',
    });
    expect(clock.pending).toBe(0);
    log.warn({ upstream: 'app', reason: 'refused' }, 'failed');
    expect(lines.at(-1)).not.toHaveProperty('repeated');
  });

  test.each([
    ['another upstream', { upstream: 'b' }, 'failed'],
    ['another reason', { upstream: 'a', reason: 'timeout' }, 'failed'],
    ['another message', { upstream: 'a' }, 'lost'],
    ['another error code', { upstream: 'a', err: new HoldfastError('ERR_SESSION_CONFLICT', 'x') }, 'failed'],
  ])('%s is another kind', (_, fields, message) => {
    log.warn({ upstream: 'a' }, 'failed');
    log.warn(fields, message);
    expect(lines).toHaveLength(2);
  });

  test.each([
    ['an address', (i: number) => ({ event: 'refused', status: 404, address: `10.0.0.${i}` }), 'no route'],
    [
      'a text',
      (i: number) => ({ event: 'refused', status: 400, i }),
      (i: number) => `the origin "x${i}" names no site`,
    ],
    ['a message of an error', (i: number) => ({ err: error(`cannot read ${i}\n    at x:${i}:1`) }), 'a handler failed'],
    ['an id of a connection', (i: number) => ({ connection: `c${i}`, code: 'ERR_WS_X' }), (i: number) => `${i} bytes`],
  ] as const)('%s of its choice makes no other kind', (_, fields, message) => {
    for (let i = 0; i < 50; i++) log.info(fields(i), typeof message === 'string' ? message : message(i));
    expect(lines).toHaveLength(1);
  });

  function error(message: string): Error {
    return new RangeError(message);
  }

  test('errors without a code are told apart by the place that throws them', () => {
    log.error({ err: new Error('same') }, 'a handler failed');
    log.error({ err: new Error('same') }, 'a handler failed');
    expect(lines).toHaveLength(2);
  });

  test('the ids that clients were shown are kept with the count, up to 20', async () => {
    for (let i = 0; i < 100; i++) log.error({ id: `id${i}` }, 'a request failed');
    await clock.advance(10_000);
    expect(lines[0]).toMatchObject({ id: 'id0' });
    expect(lines[1]).toMatchObject({ repeated: 99, ids: Array.from({ length: 20 }, (_, i) => `id${i + 1}`) });
  });

  test('whatever varies, there are at most 200 kinds of a level at a time, and the rest is counted together', async () => {
    for (let i = 0; i < 5_000; i++) log.info({}, `message ${i}`);
    expect(lines).toHaveLength(201);
    log.error({}, 'an error has its line all the same');
    expect(lines).toHaveLength(202);
    await clock.advance(10_000);
    expect(lines).toHaveLength(203);
    expect(lines.at(-1)).toMatchObject({ repeated: 4_799 });
    for (let i = 0; i < 100; i++) log.info({}, `later ${i}`);
    expect(lines).toHaveLength(303);
  });
});

describe('security events', () => {
  const refused = (address: string, fields: object = {}) =>
    log.info({ event: 'refused', status: 403, address, ...fields }, 'origin not allowed');

  test('have a line each, up to 20 of an address in 10 s, then a count', async () => {
    for (let i = 0; i < 100; i++) refused('192.0.2.1');
    refused('192.0.2.2');
    expect(lines).toHaveLength(21);
    await clock.advance(10_000);
    expect(lines).toHaveLength(22);
    expect(lines.at(-1)).toMatchObject({ address: '192.0.2.1', repeated: 80 });
    refused('192.0.2.1');
    expect(lines.at(-1)).not.toHaveProperty('repeated');
  });

  test('of all addresses together have 1,000 lines in 10 s, then a count without an address', async () => {
    for (let i = 0; i < 10_000; i++) refused(`10.0.${i >> 8}.${i & 255}`);
    expect(lines).toHaveLength(1_000);
    await clock.advance(10_000);
    expect(lines).toHaveLength(1_001);
    expect(lines.at(-1)).toMatchObject({ event: 'refused', repeated: 9_000, address: undefined });
  });

  test.each([
    ['2001:db8:1:2::1', '2001:db8:1:2:3::', true],
    ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
    ['2001:db8::1', '2001:db8:0:0:9::1', true],
    ['::1', '::2', true],
    ['::1', '1::1', false],
    ['fe80::1', 'fe80::2:3:4:5', true],
  ])('%s and %s have one rate: %s', (first, second, isOne) => {
    for (let i = 0; i < 20; i++) refused(first);
    refused(second);
    expect(lines).toHaveLength(isOne ? 20 : 21);
  });

  test('the end of a session has its line though no address is known', () => {
    for (let i = 0; i < 300; i++) log.info({ event: 'session-end', sid: `sid${i}` }, 'session ended');
    expect(lines).toHaveLength(300);
  });
});

test('security events without an address use up nothing of what is left for those with one', () => {
  for (let i = 0; i < 1_500; i++) log.info({ event: 'session-end', sid: String(i) }, 'a session ended');
  for (let i = 0; i < 5; i++) log.warn({ event: 'dead-secret', address: `192.0.2.${i}` }, 'a dead secret was replayed');
  expect(lines.filter(({ event }) => event === 'session-end')).toHaveLength(1_000);
  expect(lines.filter(({ event }) => event === 'dead-secret').map(({ address }) => address)).toEqual([
    '192.0.2.0',
    '192.0.2.1',
    '192.0.2.2',
    '192.0.2.3',
    '192.0.2.4',
  ]);
});

test('flush writes the counts that wait', () => {
  for (let i = 0; i < 10; i++) log.warn({}, 'failed');
  log.flush();
  expect(lines.map(({ repeated }) => repeated)).toEqual([undefined, 9]);
  expect(clock.pending).toBe(0);
});

test.each<[string, () => unknown]>([
  [
    'throws',
    () => {
      throw new Error('disk full');
    },
  ],
  ['rejects', () => Promise.reject(new Error('disk full'))],
])('a logger that %s harms nobody', async (_, fail) => {
  const failing = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map(level => [level, fail]),
  ) as unknown as Logger;
  const calm = new CalmLogger(failing, clock);
  for (let i = 0; i < 3; i++) calm.error({}, 'failed');
  calm.flush();
  await new Promise(resolve => setImmediate(resolve));
});

test('fields that throw when they are looked at harm nobody', () => {
  const hostile = {
    get code() {
      throw new Error('mine');
    },
  };
  log.error({ err: hostile }, 'failed');
  log.error({}, 'and it goes on');
  expect(lines.map(({ message }) => message)).toEqual(['and it goes on']);
});

test('a level that is off costs no memory', () => {
  const calm = new CalmLogger({ ...silentLogger, isLevelEnabled: level => level !== 'debug' }, clock);
  calm.debug({}, 'nothing');
  expect(clock.pending).toBe(0);
});
