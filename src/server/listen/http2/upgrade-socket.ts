import http2, { type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Http2Carrier } from '../../../http/http1-required.ts';
import { endStream, resetStream } from './stream.ts';

/** What of an answer in HTTP/1.1 concerns its connection, or only the handshake of RFC 6455. */
const LEFT_OUT = new Set(['connection', 'upgrade', 'keep-alive', 'transfer-encoding', 'sec-websocket-accept']);

/**
 * The stream of an extended CONNECT (RFC 8441) as the socket of an upgrade.
 *
 * The first thing written to it MUST be the whole head of an answer in HTTP/1.1, as upgrades are answered: it becomes
 * the headers of the stream, with 200 for 101. From there on the stream is used as it is, without a layer in between.
 */
export function toUpgradeSocket(stream: ServerHttp2Stream): Duplex & Http2Carrier {
  const takeHead = (chunk: unknown, encoding: BufferEncoding | undefined): Buffer => {
    // The methods of the prototype again.
    Reflect.deleteProperty(stream, 'write');
    Reflect.deleteProperty(stream, 'end');
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : (chunk as Buffer);
    const end = bytes.indexOf('\r\n\r\n');
    const { status, headers } = parseHead(bytes.toString('latin1', 0, end));
    // RFC 9110 §15: a number that is not a status is an error of the server; HTTP/2 could not say it. RFC 8441 §5: every
    // 2xx says that the WebSocket is open, and a page that was answered in its place is none.
    const said = status === 101 ? 200 : status > 599 || status < 300 ? 502 : status;
    if (!stream.closed && !stream.destroyed) stream.respond({ ':status': said, ...headers });
    return bytes.subarray(end + 4);
  };
  stream.destroy = destroyWithReset;
  stream.write = ((chunk: unknown, ...rest: unknown[]) => {
    const body = takeHead(chunk, encodingIn(rest));
    return body.length > 0 ? stream.write(body, callbackIn(rest)) : called(rest);
  }) as typeof stream.write;
  stream.end = ((...args: unknown[]) => {
    const [chunk, ...rest] = args;
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) {
      endStream(stream, takeHead(chunk, encodingIn(rest)), callbackIn(rest));
      return stream;
    }
    Reflect.deleteProperty(stream, 'write');
    Reflect.deleteProperty(stream, 'end');
    // Ended without an answer.
    stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    return stream;
  }) as typeof stream.end;
  const requireHttp1 = () => resetStream(stream, http2.constants.NGHTTP2_HTTP_1_1_REQUIRED);
  return Object.assign(stream, { requireHttp1 });
}

/** RFC 8441 §5: a connection that is cut is a stream that is reset. */
function destroyWithReset(this: ServerHttp2Stream, error?: Error): ServerHttp2Stream {
  resetStream(this, http2.constants.NGHTTP2_CANCEL);
  Reflect.deleteProperty(this, 'destroy');
  return this.destroy(error);
}

function encodingIn(args: readonly unknown[]): BufferEncoding | undefined {
  return args.find(arg => typeof arg === 'string') as BufferEncoding | undefined;
}

function callbackIn(args: readonly unknown[]): () => void {
  return (args.find(arg => typeof arg === 'function') as (() => void) | undefined) ?? (() => {});
}

function called(args: readonly unknown[]): true {
  process.nextTick(callbackIn(args));
  return true;
}

/** Of an answer of ours, so it is well formed. */
function parseHead(text: string): { status: number; headers: OutgoingHttpHeaders } {
  const [statusLine, ...lines] = text.split('\r\n');
  const headers: OutgoingHttpHeaders = Object.create(null);
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (LEFT_OUT.has(name)) continue;
    const value = line.slice(colon + 1).trim();
    const earlier = headers[name];
    headers[name] = earlier === undefined ? value : [...[earlier].flat().map(String), value];
  }
  return { status: Number(statusLine!.split(' ')[1]), headers };
}
