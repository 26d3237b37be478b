import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';

/** A request as a backend got it. */
export interface Recorded {
  readonly method: string;
  readonly target: string;
  /** Name, value, name, value ... as they came. */
  readonly rawHeaders: readonly string[];
  body: string;
  rawTrailers: readonly string[];
}

/**
 * An application that writes down what it gets.
 *
 * It answers 200 with its name, or what the query says: `?status=401`, `?header=Name:%20value`. It takes every
 * handshake unless the query has a status, and sends messages back.
 */
export class RecordingBackend implements AsyncDisposable {
  readonly name: string;
  readonly requests: Recorded[] = [];
  /** The close codes of WebSockets by what was asked for. */
  readonly closes = new Map<string, number>();
  readonly #server: http.Server;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: { threshold: 0 },
    handleProtocols: protocols => protocols.values().next().value ?? false,
  });

  /** @param tls Its key and certificate; without, it speaks plain HTTP. */
  constructor(name: string, tls?: { key: string; cert: string }) {
    this.name = name;
    this.#server = tls ? https.createServer(tls) : http.createServer();
    this.#server.on('request', (request, response) => this.#onRequest(request, response));
    // A method that Node's parser does not know.
    this.#server.on('clientError', (error: Error & { rawPacket?: Buffer }, socket) => {
      const [method = '', target = ''] = (error.rawPacket?.toString('latin1') ?? '').split(' ');
      this.requests.push({ method, target, rawHeaders: [], body: '', rawTrailers: [] });
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    });
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, early: Buffer) => {
      this.#record(request);
      const { status } = wish(request);
      // Upgrade is an offer: whatever else it is for is answered without.
      if (status !== undefined || request.headers.upgrade?.toLowerCase() !== 'websocket')
        socket.end(`HTTP/1.1 ${status ?? 200} As Wished\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
      else this.#sockets.handleUpgrade(request, socket, early, webSocket => this.#onWebSocket(webSocket, request.url!));
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  /** What came since this was asked last. */
  take(): Recorded[] {
    return this.requests.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }

  async #onRequest(request: IncomingMessage, response: http.ServerResponse): Promise<void> {
    const recorded = this.#record(request);
    for await (const chunk of request) recorded.body += chunk;
    recorded.rawTrailers = request.rawTrailers;
    const { status = 200, headers } = wish(request);
    for (const [name, value] of headers) response.appendHeader(name, value);
    response.writeHead(status);
    response.end(`${this.name}\n`);
  }

  #onWebSocket(webSocket: WebSocket, target: string): void {
    webSocket.on('error', () => {});
    webSocket.on('message', (data, binary) => webSocket.send(data, { binary }));
    webSocket.on('close', code => this.closes.set(target, code));
  }

  #record({ method, url, rawHeaders }: IncomingMessage): Recorded {
    const recorded = { method: method!, target: url!, rawHeaders, body: '', rawTrailers: [] };
    this.requests.push(recorded);
    return recorded;
  }
}

function wish({ url }: IncomingMessage): { status: number | undefined; headers: [string, string][] } {
  const { searchParams } = new URL(url!, 'http://backend');
  const headers = searchParams.getAll('header').map(line => line.split(': ', 2) as [string, string]);
  const status = searchParams.get('status');
  return { status: status === null ? undefined : Number(status), headers };
}
