import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { listenTcp } from '../gateway/gateway-server.ts';
import { RawPeer, switching } from '../gateway/raw-peer.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

// What other servers take, and nothing is gained by refusing.

const folder = mkdtempSync(join(tmpdir(), 'lenient-'));
const files = writeSelfSignedCertificate(folder);

let server: Server;
let backend: Awaited<ReturnType<typeof listenTcp>>;
beforeAll(async () => {
  backend = await listenTcp(async socket => {
    const peer = new RawPeer(socket, false);
    await peer.until(() => peer.head !== '');
    const [, offered] = /^sec-websocket-protocol: (.*)$/im.exec(peer.head) ?? [];
    const echoed =
      offered === undefined ? 'Sec-WebSocket-Protocol: ' : `Sec-WebSocket-Protocol: ${offered.split(',')[0]}`;
    socket.write(switching(peer, [echoed, 'Sec-WebSocket-Extensions: ']));
  });
  server = createServer(
    {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: files },
      ],
      session: false,
      upstreams: { app: { servers: [backend.url] } },
      routes: [
        { endpoint: defineEndpoint({ path: '/endpoint', origins: 'any', subprotocols: ['b', 'a'] }) },
        { path: '/relay', upstream: 'app', policy: { origins: 'any' } },
      ],
      log: { access: 'off' },
    },
    { logger: silentLogger },
  );
  await server.start();
});
afterAll(async () => {
  await server.stop({ drain: 0 });
  await backend.close();
  rmSync(folder, { recursive: true });
});

async function shake(isTls: boolean, path: string, changes: readonly string[], key: string): Promise<string> {
  const port = Number(new URL(server.urls[isTls ? 1 : 0]!).port);
  const socket = isTls
    ? tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
    : net.connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, isTls ? 'secureConnect' : 'connect');
  const lines = ['Host: localhost', `Sec-WebSocket-Key: ${key}`, ...changes];
  if (!/^Upgrade:/im.test(changes.join('\n'))) lines.push('Upgrade: websocket');
  if (!/^Connection:/im.test(changes.join('\n'))) lines.push('Connection: Upgrade');
  socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\nSec-WebSocket-Version: 13\r\n\r\n`);
  const peer = new RawPeer(socket, true);
  await peer.until(() => peer.head !== '' || peer.isClosed);
  socket.destroy();
  return peer.head;
}

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

test.each<[string, string[], string?]>([
  ['a key with stray bits', [], 'dGhlIHNhbXBsZSBub25jZR=='],
  ['a key with all stray bits', [], 'dGhlIHNhbXBsZSBub25jZf=='],
  ['a subprotocol twice', ['Sec-WebSocket-Protocol: a, a']],
  ['empty places among its subprotocols', ['Sec-WebSocket-Protocol: ,a,, b,']],
  ['an empty list of subprotocols', ['Sec-WebSocket-Protocol: ']],
  ['several names in Connection', ['Connection: keep-alive, Upgrade, close']],
  ['Connection on two lines', ['Connection: keep-alive', 'Connection: upgrade']],
  ['a list in Upgrade', ['Upgrade: h2c, WebSocket']],
  ['a body of no bytes', ['Content-Length: 0']],
])('a handshake with %s is a 101', async (_, changes, key = KEY) => {
  for (const isTls of [false, true])
    for (const path of ['/endpoint', '/relay']) {
      const head = await shake(isTls, path, changes, key);
      expect(head).toMatch(/^HTTP\/1\.1 101 /);
      expect(head).toContain(`Sec-WebSocket-Accept: ${acceptKey(key)}`);
    }
});

test.each<[string, string]>([
  ['is shorter', 'dGhlIHNhbXBsZSBub25j'],
  ['is longer', 'dGhlIHNhbXBsZSBub25jZWQ='],
  ['has no padding', 'dGhlIHNhbXBsZSBub25jZQ'],
  ['is empty', ''],
])('a key that %s is still a 400', async (_, key) => {
  for (const path of ['/endpoint', '/relay']) expect(await shake(false, path, [], key)).toMatch(/^HTTP\/1\.1 400 /);
});
