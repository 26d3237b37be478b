import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, deflateRawSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BINARY, CONTINUATION, frame, PING, RawClient, TEXT } from '../websocket/raw-client.ts';
import { MIB, startVictim, type Victim } from '../websocket/start-victim.ts';

/** What the memory of the server may grow by at most, at any moment of an attack. */
const ALLOWED_GROWTH = 64 * MIB;

let victim: Victim;
beforeAll(async () => {
  victim = await startVictim({ headerTimeout: '500ms' });
});
afterAll(() => victim[Symbol.asyncDispose]());

/** The server must go on serving, within its memory, and hold nothing of what came. */
async function attack(run: () => Promise<void>): Promise<void> {
  const before = await victim.state();
  await run();
  await victim.serves();
  await expect.poll(async () => (await victim.state()).isEmpty).toBe(true);
  const after = await victim.state();
  expect(after.peak - Math.max(before.rss, before.peak)).toBeLessThan(ALLOWED_GROWTH);
}

describe('handshakes', () => {
  test('half a handshake is answered with 408 when the header timeout is over', () =>
    attack(async () => {
      using client = await RawClient.dial(victim.url);
      client.send(Buffer.from('GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: webso'));
      await client.ended();
      expect(client.status).toBe(408);
    }));

  test('one header byte at a time does not stretch the header timeout', () =>
    attack(async () => {
      using client = await RawClient.dial(victim.url);
      client.send(Buffer.from('GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: '));
      const drip = setInterval(() => client.send(Buffer.from('x')), 50);
      await client.ended();
      clearInterval(drip);
      expect(client.status).toBe(408);
    }));

  test('a connection that says nothing is closed when the header timeout is over', () =>
    attack(async () => {
      using client = await RawClient.dial(victim.url);
      await client.ended();
      expect(client.head === '' || client.status === 408).toBe(true);
    }));

  test('1 MB of headers is answered with 431', () =>
    attack(async () => {
      using client = await RawClient.knock(victim.url, { headers: [`X-Large: ${'x'.repeat(1_000_000)}`] });
      await client.ended();
      expect(client.status).toBe(431);
    }));

  test('a thousand headers more than there may be are answered with 431', () =>
    attack(async () => {
      const headers = Array.from({ length: 10_000 }, (_, i) => `X-${i}: ${'x'.repeat(80)}`);
      using client = await RawClient.knock(victim.url, { headers });
      await client.ended();
      expect(client.status).toBe(431);
    }));

  test('binary garbage is answered with 400', () =>
    attack(async () => {
      for (let i = 0; i < 20; i++) {
        using client = await RawClient.dial(victim.url);
        // No first byte of a method, so that nothing is waited for.
        client.send(Buffer.concat([Uint8Array.of(0xff), randomBytes(100_000)]));
        await client.ended();
        expect(client.status).toBe(400);
      }
    }));

  test('a TLS hello on a plain port is answered with 400', () =>
    attack(async () => {
      using client = await RawClient.dial(victim.url);
      // TLS record: handshake, version 3.1, client hello.
      client.send(Buffer.from('16030100c8010000c40303', 'hex'), randomBytes(192));
      await client.ended();
      expect(client.status).toBe(400);
    }));

  test.each([
    ['no key', (head: string) => head.replace(/Sec-WebSocket-Key.*\r\n/, ''), 400],
    ['a key that is not base64 of 16 bytes', (head: string) => head.replace(/Key: .*/, 'Key: AAAA'), 400],
    ['another version', (head: string) => head.replace('Version: 13', 'Version: 8'), 426],
    ['two hosts', (head: string) => head.replace('Upgrade:', 'Host: other\r\nUpgrade:'), 400],
    ['no host', (head: string) => head.replace(/Host: .*\r\n/, ''), 400],
    ['a body', (head: string) => head.replace('\r\n\r\n', '\r\nContent-Length: 5\r\n\r\nhello'), 400],
    ['an illegal target', (head: string) => head.replace('/echo', '/%zz'), 400],
    ['POST', (head: string) => head.replace('GET', 'POST'), 405],
  ] as const)('a handshake with %s gets a clear status', (_, spoil, status) =>
    attack(async () => {
      const { host } = new URL(victim.url);
      const head = `GET /echo HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`;
      using client = await RawClient.dial(victim.url);
      client.send(Buffer.from(spoil(head)));
      await client.answered();
      expect(client.status).toBe(status);
    }),
  );
});

