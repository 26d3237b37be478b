import { beforeEach, describe, expect, test } from 'vitest';
import { type ByteSink, LineOutput, type LostLines, type OutputTrouble } from '../../src/server/log/line-output.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

const MIB = 1024 * 1024;

/** Takes bytes while it has room, as a pipe; or fails with a code; or keeps a write until `complete`. */
class FakeSink implements ByteSink {
  text = '';
  room = Number.POSITIVE_INFINITY;
  failure: string | undefined;
  isSlow = false;
  #pending: (() => void) | undefined;

  write(bytes: Uint8Array, onDone: (error: NodeJS.ErrnoException | null, written: number) => void): void {
    const attempt = () => {
      let written = 0;
      try {
        written = this.writeNow(bytes);
      } catch (error) {
        onDone(error as NodeJS.ErrnoException, 0);
        return;
      }
      onDone(null, written);
    };
    if (this.isSlow) this.#pending = attempt;
    else attempt();
  }

  writeNow(bytes: Uint8Array): number {
    const code = this.failure ?? (this.room === 0 ? 'EAGAIN' : undefined);
    if (code) throw Object.assign(new Error(code), { code });
    const part = bytes.subarray(0, this.room);
    this.room -= part.length;
    this.text += Buffer.from(part).toString();
    return part.length;
  }

  complete(): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending!();
  }

  get lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }
}

let clock: FakeClock;
let sink: FakeSink;
let output: LineOutput;
let lost: LostLines[];
let troubles: OutputTrouble[];
beforeEach(() => {
  clock = new FakeClock();
  sink = new FakeSink();
  output = new LineOutput('stdout', sink, clock);
  lost = [];
  troubles = [];
  output.listener = { onLost: one => lost.push(one), onTrouble: one => troubles.push(one) };
});

const kib = (start: string) => `${start}${'x'.repeat(1_023 - start.length)}\n`;

test('a line is written at once where it can be', () => {
  output.write('a\n');
  expect(sink.text).toBe('a\n');
  expect(clock.pending).toBe(0);
});

test('what cannot be written waits in order, whole, and goes on where it stopped', async () => {
  sink.room = 3;
  for (const line of ['first\n', 'second\n', 'third\n']) output.write(line);
  expect(sink.text).toBe('fir');
  sink.room = 6;
  await clock.advance(1_000);
  expect(sink.text).toBe('first\nsec');
  sink.room = 100;
  await clock.advance(1_000);
  expect(sink.text).toBe('first\nsecond\nthird\n');
  expect([lost, troubles, clock.pending]).toEqual([[], [], 0]);
});

test.each(['ENOSPC', 'EPIPE', 'EIO'])('%s is said once, lines wait, and it is tried again each second', async code => {
  sink.failure = code;
  output.write('a\n');
  output.write('b\n');
  await clock.advance(30_000);
  expect(troubles).toEqual([{ output: 'stdout', code }]);
  sink.failure = undefined;
  await clock.advance(1_000);
  expect(sink.text).toBe('a\nb\n');
  expect(lost).toEqual([]);
});

describe('when nobody reads', () => {
  beforeEach(() => {
    sink.room = 0;
  });

  test('1 MiB of lines waits, the others are dropped and counted, and it is said once when it flows again', async () => {
    for (let i = 0; i < 5_000; i++) output.write(kib(`${i} `));
    sink.room = Number.POSITIVE_INFINITY;
    await clock.advance(1_000);
    expect(sink.text.length).toBeLessThan(1.2 * MIB);
    expect(sink.lines.map(line => Number.parseInt(line, 10))).toEqual(sink.lines.map((_, i) => i));
    expect(lost).toEqual([{ output: 'stdout', code: 'EAGAIN', lines: 5_000 - sink.lines.length, securityLines: 0 }]);
    await clock.advance(60_000);
    expect(lost).toHaveLength(1);
  });

  test('lines about security still have room when others have none, and are bounded too', async () => {
    for (let i = 0; i < 5_000; i++) output.write(kib('ordinary '));
    for (let i = 0; i < 5_000; i++) output.write(kib('security '), 'security');
    output.write('notice\n', 'notice');
    sink.room = Number.POSITIVE_INFINITY;
    await clock.advance(1_000);
    const security = sink.lines.filter(line => line.startsWith('security')).length;
    expect(security).toBeGreaterThan(900);
    expect(sink.text.length).toBeLessThan(2.2 * MIB);
    expect(sink.lines).toContain('notice');
    expect(lost).toEqual([
      expect.objectContaining({ lines: 10_001 - sink.lines.length, securityLines: 5_000 - security }),
    ]);
  });

  test('a reader that comes and goes is said at most every 10 s, and no line is forgotten in the counts', async () => {
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 2_000; i++) output.write(kib('x'));
      sink.room = Number.POSITIVE_INFINITY;
      await clock.advance(1_000);
      sink.room = 0;
    }
    sink.room = Number.POSITIVE_INFINITY;
    await clock.advance(20_000);
    expect(lost.length).toBeLessThanOrEqual(3);
    expect(lost.reduce((sum, { lines }) => sum + lines, 0) + sink.lines.length).toBe(40_000);
  });

  test('it looks less often after a while', async () => {
    let looks = 0;
    const real = sink.writeNow.bind(sink);
    sink.writeNow = bytes => {
      looks++;
      return real(bytes);
    };
    output.write('a\n');
    await clock.advance(60_000);
    expect(looks).toBeLessThan(700);
    for (let i = 0; i < 100; i++) output.write('b\n');
    expect(looks).toBeLessThan(700);
  });

  test('the end of the process waits for a bounded time, and says what is lost', () => {
    output.write('a\n');
    output.write('b\n');
    const begun = performance.now();
    output.finish(100);
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(lost).toEqual([{ output: 'stdout', code: 'EAGAIN', lines: 2, securityLines: 0 }]);
  });
});

