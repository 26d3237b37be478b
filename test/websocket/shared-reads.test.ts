import net from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { shareReads } from '../../src/websocket/shared-reads.ts';

async function acceptedSocket(): Promise<{ socket: net.Socket; peer: net.Socket; close(): void }> {
  const server = net.createServer();
  const accepted = new Promise<net.Socket>(resolve => server.once('connection', resolve));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const peer = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  const socket = await accepted;
  return {
    socket,
    peer,
    close() {
      peer.destroy();
      socket.destroy();
      server.close();
    },
  };
}

describe('reads into a shared buffer', () => {
  test('are taken on the pinned Node, for an accepted TCP socket, with every byte in order', async () => {
    const { socket, peer, close } = await acceptedSocket();
    const received: Buffer[] = [];
    const buffers = new Set<ArrayBufferLike>();
    const isShared = shareReads(socket, (length, buffer) => {
      buffers.add(buffer.buffer);
      received.push(Buffer.from(buffer.subarray(0, length)));
    });
    expect(isShared).toBe(true);
    const ended = new Promise(resolve => socket.once('end', resolve));
    const sent = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
    peer.end(sent);
    await ended;
    expect(Buffer.concat(received).equals(sent)).toBe(true);
    expect(buffers.size).toBe(1);
    close();
  });

  test('stop while the socket is paused, and go on after', async () => {
    const { socket, peer, close } = await acceptedSocket();
    let bytes = 0;
    shareReads(socket, length => {
      bytes += length;
    });
    peer.write('first');
    await expect.poll(() => bytes).toBe(5);
    socket.pause();
    await new Promise<void>(resolve => peer.write('second', () => resolve()));
    for (let turn = 0; turn < 20; turn++) await new Promise(resolve => setImmediate(resolve));
    expect(bytes).toBe(5);
    socket.resume();
    await expect.poll(() => bytes).toBe(11);
    close();
  });

  test('are not for other transports', () => {
    expect(shareReads(new PassThrough(), () => {})).toBe(false);
  });
});
