// Every connection sends its next request when the last is answered, and compares each answer with what it asked for,
// to the byte.
import { connect, type Socket } from 'node:net';
import { BODIES, bodyOf } from '../servers/bodies.ts';
import { type LoadResult, measureWindow, runTurns, settle, type WindowOptions } from './window.ts';

export interface ForwardOptions extends WindowOptions {
  port: number;
  connections: number;
  /** Bytes of each answer's body. */
  answerSize: number;
  /** Bytes of each request's body; 0: a GET. */
  requestSize: number;
  /** Each connection is a client that keeps the session cookie it is given, and whose backend must see the session. */
  hasSession: boolean;
  /** A line that each connection adds to its requests, by its index. Default: none. */
  headers?: readonly string[];
}

interface Client {
  readonly index: number;
  readonly socket: Socket;
  /** What it sends, by the number of the body. */
  requests: readonly Buffer[];
  /** Requests sent. */
  sent: number;
  isBusy: boolean;
  /** The head of the answer under way as far as it has come; undefined once it is complete. */
  head: string | undefined;
  /** Bytes of its body that have come. */
  received: number;
}

const CHUNK = 64 * 1024;

/** What Chromium sends with a request of a page. */
const BROWSER_HEADERS =
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n' +
  'Accept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n' +
  'Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n';

const options = JSON.parse(process.argv[2]!) as ForwardOptions;
// One buffer for all: a chunk is looked at before the next is read.
const buffer = Buffer.allocUnsafe(CHUNK);
let answers = 0;
let isStopping = false;

const clients = await Promise.all(Array.from({ length: options.connections }, (_, index) => openClient(index)));
await runTurns(options, turn);

async function turn(window: WindowOptions): Promise<LoadResult> {
  isStopping = false;
  for (const client of clients) ask(client);
  const result = await measureWindow(window, () => answers, missing);
  isStopping = true;
  await settle(() => behind().length === 0, missing);
  return result;
}

function openClient(index: number): Promise<Client> {
  const { promise, resolve, reject } = Promise.withResolvers<Client>();
  const socket = connect({
    port: options.port,
    host: '127.0.0.1',
    noDelay: true,
    onread: {
      buffer,
      callback(size, bytes) {
        take(client, bytes as Buffer, size);
        return true;
      },
    },
  });
  const client: Client = {
    index,
    socket,
    requests: requestsWith(index),
    sent: 0,
    isBusy: false,
    head: '',
    received: 0,
  };
  socket.on('connect', () => resolve(client));
  socket.on('error', reject);
  socket.on('close', () => {
    throw new Error(`connection ${index} was closed by the server`);
  });
  return promise;
}

function requestsWith(index: number, cookie?: string): Buffer[] {
  const { port, answerSize, requestSize, hasSession, headers } = options;
  return Array.from({ length: BODIES }, (_, number) => {
    let head = `${requestSize > 0 ? 'POST' : 'GET'} /${number}/${answerSize} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${BROWSER_HEADERS}`;
    if (headers?.[index] !== undefined) head += `${headers[index]}\r\n`;
    if (cookie !== undefined) head += `Cookie: ${cookie}\r\n`;
    if (cookie !== undefined && hasSession) head += 'X-Wants-Session: yes\r\n';
    if (requestSize === 0) return Buffer.from(`${head}\r\n`, 'latin1');
    head += `Content-Type: text/plain\r\nContent-Length: ${requestSize}\r\nX-Body: ${number}/${requestSize}\r\n\r\n`;
    return Buffer.concat([Buffer.from(head, 'latin1'), bodyOf(number, requestSize)]);
  });
}

function ask(client: Client): void {
  client.head = '';
  client.received = 0;
  client.isBusy = true;
  client.socket.write(client.requests[client.sent % BODIES]!);
  client.sent++;
}

function take(client: Client, bytes: Buffer, size: number): void {
  if (!client.isBusy) throw new Error(`connection ${client.index} got an answer that it did not ask for`);
  let start = 0;
  if (client.head !== undefined) {
    const before = client.head.length;
    client.head += bytes.toString('latin1', 0, size);
    const end = client.head.indexOf('\r\n\r\n');
    if (end < 0) return;
    check(client, client.head.slice(0, end));
    start = end + 4 - before;
    client.head = undefined;
  }
  const wanted = bodyOf((client.sent - 1) % BODIES, options.answerSize);
  const { received } = client;
  if (received + size - start > wanted.length) throw new Error(`connection ${client.index} got more than its answer`);
  if (wanted.compare(bytes, start, size, received, received + size - start) !== 0)
    throw new Error(
      `connection ${client.index} got an answer that differs, within ${size - start} bytes of ${received}`,
    );
  client.received += size - start;
  if (client.received < wanted.length) return;
  client.isBusy = false;
  answers++;
  if (!isStopping) ask(client);
}

function check(client: Client, head: string): void {
  if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`connection ${client.index} got: ${head}`);
  if (/\r\ncontent-length: (\d+)/i.exec(head)?.[1] !== String(options.answerSize))
    throw new Error(`connection ${client.index} got an answer without the length of the backend's: ${head}`);
  if (!options.hasSession || client.sent > 1) return;
  const cookie = /\r\nset-cookie: ([^;\r]+)/i.exec(head)?.[1];
  if (cookie === undefined) throw new Error(`the first answer has no cookie: ${head}`);
  client.requests = requestsWith(client.index, cookie);
}

function behind(): Client[] {
  return clients.filter(({ isBusy }) => isBusy);
}

function missing(): string {
  return `${behind().length} of ${clients.length} connections wait for an answer`;
}
