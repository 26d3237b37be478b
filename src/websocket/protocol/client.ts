import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { byteLengthOf, plainBytes } from '../../base/bytes.ts';
import { type Clock, systemClock } from '../../base/clock.ts';
import { type Deadline, setDeadline } from '../../base/deadlines.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { OptionNames } from '../../base/options.ts';
import { parseSize, type Size } from '../../base/size.ts';
import { malformed, type ResponseHead } from '../../http/response-head.ts';
import { ResponseReader } from '../../http/response-reader.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { FrameWriter, firstByte } from './frame-writer.ts';
import { checkUpgradeResponse, createUpgradeRequest, type OutgoingHeaders } from './handshake.ts';
import { MessageAssembler } from './message-assembler.ts';
import { Opcode } from './opcodes.ts';
import { checkClose, checkData, controlPayload } from './outgoing.ts';
import {
  acceptDeflate,
  checkDeflateOptions,
  DEFLATE_OPTIONS,
  type DeflateOptions,
  offerDeflate,
  PerMessageDeflate,
} from './permessage-deflate.ts';

export interface ConnectOptions {
  /** Offered in this order. Default none. */
  subprotocols?: readonly string[];
  /** Sent with the handshake, `Cookie` and `Authorization` included. */
  headers?: OutgoingHeaders;
  /** The `Origin` header. Default none, as clients that are not browsers do. */
  origin?: string;
  /** Offers permessage-deflate (RFC 7692). Default false. */
  compression?: boolean | DeflateOptions;
  /** Ends the attempt to connect. Without effect once the connection is open. */
  signal?: AbortSignal;
  /** Largest message taken, also after inflating; larger: the connection is closed with 1009. Default `16MiB`. */
  maxMessageSize?: Size;
  /** For `wss`: certificate authorities, client certificate and the like. */
  tls?: ConnectionOptions;
  clock?: Clock;
}

export const CONNECT_OPTIONS: OptionNames<ConnectOptions> = {
  subprotocols: 'list',
  headers: 'fields',
  origin: 'text',
  compression: DEFLATE_OPTIONS,
  signal: true,
  maxMessageSize: 'measure',
  tls: 'object',
  clock: 'clock',
};

/** How a connection ended. */
export interface ClientCloseEvent {
  /**
   * The server's code; 1005 when its frame had none, 1006 when there was no close frame; ours when the server broke a
   * rule.
   */
  readonly code: number;
  readonly reason: string;
  /** True when both sides sent a close frame and no rule was broken. */
  readonly clean: boolean;
}

const EMPTY = Buffer.alloc(0);
/** How long the server may take to answer our close frame, and then to end the TCP connection. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Received bytes that may wait to be taken before reading stops. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

/**
 * Opens a WebSocket connection from Node (RFC 6455 §4.1).
 *
 * @param url `ws:` or `wss:`; `http:` and `https:` mean the same.
 * @throws {HoldfastError} ERR_WS_BAD_HANDSHAKE when the server answers anything but a good 101 (`status` is set when it
 * refused); ERR_WS_CONNECTION_LOST when there is no connection or it breaks before the answer; the signal's reason when
 * it was aborted.
 */
