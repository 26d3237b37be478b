import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import http2, { type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { getOrInsert } from '../../../base/get-or-insert.ts';
import type { Http2Carrier } from '../../../http/http1-required.ts';
import type { ExtendedConnect } from '../../../http/upgrade-request.ts';
import { chunkBytes } from '../chunk-bytes.ts';
import { resetStream } from './stream.ts';

/**
 * Headers of one connection: HTTP/2 has none (RFC 9113 §8.2.2), and a client that sends one may mean to reach a backend
 * with it.
 */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/** The head of a request in the words of HTTP/1.1: without pseudo-headers, with one `Host` and one `Cookie`. */
function translate(headers: http2.IncomingHttpHeaders, rawHeaders: readonly string[]) {
  const authority = headers[':authority'];
  const raw: string[] = authority === undefined ? [] : ['Host', authority];
  const cookies: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    const value = rawHeaders[i + 1]!;
    if (name.startsWith(':') || HOP_BY_HOP.has(name)) continue;
    // RFC 9113 §8.2.3: cookies may come one by one.
    if (name === 'cookie') cookies.push(value);
    // RFC 9113 §8.3.1: another Host than the authority stays, so that it is refused.
    else if (name !== 'host' || value !== authority) raw.push(name, value);
  }
  if (cookies.length > 0) raw.push('cookie', cookies.join('; '));
  const plain: IncomingHttpHeaders = Object.create(null);
  for (const [name, value] of Object.entries(headers))
    if (!name.startsWith(':') && !HOP_BY_HOP.has(name)) plain[name] = value;
  plain.host ??= authority;
  return { headers: plain, rawHeaders: raw };
}

// Node's types call properties what are accessors, and accessors could not override them.
type RequestParameters = ConstructorParameters<typeof http2.Http2ServerRequest>;
const RequestBase = http2.Http2ServerRequest as unknown as new (...args: RequestParameters) => Readable;

interface ResponseMethods {
  readonly headersSent: boolean;
  write(chunk: string | Uint8Array, ...rest: unknown[]): boolean;
  writeHead(status: number, headers?: OutgoingHttpHeaders): this;
  setHeader(name: string, value: number | string | readonly string[]): void;
  appendHeader(name: string, value: string | string[]): void;
  setTrailer(name: string, value: string | readonly string[]): void;
  destroy(error?: Error): void;
}
const ResponseBase = http2.Http2ServerResponse as unknown as new (stream: ServerHttp2Stream) => ResponseMethods;

/** A request of HTTP/2 that looks like one of HTTP/1.1. */
export class Http2Request extends RequestBase {
  /** Of the body, so far. */
  bytesReceived = 0;
  /** All of it is here, though it may not have been read. */
  isBodyReceived = false;
  method: string;
  url: string;
  /** Of the connection, which other requests share: for its facts only. */
  readonly socket: Socket;

  constructor(
    stream: ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    rawHeaders: readonly string[],
    socket: Socket,
  ) {
    const head = translate(headers, rawHeaders);
    // The end of the body is known from the frames; who reads or forwards it must know that there is one.
    if (!stream.readableEnded && !stream.endAfterHeaders && head.headers['content-length'] === undefined)
      head.headers['transfer-encoding'] = 'chunked';
    super(stream, head.headers as http2.IncomingHttpHeaders, {}, head.rawHeaders);
    this.socket = socket;
    this.method = headers[':method'] ?? '';
    this.url = headers[':path'] ?? '';
  }

  override push(chunk: Buffer | null, encoding?: BufferEncoding): boolean {
    this.bytesReceived += chunk?.length ?? 0;
    if (chunk === null) this.isBodyReceived = true;
    return super.push(chunk, encoding);
  }
}

/** A response of HTTP/2 that takes what one of HTTP/1.1 takes; what HTTP/2 has no place for is left out. */
export class Http2Response extends ResponseBase implements Http2Carrier {
  /** Of the body, so far. What the client has taken of them is what the stream does not hold any more. */
  bytesWritten = 0;
  readonly #stream: ServerHttp2Stream;

