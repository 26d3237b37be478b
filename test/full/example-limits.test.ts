import { once } from 'node:events';
import { createServer } from 'holdfast';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { demo } from '../../examples/limits/demo.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { ask, closeCode, connect, open, refusedWith, start } from '../examples/example-client.ts';

test('limits: a message of more than 1024 bytes closes with 1009', async () => {
  const example = await start('limits');
  const socket = await open(example, '/demo');
  const largest = 'é'.repeat(512);
  expect(await ask(socket, largest)).toBe(largest);
  socket.send(`${largest}!`);
  expect(await closeCode(socket)).toBe(1009);
});

test('limits: the 1001st connection is refused until another one has closed', async () => {
  const example = await start('limits');
  const sockets = await Promise.all(Array.from({ length: 1000 }, () => open(example, '/demo')));
  const refused = connect(example, '/demo');
  const [, response] = await once(refused, 'unexpected-response');
  expect(response.statusCode).toBe(503);
  expect(Number(response.headers['retry-after'])).toBeGreaterThan(0);
  refused.terminate();
  expect(await refusedWith(connect(example, '/demo'))).toBe(503);

  sockets[500]!.close();
  await closeCode(sockets[500]!);
  await expect.poll(() => ask(connect(example, '/demo'), 'hi').catch(() => 'refused')).toBe('hi');
});

test('limits: 15 seconds of silence close with 1001, after a last message', async () => {
  const clock = new FakeClock();
  await using server = createServer(
    { listen: [{ port: 0 }], session: false, log: { level: 'silent', access: 'off' }, routes: [{ endpoint: demo }] },
    { clock },
  );
  await server.start();
  const socket = new WebSocket(`${server.urls[0]!.replace('http', 'ws')}/demo`);
  const heard: string[] = [];
  socket.on('message', data => heard.push(String(data)));
  socket.on('ping', () => heard.push('a ping'));
  await once(socket, 'open');

  await clock.advance(14_900);
  expect([...demo.connections].map(({ isOpen }) => isOpen)).toEqual([true]);
  const closed = closeCode(socket);
  await clock.advance(400);
  expect(await closed).toBe(1001);
  expect(heard).toEqual(['15 seconds without a word: good bye']);
});
