import { once } from 'node:events';
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { systemClock } from '../../src/base/clock.ts';
import { WebSocketClient } from '../../src/websocket/protocol/client.ts';
import {
  acceptDeflate,
  type DeflateOptions,
  offerDeflate,
  PerMessageDeflate,
} from '../../src/websocket/protocol/permessage-deflate.ts';

export interface Http2Answer {
  readonly status: number;
  readonly headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;
  readonly body: string;
  readonly trailers: http2.IncomingHttpHeaders;
}

/** A connection of HTTP/2 to a server of this machine, whatever its certificate. */
export class Http2Client implements Disposable {
  readonly session: ClientHttp2Session;
  readonly authority: string;

  /** @param socket With its TLS; default: a new one. */
  constructor(url: string, socket?: TLSSocket) {
    const { host, port } = new URL(url);
    this.authority = host;
    this.session = http2.connect(`https://127.0.0.1:${port}`, {
      rejectUnauthorized: false,
      // A hostile client does not keep to it. Node's types do not know it.
      ...({ strictSingleValueFields: false } as object),
      ...(socket && { createConnection: () => socket }),
    });
    this.session.on('error', () => {});
  }

  static async connect(url: string, socket?: TLSSocket): Promise<Http2Client> {
    const client = new Http2Client(url, socket);
    await once(client.session, 'remoteSettings');
    return client;
  }

  open(headers: OutgoingHttpHeaders, options: http2.ClientSessionRequestOptions = {}): ClientHttp2Stream {
    const stream = this.session.request({ ':authority': this.authority, ':scheme': 'https', ...headers }, options);
    // As sockets do: the other side's end is ours.
    stream.on('error', () => {}).on('end', () => stream.end());
    return stream;
  }

  async request(headers: OutgoingHttpHeaders, body?: string | Buffer): Promise<Http2Answer> {
    const stream = this.open(headers, { endStream: body === undefined });
    let trailers: http2.IncomingHttpHeaders = {};
    stream.on('trailers', received => {
      trailers = received;
    });
    if (body !== undefined) stream.end(body);
    const [answer] = (await once(stream, 'response')) as [Http2Answer['headers']];
    const text = (await buffer(stream)).toString();
    return { status: answer[':status']!, headers: answer, body: text, trailers };
  }

  get(path: string, headers: OutgoingHttpHeaders = {}): Promise<Http2Answer> {
    return this.request({ ':path': path, ...headers });
  }

  /** An extended CONNECT (RFC 8441 §5) and the status it was answered with. */
  async knock(path: string, headers: OutgoingHttpHeaders = {}) {
    const stream = this.open({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': path,
      'sec-websocket-version': '13',
      ...headers,
    });
    const [answer] = (await once(stream, 'response')) as [Http2Answer['headers']];
    return { stream, status: answer[':status']!, headers: answer };
  }

  /** @param compression Offered. Default: none. */
  async webSocket(
    path: string,
    headers: OutgoingHttpHeaders = {},
    compression?: DeflateOptions,
  ): Promise<WebSocketClient> {
    const offer = compression && { 'sec-websocket-extensions': offerDeflate(compression) };
    const { stream, status, headers: answer } = await this.knock(path, { ...offer, ...headers });
    if (status !== 200) throw new Error(`the server answered ${status}`);
    const agreed = compression && acceptDeflate(answer['sec-websocket-extensions'] as string | undefined, compression);
    return new WebSocketClient(stream as unknown as Socket, Buffer.alloc(0), {
      subprotocol: String(answer['sec-websocket-protocol'] ?? ''),
      deflate: agreed && new PerMessageDeflate(agreed, 'client', compression!),
      maxMessageBytes: 16 * 1024 * 1024,
      clock: systemClock,
    });
  }

  [Symbol.dispose](): void {
    this.session.destroy();
  }
}
