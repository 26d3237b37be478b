import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A frame as it is on the wire, without its mask. */
export interface Frame {
  readonly fin: boolean;
  readonly rsv1: boolean;
  readonly opcode: number;
  readonly payload: Buffer;
}

export interface RawClientOptions {
  /** Lines for the request head, without line ends. */
  readonly headers?: readonly string[];
  /** Bytes sent in one write with the handshake. */
  readonly early?: Buffer;
}

export const TEXT = 1;
export const BINARY = 2;
export const CONTINUATION = 0;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** The bytes of one masked frame. */
export function frame(
  opcode: number,
  payload: string | Uint8Array = '',
  { fin = true, rsv1 = false }: { fin?: boolean; rsv1?: boolean } = {},
): Buffer {
  const body = Buffer.from(payload as Uint8Array);
  const size = body.length < 126 ? 0 : body.length < 0x1_0000 ? 2 : 8;
  const bytes = Buffer.alloc(2 + size + 4 + body.length);
  bytes[0] = (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | opcode;
  bytes[1] = 0x80 | (size === 0 ? body.length : size === 2 ? 126 : 127);
  if (size === 2) bytes.writeUInt16BE(body.length, 2);
  if (size === 8) bytes.writeBigUInt64BE(BigInt(body.length), 2);
  const mask = randomBytes(4);
  mask.copy(bytes, 2 + size);
  for (let i = 0; i < body.length; i++) bytes[6 + size + i] = body[i]! ^ mask[i % 4]!;
  return bytes;
}

export function closeFrame(code?: number, reason = ''): Buffer {
  if (code === undefined) return frame(CLOSE);
  return frame(CLOSE, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]));
}

/** A client that knows bytes and frames and answers nothing by itself: no pong, no close. */
export class RawClient {
  readonly socket: Socket;
  /** The response head, without the empty line. */
  head = '';
  /** What came behind the head when the answer was no 101. */
  body = '';
  /** How many pieces arrived behind the head. */
  chunks = 0;
  readonly frames: Frame[] = [];
  #pending: Buffer = Buffer.alloc(0);
  #isEnded = false;
  #wake: (() => void)[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('close', () => {
      this.#isEnded = true;
      this.#notify();
    });
    socket.on('end', () => {
      this.#isEnded = true;
      this.#notify();
    });
  }

  /** Only the TCP connection. */
  static async dial(url: string): Promise<RawClient> {
    const { hostname, port } = new URL(url);
    // `allowHalfOpen`: the client alone decides when its side ends.
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  /** Sends the handshake and does not wait for the answer. */
  static async knock(url: string, options: RawClientOptions = {}): Promise<RawClient> {
    const client = await RawClient.dial(url);
    client.socket.write(
      Buffer.concat([Buffer.from(handshake(url, options.headers)), options.early ?? Buffer.alloc(0)]),
    );
    return client;
  }

  /** Sends the handshake and waits for the answer. */
  static async connect(url: string, options: RawClientOptions = {}): Promise<RawClient> {
    const client = await RawClient.knock(url, options);
    await client.answered();
    return client;
  }

  get status(): number {
    return Number(this.head.split(' ')[1]);
  }

  /** The values of a response header, one for each line. */
  header(name: string): string[] {
    return this.head
      .split('\r\n')
      .slice(1)
      .filter(line => line.toLowerCase().startsWith(`${name.toLowerCase()}:`))
      .map(line => line.slice(name.length + 1).trim());
  }

  send(...bytes: Uint8Array[]): void {
    this.socket.write(Buffer.concat(bytes));
  }

  async answered(): Promise<void> {
    while (this.head === '' && !this.#isEnded) await this.#change();
  }

  /** The next frame; undefined when the connection ended before. */
  async next(): Promise<Frame | undefined> {
    while (this.frames.length === 0 && !this.#isEnded) await this.#change();
    return this.frames.shift();
  }

  /** The next text or binary frame as text. */
  async text(): Promise<string | undefined> {
    return (await this.next())?.payload.toString();
  }

  /** The code of the close frame, when that is the next one. */
  async closeCode(): Promise<number | undefined> {
    const next = await this.next();
    return next?.opcode === CLOSE ? next.payload.readUInt16BE(0) : undefined;
  }

  /** The code of the close frame, whatever comes before it; undefined when the connection ends without one. */
  async eventualCloseCode(): Promise<number | undefined> {
    for (let next = await this.next(); next !== undefined; next = await this.next())
      if (next.opcode === CLOSE) return next.payload.readUInt16BE(0);
    return undefined;
  }

  /** The server has ended its side, or the connection broke. */
  async ended(): Promise<void> {
    while (!this.#isEnded) await this.#change();
  }

  /** Cut by a reset. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #change(): Promise<void> {
    return new Promise(resolve => this.#wake.push(resolve));
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #onData(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    if (this.head === '') {
      const end = this.#pending.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.#pending.toString('latin1', 0, end);
      this.#pending = this.#pending.subarray(end + 4);
    } else {
      this.chunks++;
    }
    if (this.status !== 101) {
      this.body += this.#pending.toString();
      this.#pending = Buffer.alloc(0);
    } else {
      this.#readFrames();
    }
    this.#notify();
  }

  #readFrames(): void {
    for (;;) {
      const bytes = this.#pending;
      if (bytes.length < 2) return;
      const short = bytes[1]! & 0x7f;
      const start = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (bytes.length < start) return;
      const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
      if (bytes.length < start + length) return;
      const first = bytes[0]!;
      this.frames.push({
        fin: (first & 0x80) !== 0,
        rsv1: (first & 0x40) !== 0,
        opcode: first & 0x0f,
        payload: bytes.subarray(start, start + length),
      });
      this.#pending = bytes.subarray(start + length);
    }
  }
}

function handshake(url: string, headers: readonly string[] = []): string {
  const { host, pathname, search } = new URL(url);
  return [
    `GET ${pathname}${search} HTTP/1.1`,
    `Host: ${host}`,
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    'Sec-WebSocket-Version: 13',
    ...headers,
    '',
    '',
  ].join('\r\n');
}
