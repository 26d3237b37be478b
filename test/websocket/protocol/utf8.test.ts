import { describe, expect, test } from 'vitest';
import { Utf8Validator } from '../../../src/websocket/protocol/utf8.ts';
import { seededRandom } from './seeded-random.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function isText(bytes: Uint8Array): boolean {
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether some continuation of at most three bytes makes the bytes valid: the definition of "can still become UTF-8".
 */
function canBecomeText(bytes: Uint8Array): boolean {
  if (isText(bytes)) return true;
  for (let open = 1; open <= 3 && open <= bytes.length; open++) {
    if (!isText(bytes.subarray(0, bytes.length - open))) continue;
    const tail = bytes.subarray(bytes.length - open);
    // 80, 8F, 90, 9F, A0, BF are the ends of every range that a second byte may lie in; later bytes are free in 80..BF.
    for (const second of open === 1 ? [0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf] : [0x80]) {
      for (let length = open + 1; length <= 4; length++) {
        const whole = new Uint8Array(length).fill(0x80);
        whole.set(tail);
        if (open === 1) whole[1] = second;
        if (isText(whole)) return true;
      }
    }
  }
  return false;
}

/** Index of the byte on which the bytes stop being the beginning of a text; -1 when none. */
function firstBadByte(bytes: Uint8Array): number {
  for (let length = 1; length <= bytes.length; length++) {
    if (!canBecomeText(bytes.subarray(0, length))) return length - 1;
  }
  return -1;
}

function writeCut(bytes: Uint8Array, cuts: readonly number[]): { valid: boolean; complete: boolean; pending: number } {
  const validator = new Utf8Validator();
  let start = 0;
  for (const end of [...cuts, bytes.length]) {
    if (!validator.write(bytes, start, end)) return { valid: false, complete: false, pending: -1 };
    start = end;
  }
  return { valid: true, complete: validator.isComplete, pending: validator.pendingBytes };
}

const SAMPLE = 'κόσμε – ⎍ 𝒳𐍈 \uffff\ufffe\u{10ffff} aß水𝄞 ';

