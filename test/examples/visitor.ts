import { once } from 'node:events';
import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import { expect, onTestFinished } from 'vitest';
import type { ClientOptions, WebSocket } from 'ws';
import { connect } from './example-client.ts';
import type { ExampleProcess } from './example-process.ts';

type Message = Readonly<Record<string, unknown>>;

/** A browser without a screen: it opens pages, keeps the cookie, and has tabs. */
export class Visitor {
  readonly #example: ExampleProcess;
  cookie = '';

  constructor(example: ExampleProcess) {
    this.#example = example;
  }

  /** Opens a page and returns its text. */
  async navigate(path = '/'): Promise<string> {
    const headers = { accept: 'text/html', 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' };
    const response = await this.#fetch(path, { headers });
    expect(response.status).toBe(200);
    return response.text();
  }

  call(method: string, path: string, body?: string | URLSearchParams): Promise<Response> {
    return this.#fetch(path, {
      method,
      headers: { origin: this.#example.origin },
      redirect: 'manual',
      ...(body !== undefined && { body }),
    });
  }

  post(path: string, body?: string | URLSearchParams): Promise<Response> {
    return this.call('POST', path, body);
  }

  /** A socket as a script of the page opens it. */
  async tab(path: string, options: ClientOptions = {}): Promise<Tab> {
    const headers: Record<string, string> = this.cookie === '' ? {} : { cookie: this.cookie };
    const tab = new Tab(connect(this.#example, path, { headers, ...options }));
    await tab.opened;
    return tab;
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.cookie !== '') headers.set('cookie', this.cookie);
    const response = await fetch(this.#example.url(path), { ...init, headers });
    const set = response.headers.getSetCookie()[0];
    if (set !== undefined) this.cookie = set.split(';')[0]!;
    return response;
  }
}

/** A socket whose messages are JSON. None is missed: what came before it was asked for waits. */
export class Tab {
  readonly socket: WebSocket;
  readonly opened: Promise<unknown>;
  /** The code with which it closes. */
  readonly closed: Promise<number>;
  /** All that came. */
  readonly received: Message[] = [];
  #taken = 0;
  #wake = () => {};
  #isClosed = false;

  constructor(socket: WebSocket) {
    this.socket = socket;
    this.opened = once(socket, 'open');
    this.closed = new Promise(resolve => {
      socket.on('close', code => {
        this.#isClosed = true;
        resolve(code);
        this.#wake();
      });
    });
    socket.on('message', data => {
      this.received.push(JSON.parse(String(data)));
      this.#wake();
    });
  }

  send(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** The next message, or the next that has these members; those before it are gone. */
  async next<T = Message>(wanted: Message = {}): Promise<T> {
    for (;;) {
      while (this.#taken < this.received.length) {
        const message = this.received[this.#taken++]!;
        const isWanted = Object.entries(wanted).every(([name, value]) => message[name] === value);
        if (isWanted) return message as T;
      }
      if (this.#isClosed) throw new Error(`closed before there was a message with ${JSON.stringify(wanted)}`);
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
  }

  /** Sends and returns the next message. */
  async ask<T = Message>(message: unknown): Promise<T> {
    this.send(message);
    return this.next<T>();
  }

  /** As a lost network does: no close frame. */
  async cut(): Promise<void> {
    this.socket.terminate();
    await this.closed;
  }
}

/** A network between a program and an example, whose connections can be cut. */
export class Network {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(example: ExampleProcess) {
    this.#server = createServer(near => {
      const far = connectTcp(Number(new URL(example.origin).port), 'localhost');
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
    onTestFinished(() => {
      this.#server.close();
      this.cut();
    });
  }

  /** Begins to carry connections. Returns the address that leads through it. */
  async start(): Promise<string> {
    await once(this.#server.listen(0, 'localhost'), 'listening');
    return `http://localhost:${(this.#server.address() as { port: number }).port}`;
  }

  /** How many connections it carries. */
  get connections(): number {
    return this.#sockets.size / 2;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
