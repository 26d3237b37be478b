import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';

/** Answers before it has read the body, and reads no more. */
async function startRefusing() {
  const server = http.createServer((_, response) => {
    response.writeHead(401, { Connection: 'close' }).end('too large');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => void server.close() };
}

test.each(['/upstream', '/files', '/fetch', '/moved'])(
  'over HTTP/2 the rest of a body that nobody reads is ended a second after the answer, as no error: %s',
  async path => {
    await using backend = await startRefusing();
    await using server = await Served.module(`export default defineConfig({
      listen,
      session: false,
      upstreams: { app: { servers: ['${backend.url}'] } },
      routes: [
        { path: '/upstream', upstream: 'app' },
        { path: '/fetch', fetch: () => new Response('no', { status: 413 }) },
        { path: '/moved', redirect: '/elsewhere' },
        { path: '/files', files: '.' },
      ],
    });`);
    using client = await Http2Client.connect(server.url('http/2'));
    const stream = client.session.request({ ':method': 'POST', ':path': path });
    stream.on('error', () => {});
    stream.write('begin');
    const [[headers]] = await Promise.all([once(stream, 'response'), once(stream.resume(), 'close')]);
    expect(headers[':status']).toBeGreaterThan(300);
    expect(stream.rstCode).toBe(http2.constants.NGHTTP2_NO_ERROR);
  },
  15_000,
);