describe('Utf8Validator', () => {
  test('agrees with TextDecoder on sequences of one, two and three bytes', () => {
    const validator = new Utf8Validator();
    const bytes = new Uint8Array(3);
    const isValid = (length: number) => {
      validator.reset();
      return validator.write(bytes, 0, length) && validator.isComplete;
    };
    for (let a = 0; a < 256; a++) {
      bytes[0] = a;
      expect(isValid(1), `${a}`).toBe(isText(bytes.subarray(0, 1)));
      // Behind ASCII, and behind what cannot begin a code point, nothing depends on the first byte.
      if (a > 0x61 && a < 0xbf) continue;
      for (let b = a < 0x61 ? 0xfe : 0; b < 256; b++) {
        bytes[1] = b;
        if (isValid(2) !== isText(bytes.subarray(0, 2))) expect.fail(`${a} ${b}`);
        // Of the third byte only its class matters: the ends of the range of continuation bytes.
        for (const c of [0x7f, 0x80, 0xbf, 0xc0]) {
          bytes[2] = c;
          if (isValid(3) !== isText(bytes)) expect.fail(`${a} ${b} ${c}`);
        }
      }
    }
  });

  test('agrees with TextDecoder on every lead of four bytes, second byte and class of what follows', () => {
    const edges = [0x7f, 0x80, 0xbf, 0xc0];
    for (let lead = 0xef; lead <= 0xf6; lead++) {
      for (let second = 0; second < 256; second++) {
        for (const third of edges) {
          for (const fourth of edges) {
            const bytes = Uint8Array.of(lead, second, third, fourth);
            const result = writeCut(bytes, []);
            if ((result.valid && result.complete) !== isText(bytes)) expect.fail(Buffer.from(bytes).toString('hex'));
          }
        }
      }
    }
  });

  test.each([
    ['a surrogate', 'eda080', 1],
    ['the last surrogate', 'edbfbf', 1],
    ['an overlong of two bytes', 'c080', 0],
    ['an overlong of three bytes', 'e09fbf', 1],
    ['an overlong of four bytes', 'f08fbfbf', 1],
    ['a code point above U+10FFFF', 'f4908080', 1],
    ['a lead byte that no code point has', 'f5808080', 0],
    ['a continuation byte without a lead byte', '80', 0],
    ['a lead byte inside a code point', 'e2c3a9', 1],
    ['ASCII inside a code point', 'f09f41', 2],
  ])('fails on the very byte that makes %s', (_name, hex, badAt) => {
    // Behind short and long valid text, so that both the walk and the native check are met.
    for (const before of ['', 'κόσμε', 'x'.repeat(500), 'é'.repeat(500)]) {
      const prefix = Buffer.from(before);
      const bytes = Buffer.concat([prefix, Buffer.from(hex, 'hex')]);
      const bad = prefix.length + badAt;
      const validator = new Utf8Validator();
      expect(validator.write(bytes, 0, bad)).toBe(true);
      expect(validator.write(bytes, bad, bad + 1)).toBe(false);
      expect(writeCut(bytes.subarray(0, bad + 1), []).valid).toBe(false);
      expect(writeCut(bytes.subarray(0, bad), []).valid).toBe(true);
    }
  });

  test('accepts non-characters, the byte order mark and NUL', () => {
    for (const text of ['\uffff', '\ufffe', '\ufdd0', '\u{1ffff}', '\u{10ffff}', '\ufeff', '\0']) {
      const bytes = Buffer.from(text);
      expect(writeCut(bytes, [])).toEqual({ valid: true, complete: true, pending: 0 });
    }
  });

  test('takes a text cut at every pair of positions and counts the bytes of the open code point', () => {
    const bytes = Buffer.from(SAMPLE);
    for (let a = 0; a <= bytes.length; a++) {
      for (let b = a; b <= bytes.length; b++) {
        expect(writeCut(bytes, [a, b])).toEqual({ valid: true, complete: true, pending: 0 });
      }
      const head = writeCut(bytes.subarray(0, a), []);
      const pending = head.pending;
      expect(head.complete).toBe(pending === 0);
      expect(isText(bytes.subarray(0, a - pending))).toBe(true);
      if (pending > 0) expect(isText(bytes.subarray(0, a))).toBe(false);
    }
  });

  test('finds the same first bad byte in mutated texts, however they are cut', () => {
    const seed = Date.now() % 2 ** 31;
    const random = seededRandom(seed);
    for (let round = 0; round < 200; round++) {
      const bytes = Buffer.from(SAMPLE.repeat(1 + random(6)));
      const mutations = 1 + random(3);
      for (let i = 0; i < mutations; i++) bytes[random(bytes.length)] = random(256);
      const bad = firstBadByte(bytes);
      for (let cut = 0; cut <= bytes.length; cut++) {
        const where = `seed ${seed}, round ${round}, cut ${cut}, bytes ${bytes.toString('hex')}`;
        const validator = new Utf8Validator();
        // Exactly the piece that contains the bad byte fails, not a later one.
        expect(validator.write(bytes, 0, cut), where).toBe(bad === -1 || bad >= cut);
        if (bad === -1 || bad >= cut) expect(validator.write(bytes, cut, bytes.length), where).toBe(bad === -1);
      }
    }
  });

  test('agrees with TextDecoder on random bytes in random pieces', () => {
    const seed = Date.now() % 2 ** 31;
    const random = seededRandom(seed);
    for (let round = 0; round < 2000; round++) {
      const parts: Buffer[] = [];
      for (let i = random(8); i > 0; i--) {
        parts.push(
          random(4) === 0
            ? Buffer.from([random(256), random(256)])
            : Buffer.from(String.fromCodePoint(random(0xd800)).repeat(1 + random(90))),
        );
      }
      const bytes = Buffer.concat(parts);
      const cuts = Array.from({ length: random(5) }, () => random(bytes.length + 1)).sort((a, b) => a - b);
      const result = writeCut(bytes, cuts);
      expect(result.valid && result.complete, `seed ${seed}, round ${round}`).toBe(isText(bytes));
    }
  });

  test('checks only the range it is given and starts afresh after a reset', () => {
    const validator = new Utf8Validator();
    const bytes = Buffer.from([0xff, 0x61, 0xe2, 0xff]);
    expect(validator.write(bytes, 1, 3)).toBe(true);
    expect(validator.pendingBytes).toBe(1);
    validator.reset();
    expect(validator.isComplete).toBe(true);
    expect(validator.pendingBytes).toBe(0);
    expect(validator.write(bytes, 1, 2)).toBe(true);
    expect(validator.write(bytes, 0, 1)).toBe(false);
    validator.reset();
    expect(validator.write(Buffer.from('e0', 'hex'), 0, 1)).toBe(true);
    validator.reset();
    // The narrowed range of E0 must not outlive the reset.
    expect(validator.write(Buffer.from('c280', 'hex'), 0, 2)).toBe(true);
  });
});
