import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Served, Wire } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';

/** How a client leaves. */
export type Leave = 'close frame' | 'end' | 'reset';

export interface Asked {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

export interface Streamed {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Readable;
  /** Leaves in the middle of it. */
  abort(): void;
}

export interface Answered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

/** A WebSocket, whatever it goes over. */
export interface Line {
  send(data: string | Buffer): void;
  /** The next message, or undefined when it has closed. */
  receive(): Promise<string | Buffer | undefined>;
  /** From now on nothing is read. */
  pause(): void;
  leave(how: Leave): void;
  readonly closed: Promise<number>;
}

interface Opened {
  /** What TCP has, below TLS. */
  readonly connection: Socket;
  readonly socket: Socket | TLSSocket;
}

/** Who is refused where a WebSocket was asked for. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`a WebSocket was answered with ${status}`);
    this.status = status;
  }
}

/** A browser, or a program: one address, one connection at a time of one kind, and cookies. */
export class Visitor implements Disposable {
  readonly wire: Wire;
  readonly address: string;
  readonly #served: Served;
  readonly #cookies = new Map<string, string>();
  #http2: (Opened & { client: Http2Client }) | undefined;
  /** Below TLS, which could not be reset. */
  readonly #connections = new Set<Socket>();

  constructor(served: Served, wire: Wire, address: string) {
    this.#served = served;
    this.wire = wire;
    this.address = address;
  }

  get origin(): string {
    return this.#served.url(this.wire);
  }

  async ask(path: string, asked: Asked = {}): Promise<Answered> {
    const { status, headers, body } = await this.stream(path, asked);
    let text = '';
    for await (const part of body) text += part;
    return { status, headers, text };
  }

  async stream(path: string, { method = 'GET', headers = {}, body }: Asked = {}): Promise<Streamed> {
    const all = { ...this.#headers(), ...headers };
    const answer =
      this.wire === 'http/2' ? await this.#ask2(method, path, all, body) : await this.#ask1(method, path, all, body);
    for (const line of answer.headers['set-cookie'] ?? []) this.#keep(line);
    return answer;
  }

  /** @throws {Refused} */
  async open(path: string, headers: Readonly<Record<string, string>> = {}): Promise<Line> {
    const all = { ...this.#headers(), ...headers };
    return this.wire === 'http/2' ? this.#open2(path, all) : this.#open1(path, all);
  }

  [Symbol.dispose](): void {
    for (const connection of this.#connections) connection.destroy();
    this.#http2?.client[Symbol.dispose]();
  }

  #headers(): Record<string, string> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    return { 'x-forwarded-for': this.address, ...(cookie && { cookie }) };
  }

  #keep(line: string): void {
    const [pair = ''] = line.split(';');
    const at = pair.indexOf('=');
    if (/;\s*max-age=0/i.test(line)) this.#cookies.delete(pair.slice(0, at));
    else this.#cookies.set(pair.slice(0, at), pair.slice(at + 1));
  }

  /** For bytes of its own. */
  async dial(): Promise<Opened> {
    const { port, hostname: host } = new URL(this.origin);
    const connection = connect({ port: Number(port), host });
    this.#connections.add(connection);
    connection.on('error', () => {}).on('close', () => this.#connections.delete(connection));
    await once(connection, 'connect');
    if (this.wire === 'http/1') return { connection, socket: connection };
    const ALPNProtocols = this.wire === 'http/2' ? ['h2'] : ['http/1.1'];
    const socket = connectTls({ socket: connection, rejectUnauthorized: false, ALPNProtocols });
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
    return { connection, socket };
  }

  async #ask1(
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: string | Buffer,
  ): Promise<Streamed> {
    // One that is kept may end just when it is used, which is no fault of the server.
    const { connection, socket } = await this.dial();
    const request = http.request({
      ...{ method, path, headers: { host: new URL(this.origin).host, connection: 'close', ...headers } },
      createConnection: () => socket,
    });
    request.on('error', () => {});
    request.end(body);
    const answered = once(request, 'response') as Promise<[IncomingMessage]>;
    const [response] = await answered;
    response.on('error', () => {});
    return {
      status: response.statusCode!,
      headers: response.headers,
      body: response,
      abort: () => void connection.resetAndDestroy(),
    };
  }

  async #ask2(
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: string | Buffer,
  ): Promise<Streamed> {
    const { client } = await this.#client();
    const stream = client.open({ ':method': method, ':path': path, ...headers }, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    const [answer] = (await once(stream, 'response')) as [http.IncomingHttpHeaders & { ':status': number }];
    return { status: answer[':status'], headers: answer, body: stream, abort: () => stream.close(8) };
  }

  /** The server ends connections that are idle, and asks them to go. */
  async #client(): Promise<Opened & { client: Http2Client }> {
    if (this.#http2 && !this.#http2.client.session.destroyed && !this.#http2.client.session.closed) return this.#http2;
    const opened = await this.dial();
    const client = await Http2Client.connect(this.origin, opened.socket as TLSSocket);
    this.#http2 = { ...opened, client };
    return this.#http2;
  }

  async #open1(path: string, headers: Record<string, string>): Promise<Line> {
    const { connection, socket: below } = await this.dial();
    const socket = new WebSocket(this.origin.replace('http', 'ws') + path, {
      createConnection: () => below as Socket,
      ...{ headers, rejectUnauthorized: false, perMessageDeflate: Math.random() < 0.5 },
    });
    const waiting: ((data: string | Buffer | undefined) => void)[] = [];
    const received: (string | Buffer)[] = [];
    const { promise: closed, resolve } = Promise.withResolvers<number>();
    socket.on('message', (data: Buffer, isBinary) => {
      const message = isBinary ? data : String(data);
      const next = waiting.shift();
      if (next) next(message);
      else received.push(message);
    });
    socket.on('close', code => {
      resolve(code);
      for (const next of waiting) next(undefined);
    });
    const { promise: opened, resolve: isOpen, reject } = Promise.withResolvers<void>();
    socket.on('error', reject);
    socket.on('open', isOpen);
    socket.on('unexpected-response', (request, response) => {
      response.resume();
      request.destroy();
      reject(new Refused(response.statusCode!));
    });
    await opened;
    return {
      send: data => socket.send(data, () => {}),
      receive: () => {
        const message = received.shift();
        if (message !== undefined) return Promise.resolve(message);
        if (socket.readyState > WebSocket.OPEN) return Promise.resolve(undefined);
        return new Promise(next => waiting.push(next));
      },
      pause: () => socket.pause(),
      leave(how) {
        if (how === 'close frame') socket.close();
        else if (how === 'end') socket.terminate();
        else connection.resetAndDestroy();
      },
      closed,
    };
  }

  async #open2(path: string, headers: Record<string, string>): Promise<Line> {
    const { client, connection, socket: tls } = await this.#client();
    let status = 0;
    const socket = await client.webSocket(path, headers).catch((error: Error) => {
      status = Number(/answered (\d+)/.exec(error.message)?.[1]);
      throw status > 0 ? new Refused(status) : error;
    });
    return {
      send: data => void socket.send(data),
      receive: () => socket.receive(),
      // All streams of the connection share it.
      pause: () => void tls.pause(),
      leave(how) {
        if (how === 'close frame') socket.close();
        else if (how === 'end') socket.terminate();
        else connection.resetAndDestroy();
      },
      closed: socket.closed.then(({ code }) => code),
    };
  }
}
