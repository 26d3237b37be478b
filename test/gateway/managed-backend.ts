import { once } from 'node:events';
import http, { type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Config, createServer, type Server } from 'holdfast';
import { expect } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/logger.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';

export interface LogLine {
  readonly level: string;
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

export interface Answer {
  status?: number;
  headers?: OutgoingHttpHeaders;
}

/** A backend that answers as it is told and remembers what it was asked, behind a server with one route to it. */
export class ManagedBackend implements AsyncDisposable {
  readonly seen: { url: string; headers: IncomingHttpHeaders }[] = [];
  readonly log: LogLine[] = [];
  answer: Answer = {};
  /** Done before it answers a request. */
  whenAsked: (request: http.IncomingMessage) => Promise<void> = async () => {};
  server!: Server;
  readonly #http = http.createServer();
  readonly #upgraded = new Set<Duplex>();

  static async start(
    upstream: Record<string, unknown> = {},
    config: Config | ((url: string) => Config) = {},
    environment: { clock?: Clock } = {},
  ): Promise<ManagedBackend> {
    const backend = new ManagedBackend();
    const server = backend.#http;
    server.on('request', async (request, response) => {
      backend.seen.push({ url: request.url!, headers: request.headers });
      request.resume();
      await backend.whenAsked(request);
      const { status = 200, headers = {} } = backend.answer;
      response.writeHead(status, headers);
      // A longer one is never finished.
      if (headers['Content-Length'] === undefined) response.end('from the backend');
      else response.flushHeaders();
    });
    server.on('upgrade', (request, socket) => {
      backend.seen.push({ url: request.url!, headers: request.headers });
      const { status = 101, headers = {} } = backend.answer;
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.on('error', () => {});
      backend.#upgraded.add(socket.on('close', () => backend.#upgraded.delete(socket)));
      if (status !== 101) {
        const head = `HTTP/1.1 ${status} No\r\n${lines.join('')}`;
        // A longer answer is never finished.
        if (headers['Content-Length'] === undefined) socket.end(`${head}Content-Length: 0\r\n\r\n`);
        else socket.write(`${head}\r\n`);
        return;
      }
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(request.headers['sec-websocket-key']!)}\r\n${lines.join('')}\r\n`,
      );
      // Answers a close frame by ending.
      socket.on('data', () => socket.end(Buffer.from([0x88, 0x00])));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const note = (level: string) => (fields: object, message: string) =>
      void backend.log.push({ level, fields: { ...fields }, message });
    const logger: Logger = { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') };
    backend.server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        upstreams: { app: { servers: [url], ...upstream } },
        routes: [{ path: '/*', upstream: 'app' }],
        ...(typeof config === 'function' ? config(url) : config),
      },
      { ...environment, logger },
    );
    await backend.server.start();
    return backend;
  }

  get url(): string {
    return this.server.urls[0]!;
  }

  /** The headers of the last request that it got. */
  get told(): IncomingHttpHeaders {
    return this.seen.at(-1)!.headers;
  }

  /** Resolves when no connection leads to it any more. */
  get isBrokenOff(): Promise<void> {
    return expect
      .poll(
        () =>
          new Promise<number>((resolve, reject) =>
            this.#http.getConnections((error, count) => (error ? reject(error) : resolve(count))),
          ),
      )
      .toBe(0);
  }

  /** Cuts every connection to it. */
  breakOff(): void {
    this.#http.closeAllConnections();
    for (const socket of this.#upgraded) socket.destroy();
  }

  /** One request, answered as said. */
  async ask(answer: Answer, headers: Record<string, string> = {}, path = '/'): Promise<Response> {
    this.answer = answer;
    return fetch(new URL(path, this.url), { headers, redirect: 'manual' });
  }

  /** Signs a user in. @returns the session's cookie. */
  async signIn(user: string, cookie?: string): Promise<string> {
    const answer = await this.ask(
      { headers: { 'Holdfast-Session': `renew; user=${user}; roles="user,admin"` } },
      cookie === undefined ? {} : { cookie },
    );
    if (answer.status !== 200) throw new Error(`the login was answered with ${answer.status}`);
    return cookieOf(answer)!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop({ drain: 0 });
    this.#http.closeAllConnections();
    this.#http.close();
  }
}

/** The session cookie that an answer sets, as a client sends it; `''` after its `=` when it is taken away. */
export function cookieOf(answer: { headers: Headers }): string | undefined {
  return answer.headers
    .getSetCookie()
    .find(line => /^(__Host-)?holdfast=/.test(line))
    ?.split(';')[0];
}
