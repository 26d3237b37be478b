import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';

export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PING = 6;
export const WINDOW_UPDATE = 8;

const LARGEST_WINDOW = 0x7fff_ffff;
const INITIAL_WINDOW = 65_535;

/** One frame of HTTP/2 (RFC 9113 §4.1). */
export function http2Frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Settings by number (RFC 9113 §6.5.2). */
export function http2Settings(...settings: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(settings.length * 6);
  for (const [index, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  }
  return http2Frame(SETTINGS, 0, 0, payload);
}

/** Literals without indexing (RFC 7541 §6.2.2). */
function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(
    Object.entries(headers).map(([name, value]) =>
      Buffer.concat([
        Buffer.from([0, name.length]),
        Buffer.from(name),
        Buffer.from([value.length]),
        Buffer.from(value),
      ]),
    ),
  );
}

/**
 * A client of HTTP/2 that knows frames and answers nothing by itself. Its windows are as large as they may be, so that nothing but the TCP
 * connection keeps the server from sending.
 */
export class RawHttp2 implements Disposable {
  readonly socket: TLSSocket;
  /** Streams that were answered with headers. */
  readonly answered = new Set<number>();
  #lastStream = -1;
  #pending: Buffer = Buffer.alloc(0);
  #onFrame = () => {};
  #onClose = (_: Error) => {};

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('close', () => this.#onClose(new Error('the server has ended the connection')));
  }

  /** @param window Of each stream. */
  static async connect(port: number, { window = LARGEST_WINDOW } = {}): Promise<RawHttp2> {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    await once(socket, 'secureConnect');
    const client = new RawHttp2(socket);
    const increment = Buffer.alloc(4);
    increment.writeUInt32BE(LARGEST_WINDOW - INITIAL_WINDOW);
    const begin = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    client.send(begin, http2Settings([4, window]), http2Frame(WINDOW_UPDATE, 0, 0, increment));
    client.send(http2Frame(SETTINGS, 1, 0));
    return client;
  }

  /** @returns false when one should wait for `drained`. */
  send(...frames: Uint8Array[]): boolean {
    return this.socket.write(Buffer.concat(frames));
  }

  async drained(): Promise<void> {
    if (this.socket.writableNeedDrain) await once(this.socket, 'drain');
  }

  /** Sends a request. @returns its stream. */
  request(headers: Readonly<Record<string, string>>, { end = true } = {}): number {
    this.#lastStream += 2;
    this.send(http2Frame(HEADERS, end ? 5 : 4, this.#lastStream, headerBlock(headers)));
    return this.#lastStream;
  }

  /** Opens a WebSocket (RFC 8441) and waits for the answer. @returns its stream. */
  async webSocket(path: string): Promise<number> {
    const stream = this.request(
      {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':scheme': 'https',
        ':path': path,
        ':authority': 'localhost',
        'sec-websocket-version': '13',
      },
      { end: false },
    );
    while (!this.answered.has(stream)) await this.#next();
    return stream;
  }

  /** The next frame of any kind. */
  #next(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onFrame = resolve;
      this.#onClose = reject;
    });
  }

  #onData(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (this.#pending.length >= 9) {
      const end = 9 + this.#pending.readUIntBE(0, 3);
      if (this.#pending.length < end) return;
      if (this.#pending[3] === HEADERS) this.answered.add(this.#pending.readUInt32BE(5));
      this.#pending = this.#pending.subarray(end);
      this.#onFrame();
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
