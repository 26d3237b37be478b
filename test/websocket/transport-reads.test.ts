import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http2, { type ClientHttp2Stream } from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, duplexPair } from 'node:stream';
import tls from 'node:tls';
import { afterAll, describe, expect, test } from 'vitest';
import { areReadsPaused, pauseReads, resumeReads, startReads } from '../../src/websocket/transport-reads.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

const folder = mkdtempSync(join(tmpdir(), 'reads-'));
writeSelfSignedCertificate(folder);
const identity = {
  cert: readFileSync(join(folder, 'localhost.crt')),
  key: readFileSync(join(folder, 'localhost.key')),
};
afterAll(() => rmSync(folder, { recursive: true }));

interface Pair {
  transport: Duplex;
  peer: Duplex;
  close(): void;
}

const kinds: Record<string, () => Promise<Pair>> = {
  async 'a TCP socket'() {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const peer = net.connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', noDelay: true });
    const [transport] = await accepted;
    return { transport, peer, close: () => server.close() };
  },
  async 'a TLS socket'() {
    const server = tls.createServer({ ...identity, allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
    const peer = tls.connect({
      port: (server.address() as AddressInfo).port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
    });
    const [transport] = await accepted;
    return { transport, peer, close: () => server.close() };
  },
  async 'a stream of HTTP/2'() {
    const server = http2.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'stream') as Promise<[http2.ServerHttp2Stream]>;
    const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {
      maxSessionMemory: 64,
    });
    const peer: ClientHttp2Stream = session.request({ ':method': 'POST' }, { endStream: false });
    const [transport] = await accepted;
    transport.respond();
    return {
      transport,
      peer,
      close() {
        session.destroy();
        server.close();
      },
    };
  },
  async 'any other stream'() {
    const [transport, peer] = duplexPair();
    return { transport, peer, close: () => {} };
  },
};

async function opened(kind: string) {
  const pair = await kinds[kind]!();
  pair.transport.on('error', () => {});
  pair.peer.on('error', () => {});
  const state = { received: '', hasEnded: false };
  pair.transport.on('end', () => {
    state.hasEnded = true;
  });
  const take = (length: number, buffer: Buffer) => {
    state.received += buffer.toString('latin1', 0, length);
  };
  return {
    ...pair,
    state,
    take,
    [Symbol.dispose]() {
      pair.transport.destroy();
      pair.peer.destroy();
      pair.close();
    },
  };
}

const turns = async (count = 50) => {
  for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve));
};

describe.each(Object.keys(kinds))('reads of %s', kind => {
  test('hand over every byte in order, and its end after them', async () => {
    using pair = await opened(kind);
    startReads(pair.transport, pair.take);
    const sent = Array.from({ length: 60_000 }, (_, i) => String(i)).join();
    pair.peer.end(sent);
    await expect.poll(() => pair.state.hasEnded).toBe(true);
    expect(pair.state.received).toBe(sent);
  });

  test('begin with what had arrived before', async () => {
    using pair = await opened(kind);
    pair.peer.write('before ');
    await turns();
    startReads(pair.transport, pair.take);
    pair.peer.write('after');
    await expect.poll(() => pair.state.received).toBe('before after');
  });

  test('hand nothing over while they are paused, and then all of it in order', async () => {
    using pair = await opened(kind);
    startReads(pair.transport, pair.take);
    pair.peer.write('first');
    await expect.poll(() => pair.state.received).toBe('first');
    pauseReads(pair.transport);
    expect(areReadsPaused(pair.transport)).toBe(true);
    for (let i = 0; i < 500; i++) pair.peer.write(`,${i}`);
    await turns();
    expect(pair.state.received).toBe('first');
    resumeReads(pair.transport);
    expect(areReadsPaused(pair.transport)).toBe(false);
    for (let i = 500; i < 1_000; i++) pair.peer.write(`,${i}`);
    const all = `first${Array.from({ length: 1_000 }, (_, i) => `,${i}`).join('')}`;
    await expect.poll(() => pair.state.received).toBe(all);
  });

  test('may be paused and resumed by what takes the bytes', async () => {
    using pair = await opened(kind);
    startReads(pair.transport, (length, buffer) => {
      pair.take(length, buffer);
      pauseReads(pair.transport);
      setImmediate(() => resumeReads(pair.transport));
    });
    const sent = Array.from({ length: 3_000 }, (_, i) => `${i},`).join('');
    for (let i = 0; i < sent.length; i += 97) pair.peer.write(sent.slice(i, i + 97));
    pair.peer.end();
    await expect.poll(() => pair.state.hasEnded).toBe(true);
    expect(pair.state.received).toBe(sent);
  });

  test('go on with another taker in the place of the first', async () => {
    using pair = await opened(kind);
    let first = '';
    startReads(pair.transport, (length, buffer) => {
      first += buffer.toString('latin1', 0, length);
      pauseReads(pair.transport);
    });
    pair.peer.write('one ');
    await expect.poll(() => first).toBe('one ');
    pair.peer.write('two ');
    await turns();
    startReads(pair.transport, pair.take);
    pair.peer.end('three');
    await expect.poll(() => pair.state.hasEnded).toBe(true);
    expect(first).toBe('one ');
    expect(pair.state.received).toBe('two three');
  });

  test('do not tell of the end before what was held', async () => {
    using pair = await opened(kind);
    startReads(pair.transport, pair.take);
    pauseReads(pair.transport);
    pair.peer.end('held');
    await turns();
    expect(pair.state).toEqual({ received: '', hasEnded: false });
    resumeReads(pair.transport);
    await expect.poll(() => pair.state).toEqual({ received: 'held', hasEnded: true });
  });

  test('hold up a peer that sends much while they are paused', async () => {
    using pair = await opened(kind);
    startReads(pair.transport, pair.take);
    pauseReads(pair.transport);
    // More than kernels keep.
    pair.peer.write(Buffer.alloc(16 * 1024 * 1024, 'x'));
    await turns(500);
    expect(pair.peer.writableLength).toBeGreaterThan(0);
    expect(pair.state.received).toBe('');
    resumeReads(pair.transport);
    await expect.poll(() => pair.peer.writableLength).toBe(0);
  });

  test('that are resumed after the transport was destroyed hand nothing over', async () => {
    using pair = await opened(kind);
    startReads(pair.transport, pair.take);
    pauseReads(pair.transport);
    pair.peer.write('held');
    await turns();
    pair.transport.destroy();
    resumeReads(pair.transport);
    await turns();
    expect(pair.state.received).toBe('');
  });
});
