import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
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

/** One frame (RFC 9113 §4.1). */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** RFC 9113 §6.5.1. */
export function settingsFrame(settings: Readonly<Record<number, number>>): Buffer {
  const payload = Object.entries(settings).map(([id, value]) => {
    const entry = Buffer.alloc(6);
    entry.writeUInt16BE(Number(id));
    entry.writeUInt32BE(value, 2);
    return entry;
  });
  return frame(FrameType.settings, 0, 0, Buffer.concat(payload));
}

/** As error codes and windows are written. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** In their order; each once, or as often as it stands there. */
export type Fields = readonly (readonly [name: string, value: string])[];

/** RFC 7541 §6.2.2, without Huffman codes. Every text is shorter than 127 bytes. */
function headerBlock(fields: Fields): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value, 'latin1')]);
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])));
}

const INDEXED_STATUS = new Map([200, 204, 206, 304, 400, 404, 500].map((status, index) => [0x88 + index, status]));

/**
 * A connection of HTTP/2 whose frames the caller makes. It acknowledges settings while `acknowledgesSettings`, and
 * pings while `answersPings`.
 */
export class Http2Wire implements Disposable {
  readonly socket: TLSSocket;
  readonly frames: Http2Frame[] = [];
  answersPings = true;
  acknowledgesSettings = true;
  isClosed = false;
  #bytes: Buffer = Buffer.alloc(0);
  #nextStream = 1;
  #wake = Promise.withResolvers<void>();

  constructor(port: number, settings: Readonly<Record<number, number>> = {}) {
    this.socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.isClosed = true;
      this.#onNews();
    });
    this.socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    this.socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    this.socket.write(settingsFrame(settings));
  }

  static async dial(port: number, settings?: Readonly<Record<number, number>>): Promise<Http2Wire> {
    const wire = new Http2Wire(port, settings);
    await once(wire.socket, 'secureConnect');
    return wire;
  }

  /** Begins a request. @returns its stream. */
  request(method: string, path: string, { isWhole = true, more = [] as Fields } = {}): number {
    return this.begin([...usual(method, path), ...more], Flag.endHeaders | (isWhole ? Flag.endStream : 0));
  }

  /** Begins a head that has no end yet. */
  beginHead(path: string): number {
    return this.begin(usual('GET', path), Flag.endStream);
  }

  /** Begins a request with these fields, whatever they are. @returns its stream. */
  begin(fields: Fields, flags: number): number {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    this.send(frame(FrameType.headers, flags, stream, headerBlock(fields)));
    return stream;
  }

  /** Opens a WebSocket (RFC 8441) and waits for the answer. @returns its stream. */
  async webSocket(path: string): Promise<number> {
    const more = [
      [':protocol', 'websocket'],
      ['sec-websocket-version', '13'],
    ] as const;
    const stream = this.request('CONNECT', path, { isWhole: false, more });
    await this.seen(() => this.of(stream, FrameType.headers)[0]);
    return stream;
  }

  /** @returns false when one should wait for `drained`. */
  send(...frames: Uint8Array[]): boolean {
    return this.socket.write(Buffer.concat(frames));
  }

  async drained(): Promise<void> {
    if (this.socket.writableNeedDrain) await once(this.socket, 'drain');
  }

  /** Waits until what has come, or the end of the connection, gives something, and returns it. */
  async seen<T>(look: () => T | undefined): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (this.isClosed) throw new Error('the server has ended the connection');
      await this.#wake.promise;
    }
  }

  data(stream: number, bytes: string | Buffer, isLast = false): void {
    this.socket.write(frame(FrameType.data, isLast ? Flag.endStream : 0, stream, Buffer.from(bytes)));
  }

  widen(stream: number, bytes: number): void {
    this.send(frame(FrameType.windowUpdate, 0, stream, uint32(bytes)));
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
      if (this.#bytes.length < 9 + length) break;
      const [type, flags] = [this.#bytes[3]!, this.#bytes[4]!];
      const stream = this.#bytes.readUInt32BE(5);
      const payload = Buffer.from(this.#bytes.subarray(9, 9 + length));
      this.#bytes = this.#bytes.subarray(9 + length);
      this.frames.push({ type, flags, stream, payload });
      if ((flags & Flag.ack) !== 0) continue;
      if (type === FrameType.settings && this.acknowledgesSettings)
        this.socket.write(frame(FrameType.settings, Flag.ack, 0));
      if (type === FrameType.ping && this.answersPings) this.socket.write(frame(FrameType.ping, Flag.ack, 0, payload));
    }
    this.#onNews();
  }

  #onNews(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}

function usual(method: string, path: string): Fields {
  return [
    [':method', method],
    [':scheme', 'https'],
    [':path', path],
    [':authority', 'localhost'],
  ];
}
