import { describe, expect, test } from 'vitest';
import { parseByteRate, parseRate } from '../../../src/base/rate.ts';
import { CLOSE, DROP, FrameLimit, PASS, type WhenExceeded } from '../../../src/policy/limits/frame-limit.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';

const CONTINUATION = 0;
const TEXT = 1;
const CLOSING = 8;
const PING = 9;
const PONG = 10;

function limit(rates: { messages?: string; bytes?: string }, whenExceeded: WhenExceeded) {
  const clock = new FakeClock();
  const rules = [
    ...(rates.messages ? [{ of: 'messages' as const, rate: parseRate(rates.messages)!, whenExceeded }] : []),
    ...(rates.bytes ? [{ of: 'bytes' as const, rate: parseByteRate(rates.bytes)!, whenExceeded }] : []),
  ];
  const one = new FrameLimit(rules, clock);
  return {
    clock,
    limit: {
      /** Of a frame that arrives by itself. */
      take(...frame: Parameters<FrameLimit['take']>) {
        one.takeBytes(0);
        return one.take(...frame);
      },
      takeBytes: (length: number) => one.takeBytes(length),
      expectPong: () => one.expectPong(),
    },
  };
}

describe('messages', () => {
  test('wait: the one too many is taken, and the next ones have to wait', async () => {
    const { clock, limit: one } = limit({ messages: '2/s' }, 'wait');
    expect([1, 2, 3].map(() => one.take(TEXT, true, 5))).toEqual([PASS, PASS, 500]);
    await clock.advance(500);
    expect(one.take(TEXT, true, 5)).toBe(500);
    await clock.advance(10_000);
    expect([1, 2, 3].map(() => one.take(TEXT, true, 5))).toEqual([PASS, PASS, 500]);
  });

  test('wait for at least 20 ms, in which no more is given back than there is room for', async () => {
    const { clock, limit: one } = limit({ messages: '1000/s' }, 'wait');
    for (let i = 0; i < 1000; i++) expect(one.take(TEXT, true, 5)).toBe(PASS);
    expect(one.take(TEXT, true, 5)).toBe(20);
    await clock.advance(20);
    for (let i = 0; i < 19; i++) expect(one.take(TEXT, true, 5)).toBe(PASS);
    expect(one.take(TEXT, true, 5)).toBe(20);
  });

  test('drop: those too many cost nothing, so that what is within the rate comes through', async () => {
    const { clock, limit: one } = limit({ messages: '2/s' }, 'drop');
    let passed = 0;
    for (let now = 0; now < 10_000; now += 10) {
      if (one.take(TEXT, true, 5) === PASS) passed++;
      await clock.advance(10);
    }
    expect(passed).toBeGreaterThanOrEqual(20);
    expect(passed).toBeLessThanOrEqual(22);
  });

  test('drop: a message with all of its frames, and nothing that lies between these', () => {
    const { limit: one } = limit({ messages: '1/s' }, 'drop');
    expect(one.take(TEXT, true, 5)).toBe(PASS);
    expect(one.take(TEXT, false, 5)).toBe(DROP);
    expect(one.take(CONTINUATION, false, 5)).toBe(DROP);
    expect(one.take(PING, true, 0)).toBeGreaterThan(0);
    expect(one.take(CONTINUATION, true, 5)).toBe(DROP);
  });

  test('close', () => {
    const { limit: one } = limit({ messages: '2/s' }, 'close');
    expect([1, 2, 3].map(() => one.take(TEXT, true, 5))).toEqual([PASS, PASS, CLOSE]);
  });

  test('small fragments and pings count, and a close frame never does', () => {
    const { limit: one } = limit({ messages: '4/s' }, 'close');
    expect(one.take(TEXT, false, 1)).toBe(PASS);
    expect(one.take(CONTINUATION, false, 1)).toBe(PASS);
    expect(one.take(CONTINUATION, false, 4096)).toBe(PASS);
    expect(one.take(CONTINUATION, false, 1)).toBe(PASS);
    expect(one.take(PING, true, 0)).toBe(PASS);
    // The last of a message, of which there is one for each.
    expect(one.take(CONTINUATION, true, 1)).toBe(PASS);
    expect(one.take(CLOSING, true, 2)).toBe(PASS);
    expect(one.take(PING, true, 0)).toBe(CLOSE);
  });

  test('pongs count where nobody has asked for them', () => {
    const { limit: one } = limit({ messages: '1/s' }, 'close');
    one.expectPong();
    one.expectPong();
    expect([1, 2, 3, 4].map(() => one.take(PONG, true, 0))).toEqual([PASS, PASS, PASS, CLOSE]);
  });

  test('many fragments of one message have to wait, where messages are dropped', () => {
    const { limit: one } = limit({ messages: '2/s' }, 'drop');
    expect(one.take(TEXT, false, 1)).toBe(PASS);
    expect(one.take(CONTINUATION, false, 1)).toBe(PASS);
    expect(one.take(CONTINUATION, false, 1)).toBe(500);
  });
});

describe('bytes', () => {
  test('wait: as long as what has arrived takes, however much it is', async () => {
    const { clock, limit: one } = limit({ bytes: '1KiB/s' }, 'wait');
    expect(one.take(TEXT, true, 65_536)).toBe(PASS);
    expect(one.takeBytes(1024)).toBe(0);
    expect(one.takeBytes(64 * 1024)).toBe(64_000);
    await clock.advance(64_000);
    expect(one.takeBytes(1)).toBe(20);
  });

  test('close and drop: by what a frame announces; one larger than all that may come at once needs the whole', async () => {
    const { clock, limit: one } = limit({ bytes: '1KiB/s' }, 'close');
    expect(one.take(TEXT, true, 2048)).toBe(PASS);
    expect(one.takeBytes(2048)).toBe(0);
    expect(one.take(TEXT, true, 1)).toBe(CLOSE);
    await clock.advance(1_001);
    expect(one.take(TEXT, true, 1)).toBe(PASS);
    const { limit: other } = limit({ bytes: '1KiB/s' }, 'drop');
    expect([1000, 100, 24].map(length => other.take(TEXT, true, length))).toEqual([PASS, DROP, PASS]);
  });

  test('a message that is dropped for its bytes does not count among the messages', () => {
    const { limit: one } = limit({ messages: '2/s', bytes: '1KiB/s' }, 'drop');
    expect([1000, 1000, 10, 10].map(length => one.take(TEXT, true, length))).toEqual([PASS, DROP, PASS, DROP]);
  });
});
