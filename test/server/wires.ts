import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import type { Clock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/logger.ts';
import type { RouteConfig, UpstreamConfig } from '../../src/config/config.ts';
import { type Config, createServer, type Server } from '../../src/index.ts';
import { createAuthority, createCertificate, writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from './http2-client.ts';

/** How a client speaks to the server. */
export type Wire = 'http/1' | 'tls' | 'http/2';
export const wires: readonly Wire[] = ['http/1', 'tls', 'http/2'];

const authority = createAuthority('Test CA');
/** What an upstream has to know to trust a `RawBackend` with TLS. */
export const backendCa: string = authority.certificate;
export const backendCertificate: { certificate: string; key: string } = createCertificate({
  name: 'localhost',
  authority,
});

/** A backend that answers each request with bytes of the test's own. */
export class RawBackend {
  /** Heads and bodies of the requests, as they came. */
  readonly requests: string[] = [];
  /** The answer to a request; undefined: none yet. */
  answer: (request: string, socket: net.Socket) => string | undefined = () =>
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
  readonly server: net.Server;
  readonly #isTls: boolean;
  readonly #sockets = new Set<net.Socket>();

  constructor(options?: tls.TlsOptions) {
    this.#isTls = options !== undefined;
    const onSocket = (socket: net.Socket) => this.#onSocket(socket);
    this.server = options ? tls.createServer(options, onSocket) : net.createServer(onSocket);
  }

  /** @param options Of its TLS; `true`: its own certificate. Default: it speaks none. */
  static async listen(options?: tls.TlsOptions | true): Promise<RawBackend> {
    const { certificate: cert, key } = backendCertificate;
    const backend = new RawBackend(options && { cert, key, ...(options !== true && options) });
    backend.server.listen(0, '127.0.0.1');
    await once(backend.server, 'listening');
    return backend;
  }

  get url(): string {
    return `http${this.#isTls ? 's' : ''}://localhost:${(this.server.address() as AddressInfo).port}`;
  }

  close(): Promise<unknown> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise(resolve => this.server.close(resolve));
  }

  #onSocket(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
    let text = '';
    socket.on('data', chunk => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n') + 4;
      if (end < 4) return;
      const head = text.slice(0, end);
      const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
      const isChunked = /^transfer-encoding: *chunked/im.test(head);
      const isWhole = isChunked ? /\r\n0\r\n(?:.+\r\n)*\r\n$/.test(text.slice(end - 2)) : text.length >= end + length;
      if (!isWhole) return;
      const request = text;
      text = '';
      this.requests.push(request);
      const answer = this.answer(request, socket);
      if (answer !== undefined) socket.write(answer, 'latin1');
    });
  }
}

/** A server with a plain listener and one with TLS, for HTTP/1 and HTTP/2. */
export class WiredServer {
  readonly server: Server;
  readonly #folder: string;

  /** What it has beside the configuration of a test. */
  readonly #base: Config;

  private constructor(server: Server, folder: string, base: Config) {
    this.server = server;
    this.#folder = folder;
    this.#base = base;
  }

