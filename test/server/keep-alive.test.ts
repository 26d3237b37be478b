import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net, { type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { type Config, createServer } from 'holdfast';
import { afterAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { closing } from '../services/closing.ts';

const folder = mkdtempSync(join(tmpdir(), 'keep-alive-'));
const files = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));
const open = closing();

async function serve(config: Config = {}) {
  const server = createServer(
    {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: files },
        { port: 0, host: '127.0.0.1', redirect: 'https' },
      ],
      session: false,
      log: { access: 'off' },
      ...config,
    },
    { logger: silentLogger },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return server;
}

async function dial(url: string): Promise<{ socket: Socket; text(): string }> {
  const { port, protocol } = new URL(url);
  const options = { port: Number(port), host: '127.0.0.1', rejectUnauthorized: false };
  const socket = protocol === 'https:' ? tls.connect(options) : net.connect(options);
  socket.on('error', () => {});
  await once(socket, protocol === 'https:' ? 'secureConnect' : 'connect');
  let text = '';
  socket.on('data', chunk => {
    text += chunk;
  });
  return { socket, text: () => text };
}

test.each([
  [undefined, 75],
  ['20s', 20],
  ['1500ms', 2],
] as const)(
  'with keepAliveTimeout %s every listener says for how long it keeps a connection',
  async (keepAliveTimeout, seconds) => {
    const server = await serve({
      ...(keepAliveTimeout && { keepAliveTimeout }),
      internal: { port: 0 },
      routes: [{ path: '/', fetch: () => new Response('ok') }],
    });
    const urls = [...server.urls, server.internalUrl].filter(url => url !== undefined);
    expect(urls.length).toBe(4);
    for (const url of urls) {
      const { socket, text } = await dial(url);
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await expect.poll(text).toContain('\r\n\r\n');
      expect(text()).toMatch(new RegExp(`^Keep-Alive: timeout=${seconds}\r$`, 'im'));
      socket.destroy();
    }
  },
);

test.each([-1, 'soon'])('keepAliveTimeout %s is refused', async keepAliveTimeout => {
  await expect(serve({ keepAliveTimeout } as Config)).rejects.toThrow(/keepAliveTimeout/);
});

test('while the server drains, answers are the last of their connections, and say so', async () => {
  const answers = Promise.withResolvers<void>();
  let asked = 0;
  const server = await serve({
    routes: [
      {
        path: '/',
        async fetch() {
          asked++;
          await answers.promise;
          return new Response('ok');
        },
      },
    ],
  });
  const clients = await Promise.all([dial(server.urls[0]!), dial(server.urls[1]!)]);
  for (const { socket } of clients) socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await expect.poll(() => asked).toBe(2);
  const stopped = server.stop({ drain: '5s' });
  const closed = clients.map(({ socket }) => once(socket, 'close'));
  answers.resolve();
  await Promise.all([stopped, ...closed]);
  for (const { text } of clients) expect(text()).toMatch(/^HTTP\/1\.1 200 [\s\S]*^Connection: close\r$/m);
});
