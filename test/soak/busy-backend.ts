import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';

/** An application behind the gateway: pages, logins of its own, event streams, answers of any size, and WebSockets. */
export class BusyBackend implements Disposable {
  readonly #server = http.createServer((request, response) => void this.#answer(request, response));
  readonly #streams = new Set<ServerResponse>();
  readonly #beat = setInterval(() => {
    for (const stream of this.#streams) stream.write(`data: ${Date.now()}\n\n`);
  }, 100);

  private constructor() {
    const sockets = new WebSocketServer({ server: this.#server, maxPayload: 2 ** 20 });
    sockets.on('connection', socket => {
      socket.on('error', () => {});
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
  }

  static async listen(): Promise<BusyBackend> {
    const backend = new BusyBackend();
    backend.#server.listen(0, '127.0.0.1');
    await once(backend.#server, 'listening');
    return backend;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#beat);
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const { pathname, searchParams } = new URL(request.url!, 'http://localhost');
    const what = pathname.slice(pathname.lastIndexOf('/') + 1);
    if (what === 'events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(': hello\n\n');
      this.#streams.add(response);
      response.on('close', () => this.#streams.delete(response));
      return;
    }
    if (what === 'sign-in') response.setHeader('Holdfast-Session', `renew; user=${searchParams.get('user')}`);
    if (what === 'sign-out') response.setHeader('Holdfast-Session', 'end');
    let bytes = 0;
    try {
      for await (const part of request) bytes += (part as Buffer).length;
    } catch {
      return;
    }
    response.setHeader('Content-Type', 'text/plain');
    if (what === 'large') response.end(Buffer.alloc(Number(searchParams.get('bytes')), 'x'));
    else response.end(`${bytes}`);
  }
}
