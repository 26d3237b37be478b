import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { createServer, type Server } from '../../src/index.ts';

async function serving(maxBodySize?: string): Promise<{ server: Server; url: string }> {
  const server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    ...(maxBodySize !== undefined && { maxBodySize }),
    routes: [
      { path: '/length', fetch: async request => new Response(String((await request.arrayBuffer()).byteLength)) },
      { path: '/ignore', fetch: () => new Response('not read') },
    ],
    log: { level: 'silent' },
  });
  await server.start();
  return { server, url: server.urls[0]! };
}

test('a fetch handler gets a body of up to 1 MiB', async () => {
  const { server, url } = await serving();
  await using _ = server;
  const answer = await fetch(`${url}/length`, { method: 'POST', body: new Uint8Array(1024 * 1024) });
  expect(await answer.text()).toBe('1048576');
});

test('a body that is announced larger is refused before it is read, and the connection ends', async () => {
  const { server, url } = await serving('1KiB');
  await using _ = server;
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write('POST /length HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1025\r\n\r\n');
  const answer = await text(socket);
  expect(answer).toMatch(/^HTTP\/1\.1 413 /);
  expect(answer).toMatch(/^Connection: close\r$/m);
});

test('a body that turns out larger while it is read is refused with 413', async () => {
  const { server, url } = await serving('1KiB');
  await using _ = server;
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write('POST /length HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n');
  for (let i = 0; i < 3; i++) socket.write(`200\r\n${'x'.repeat(512)}\r\n`);
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 413 /);
});

test('a handler that does not read answers whatever is sent', async () => {
  const { server, url } = await serving('1KiB');
  await using _ = server;
  const answer = await fetch(`${url}/ignore`, { method: 'POST', body: 'x'.repeat(1024) });
  expect(await answer.text()).toBe('not read');
});

test('-1 is no limit', async () => {
  const { server, url } = await serving('-1');
  await using _ = server;
  const answer = await fetch(`${url}/length`, { method: 'POST', body: new Uint8Array(3 * 1024 * 1024) });
  expect(await answer.text()).toBe('3145728');
});
