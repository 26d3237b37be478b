import { once } from 'node:events';
import { createServer, defineEndpoint } from 'holdfast';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';

test('a streamed message is one message, and what is sent meanwhile waits for its last fragment', async () => {
  const endpoint = defineEndpoint({
    path: '/',
    onMessage(connection) {
      connection.stream('one ', false);
      connection.send('after');
      connection.stream('two ', false);
      connection.stream('three', true);
      connection.stream(Uint8Array.of(1), false);
      connection.stream(Uint8Array.of(2), true);
    },
  });
  await using server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    routes: [{ endpoint }],
    log: { level: 'silent', access: 'off' },
  });
  await server.start();
  const socket = new WebSocket(server.urls[0]!.replace('http', 'ws'));
  const received: unknown[] = [];
  const done = new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data: Buffer, isBinary) => {
      received.push(isBinary ? [...data] : data.toString());
      if (isBinary) resolve();
    });
  });
  await once(socket, 'open');
  socket.send('go');
  await done;
  expect(received).toEqual(['one two three', 'after', [1, 2]]);
});
