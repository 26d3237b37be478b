import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { http2Frame as frame } from './raw-http2.ts';

export const FrameType = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
};
export const Flag = { endStream: 1, ack: 1, endHeaders: 4 };
/** Settings of RFC 9113 §6.5.2. */
export const Setting = { initialWindowSize: 4 };

export interface Http2Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export { frame };

/** RFC 7541 §6.2.2, without Huffman codes. Every text is shorter than 127 bytes. */
export function headerBlock(fields: readonly (readonly [string, string])[]): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value, 'latin1')]);
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])));
}

const INDEXED_STATUS = new Map([200, 204, 206, 304, 400, 404, 500].map((status, index) => [0x88 + index, status]));

/**
 * A connection of HTTP/2 whose frames the caller makes himself. It acknowledges settings, and pings while
 * `answersPings`.
 */
export class Http2Wire implements Disposable {
  readonly socket: TLSSocket;
  readonly frames: Http2Frame[] = [];
  answersPings = true;
  isClosed = false;
  #bytes: Buffer = Buffer.alloc(0);
  #nextStream = 1;

  constructor(port: number, settings: Readonly<Record<number, number>> = {}) {
    this.socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.isClosed = true;
    });
    this.socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    this.socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    const payload = Object.entries(settings).map(([id, value]) => {
      const entry = Buffer.alloc(6);
      entry.writeUInt16BE(Number(id));
      entry.writeUInt32BE(value, 2);
      return entry;
    });
    this.socket.write(frame(FrameType.settings, 0, 0, Buffer.concat(payload)));
  }

  static async dial(port: number, settings?: Readonly<Record<number, number>>): Promise<Http2Wire> {
    const wire = new Http2Wire(port, settings);
    await once(wire.socket, 'secureConnect');
    return wire;
  }

  /** Begins a request. @returns its stream. */
  request(
    method: string,
    path: string,
    { isWhole = true, more = [] as readonly (readonly [string, string])[] } = {},
  ): number {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    const fields = [
      [':method', method],
      [':scheme', 'https'],
      [':path', path],
      [':authority', 'localhost'],
      ...more,
    ] as const;
    this.socket.write(
      frame(FrameType.headers, Flag.endHeaders | (isWhole ? Flag.endStream : 0), stream, headerBlock(fields)),
    );
    return stream;
  }

  /** Begins a head that has no end yet. */
  beginHead(path: string): number {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    const fields = [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', path],
      [':authority', 'localhost'],
    ] as const;
    this.socket.write(frame(FrameType.headers, Flag.endStream, stream, headerBlock(fields)));
    return stream;
  }

  data(stream: number, bytes: string | Buffer, isLast = false): void {
    this.socket.write(frame(FrameType.data, isLast ? Flag.endStream : 0, stream, Buffer.from(bytes)));
  }

  widen(stream: number, bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(bytes);
    this.socket.write(frame(FrameType.windowUpdate, 0, stream, payload));
  }

  of(stream: number, type: number): Http2Frame[] {
    return this.frames.filter(one => one.stream === stream && one.type === type);
  }

  /** The code of its reset; undefined as long as it is open, or was ended in order. */
  resetOf(stream: number): number | undefined {
    return this.of(stream, FrameType.reset)[0]?.payload.readUInt32BE(0);
  }

  /** Of its answer: undefined before it, and NaN for what HPACK has put into a table of its own. */
  statusOf(stream: number): number | undefined {
    const block = this.of(stream, FrameType.headers)[0]?.payload;
    // RFC 7541 appendix A, or §6.2.1 with the name from there.
    return block && (INDEXED_STATUS.get(block[0]!) ?? Number(block[0] === 0x48 ? block.toString('latin1', 2, 5) : 'x'));
  }

  bytesOf(stream: number): number {
    return this.of(stream, FrameType.data).reduce((sum, { payload }) => sum + payload.length, 0);
  }

  /** True when the other side has ended it, in order or not, or the connection is gone. */
  isOver(stream: number): boolean {
    return (
      this.isClosed ||
      this.frames.some(
        ({ type, flags, stream: of }) =>
          of === stream &&
          (type === FrameType.reset ||
            ((type === FrameType.data || type === FrameType.headers) && (flags & Flag.endStream) !== 0)),
      )
    );
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #onData(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 9) {
      const length = this.#bytes.readUIntBE(0, 3);
      if (this.#bytes.length < 9 + length) return;
      const [type, flags] = [this.#bytes[3]!, this.#bytes[4]!];
      const stream = this.#bytes.readUInt32BE(5);
      const payload = Buffer.from(this.#bytes.subarray(9, 9 + length));
      this.#bytes = this.#bytes.subarray(9 + length);
      this.frames.push({ type, flags, stream, payload });
      if ((flags & Flag.ack) !== 0) continue;
      if (type === FrameType.settings) this.socket.write(frame(FrameType.settings, Flag.ack, 0));
      if (type === FrameType.ping && this.answersPings) this.socket.write(frame(FrameType.ping, Flag.ack, 0, payload));
    }
  }
}
