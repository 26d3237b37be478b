import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import type { WebSocketRouteConfig } from '../../src/gateway/relay/limits.ts';
import { connectWebSocket, type WebSocketClient } from '../../src/websocket/protocol/client.ts';
import { rawClient } from '../gateway/raw-peer.ts';
import { closing } from '../services/closing.ts';
import { Http2Client } from './http2-client.ts';
import { Lines, type Wire, WiredServer, wires } from './wires.ts';

const open = closing();
const KIB = 1024;
const MIB = 1024 * KIB;

/** A backend that sends messages of the size that it is asked for, and notes its close codes. */
async function serve(
  websocket?: WebSocketRouteConfig,
  log?: Lines,
): Promise<{ server: WiredServer; closes: [number, string][] }> {
  const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(backend, 'listening');
  const closes: [number, string][] = [];
  backend.on('connection', socket => {
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) =>
      isBinary ? socket.send(`${(data as Buffer).length}`) : socket.send(Buffer.alloc(Number(data))),
    );
    socket.on('close', (code, reason) => closes.push([code, String(reason)]));
  });
  open.push({
    close: () => {
      for (const client of backend.clients) client.terminate();
      return new Promise(resolve => backend.close(resolve));
    },
  });
  const url = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
  const server = await WiredServer.start(
    {
      upstreams: { app: { servers: [url] } },
      routes: [{ path: '/*', upstream: 'app', ...(websocket && { websocket }) }],
    },
    log,
  );
  open.push(server);
  return { server, closes };
}

async function connect(server: WiredServer, wire: Wire): Promise<WebSocketClient> {
  if (wire !== 'http/2') return connectWebSocket(server.url(wire), { tls: { rejectUnauthorized: false } });
  const client = await Http2Client.connect(server.url(wire));
  open.push({ close: () => client[Symbol.dispose]() });
  return client.webSocket('/');
}

/** How large a message is that comes for this one; or how the connection ends. */
async function sizeOf(server: WiredServer, wire: Wire, message: string | Buffer): Promise<string> {
  const client = await connect(server, wire);
  client.send(message);
  const answer = await client.receive();
  if (answer !== undefined) {
    client.terminate();
    return typeof answer === 'string' ? answer : String(answer.length);
  }
  const { code, reason } = await client.closed;
  return `${code} ${reason}`;
}

describe.each(wires)('over %s', wire => {
  test('messages of the backend may have 1 MiB where nothing else is said, and those of the client 64 KiB', async () => {
    const { server, closes } = await serve();
    expect(await sizeOf(server, wire, `${200 * KIB}`)).toBe(`${200 * KIB}`);
    expect(await sizeOf(server, wire, `${MIB}`)).toBe(`${MIB}`);
    expect(await sizeOf(server, wire, `${MIB + 1}`)).toBe('1009 message over 1048576 bytes (maxBackendMessageSize)');
    expect(closes.at(-1)).toEqual([1009, 'message over 1048576 bytes (maxBackendMessageSize)']);
    expect(await sizeOf(server, wire, Buffer.alloc(64 * KIB))).toBe(`${64 * KIB}`);
    expect(await sizeOf(server, wire, Buffer.alloc(64 * KIB + 1))).toBe(
      '1009 message over 65536 bytes (maxMessageSize)',
    );
  });

  test.each([
    // What clients may send, a backend may send, too.
    [{ maxMessageSize: '2MiB' }, 2 * MIB, 2 * MIB],
    [{ maxMessageSize: '1KiB' }, KIB, MIB],
    [{ maxMessageSize: '2MiB', maxBackendMessageSize: '3KiB' }, 2 * MIB, 3 * KIB],
    [{ maxBackendMessageSize: '3KiB' }, 64 * KIB, 3 * KIB],
  ] as const)('%j counts for each side', async (websocket, client, backend) => {
    const { server } = await serve(websocket);
    expect(await sizeOf(server, wire, Buffer.alloc(client))).toBe(`${client}`);
    expect(await sizeOf(server, wire, Buffer.alloc(client + 1))).toBe(
      `1009 message over ${client} bytes (maxMessageSize)`,
    );
    expect(await sizeOf(server, wire, `${backend}`)).toBe(`${backend}`);
    expect(await sizeOf(server, wire, `${backend + 1}`)).toBe(
      `1009 message over ${backend} bytes (maxBackendMessageSize)`,
    );
  });
});

test('without a limit every size passes', async () => {
  const { server } = await serve({ maxMessageSize: -1 });
  expect(await sizeOf(server, 'http/1', Buffer.alloc(3 * MIB))).toBe(`${3 * MIB}`);
  expect(await sizeOf(server, 'http/1', `${3 * MIB}`)).toBe(`${3 * MIB}`);
});

test('what clients do against the protocol is no warning, and is counted', async () => {
  const log = new Lines();
  const { server } = await serve({ maxMessageSize: 10 }, log);
  const status = () => server.server.upstreams.get('app')!.status;
  expect(status().clientViolations).toBe(0);
  // Not masked, a reserved opcode, a bad close code, and a message that is too large.
  const frames = [
    [0x81, 1, 0x61],
    [0x83, 0x80, 0, 0, 0, 0],
    [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed],
    [0x82, 0x8b, 0, 0, 0, 0],
  ];
  for (const frame of frames) {
    const peer = await rawClient(server.port('http/1'));
    peer.socket.write(Buffer.from(frame));
    await peer.closed();
  }
  await expect.poll(() => status().clientViolations).toBe(4);
  expect(log.of('warn')).toEqual([]);
  const lines = log.all.filter(({ fields }) => fields.event === 'client-violation');
  expect(lines.map(({ level }) => level)).toEqual(lines.map(() => 'info'));
  expect(lines.length).toBeGreaterThan(0);
});

test('what a backend does against the protocol stays a warning', async () => {
  const log = new Lines();
  const { server } = await serve({ maxBackendMessageSize: 10 }, log);
  await sizeOf(server, 'http/1', '11');
  await expect.poll(() => log.of('warn')).toEqual([expect.stringMatching(/11 bytes.*10.*maxBackendMessageSize/)]);
  expect(server.server.upstreams.get('app')!.status.clientViolations).toBe(0);
});