  constructor(stream: ServerHttp2Stream) {
    super(stream);
    this.#stream = stream;
  }

  get closed(): boolean {
    return this.#stream.closed || this.#stream.destroyed;
  }

  get destroyed(): boolean {
    return this.#stream.destroyed;
  }

  /** Node's would let every listener of a response listen to the one connection. */
  get socket(): undefined {
    return undefined;
  }

  get statusMessage(): '' {
    return '';
  }

  set statusMessage(_: string) {}

  /** False for what was cut off: Node ends a stream that is reset. */
  get writableFinished(): boolean {
    return this.#stream.writableFinished && !this.#stream.aborted;
  }

  override writeHead(status: number, ...rest: unknown[]): this {
    const headers = rest.findLast(value => typeof value === 'object' && value !== null) ?? {};
    if (Array.isArray(headers)) {
      for (let i = 0; i < headers.length; i += 2) this.appendHeader(headers[i] as string, headers[i + 1] as string);
    } else {
      for (const [name, value] of Object.entries(headers as OutgoingHttpHeaders))
        if (value !== undefined) this.setHeader(name, value);
    }
    return super.writeHead(status);
  }

  override setHeader(name: string, value: number | string | readonly string[]): void {
    // Node would warn that it leaves it out.
    if (!HOP_BY_HOP.has(name.toLowerCase())) super.setHeader(name, value);
  }

  override appendHeader(name: string, value: string | string[]): void {
    if (!HOP_BY_HOP.has(name.toLowerCase())) super.appendHeader(name, value);
  }

  /** Also for what `end` is given. */
  override write(...args: [chunk: string | Uint8Array, ...rest: unknown[]]): boolean {
    this.bytesWritten += chunkBytes(args);
    return super.write(...args);
  }

  override destroy(error?: Error): void {
    resetStream(this.#stream, http2.constants.NGHTTP2_INTERNAL_ERROR);
    super.destroy(error);
  }

  requireHttp1(): void {
    resetStream(this.#stream, http2.constants.NGHTTP2_HTTP_1_1_REQUIRED);
  }

  writeInformation(status: number, headers: readonly string[] = []): boolean {
    if (this.closed || this.headersSent) return false;
    const fields: OutgoingHttpHeaders = { ':status': status };
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!.toLowerCase();
      if (HOP_BY_HOP.has(name)) continue;
      const values = [fields[name] ?? []].flat() as string[];
      fields[name] = [...values, headers[i + 1]!];
    }
    this.#stream.additionalHeaders(fields);
    return true;
  }

  writeContinue(): boolean {
    return this.writeInformation(100);
  }

  /** Trailers as names and values, or in pairs. */
  addTrailers(trailers: OutgoingHttpHeaders | readonly (readonly [string, string])[]): void {
    const pairs = Array.isArray(trailers) ? trailers : Object.entries(trailers);
    // Node keeps the last value of a name.
    const values = new Map<string, string[]>();
    for (const [name, value] of pairs) getOrInsert(values, name.toLowerCase(), () => []).push(...[value].flat());
    for (const [name, all] of values) this.setTrailer(name, all);
  }
}

/**
 * An extended CONNECT in the words of the handshake of RFC 6455, as RFC 8441 §5 compares them. The key is ours: HTTP/2
 * needs none.
 */
export class Http2Upgrade implements ExtendedConnect {
  readonly isExtendedConnect = true;
  readonly method = 'GET';
  readonly httpVersion = '2.0';
  readonly httpVersionMajor = 2;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  /** What follows the head is the WebSocket. */
  readonly trailers: IncomingHttpHeaders = {};
  readonly socket: Socket;
  url: string;

  constructor(headers: http2.IncomingHttpHeaders, rawHeaders: readonly string[], socket: Socket) {
    const head = translate(headers, rawHeaders);
    this.headers = head.headers;
    this.headers.connection = 'Upgrade';
    this.headers.upgrade = 'websocket';
    this.headers['sec-websocket-key'] = randomBytes(16).toString('base64');
    this.rawHeaders = head.rawHeaders;
    this.socket = socket;
    this.url = headers[':path'] ?? '';
  }
}
