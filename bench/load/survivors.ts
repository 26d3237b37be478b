// Clients that ask at a steady pace, of two workers; in the middle one of the two is killed. What counts are the latencies of
// those whose worker lives.
import { connect, type Socket } from 'node:net';
import { bodyOf } from '../servers/bodies.ts';

export interface SurvivorsOptions {
  port: number;
  connections: number;
  /** From an answer to the next request of its client. */
  pauseMs: number;
  warmUpMs: number;
  /** Before the kill, and again behind it. */
  measureMs: number;
  /** The process that is killed. */
  victim: number;
}

/** What this module prints. */
export interface SurvivorsResult {
  beforeP99Ms: number;
  afterP99Ms: number;
  survivors: number;
  /** Connections that ended with their worker; their clients came back at once. */
  lost: number;
}

interface Client {
  socket: Socket;
  /** Has its first connection ended? */
  isBack: boolean;
  text: string;
  askedAt: number;
  latencies: number[];
}

const SIZE = 1024;
/** Within this time of the kill the kernel has closed what the victim had. */
const ENDING_MS = 1000;

const options = JSON.parse(process.argv[2]!) as SurvivorsOptions;
const request = `GET /0/${SIZE} HTTP/1.1\r\nHost: 127.0.0.1:${options.port}\r\n\r\n`;
const body = bodyOf(0, SIZE).toString();
let killedAt = Number.POSITIVE_INFINITY;

const clients = Array.from({ length: options.connections }, (_, index) => {
  const client: Client = { socket: open(), isBack: false, text: '', askedAt: 0, latencies: [] };
  listen(client);
  setTimeout(() => ask(client), (index * options.pauseMs) / options.connections);
  return client;
});

await delay(options.warmUpMs);
await phase();
const before = new Map(clients.map(client => [client, client.latencies]));
killedAt = performance.now();
process.kill(options.victim, 'SIGKILL');
await phase();
const survivors = clients.filter(({ isBack }) => !isBack);
const result: SurvivorsResult = {
  beforeP99Ms: p99(survivors.flatMap(client => before.get(client)!)),
  afterP99Ms: p99(survivors.flatMap(({ latencies }) => latencies)),
  survivors: survivors.length,
  lost: clients.length - survivors.length,
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

async function phase(): Promise<void> {
  for (const client of clients) client.latencies = [];
  await delay(options.measureMs);
}

function open(): Socket {
  return connect({ port: options.port, host: '127.0.0.1', noDelay: true });
}

function listen(client: Client): void {
  const { socket } = client;
  socket.setEncoding('latin1').on('data', (text: string) => take(client, text));
  socket.on('error', () => {}); // closed behind it
  socket.on('close', () => {
    const sinceMs = performance.now() - killedAt;
    if (!(sinceMs >= 0 && sinceMs < ENDING_MS)) throw new Error('a connection ended whose worker lives');
    client.isBack = true;
    client.text = '';
    client.socket = open();
    listen(client);
    ask(client);
  });
}

function ask(client: Client): void {
  client.askedAt = performance.now();
  client.socket.write(request);
}

function take(client: Client, text: string): void {
  client.text += text;
  const end = client.text.indexOf('\r\n\r\n');
  if (end < 0 || client.text.length < end + 4 + SIZE) return;
  if (!client.text.startsWith('HTTP/1.1 200 ') || client.text.slice(end + 4) !== body)
    throw new Error(`an answer that differs: ${client.text.slice(0, end)}`);
  client.latencies.push(performance.now() - client.askedAt);
  client.text = '';
  const { socket } = client;
  setTimeout(() => {
    if (socket === client.socket) ask(client);
  }, options.pauseMs);
}

function p99(values: readonly number[]): number {
  if (values.length < 100) throw new Error(`${values.length} answers are too few for a 99th percentile`);
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)]!;
}

function delay(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
