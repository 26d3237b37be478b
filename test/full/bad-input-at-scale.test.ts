import { afterAll, beforeAll, expect, test } from 'vitest';
import { BINARY, CONTINUATION, frame, PONG, RawClient, TEXT } from '../websocket/raw-client.ts';
import { MIB, startVictim, type Victim } from '../websocket/start-victim.ts';

let victim: Victim;
beforeAll(async () => {
  victim = await startVictim({ headerTimeout: '10s' });
});
afterAll(() => victim[Symbol.asyncDispose]());

/** Runs many at once, and says how much the server's memory grew by at most, in MiB. */
async function flood(count: number, one: (i: number) => Promise<void>): Promise<number> {
  const { rss } = await victim.state();
  await Promise.all(Array.from({ length: count }, (_, i) => one(i)));
  await victim.serves();
  await expect.poll(async () => (await victim.state()).isEmpty, { timeout: 30_000 }).toBe(true);
  return Math.round(((await victim.state()).peak - rss) / MIB);
}

test('5,000 connects at once are all served, the server grows by less than 120 MiB, and holds nothing when they have gone', async () => {
  const before = await victim.state();
  const startedAt = performance.now();
  const clients = await Promise.all(
    Array.from({ length: 5_000 }, async () => {
      const client = await RawClient.connect(victim.url);
      expect(client.status).toBe(101);
      client.send(frame(TEXT, 'hello'));
      expect(await client.text()).toBe('hello');
      return client;
    }),
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  const during = await victim.state();
  expect(during.connections).toBe(5_000);
  for (const client of clients) client.reset();
  await expect.poll(async () => (await victim.state()).isEmpty, { timeout: 30_000 }).toBe(true);
  await victim.serves();
  const grown = Math.round((during.peak - before.rss) / MIB);
  console.log(`5,000 connects at once: ${grown} MiB, ${seconds.toFixed(1)} s`);
  expect(grown).toBeLessThan(120);
});

test('5,000 half handshakes at once end with 408, and meanwhile others are served', async () => {
  const impatient = await startVictim({ headerTimeout: '1s' });
  const before = await impatient.state();
  const clients = await Promise.all(
    Array.from({ length: 5_000 }, async () => {
      const client = await RawClient.dial(impatient.url);
      client.send(Buffer.from('GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: webso'));
      return client;
    }),
  );
  await impatient.serves();
  for (const client of clients) {
    await client.ended();
    expect(client.status).toBe(408);
    client[Symbol.dispose]();
  }
  await impatient.serves();
  const grown = Math.round(((await impatient.state()).peak - before.rss) / MIB);
  console.log(`5,000 half handshakes: ${grown} MiB`);
  expect(grown).toBeLessThan(250);
  await impatient[Symbol.asyncDispose]();
});

test('500 floods of tiny fragments at once end with 1008', async () => {
  const fragments = Buffer.concat([
    frame(TEXT, 'x', { fin: false }),
    ...Array.from({ length: 100_000 }, () => frame(CONTINUATION, 'x', { fin: false })),
  ]);
  const grown = await flood(500, async () => {
    using client = await RawClient.connect(victim.url);
    client.socket.write(fragments);
    expect(await client.closeCode()).toBe(1008);
  });
  console.log(`500 floods of fragments: ${grown} MiB`);
  expect(grown).toBeLessThan(250);
});

test('100 clients that never read cost at most their four limits each', async () => {
  const message = frame(BINARY, new Uint8Array(64 * 1024));
  const grown = await flood(100, async () => {
    const client = await RawClient.connect(victim.url);
    client.socket.pause();
    const broken = new Promise(resolve => client.socket.on('close', resolve));
    const send = () => {
      while (!client.socket.destroyed && client.socket.write(message));
    };
    client.socket.on('drain', send);
    send();
    await broken;
  });
  console.log(`100 clients that never read: ${grown} MiB`);
  // 100 times 4 MiB, and what was there before.
  expect(grown).toBeLessThan(400 + 250);
});

test('10,000 connections in a row, cut in every state, leave nothing behind', async () => {
  const sizes: number[] = [];
  for (let round = 0; round < 5; round++) {
    await flood(2_000, async i => {
      const client = await RawClient.knock(victim.url);
      if (i % 4 !== 0) await client.answered();
      if (i % 4 === 2) client.send(frame(TEXT, 'x'.repeat(1000)).subarray(0, 500));
      if (i % 4 === 3) client.send(frame(PONG), frame(TEXT, 'close'));
      client.reset();
    });
    sizes.push((await victim.state()).held / MIB);
  }
  console.log(`held after each 2,000: ${sizes.map(size => size.toFixed(1)).join(', ')} MiB`);
  // The first round compiles and caches; from then on nothing may stay. A connection is some 3 KiB.
  expect(sizes.at(-1)! - sizes[0]!).toBeLessThan(2);
});
