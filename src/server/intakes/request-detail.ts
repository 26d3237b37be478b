import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { isSecureSocket, peerAddressOf } from '../../http/peer.ts';
import { publicPortOf } from '../listen/public-port.ts';
import { WireBytes } from '../listen/wire-bytes.ts';
import type { RequestDetail } from '../log/access-entry.ts';

/** What was counted on a connection up to its latest line. */
interface Counted {
  requests: number;
  received: number;
  sent: number;
}

const connections = new WeakMap<object, Counted>();

/** What a line in a `LogFormat` may ask of a request and of its answer. */
export class RequestFacts implements RequestDetail {
  readonly startedAt: number;
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly earlierRequests: number;
  elapsedMs = 0;
  handler: string | undefined;
  logId: string | undefined;
  wire: { readonly received: number; readonly sent: number } | undefined;
  isKept = false;
  readonly #request: IncomingMessage;
  readonly #socket: Socket;
  readonly #bytes: WireBytes;
  readonly #tls: Readonly<Record<string, string | undefined>>;
  #response: ServerResponse | undefined;

  constructor(request: IncomingMessage, startedAt: number) {
    const socket = request.socket as Socket;
    const counted = connections.get(socket) ?? { requests: 0, received: 0, sent: 0 };
    connections.set(socket, counted);
    this.startedAt = startedAt;
    this.#request = request;
    this.#socket = socket;
    this.#bytes = new WireBytes(socket);
    this.peerAddress = peerAddressOf(socket);
    this.peerPort = socket.remotePort ?? 0;
    this.localAddress = (socket.localAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '');
    this.localPort = socket.localPort ?? 0;
    this.earlierRequests = counted.requests++;
    this.#tls = tlsOf(socket);
  }

  /** The request is over. */
  finish(elapsedMs: number, response?: ServerResponse): void {
    this.elapsedMs = elapsedMs;
    this.#response = response;
    this.isKept = response !== undefined && (response.shouldKeepAlive ?? true) && !this.#closes();
    if (this.#request.httpVersionMajor >= 2) return;
    const counted = connections.get(this.#socket)!;
    // A socket that has closed still knows its numbers; of TLS only what is below it does.
    const isPlain = !isSecureSocket(this.#socket);
    const received = Math.max(this.#bytes.received, isPlain ? this.#socket.bytesRead : 0);
    const sent = Math.max(this.#bytes.taken + this.#bytes.waiting, isPlain ? this.#socket.bytesWritten : 0);
    this.wire = { received: received - counted.received, sent: sent - counted.sent };
    counted.received = received;
    counted.sent = sent;
  }

  get publicPort(): number {
    const port = /:(\d+)$/.exec(this.#request.headers.host ?? '')?.[1];
    if (port !== undefined) return Number(port);
    return publicPortOf(this.#socket) ?? (isSecureSocket(this.#socket) ? 443 : 80);
  }

  header(name: string): string | undefined {
    return textOf(this.#request.headers[name]);
  }

  trailer(name: string): string | undefined {
    return textOf(this.#request.trailers[name]);
  }

  /** The first of several. */
  responseHeader(name: string): string | undefined {
    const response = this.#response;
    if (!response) return undefined;
    const value = response.getHeader(name);
    if (value !== undefined) return Array.isArray(value) ? value[0] : String(value);
    // Headers of HTTP/1 that were given as one list are nowhere else. Of HTTP/2 it says only whether there is a head.
    const { _header: head } = response as ServerResponse & { readonly _header?: unknown };
    if (typeof head !== 'string') return undefined;
    for (const line of head.split('\r\n')) {
      const colon = line.indexOf(':');
      if (colon > 0 && line.slice(0, colon).toLowerCase() === name) return line.slice(colon + 1).trim();
    }
    return undefined;
  }

  tlsVariable(name: string): string | undefined {
    return this.#tls[name];
  }

  #closes(): boolean {
    return this.responseHeader('connection')?.toLowerCase() === 'close';
  }
}

function textOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'object' ? value.join(', ') : value;
}

function tlsOf(socket: Socket): Readonly<Record<string, string | undefined>> {
  if (!isSecureSocket(socket)) return {};
  const { servername } = socket as TLSSocket;
  return {
    SSL_PROTOCOL: (socket as TLSSocket).getProtocol?.() ?? undefined,
    SSL_CIPHER: (socket as TLSSocket).getCipher?.()?.name,
    SSL_TLS_SNI: typeof servername === 'string' && servername !== '' ? servername : undefined,
  };
}
