import { WebSocketServer } from 'ws';
import { LoopbackBackend } from './loopback-backend.ts';

/** A request as it reached a backend. */
export interface Seen {
  readonly url: string;
  readonly rawHeaders: readonly string[];
}

/** A backend that answers everything with 200, takes a WebSocket at every path, and keeps what it saw. */
export class SeeingBackend extends LoopbackBackend {
  readonly seen: Seen[] = [];
  readonly #sockets = new WebSocketServer({ server: this.server });

  private constructor() {
    super();
    this.server.on('request', (request, response) => {
      this.seen.push({ url: request.url!, rawHeaders: request.rawHeaders });
      response.end('the backend');
    });
    this.#sockets.on('connection', (socket, { url, rawHeaders }) => {
      socket.on('error', () => {});
      this.seen.push({ url: url!, rawHeaders });
    });
  }

  static listen(): Promise<SeeingBackend> {
    return new SeeingBackend().listen();
  }

  /** What it has seen since it was last asked. */
  take(): Seen[] {
    return this.seen.splice(0);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate();
    await super[Symbol.asyncDispose]();
  }
}
