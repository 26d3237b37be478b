import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';

/** A request as it reached a backend. */
export interface Seen {
  readonly url: string;
  readonly rawHeaders: readonly string[];
}

/** A backend that answers everything with 200, takes a WebSocket at every path, and keeps what it saw. */
export class SeeingBackend {
  readonly seen: Seen[] = [];
  readonly #server = http.createServer((request, response) => {
    this.seen.push({ url: request.url!, rawHeaders: request.rawHeaders });
    response.end('the backend');
  });
  readonly #sockets = new WebSocketServer({ server: this.#server });

  static async listen(): Promise<SeeingBackend> {
    const backend = new SeeingBackend();
    backend.#sockets.on('connection', (socket, { url, rawHeaders }) => {
      socket.on('error', () => {});
      backend.seen.push({ url: url!, rawHeaders });
    });
    backend.#server.listen(0, '127.0.0.1');
    await once(backend.#server, 'listening');
    return backend;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** What it has seen since it was last asked. */
  take(): Seen[] {
    return this.seen.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }
}
