import { type ClientCloseEvent, connectWebSocket, type WebSocketClient } from '../../src/websocket/protocol/client.ts';
import { Http2Client } from '../server/http2-client.ts';
import type { Served, Wire } from './served.ts';

/**
 * A WebSocket to a served configuration over any wire, which notes what comes and when it ends. Times are those of
 * `performance.now()`.
 */
export class ServedSocket implements Disposable {
  readonly openedAt = performance.now();
  readonly messages: string[] = [];
  lastMessageAt = 0;
  readonly closed: Promise<ClientCloseEvent & { readonly at: number }>;
  readonly #socket: WebSocketClient;
  readonly #connection: Disposable | undefined;

  private constructor(socket: WebSocketClient, connection: Disposable | undefined) {
    this.#socket = socket;
    this.#connection = connection;
    this.closed = socket.closed.then(event => ({ ...event, at: performance.now() }));
    void this.#read();
  }

  /** @throws when the handshake is refused. */
  static async open(
    server: Served,
    wire: Wire,
    path: string,
    more: Readonly<Record<string, string>> = {},
  ): Promise<ServedSocket> {
    const headers = { origin: server.url(wire), ...more };
    if (wire !== 'http/2')
      return new ServedSocket(
        await connectWebSocket(server.url(wire) + path, { headers, tls: { rejectUnauthorized: false } }),
        undefined,
      );
    const connection = await Http2Client.connect(server.url(wire));
    try {
      return new ServedSocket(await connection.webSocket(path, headers), connection);
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  send(message: string): void {
    this.#socket.send(message);
  }

  [Symbol.dispose](): void {
    this.#socket.terminate();
    this.#connection?.[Symbol.dispose]();
  }

  async #read(): Promise<void> {
    for await (const message of this.#socket) {
      this.messages.push(String(message));
      this.lastMessageAt = performance.now();
    }
  }
}
