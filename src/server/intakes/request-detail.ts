import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { isSecureSocket, peerAddressOf } from '../../http/peer.ts';
import { publicPortOf } from '../listen/public-port.ts';
import { WireBytes } from '../listen/wire-bytes.ts';
import type { RequestDetail } from '../log/access-entry.ts';

/** What all requests of a connection have in common, and what was counted on it up to its latest line. */
class ConnectionFacts {
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly isSecure: boolean;
  readonly bytes: WireBytes;
  readonly tls: Readonly<Record<string, string | undefined>>;
  requests = 0;
  received = 0;
  sent = 0;

  constructor(socket: Socket) {
    this.peerAddress = peerAddressOf(socket);
    this.peerPort = socket.remotePort ?? 0;
    this.localAddress = (socket.localAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '');
    this.localPort = socket.localPort ?? 0;
    this.isSecure = isSecureSocket(socket);
    this.bytes = new WireBytes(socket);
    this.tls = tlsOf(socket);
  }
}

const connections = new WeakMap<object, ConnectionFacts>();

function connectionOf(socket: Socket): ConnectionFacts {
  let facts = connections.get(socket);
  if (!facts) connections.set(socket, (facts = new ConnectionFacts(socket)));
  return facts;
}

/** What a line in a `LogFormat` may ask of a request and of its answer. */
export class RequestFacts implements RequestDetail {
  readonly startedAt: number;
  readonly earlierRequests: number;
  elapsedMs = 0;
  handler: string | undefined;
  logId: string | undefined;
  wire: { readonly received: number; readonly sent: number } | undefined;
  readonly #request: IncomingMessage;
  readonly #socket: Socket;
  readonly #connection: ConnectionFacts;
  #response: ServerResponse | undefined;

  constructor(request: IncomingMessage, startedAt: number) {
    const socket = request.socket as Socket;
    this.startedAt = startedAt;
    this.#request = request;
    this.#socket = socket;
    this.#connection = connectionOf(socket);
    this.earlierRequests = this.#connection.requests++;
  }

  /** The request is over. */
  finish(elapsedMs: number, response?: ServerResponse): void {
    this.elapsedMs = elapsedMs;
    this.#response = response;
    if (this.#request.httpVersionMajor >= 2) return;
    const counted = this.#connection;
    const { bytes, isSecure } = counted;
    // A socket that has closed still knows its numbers; of TLS only what is below it does.
    const received = Math.max(bytes.received, isSecure ? 0 : this.#socket.bytesRead);
    const sent = Math.max(bytes.taken + bytes.waiting, isSecure ? 0 : this.#socket.bytesWritten);
    this.wire = { received: received - counted.received, sent: sent - counted.sent };
    counted.received = received;
    counted.sent = sent;
  }

  get peerAddress(): string {
    return this.#connection.peerAddress;
  }

  get peerPort(): number {
    return this.#connection.peerPort;
  }

  get localAddress(): string {
    return this.#connection.localAddress;
  }

  get localPort(): number {
    return this.#connection.localPort;
  }

  get isKept(): boolean {
    const response = this.#response;
    return response !== undefined && (response.shouldKeepAlive ?? true) && !this.#closes();
  }

  get publicPort(): number {
    const port = /:(\d+)$/.exec(this.#request.headers.host ?? '')?.[1];
    if (port !== undefined) return Number(port);
    return publicPortOf(this.#socket) ?? (this.#connection.isSecure ? 443 : 80);
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
    return this.#connection.tls[name];
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