describe('frames', () => {
  test('garbage behind the handshake is closed with 1002', () =>
    attack(async () => {
      for (let i = 0; i < 20; i++) {
        using client = await RawClient.connect(victim.url);
        client.send(Buffer.concat([Uint8Array.of(0xf3), randomBytes(50_000)]));
        expect(await client.closeCode()).toBe(1002);
      }
    }));

  test('100,000 tiny fragments are closed with 1008', () =>
    attack(async () => {
      using client = await RawClient.connect(victim.url);
      const fragment = frame(CONTINUATION, 'x', { fin: false });
      client.send(frame(TEXT, 'x', { fin: false }), ...Array.from({ length: 100_000 }, () => fragment));
      expect(await client.closeCode()).toBe(1008);
    }));

  test('a zip bomb of a gigabyte is closed with 1009', () =>
    attack(async () => {
      using client = await RawClient.connect(victim.url, {
        headers: ['Sec-WebSocket-Extensions: permessage-deflate'],
      });
      const megabyte = deflateRawSync(new Uint8Array(MIB), { finishFlush: constants.Z_FULL_FLUSH });
      const bomb = Buffer.concat(Array.from({ length: 1024 }, () => megabyte)).subarray(0, -4);
      for (const payload of [bomb, bomb.subarray(0, 1_000_000)]) {
        using other = await RawClient.connect(victim.url, {
          headers: ['Sec-WebSocket-Extensions: permessage-deflate'],
        });
        other.send(frame(BINARY, payload, { rsv1: true }));
        expect(await other.closeCode()).toBe(1009);
      }
      expect(client.socket.destroyed).toBe(false);
    }));

  test('a frame that announces 2^62 bytes is closed with 1009, and one that keeps within the limit costs what it sends', () =>
    attack(async () => {
      using huge = await RawClient.connect(victim.url);
      huge.send(Buffer.from('82ff400000000000000000000000', 'hex'));
      expect(await huge.closeCode()).toBe(1009);
      const clients = await Promise.all(Array.from({ length: 200 }, () => RawClient.connect(victim.url)));
      // 2 MiB announced, 100 bytes sent: 400 MiB if the server believed it.
      for (const client of clients) client.send(frame(BINARY, new Uint8Array(2 * MIB)).subarray(0, 100));
      for (const client of clients) {
        client.socket.end();
        await client.ended();
        client[Symbol.dispose]();
      }
    }));

  test('a client that never reads is closed with 1013', () =>
    attack(async () => {
      using client = await RawClient.connect(victim.url);
      client.socket.pause();
      const messages = Buffer.concat(Array.from({ length: 64 }, () => frame(BINARY, new Uint8Array(16 * 1024))));
      const flood = () => {
        while (!client.socket.destroyed && client.socket.write(messages));
      };
      client.socket.on('drain', flood);
      const broken = new Promise(resolve => client.socket.on('close', resolve));
      flood();
      // Its close frame lies behind what it does not read; it is cut when the close timeout is over.
      await broken;
    }));

  test('a client that sends pings and never reads the pongs does not fill the memory', () =>
    attack(async () => {
      using client = await RawClient.connect(victim.url);
      client.socket.pause();
      const pings = Buffer.concat(Array.from({ length: 5_000 }, () => frame(PING, new Uint8Array(125))));
      for (let sent = 0; sent < 40; sent++) if (!client.socket.write(pings)) await once(client.socket, 'drain');
    }));

  test('a client that never closes is cut when the close timeout is over', () =>
    attack(async () => {
      using client = await RawClient.connect(victim.url);
      client.send(frame(TEXT, 'close'));
      expect(await client.closeCode()).toBe(4000);
      const broken = new Promise(resolve => client.socket.on('close', resolve));
      const drip = setInterval(() => client.socket.write(frame(PING)), 20);
      await broken;
      clearInterval(drip);
    }));
});
