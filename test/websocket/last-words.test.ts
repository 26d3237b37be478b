import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net, { type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, expect, test } from 'vitest';
import { breakOf, hearLastWords, isEndedBefore } from '../../src/websocket/last-words.ts';
import { pauseReads, resumeReads, startReads } from '../../src/websocket/transport-reads.ts';
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