test('the end of the process writes what waits', async () => {
  sink.room = 1;
  output.write('a\n');
  output.write('b\n');
  sink.room = 100;
  output.finish(100);
  expect(sink.text).toBe('a\nb\n');
  expect(lost).toEqual([]);
});

test('a write in another thread is one at a time, and lines wait for it together', () => {
  sink.isSlow = true;
  for (let i = 0; i < 5; i++) output.write(`${i}\n`);
  expect(sink.text).toBe('');
  sink.complete();
  expect(sink.text).toBe('0\n');
  sink.complete();
  expect(sink.text).toBe('0\n1\n2\n3\n4\n');
});

test('a write in another thread that ends after the last lines were written does no harm', () => {
  sink.isSlow = true;
  output.write('a\n');
  output.write('b\n');
  output.finish(100);
  expect(sink.text).toBe('b\n');
  sink.complete();
  expect(sink.text).toBe('b\na\n');
});

test('lines that are given up while another thread writes are counted, and what it answers later is ignored', () => {
  sink.isSlow = true;
  for (const line of ['a\n', 'b\n', 'c\n']) output.write(line);
  let isEmpty = false;
  output.whenEmpty(() => {
    isEmpty = true;
  });
  output.abandon();
  expect([isEmpty, lost]).toEqual([true, [{ output: 'stdout', code: 'EAGAIN', lines: 2, securityLines: 0 }]]);
  output.write('d\n');
  sink.complete();
  expect(sink.text).toBe('a\n');
  expect(clock.pending).toBe(0);
});

describe('an output that gathers', () => {
  const WINDOW_MS = 50;
  let writes: number[];
  let gathering: LineOutput;
  beforeEach(() => {
    writes = [];
    const real = sink.writeNow.bind(sink);
    sink.writeNow = bytes => {
      writes.push(bytes.length);
      return real(bytes);
    };
    gathering = new LineOutput('stdout', sink, clock, true);
  });
  const turn = () => new Promise(resolve => setImmediate(resolve));

  test('writes lines of one turn of the event loop together, and none is lost when the process ends before', async () => {
    for (let i = 0; i < 100; i++) gathering.write('a\n');
    await turn();
    expect(writes).toEqual([200]);
    gathering.write('b\n');
    gathering.finish(100);
    expect(sink.lines).toEqual([...Array(100).fill('a'), 'b']);
  });

  test('writes again 50 ms later what has come meanwhile, and a line that comes alone at once', async () => {
    gathering.write('a\n');
    await turn();
    gathering.write('b\n');
    await turn();
    await clock.advance(WINDOW_MS - 1);
    gathering.write('c\n');
    await turn();
    expect(writes).toEqual([2]);
    await clock.advance(1);
    expect(writes).toEqual([2, 4]);
    expect(clock.pending).toBe(0);
    await clock.advance(WINDOW_MS);
    gathering.write('d\n');
    await turn();
    expect(writes).toEqual([2, 4, 2]);
    expect(clock.pending).toBe(0);
    expect(sink.lines).toEqual(['a', 'b', 'c', 'd']);
  });

  test('writes at once when 64 KiB wait', () => {
    for (let i = 0; i < 200; i++) gathering.write(kib('a'));
    expect(writes.length).toBeGreaterThan(2);
    expect(sink.lines.length).toBeGreaterThan(128);
    expect(lost).toEqual([]);
  });

  test('does not begin the next write because another thread is done with the last', async () => {
    sink.isSlow = true;
    gathering.write('a\n');
    await turn();
    gathering.write('b\n');
    await turn();
    sink.complete();
    gathering.write('c\n');
    await turn();
    expect(writes).toEqual([2]);
    await clock.advance(WINDOW_MS);
    sink.complete();
    expect(writes).toEqual([2, 4]);
    expect(sink.lines).toEqual(['a', 'b', 'c']);
  });

  test('goes on at once where a write has taken a part', async () => {
    gathering.write('a\n');
    await turn();
    sink.room = 3;
    gathering.write('bb\ncc\n');
    await clock.advance(WINDOW_MS);
    expect(sink.text).toBe('a\nbb\n');
    sink.room = 100;
    await clock.advance(5);
    expect(sink.lines).toEqual(['a', 'bb', 'cc']);
  });

  test('writes what waits when somebody waits for that', async () => {
    gathering.write('a\n');
    await turn();
    gathering.write('b\n');
    await turn();
    let isEmpty = false;
    gathering.whenEmpty(() => (isEmpty = true));
    expect(isEmpty).toBe(true);
    expect(sink.lines).toEqual(['a', 'b']);
    await clock.advance(WINDOW_MS);
    expect(writes).toEqual([2, 2]);
  });

  test('writes nothing more when it was given up', async () => {
    gathering.write('a\n');
    await turn();
    gathering.write('b\n');
    await turn();
    gathering.abandon();
    await clock.advance(WINDOW_MS);
    expect(sink.lines).toEqual(['a']);
    expect(clock.pending).toBe(0);
  });
});
