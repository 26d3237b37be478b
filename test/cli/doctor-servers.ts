import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import { type ServerOptions, type WebSocket, WebSocketServer } from 'ws';

/** A server of a test, with all its connections. */
export class TestServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
    });
  }

  async listen(host = '127.0.0.1'): Promise<this> {
    this.#server.listen(0, host);
    await once(this.#server, 'listening');
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** What has not been read is read: only then does a server see that its client has gone. */
  resume(): void {
    for (const socket of this.#sockets) socket.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** Does with each connection what a test wants. */
export function rawServer(onConnection: (socket: Socket) => void): Promise<TestServer> {
  return new TestServer(createTcpServer(onConnection)).listen();
}

export function httpServer(onRequest: RequestListener): Promise<TestServer> {
  return new TestServer(createServer(onRequest)).listen();
}

export interface EchoOptions extends ServerOptions {
  readonly tls?: TlsOptions;
  /** For plain requests. Default: 426, as `ws` has it. */
  readonly onRequest?: RequestListener;
  /** Status to refuse a handshake with; 0 takes it. */
  readonly refuse?: (request: IncomingMessage) => number;
  readonly onClient?: (client: WebSocket) => void;
}

/** An application of today: `ws` on Node's own server. */
export async function echoServer({
  tls,
  onRequest,
  refuse,
  onClient,
  ...options
}: EchoOptions = {}): Promise<TestServer> {
  const answer: RequestListener = onRequest ?? ((_, response) => void response.writeHead(426).end('Upgrade Required'));
  const server = tls ? createTlsServer(tls, answer) : createServer(answer);
  const sockets = new WebSocketServer({ ...options, noServer: true });
  server.on('upgrade', (request, socket, head) => {
    const status = refuse?.(request) ?? 0;
    if (status !== 0) return void socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    sockets.handleUpgrade(request, socket, head, client => sockets.emit('connection', client, request));
  });
  sockets.on('connection', client => {
    client.on('error', () => {});
    onClient?.(client);
    client.on('message', (data, binary) => client.send(data, { binary }));
  });
  return await new TestServer(server).listen();
}
