import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { attack, attackedServer, compressingClient } from './inflating-attack.ts';
import { type Served, wires } from './served.ts';

// With 20 and 200 attackers, over every wire, and the latency of others itself: test/full/guard-inflating.test.ts.
test('small frames that inflate to the limit keep others waiting for less than 50 ms of CPU time', async () => {
  await using server = await attackedServer();
  const { busy, plain, compressed } = await attack(server, {
    wire: 'http/1',
    count: 1,
    bytes: 64 * 1024,
    path: '/attacked',
    seconds: 2,
  });
  // Without a budget it is 60 to 95 ms. It is about 6.
  expect(busy.p99).toBeLessThan(25);
  // A machine that runs other tests as well lets everybody wait. Without a budget half of the answers take more than
  // 140 ms.
  expect(plain.p50).toBeLessThan(50);
  expect(compressed.p50).toBeLessThan(50);
});

// Over HTTP/2 a stream that is not read has a window, and what waits for callbacks stops reading as well.
describe('more messages than a turn inflates', () => {
  let server: Served;
  beforeAll(async () => {
    server = await attackedServer();
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  test.each(wires.flatMap(wire => ['/beginnings', '/beginnings-later'].map(path => [wire, path] as const)))(
    'come in order over %s to %s, and the close behind them',
    async (wire, path) => {
      await using client = await compressingClient(server, wire, path, { threshold: 1 });
      const length = 64 * 1024;
      const count = 200;
      // More on the wire than a window of HTTP/2 holds.
      const rest = randomBytes(512)
        .toString('hex')
        .padEnd(length - 4, '.');
      for (let i = 0; i < count; i++) client.send(String(i).padStart(4, '0') + rest);
      // A close is answered at once, also while callbacks run: what they send then is too late.
      if (path === '/beginnings') client.close(1000);
      const answers: unknown[] = [];
      for (let i = 0; i < count; i++) answers.push(await client.receive());
      client.close(1000);
      expect(await client.receive()).toBeUndefined();
      expect(answers).toEqual(Array.from({ length: count }, (_, i) => `${length} ${String(i).padStart(4, '0')}`));
      expect(await client.closed).toMatchObject({ code: 1000, clean: true });
    },
  );
});
