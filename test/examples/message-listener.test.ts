import { once } from 'node:events';
import { createServer } from 'holdfast';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { messageListener } from '../../examples/message-listener/message-listener.ts';
import { ask, closeCode, connect, refusedWith, start } from './example-client.ts';

test('message-listener answers below /ws, and nowhere else', async () => {
  const example = await start('message-listener');
  for (const path of ['/ws', '/ws/a', '/ws/a/b?c'])
    expect(await ask(connect(example, path), 'hi "you"')).toBe('Message "hi "you"" has been received by server.');
  expect(await refusedWith(connect(example, '/wsx'))).toBe(404);
});

test('message-listener closes with 1001 when an answer cannot be sent', async () => {
  await using server = createServer({
    listen: [{ port: 0 }],
    session: false,
    log: { level: 'silent', access: 'off' },
    routes: [{ endpoint: messageListener }],
  });
  await server.start();
  const socket = new WebSocket(`${server.urls[0]!.replace('http', 'ws')}/ws/deaf`);
  await once(socket, 'open');
  socket.pause();
  const message = 'x'.repeat(60_000);
  let sent = 0;
  while (messageListener.connections.size === 1 && sent < 2_000) {
    await new Promise(done => socket.send(message, done));
    sent++;
  }

  let answers = 0;
  socket.on('message', () => answers++);
  const closed = closeCode(socket);
  socket.resume();
  expect(await closed).toBe(1001);
  expect(answers).toBeGreaterThan(0);
  expect(answers).toBeLessThanOrEqual(sent);
});
