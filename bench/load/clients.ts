import { connect, type Socket } from 'node:net';
import { clientFrame, TEXT } from './frames.ts';

/** The largest chunk a client is given. */
export const CHUNK = 64 * 1024;

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='; // of KEY, from RFC 6455 section 1.3

/** Handshakes under way at once: below every server's listen backlog. */
const HANDSHAKES = 100;

export interface Client {
  readonly index: number;
  readonly socket: Socket;
  /** Messages sent. */
  sent: number;
  /** Bytes received since the handshake. */
  received: number;
}

export interface ClientsOptions {
  port: number;
  path: string;
  connections: number;
  /** `socket.io`: the connect packets of Engine.IO 4 and Socket.IO 5 follow the handshake. */
  protocol: 'plain' | 'socket.io';
}

/** What a client gets; the bytes are valid until it returns. */
export type OnBytes = (client: Client, bytes: Buffer, size: number) => void;

/** Opens the connections and answers when all are ready. A connection that ends before the process does is an error. */
export async function openClients(options: ClientsOptions, onBytes: OnBytes): Promise<Client[]> {
  const clients: Client[] = [];
  // One buffer for all: a chunk is looked at before the next is read.
  const buffer = Buffer.allocUnsafe(CHUNK);
  while (clients.length < options.connections) {
    const count = Math.min(HANDSHAKES, options.connections - clients.length);
    const opened = Array.from({ length: count }, (_, index) =>
      openClient(options, clients.length + index, buffer, onBytes),
    );
    clients.push(...(await Promise.all(opened)));
  }
  return clients;
}

function openClient(options: ClientsOptions, index: number, buffer: Buffer, onBytes: OnBytes): Promise<Client> {
  const { promise, resolve, reject } = Promise.withResolvers<Client>();
  const greeting = options.protocol === 'socket.io' ? new SocketIoGreeting() : new PlainGreeting();
  let ready = false;
  const socket = connect({
    port: options.port,
    host: '127.0.0.1',
    noDelay: true,
    onread: {
      buffer,
      callback(size, bytes) {
        if (ready) {
          onBytes(client, bytes as Buffer, size);
          return true;
        }
        const answer = greeting.take((bytes as Buffer).toString('latin1', 0, size));
        if (answer === 'ready') {
          ready = true;
          resolve(client);
        } else if (answer) {
          socket.write(answer);
        }
        return true;
      },
    },
  });
  const client: Client = { index, socket, sent: 0, received: 0 };
  socket.on('error', reject);
  socket.on('close', () => {
    const error = new Error(`connection ${index} was closed by the server`);
    reject(error);
    if (ready) throw error;
  });
  socket.write(
    `GET ${options.path} HTTP/1.1\r\nHost: 127.0.0.1:${options.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
  );
  return promise;
}

/** The handshake, and nothing after it. */
class PlainGreeting {
  #text = '';

  /** Takes what arrived; answers what to send next, or `ready`. */
  take(text: string): Buffer | 'ready' | undefined {
    this.#text += text;
    const end = this.#text.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const head = this.#text.slice(0, end);
    if (!head.startsWith('HTTP/1.1 101 ') || !head.includes(ACCEPT)) throw new Error(`handshake refused: ${head}`);
    return this.after(this.#text.slice(end + 4));
  }

  /** Takes everything that followed the head so far. */
  protected after(text: string): Buffer | 'ready' | undefined {
    if (text) throw new Error(`the server sent ${text.length} bytes before it was asked`);
    return 'ready';
  }
}

/** The server opens (`0{...}`), the client asks for the default namespace (`40`), the server grants it (`40{...}`). */
class SocketIoGreeting extends PlainGreeting {
  #asked = false;

  protected override after(text: string): Buffer | 'ready' | undefined {
    if (/40\{"sid":"[^"]+"\}$/.test(text)) return 'ready';
    if (this.#asked || !/0\{"sid":.*\}$/.test(text)) return undefined;
    this.#asked = true;
    return clientFrame(TEXT, Buffer.from('40'), Buffer.from([1, 2, 3, 4]));
  }
}
