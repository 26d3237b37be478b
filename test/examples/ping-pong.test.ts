import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'holdfast';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { demo } from '../../examples/ping-pong/demo.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { ask, closeCode, nextMessage, open, start } from './example-client.ts';

test("ping-pong answers with a ping, and tells its round trip when the client's pong is there", async () => {
  const example = await start('ping-pong');
  const socket = await open(example, '/demo');
  const pinged = once(socket, 'ping');
  expect(await ask(socket, 'how far?')).toMatch(/^round trip: \d+\.\d ms$/);
  expect(String((await pinged)[0])).toMatch(/^\d/);
});

test('ping-pong answers a ping with its payload', async () => {
  const example = await start('ping-pong');
  const socket = await open(example, '/demo');
  const pong = once(socket, 'pong');
  const told = nextMessage(socket);
  socket.ping('are you there?');
  expect(String((await pong)[0])).toBe('are you there?');
  expect(await told).toBe('your ping said "are you there?"');
});

test('ping-pong keeps a quiet peer that lives, and closes with 1001 after 15 seconds without a sign of life', async () => {
  const clock = new FakeClock();
  await using http = createHttpServer();
  await using server = createServer(
    { session: false, log: { level: 'silent', access: 'off' }, routes: [{ endpoint: demo }] },
    { clock },
  );
  await server.attach(http);
  await once(http.listen(0), 'listening');
  const url = `ws://localhost:${(http.address() as AddressInfo).port}/demo`;

  const connection: Promise<Socket[]> = once(http, 'connection');
  const living = new WebSocket(url);
  const [ours] = await connection;
  await once(living, 'open');
  for (let elapsed = 0; elapsed < 60_000; elapsed += 5_200) {
    const { bytesRead } = ours!;
    await clock.advance(5_200);
    await expect.poll(() => ours!.bytesRead).toBeGreaterThan(bytesRead); // its pong
  }
  expect(living.readyState).toBe(WebSocket.OPEN);
  living.terminate();

  const dead = new WebSocket(url, { autoPong: false });
  await once(dead, 'open');
  let pings = 0;
  dead.on('ping', () => pings++);
  const closed = closeCode(dead);
  await clock.advance(15_300);
  expect(await closed).toBe(1001);
  expect(pings).toBe(1);
});
