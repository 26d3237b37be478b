import { readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { frame, RawClient } from '../websocket/raw-client.ts';
import { FrameType, Http2Wire, frame as http2Frame, Setting } from './http2-wire.ts';
import { LoopbackBackend } from './loopback-backend.ts';
import type { Served, Wire } from './served.ts';

const LARGEST_WINDOW = 0x7fff_ffff;
const INITIAL_WINDOW = 65_535;

const KIB = 1024;
export const MIB: number = 1024 * KIB;

/** `http/2, shared`: many WebSockets on each TCP connection. */
export type SlowWire = Wire | 'http/2, shared';

/** WebSockets that share a connection of `http/2, shared`. */
export const SHARED_STREAMS = 50;

/** Opened WebSockets that read nothing from now on. */
export class SlowClients implements Disposable {
  readonly count: number;
  readonly tcpConnections: number;
  readonly #senders: readonly ((bytes: Buffer) => boolean)[];
  readonly #connections: readonly (RawClient | Http2Wire)[];

  private constructor(
    connections: readonly (RawClient | Http2Wire)[],
    senders: readonly ((bytes: Buffer) => boolean)[],
  ) {
    this.count = senders.length;
    this.tcpConnections = connections.length;
    this.#connections = connections;
    this.#senders = senders;
  }

  /** @param window Of each stream of HTTP/2. */
  static async open(
    server: Served,
    wire: SlowWire,
    path: string,
    count: number,
    { window = LARGEST_WINDOW } = {},
  ): Promise<SlowClients> {
    if (wire === 'http/1' || wire === 'tls') {
      const clients: RawClient[] = [];
      for (let i = 0; i < count; i++) clients.push(await openSocket(server, wire, path));
      const senders = clients.map(
        ({ socket }) =>
          (bytes: Buffer) =>
            socket.write(bytes),
      );
      return new SlowClients(clients, senders);
    }
    const connections: Http2Wire[] = [];
    const senders: ((bytes: Buffer) => boolean)[] = [];
    const most = wire === 'http/2' ? 1 : SHARED_STREAMS;
    while (senders.length < count) {
      const connection = await openHttp2(server, window);
      connections.push(connection);
      for (let i = 0; i < most && senders.length < count; i++) {
        const stream = await connection.webSocket(path);
        senders.push(bytes => connection.send(http2Frame(FrameType.data, 0, stream, bytes)));
      }
      connection.socket.pause();
    }
    return new SlowClients(connections, senders);
  }

  /** Sends from every client, over TLS in a record of its own. @returns false when one should wait. */
  send(bytes: Buffer): boolean {
    return this.#senders.map(send => send(bytes)).every(Boolean);
  }

  [Symbol.dispose](): void {
    for (const { socket } of this.#connections) socket.destroy();
  }
}

/** Nothing but the TCP connection, and the windows of streams, keeps the server from sending. */
export async function openHttp2(server: Served, window = LARGEST_WINDOW): Promise<Http2Wire> {
  const wire = await Http2Wire.dial(server.port('http/2'), { [Setting.initialWindowSize]: window });
  wire.answersPings = false;
  wire.widen(0, LARGEST_WINDOW - INITIAL_WINDOW);
  // Acknowledges the settings of the server while the socket is still read.
  await wire.seen(() => wire.frames.find(({ type }) => type === FrameType.settings));
  return wire;
}

async function openSocket(server: Served, wire: 'http/1' | 'tls', path: string): Promise<RawClient> {
  const client = new RawClient(await server.dial(wire));
  const lines = ['Host: localhost', 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'];
  client.send(
    Buffer.from(`GET ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`),
  );
  await client.answered();
  if (client.status !== 101) throw new Error(client.head);
  client.socket.pause();
  return client;
}

/**
 * By how much resident memory may grow while so many clients read nothing, for which `limit` bytes may wait. Over
 * HTTP/2 the sum of a TCP connection is bounded too, by 4 MiB or the limit of one WebSocket.
 */
export function allowedGrowth(limit: number, { count, tcpConnections }: SlowClients): number {
  const waiting = count === tcpConnections ? count * limit : tcpConnections * Math.max(limit, 4 * MIB);
  return 2 * waiting + count * 64 * KIB;
}

/** The highest resident memory of a process since `beginPeak`, in bytes (`VmHWM`, proc(5)). */
export function peakBytes({ program }: Served): number {
  const status = readFileSync(`/proc/${program.process.pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * KIB;
}

export function beginPeak({ program }: Served): void {
  writeFileSync(`/proc/${program.process.pid}/clear_refs`, '5');
}

/** A backend that takes every WebSocket, reads nothing of it, and sends what it is bidden to. */
export class SilentBackend extends LoopbackBackend {
  readonly sockets = new Set<Socket>();

  private constructor() {
    super();
    this.server.on('upgrade', (request, socket: Socket) => {
      const accept = acceptKey(request.headers['sec-websocket-key']!);
      socket.setNoDelay(true);
      socket.on('error', () => {}).on('close', () => this.sockets.delete(socket));
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      socket.pause();
      this.sockets.add(socket);
    });
  }

  static listen(): Promise<SilentBackend> {
    return new SilentBackend().listen();
  }

  /** Sends on every WebSocket. @returns false when one should wait. */
  send(bytes: Buffer): boolean {
    return [...this.sockets].map(socket => socket.write(bytes)).every(Boolean);
  }

  /** Ends every WebSocket. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await super[Symbol.asyncDispose]();
  }
}

/** An unmasked binary frame. */
export function serverFrame(length: number): Buffer {
  const masked = frame(2, Buffer.alloc(length));
  // Without the mask's bit and the mask.
  const head = masked.length - length - 4;
  const bytes = Buffer.alloc(head + length);
  masked.copy(bytes, 0, 0, head);
  bytes[1]! &= 0x7f;
  return bytes;
}
