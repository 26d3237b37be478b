import { once } from 'node:events';
import net from 'node:net';
import { FrameWriter, firstByte } from '../../src/websocket/protocol/frame-writer.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { Opcode } from '../../src/websocket/protocol/opcodes.ts';

export interface Frame {
  fin: boolean;
  rsv1: boolean;
  opcode: number;
  masked: boolean;
  payload: Buffer;
}

/** One end of a connection that speaks frames byte by byte, right or wrong ones. */
export class RawPeer {
  readonly socket: net.Socket;
  /** The head of what the other end sent first. */
  head = '';
  /** What is not a whole frame yet; after an answer other than 101, its body. */
  rest: Buffer = Buffer.alloc(0);
  readonly frames: Frame[] = [];
  isEnded = false;
  isClosed = false;
  readonly #isClient: boolean;
  #wake: (() => void)[] = [];

  constructor(socket: net.Socket, isClient: boolean) {
    this.socket = socket;
    this.#isClient = isClient;
    // A stream of HTTP/2 has no such thing.
    socket.setNoDelay?.(true);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#onData(chunk);
      this.#notify();
    });
    socket.on('end', () => {
      this.isEnded = true;
      this.#notify();
    });
    socket.on('close', () => {
      this.isClosed = true;
      this.#notify();
    });
  }

  /** Waits until `condition` holds. It is looked at again whenever something arrives. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => this.#wake.push(resolve));
  }

  /** The frame number `index`. Fails when the connection ends before it. */
  async frame(index: number): Promise<Frame> {
    await this.until(() => this.frames.length > index || this.isClosed || this.isEnded);
    const frame = this.frames[index];
    if (!frame) throw new Error(`the connection ended after ${this.frames.length} frames`);
    return frame;
  }

  async closed(): Promise<void> {
    await this.until(() => this.isClosed);
  }

  send(opcode: number, payload: string | Buffer = '', options: { fin?: boolean; rsv1?: boolean } = {}): void {
    this.socket.write(this.encode(opcode, payload, options));
  }

  encode(opcode: number, payload: string | Buffer = '', options: { fin?: boolean; rsv1?: boolean } = {}): Buffer {
    const writer = new FrameWriter(this.#isClient);
    writer.binary(firstByte(opcode, options.fin ?? true, options.rsv1 ?? false), Buffer.from(payload));
    // A copy, because the writer shares its memory and tests keep frames.
    return Buffer.concat([writer.take() as Buffer]);
  }

  sendClose(code?: number, reason = ''): void {
    const body = Buffer.alloc(code === undefined ? 0 : 2 + Buffer.byteLength(reason));
    if (code !== undefined) {
      body.writeUInt16BE(code);
      body.write(reason, 2);
    }
    this.send(Opcode.close, body);
  }

  #onData(chunk: Buffer): void {
    this.rest = Buffer.concat([this.rest, chunk]);
    if (this.head === '') {
      const end = this.rest.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.rest.toString('latin1', 0, end);
      this.rest = this.rest.subarray(end + 4);
    }
    if (this.head.startsWith('HTTP') && !this.head.startsWith('HTTP/1.1 101')) return;
    while (this.#parseFrame());
  }

  #parseFrame(): boolean {
    const bytes = this.rest;
    if (bytes.length < 2) return false;
    let length = bytes[1]! & 0x7f;
    let at = 2;
    if (length === 126) {
      if (bytes.length < 4) return false;
      length = bytes.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return false;
      length = Number(bytes.readBigUInt64BE(2));
      at = 10;
    }
    const masked = (bytes[1]! & 0x80) !== 0;
    const key = masked ? bytes.subarray(at, at + 4) : undefined;
    if (masked) at += 4;
    if (bytes.length < at + length) return false;
    const payload = Buffer.from(bytes.subarray(at, at + length));
    if (key) for (let i = 0; i < payload.length; i++) payload[i]! ^= key[i & 3]!;
    const first = bytes[0]!;
    this.frames.push({ fin: (first & 0x80) !== 0, rsv1: (first & 0x40) !== 0, opcode: first & 15, masked, payload });
    this.rest = bytes.subarray(at + length);
    return true;
  }

  #notify(): void {
    for (const resolve of this.#wake.splice(0)) resolve();
  }
}

/** What a close frame said. */
export function closeOf(frame: Frame): [code: number | undefined, reason: string] {
  if (frame.opcode !== Opcode.close) throw new Error(`not a close frame: opcode ${frame.opcode}`);
  return [frame.payload.length < 2 ? undefined : frame.payload.readUInt16BE(), frame.payload.toString('utf8', 2)];
}

export const CLIENT_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** A client whose handshake is on its way; `early` follows it at once. */
export async function rawClient(
  port: number,
  headers: readonly string[] = [],
  early: Buffer = Buffer.alloc(0),
): Promise<RawPeer> {
  const socket = net.connect(port, '127.0.0.1');
  const peer = new RawPeer(socket, true);
  await once(socket, 'connect');
  const head = [
    'GET /socket?x=1 HTTP/1.1',
    'Host: example.com',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Key: ${CLIENT_KEY}`,
    'Sec-WebSocket-Version: 13',
    ...headers,
  ];
  socket.write(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), early]));
  return peer;
}

/** The 101 that a good backend answers. */
export function switching(peer: RawPeer, headers: readonly string[] = []): string {
  const key = /^sec-websocket-key: (.*)$/im.exec(peer.head)![1]!;
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${acceptKey(key)}`,
  ];
  return `${[...lines, ...headers].join('\r\n')}\r\n\r\n`;
}
