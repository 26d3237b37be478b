// Every connection is a client with a session of its own, which counts its requests: each answer must be one more than
// the last.
import { connect, type Socket } from 'node:net';
import { measureWindow, settle, type WindowOptions } from './window.ts';

export interface SessionOptions extends WindowOptions {
  port: number;
  connections: number;
}

interface Client {
  readonly index: number;
  readonly socket: Socket;
  request: string;
  /** What came of the answer to the request under way; undefined when none is. */
  text: string | undefined;
  /** What the last answer said. */
  count: number;
}

const CHUNK = 64 * 1024;

const options = JSON.parse(process.argv[2]!) as SessionOptions;
// One buffer for all: a chunk is looked at before the next is read.
const buffer = Buffer.allocUnsafe(CHUNK);
let requests = 0;
let isStopping = false;

const clients = await Promise.all(Array.from({ length: options.connections }, (_, index) => openClient(index)));
for (const client of clients) ask(client);
const result = await measureWindow(options, () => requests, missing);
isStopping = true;
await settle(() => behind().length === 0, missing);
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

function openClient(index: number): Promise<Client> {
  const { promise, resolve, reject } = Promise.withResolvers<Client>();
  const socket = connect({
    port: options.port,
    host: '127.0.0.1',
    noDelay: true,
    onread: {
      buffer,
      callback(size, bytes) {
        take(client, (bytes as Buffer).toString('latin1', 0, size));
        return true;
      },
    },
  });
  const client: Client = { index, socket, request: requestWith(), text: undefined, count: 0 };
  socket.on('connect', () => resolve(client));
  socket.on('error', reject);
  socket.on('close', () => {
    throw new Error(`connection ${index} was closed by the server`);
  });
  return promise;
}

function requestWith(cookie?: string): string {
  const head = `GET / HTTP/1.1\r\nHost: 127.0.0.1:${options.port}\r\n`;
  return cookie ? `${head}Cookie: ${cookie}\r\n\r\n` : `${head}\r\n`;
}

function ask(client: Client): void {
  client.text = '';
  client.socket.write(client.request, 'latin1');
}

function take(client: Client, part: string): void {
  if (client.text === undefined) throw new Error(`connection ${client.index} got an answer that it did not ask for`);
  client.text += part;
  const answer = parse(client.text);
  if (!answer) return;
  const { head, body } = answer;
  if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`connection ${client.index} got: ${head}`);
  if (body !== String(client.count + 1)) {
    throw new Error(`connection ${client.index} got ${JSON.stringify(body)} after ${client.count}: a write was lost`);
  }
  if (client.count === 0) client.request = requestWith(cookieIn(head));
  client.count++;
  client.text = undefined;
  requests++;
  if (!isStopping) ask(client);
}

/** An answer with a body of one chunk, or with a length. Undefined while it is not there as a whole. */
function parse(text: string): { head: string; body: string } | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const head = text.slice(0, end);
  const rest = text.slice(end + 4);
  const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
  if (length !== undefined) return rest.length < Number(length) ? undefined : { head, body: rest };
  const chunk = /^[0-9a-f]+\r\n(.*)\r\n0\r\n\r\n$/.exec(rest)?.[1];
  return chunk === undefined ? undefined : { head, body: chunk };
}

function cookieIn(head: string): string {
  const cookie = /\r\nset-cookie: ([^;\r]+)/i.exec(head)?.[1];
  if (cookie === undefined) throw new Error(`the first answer has no cookie: ${head}`);
  return cookie;
}

function behind(): Client[] {
  return clients.filter(({ text }) => text !== undefined);
}

function missing(): string {
  return `${behind().length} of ${clients.length} connections wait for an answer`;
}
