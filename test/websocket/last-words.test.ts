import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net, { type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { createServer, defineEndpoint } from 'holdfast';
import { afterAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { breakOf, hearLastWords, isEndedBefore } from '../../src/websocket/last-words.ts';
import { Opcode } from '../../src/websocket/protocol/opcodes.ts';
import { pauseReads, resumeReads, startReads } from '../../src/websocket/transport-reads.ts';
import { CLIENT_KEY, RawPeer } from '../gateway/raw-peer.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

const folder = mkdtempSync(join(tmpdir(), 'last-words-'));
const files = writeSelfSignedCertificate(folder);
const pem = { key: readFileSync(files.key), cert: readFileSync(files.certificate) };
afterAll(() => rmSync(folder, { recursive: true }));

const kinds = ['tcp', 'tls'] as const;

/** Both ends of a connection; `raw` is the other end without its TLS. */
async function pair(kind: (typeof kinds)[number]) {
  const server = kind === 'tls' ? tls.createServer(pem) : net.createServer();
  const raw = Promise.withResolvers<Socket>();
  server.on('connection', raw.resolve);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, kind === 'tls' ? 'secureConnection' : 'connection');
  const options = { port: (server.address() as AddressInfo).port, host: '127.0.0.1' };
  const near = kind === 'tls' ? tls.connect({ ...options, rejectUnauthorized: false }) : net.connect(options);
  const connected = once(near, kind === 'tls' ? 'secureConnect' : 'connect');
  const [[far]] = (await Promise.all([accepted, connected])) as [[Socket], unknown];
  server.close();
  for (const socket of [near, far, await raw.promise]) socket.on('error', () => {});
  far.pause();
  hearLastWords(near);
  return { near, far, raw: await raw.promise };
}

test.each(kinds)('what has come before a reset is read also when a write has failed first, over %s', async kind => {
  const { near, far, raw } = await pair(kind);
  let heard = '';
  startReads(near, (length, buffer) => {
    heard += buffer.toString('latin1', 0, length);
  });
  near.write('not read');
  await new Promise(resolve => setTimeout(resolve, 20));
  far.write('last words');
  raw.resetAndDestroy();
  // Before this turn of the event loop has read anything.
  const written = new Promise(resolve => near.write('too late', resolve));
  near.write('later still');
  await once(near, 'close');
  expect(heard).toBe('last words');
  expect([await written, breakOf(near)?.code, isEndedBefore(breakOf(near)!)]).toEqual([null, 'ECONNRESET', false]);
});

test.each(kinds)('the error says when the peer had ended its side before, over %s', async kind => {
  const { near, far, raw } = await pair(kind);
  near.pause();
  far.end('last words');
  await once(far, 'finish');
  raw.resetAndDestroy();
  near.write('too late');
  expect(Buffer.concat(await near.toArray()).toString()).toBe('last words');
  expect([breakOf(near)?.code, isEndedBefore(breakOf(near)!)]).toEqual(['EPIPE', true]);
});

test.each([
  ['in the stream', false],
  ['in our hands', true],
])('what was read and not taken, %s, comes before a reset', async (_, isOurs) => {
  const { near, far, raw } = await pair('tls');
  let heard = '';
  if (isOurs) {
    startReads(near, (length, buffer) => {
      heard += buffer.toString('latin1', 0, length);
    });
    pauseReads(near);
  } else near.on('data', chunk => (heard += chunk)).pause();
  far.write('last words');
  await new Promise(resolve => setTimeout(resolve, 20));
  raw.resetAndDestroy();
  await new Promise(resolve => setTimeout(resolve, 20));
  expect([heard, near.destroyed]).toEqual(['', false]);
  if (isOurs) resumeReads(near);
  else near.resume();
  await new Promise(resolve => near.on('close', resolve));
  expect(heard).toBe('last words');
});

test.each(kinds)(
  'an endpoint that is sending hears the code of a client that closes and resets, over %s',
  async kind => {
    const closes: unknown[] = [];
    const errors: Error[] = [];
    const client = Promise.withResolvers<{ peer: RawPeer; raw: Socket }>();
    const closed = Promise.withResolvers<void>();
    const endpoint = defineEndpoint({
      path: '/socket',
      origins: 'any',
      async onMessage(connection) {
        const { peer, raw } = await client.promise;
        peer.sendClose(4001, 'enough');
        raw.resetAndDestroy();
        connection.send(Buffer.alloc(100_000));
      },
      onClose(_, { code, reason }) {
        closes.push([code, reason]);
        closed.resolve();
      },
      onError: (_, error) => void errors.push(error),
    });
    await using server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(kind === 'tls' && { tls: files }) }],
        session: false,
        routes: [{ endpoint }],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    const raw = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
    await once(raw, 'connect');
    const socket = kind === 'tls' ? tls.connect({ socket: raw, rejectUnauthorized: false }) : raw;
    const peer = new RawPeer(socket, true);
    client.resolve({ peer, raw });
    socket.write(
      `GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${CLIENT_KEY}\r\n\r\n`,
    );
    await peer.until(() => peer.head !== '');
    peer.send(Opcode.text, 'begin');
    await closed.promise;
    expect([closes, errors]).toEqual([[[4001, 'enough']], []]);
  },
);