export async function connectWebSocket(url: string | URL, options: ConnectOptions = {}): Promise<WebSocketClient> {
  const { hostname, host, port, isSecure, path } = readUrl(url);
  const compression = options.compression === true ? {} : options.compression || undefined;
  if (compression) checkDeflateOptions(compression);
  const maxMessageBytes = parseSize(options.maxMessageSize ?? '16MiB');
  const { subprotocols, headers, origin, signal } = options;
  const extensions = compression && offerDeflate(compression);
  const request = createUpgradeRequest({ host, path, subprotocols, extensions, headers, origin });
  signal?.throwIfAborted();

  const socket = isSecure
    ? connectTls({ host: hostname, port, servername: /^[\d.]+$|:/.test(hostname) ? '' : hostname, ...options.tls })
    : connectTcp({ host: hostname, port });
  socket.setNoDelay(true);
  try {
    socket.write(request.bytes);
    const { head, rest } = await readHead(socket, host, signal);
    const agreed = checkUpgradeResponse(head, { key: request.key, subprotocols, extensions });
    const params = compression && acceptDeflate(agreed.extensions, compression);
    return new WebSocketClient(socket, rest, {
      subprotocol: agreed.subprotocol ?? '',
      deflate: params && new PerMessageDeflate(params, 'client', compression),
      maxMessageBytes,
      clock: options.clock ?? systemClock,
    });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/**
 * The client's side of one open WebSocket, made by `connectWebSocket`. Iterating it yields the messages until it
 * closes.
 */
export class WebSocketClient implements AsyncIterable<string | Buffer>, AsyncDisposable {
  /** The subprotocol that was agreed, or `''`. */
  readonly subprotocol: string;
  /** True when permessage-deflate was agreed. */
  readonly isCompressed: boolean;
  /** Settles when the TCP connection is gone. Never rejects. */
  readonly closed: Promise<ClientCloseEvent>;

  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #deflate: PerMessageDeflate | undefined;
  readonly #assembler: MessageAssembler;
  readonly #writer = new FrameWriter(true);
  #isFlushScheduled = false;
  #closeSent = false;
  #ending: ClientCloseEvent | undefined;
  #isGone = false;
  #closeDeadline: Deadline | undefined;
  readonly #waiting: (string | Buffer)[] = [];
  #waitingBytes = 0;
  readonly #receivers: ((message: string | Buffer | undefined) => void)[] = [];
  readonly #pings: { payload: Buffer; settle: (answered: boolean) => void }[] = [];

  constructor(
    socket: Socket,
    early: Buffer,
    options: { subprotocol: string; deflate: PerMessageDeflate | undefined; maxMessageBytes: number; clock: Clock },
  ) {
    const { subprotocol, deflate, maxMessageBytes, clock } = options;
    this.subprotocol = subprotocol;
    this.isCompressed = deflate !== undefined;
    this.#socket = socket;
    this.#clock = clock;
    this.#deflate = deflate;
    const handler = {
      wantsFragments: false,
      onMessage: (data: string | Buffer) => this.#onMessage(data),
      onFragment: () => {},
      onPing: (payload: Buffer) => this.#onPing(payload),
      onPong: (payload: Buffer) => this.#onPong(payload),
      onCloseFrame: (code: number, reason: string) => this.#onCloseFrame(code, reason),
      onProtocolError: (error: HoldfastError) => this.#onProtocolError(error),
    };
    const limits = { maxMessageBytes, maxInflatedBytes: maxMessageBytes, maxFragments: Number.POSITIVE_INFINITY };
    this.#assembler = new MessageAssembler(handler, { role: 'client', limits, deflate });
    const { promise, resolve } = Promise.withResolvers<ClientCloseEvent>();
    this.closed = promise;
    socket.on('data', (chunk: Buffer) => this.#assembler.reader.push(chunk));
    // What broke the connection is of no use to the caller beyond 1006.
    socket.on('error', () => {});
    socket.on('close', () => this.#onGone(resolve));
    if (early.length > 0) this.#assembler.reader.push(early);
    if (this.#waitingBytes <= MAX_WAITING_BYTES) socket.resume();
  }

  /** False as soon as either side has begun to close. */
  get isOpen(): boolean {
    return !this.#closeSent && !this.#isGone;
  }

  /** Bytes that were sent but not yet handed to the operating system. */
  get bufferedAmount(): number {
    return this.#socket.writableLength + this.#writer.bytes;
  }

  /**
   * Sends a whole message: a string as text, bytes as binary. False when the connection is not open.
   *
   * @throws {TypeError} for what is neither, naming what to pass in its place.
   */
  send(data: string | Uint8Array): boolean {
    checkData('send', data);
    if (!this.isOpen) return false;
    const opcode = typeof data === 'string' ? Opcode.text : Opcode.binary;
    const length = typeof data === 'string' ? data.length : byteLengthOf(data);
    if (this.#deflate !== undefined && length >= this.#deflate.threshold) {
      const payload = typeof data === 'string' ? Buffer.from(data) : plainBytes(data);
      this.#writer.binary(firstByte(opcode, true, true), this.#deflate.compress(payload));
    } else if (typeof data === 'string') {
      this.#writer.text(firstByte(opcode), data);
    } else {
      this.#writer.binary(firstByte(opcode), data);
    }
    this.#scheduleFlush();
    return true;
  }

  /**
   * Sends a ping; true when its pong, or that of a later ping, has come, false when the connection closed before.
   *
   * @throws {RangeError} for more than 125 bytes (RFC 6455 §5.5).
   * @throws {TypeError} for what is neither text nor bytes.
   */
  ping(data: string | Uint8Array = EMPTY): Promise<boolean> {
    const payload = Buffer.from(plainBytes(controlPayload('ping', data)));
    if (!this.isOpen) return Promise.resolve(false);
    this.#writer.binary(firstByte(Opcode.ping), payload);
    this.#scheduleFlush();
    return new Promise(settle => this.#pings.push({ payload, settle }));
  }

  /**
   * Sends a close frame and waits for the server to answer it and to end the connection, for at most 2 s; messages that
   * arrive meanwhile can still be received. Does nothing when the connection is not open.
   *
   * @throws {RangeError} for a code that must not be sent, or a reason of more than 123 bytes.
   * @throws {TypeError} for other types.
   */
  close(code: number = CloseCode.normal, reason = ''): void {
    checkClose(code, reason);
    this.#sendClose(code, reason);
  }

  /** Cuts the TCP connection. The server sees 1006. */
  terminate(): void {
    this.#socket.destroy();
  }

  /**
   * The next message; undefined when the connection has closed and none is left. Concurrent calls are served in their
   * order.
   */
  receive(): Promise<string | Buffer | undefined> {
    const message = this.#waiting.shift();
    if (message !== undefined) {
      const wasFull = this.#waitingBytes > MAX_WAITING_BYTES;
      this.#waitingBytes -= weight(message);
      if (wasFull && this.#waitingBytes <= MAX_WAITING_BYTES) this.#socket.resume();
      return Promise.resolve(message);
    }
    if (this.#isGone) return Promise.resolve(undefined);
    return new Promise(resolve => this.#receivers.push(resolve));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string | Buffer, void, undefined> {
    for (let message = await this.receive(); message !== undefined; message = await this.receive()) yield message;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sendClose(CloseCode.normal, '');
    await this.closed;
  }

  #onMessage(data: string | Buffer): void {
    // Binary payloads are only lent.
    const message = typeof data === 'string' ? data : Buffer.from(data);
    const receiver = this.#receivers.shift();
    if (receiver) return receiver(message);
    this.#waiting.push(message);
    this.#waitingBytes += weight(message);
    if (this.#waitingBytes > MAX_WAITING_BYTES) this.#socket.pause();
  }

  #onPing(payload: Buffer): void {
    if (!this.isOpen) return;
    this.#writer.binary(firstByte(Opcode.pong), payload);
    this.#scheduleFlush();
  }

  #onPong(payload: Buffer): void {
    // RFC 6455 §5.5.3: a pong may answer the latest ping only, and then stands for the earlier ones as well.
    const answered = this.#pings.findIndex(ping => ping.payload.equals(payload));
    for (const ping of this.#pings.splice(0, answered + 1)) ping.settle(true);
  }

  #onCloseFrame(code: number, reason: string): void {
    this.#ending = { code, reason, clean: true };
    this.#sendClose(code === CloseCode.noStatus ? undefined : code, reason);
  }

  #onProtocolError(error: HoldfastError): void {
    const code = error.closeCode ?? CloseCode.protocolError;
    this.#ending = { code, reason: '', clean: false };
    this.#sendClose(code, '');
    // RFC 6455 §7.1.7: nothing more is expected from the server.
    this.#socket.end();
  }

  #sendClose(code: number | undefined, reason: string): void {
    if (!this.isOpen) return;
    this.#closeSent = true;
    this.#writer.close(code, reason);
    this.#flush();
    // RFC 6455 §7.1.1: the server is the one to end the TCP connection; the client waits for it, but not for ever.
    this.#closeDeadline = setDeadline(this.#clock, CLOSE_TIMEOUT_MS, () => this.#socket.destroy());
  }

  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#isFlushScheduled = false;
    const frames = this.#writer.take();
    if (frames === undefined || !this.#socket.writable) return;
    this.#socket.cork();
    for (const frame of [frames].flat()) this.#socket.write(frame);
    this.#socket.uncork();
  }

  #onGone(resolve: (event: ClientCloseEvent) => void): void {
    this.#isGone = true;
    this.#closeDeadline?.clear();
    for (const ping of this.#pings.splice(0)) ping.settle(false);
    for (const receiver of this.#receivers.splice(0)) receiver(undefined);
    resolve(this.#ending ?? { code: CloseCode.abnormal, reason: '', clean: false });
  }
}

/** What a waiting message costs; an empty one is not free. */
function weight(message: string | Buffer): number {
  return message.length + 64;
}

function readUrl(url: string | URL): { hostname: string; host: string; port: number; isSecure: boolean; path: string } {
  const { protocol, hostname, host, port, pathname, search, username, password } = new URL(url);
  const isSecure = protocol === 'wss:' || protocol === 'https:';
  if (!isSecure && protocol !== 'ws:' && protocol !== 'http:')
    throw new TypeError(`cannot open a WebSocket to a URL with the scheme "${protocol}"; use ws: or wss:`);
  if (username !== '' || password !== '')
    throw new TypeError('credentials in a WebSocket URL are not sent; put them into the Authorization header');
  return {
    hostname: hostname.replace(/^\[|\]$/g, ''),
    host,
    port: port === '' ? (isSecure ? 443 : 80) : Number(port),
    isSecure,
    path: pathname + search,
  };
}

/** Waits for the final response head. `rest` is what came behind it. The socket is paused afterwards. */
function readHead(
  socket: Socket,
  host: string,
  signal: AbortSignal | undefined,
): Promise<{ head: ResponseHead; rest: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<typeof readHead>>>();
  let head: ResponseHead | undefined;
  const reader = new ResponseReader({
    onInformation() {},
    onHead(received) {
      if (received.isHttp10) throw malformed('it is HTTP/1.0');
      head = received;
      reader.isPaused = true;
    },
    onBody() {},
    onEnd() {},
  });
  reader.expect('GET');
  const onData = (chunk: Buffer) => {
    try {
      const end = reader.push(chunk, 0, chunk.length);
      if (head === undefined) return;
      socket.pause();
      resolve({ head, rest: chunk.subarray(end) });
    } catch (cause) {
      const message = `${(cause as Error).message}; is it an HTTP server?`;
      reject(new HoldfastError('ERR_WS_BAD_HANDSHAKE', message, { cause }));
    }
  };
  const onError = (cause: Error) =>
    reject(new HoldfastError('ERR_WS_CONNECTION_LOST', `cannot connect to ${host}: ${cause.message}`, { cause }));
  const onEnd = () =>
    reject(
      new HoldfastError('ERR_WS_CONNECTION_LOST', `${host} closed the connection before it answered the handshake`),
    );
  const onAbort = () => reject(signal?.reason);
  socket.on('data', onData).on('error', onError).on('end', onEnd).on('close', onEnd);
  signal?.addEventListener('abort', onAbort);
  return promise.finally(() => {
    socket.off('data', onData).off('error', onError).off('end', onEnd).off('close', onEnd);
    signal?.removeEventListener('abort', onAbort);
    // Errors of a socket that is given up concern no caller any more.
    socket.on('error', () => {});
  });
}