  static async start(config: Config, logger?: Logger, clock?: Clock): Promise<WiredServer> {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-wires-'));
    const certificate = writeSelfSignedCertificate(folder);
    const base: Config = {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: certificate },
      ],
      session: false,
      ...(!logger && { log: { level: 'silent' } }),
    };
    const server = createServer({ ...base, ...config }, { ...(logger && { logger }), ...(clock && { clock }) });
    await server.start();
    return new WiredServer(server, folder, base);
  }

  /** One upstream that takes everything, whatever its certificate. */
  static upstream(
    backend: RawBackend,
    config: Config = {},
    route: Partial<RouteConfig> = {},
    upstream: Partial<UpstreamConfig> = {},
  ): Promise<WiredServer> {
    const tls = backend.url.startsWith('https:') ? { tls: { verify: false } } : {};
    return WiredServer.start({
      upstreams: { app: { servers: [backend.url], ...tls, ...upstream } },
      routes: [{ path: '/*', upstream: 'app', ...route }],
      ...config,
    });
  }

  /** Another configuration, with the same listeners unless it has others. */
  reload(config: Config): ReturnType<Server['reload']> {
    return this.server.reload({ ...this.#base, ...config });
  }

  url(wire: Wire): string {
    return this.server.urls[wire === 'http/1' ? 0 : 1]!;
  }

  port(wire: Wire): number {
    return Number(new URL(this.url(wire)).port);
  }

  async close(): Promise<void> {
    await this.server.stop({ drain: 0 });
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly host?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string;
  readonly trailers?: Readonly<Record<string, string | string[]>>;
  /** A part of the body of the answer is there. */
  readonly onData?: () => void;
}

export interface Answered {
  readonly status: number;
  /** Lower-case names; repeated ones joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly trailers: Readonly<Record<string, unknown>>;
}

/** Asks the server over one of the wires. */
export function ask(server: WiredServer, wire: Wire, asked: Asked = {}): Promise<Answered> {
  return wire === 'http/2' ? askHttp2(server, asked) : askHttp1(server, wire, asked);
}

async function askHttp1(server: WiredServer, wire: Wire, asked: Asked): Promise<Answered> {
  const { method = 'GET', path = '/', host = 'public.example', headers = {}, body, trailers, onData } = asked;
  const request = (wire === 'tls' ? https : http).request({
    ...{ host: '127.0.0.1', port: server.port(wire), method, path, agent: false, rejectUnauthorized: false },
    headers: { Host: host, ...headers, ...(trailers && { 'Transfer-Encoding': 'chunked' }) },
  });
  if (trailers) {
    request.write(body ?? '');
    request.addTrailers(trailers);
    request.end();
  } else request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let text = '';
  response.setEncoding('latin1').on('data', chunk => {
    text += chunk;
    onData?.();
  });
  await once(response, 'end');
  const joined: Record<string, string> = {};
  for (let i = 0; i < response.rawHeaders.length; i += 2) {
    const name = response.rawHeaders[i]!.toLowerCase();
    joined[name] = name in joined ? `${joined[name]}, ${response.rawHeaders[i + 1]}` : response.rawHeaders[i + 1]!;
  }
  return { status: response.statusCode!, headers: joined, body: text, trailers: response.trailers };
}

async function askHttp2(server: WiredServer, asked: Asked): Promise<Answered> {
  const { method = 'GET', path = '/', host = 'public.example', headers = {}, body, trailers, onData } = asked;
  using client = await Http2Client.connect(server.url('http/2'));
  const isWhole = body === undefined && trailers === undefined;
  const stream = client.open(
    { ':method': method, ':path': path, ':authority': host, ...headers },
    { endStream: isWhole, ...(trailers && { waitForTrailers: true }) },
  );
  if (trailers) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  if (!isWhole) stream.end(body);
  let received: Record<string, unknown> = {};
  stream.on('trailers', fields => {
    received = { ...fields };
  });
  const [answer] = (await once(stream, 'response')) as [Record<string, string | string[]>];
  let text = '';
  stream.setEncoding('latin1').on('data', chunk => {
    text += chunk;
    onData?.();
  });
  await once(stream, 'close');
  const joined = Object.fromEntries(Object.entries(answer).map(([name, value]) => [name, [value].flat().join(', ')]));
  return { status: Number(answer[':status']), headers: joined, body: text, trailers: received };
}

const HANDSHAKE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

/** The answer to a handshake, as it came over HTTP/1 and with its body; a WebSocket that opens is cut at once. */
export async function knock(server: WiredServer, wire: Wire, asked: Asked = {}): Promise<Answered> {
  const { path = '/', host = 'public.example', headers = {} } = asked;
  if (wire === 'http/2') {
    using client = await Http2Client.connect(server.url(wire));
    const { stream, status, headers: answer } = await client.knock(path, { ':authority': host, ...headers });
    const joined = Object.fromEntries(Object.entries(answer).map(([name, value]) => [name, String(value)]));
    let body = '';
    if (status !== 200) for await (const chunk of stream) body += chunk.toString('latin1');
    return { status: status === 200 ? 101 : status, headers: joined, body, trailers: {} };
  }
  const options = { host: '127.0.0.1', port: server.port(wire) };
  const socket = wire === 'tls' ? tls.connect({ ...options, rejectUnauthorized: false }) : net.connect(options);
  socket.on('error', () => {});
  const lines = Object.entries({ Host: host, ...HANDSHAKE, ...headers }).flatMap(([name, values]) =>
    [values].flat().map(value => `${name}: ${value}\r\n`),
  );
  socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');
  let text = '';
  for await (const chunk of socket) {
    text += chunk.toString('latin1');
    if (/^HTTP\/1\.1 101 [\s\S]*\r\n\r\n/.test(text)) break;
  }
  socket.destroy();
  const [head = '', ...bodies] = text.split('\r\n\r\n');
  const [statusLine = '', ...fields] = head.split('\r\n');
  const received: Record<string, string> = {};
  for (const field of fields) {
    const [name = '', ...value] = field.split(':');
    const lower = name.toLowerCase();
    const one = value.join(':').trim();
    received[lower] = lower in received ? `${received[lower]}, ${one}` : one;
  }
  return { status: Number(statusLine.split(' ')[1]), headers: received, body: bodies.join('\r\n\r\n'), trailers: {} };
}

/** What was logged, a line each. */
export class Lines implements Logger {
  readonly all: { readonly level: string; readonly message: string; readonly fields: Record<string, unknown> }[] = [];
  debug = this.#add('debug');
  info = this.#add('info');
  warn = this.#add('warn');
  error = this.#add('error');

  of(level: string): string[] {
    return this.all.filter(line => line.level === level).map(({ message }) => message);
  }

  #add(level: string) {
    return (fields: object, message: string): void => {
      this.all.push({ level, message, fields: { ...fields } });
    };
  }
}
