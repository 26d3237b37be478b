/** One that attacks, in a process of its own, until its input ends. Prints that it has begun, and what it has got as JSON. */
import { connect, type Socket } from 'node:net';
import { getPriority, setPriority } from 'node:os';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { AttackName } from './attack.ts';
import { type Ports, PROXY_ADDRESS } from './site.ts';

const [name, ports] = [process.argv[2] as AttackName, JSON.parse(process.argv[3]!) as Ports];
/** What it has got, and how often. */
const tally: Record<string, number> = {};
let isOver = false;

const count = (what: string) => {
  tally[what] = (tally[what] ?? 0) + 1;
};

/** From an address of this machine. */
function direct(address: string, port = ports.plain): Socket {
  return connect({ host: '127.0.0.1', port, localAddress: address }).on('error', () => {});
}

/** From any address, as a proxy tells it. */
function proxied(address: string, port = ports.proxy): Socket {
  const socket = direct(PROXY_ADDRESS, port);
  socket.write(`PROXY TCP4 ${address} 192.0.2.1 3000 80\r\n`);
  return socket;
}

const addressOf = (i: number) => `198.18.${(i >> 8) & 255}.${i & 255}`;

/** What is answered, until the server ends the connection: the statuses. */
async function answers(socket: Socket, text: string): Promise<string> {
  socket.setTimeout(15_000, () => socket.destroy());
  socket.write(text);
  let all = '';
  try {
    for await (const chunk of socket) all += chunk;
  } catch {
    // It was cut.
  }
  return [...all.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status).join(' ') || 'cut';
}

const handshake = (path: string, version = 13) =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Version: ${version}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;

/** The status of a handshake, and the socket, which stays open. */
function open(socket: Socket, path: string): Promise<string> {
  socket.write(handshake(path));
  return new Promise(resolve => {
    socket.once('data', data => resolve(data.toString('latin1', 9, 12)));
    socket.once('close', () => resolve('cut'));
    socket.setTimeout(15_000, () => socket.destroy());
  });
}

/** What a client of TLS says first. */
function clientHello(): Promise<Buffer> {
  return new Promise(resolve => {
    const wire = new Duplex({ read() {}, write: (bytes: Buffer) => resolve(bytes) });
    connectTls({ socket: wire, servername: 'localhost' }).on('error', () => {});
  });
}

/** Sends this and waits until the server has had enough of it, and then for a while. */
async function halfOpen(socket: Socket, bytes: Buffer, pauseMs: number): Promise<void> {
  socket.resume().write(bytes);
  await new Promise(resolve => socket.once('close', resolve));
  count('closed');
  await new Promise(resolve => setTimeout(resolve, pauseMs));
}

/** So many do it again and again, with numbers that go up, until all is over or they have had `end`. */
async function crowd(size: number, work: (i: number) => Promise<unknown>, end = Number.POSITIVE_INFINITY) {
  let next = 0;
  const one = async () => {
    while (!isOver && next < end) await work(next++);
  };
  await Promise.all(Array.from({ length: size }, one));
}

/** A masked frame, whose key is 0. */
function frame(head: number, payload: string): Buffer {
  return Buffer.concat([Buffer.from([head, 0x80 | payload.length, 0, 0, 0, 0]), Buffer.from(payload)]);
}

/** Sends the same for as long as the server takes it, and comes again when it is cut. */
async function flood(address: string, path: string, first: Buffer, rest: Buffer) {
  while (!isOver) {
    const socket = direct(address);
    const status = await open(socket, path);
    count(`${path} ${status}`);
    if (status === '101') await pour(socket, path, first, rest);
    socket.destroy();
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

/** Returns when the server has cut it, or all is over. */
async function pour(socket: Socket, path: string, first: Buffer, rest: Buffer) {
  const cut = new Promise<void>(resolve => socket.once('close', resolve)).then(() => count(`${path} cut`));
  const more = () => {
    while (!isOver && !socket.destroyed && socket.write(rest));
  };
  socket.setTimeout(0).on('drain', more).resume().write(first);
  more();
  await Promise.race([cut, over]);
}

/** Each from an address of its own. */
function floods(net: number, first: Buffer, rest: Buffer) {
  const paths = Array.from({ length: 9 }, (_, i) => ['/endpoint', '/relay', '/strict'][i % 3]!);
  return Promise.all(paths.map((path, i) => flood(`127.0.${net}.${i + 1}`, path, first, rest)));
}

const GET = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';
const LAST = 'GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
const guess = (i: number) =>
  `GET /private HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic ${btoa(`alice:guess ${i}`)}\r\n\r\n`;
const many = (text: Buffer) => Buffer.concat(Array.from({ length: 1_000 }, () => text));

const ATTACKS: Readonly<Record<AttackName, () => Promise<unknown>>> = {
  addresses: () => crowd(32, async i => count(await answers(proxied(addressOf(i)), GET + LAST)), 10_000),
  // TLS handshakes that are begun, by thousands and by one, of which each is kept for as long as the server bears it: for
  // all of the thousands there is room only when some are away, and the one is over its limit all the time.
  hellos: async () => {
    const hello = await clientHello();
    await Promise.all([
      crowd(2_000, i => halfOpen(proxied(addressOf(i), ports.secureProxy), hello, 3_000)),
      crowd(300, () => halfOpen(direct('127.0.0.69', ports.secure), hello, 500)),
    ]);
  },
  handshakes: () =>
    Promise.all([
      crowd(8, async () => count(await open(direct('127.0.0.66'), '/endpoint'))),
      crowd(4, async () => count(`bad ${await answers(direct('127.0.0.67'), handshake('/endpoint', 12))}`)),
      // From so many addresses that the server is full.
      crowd(
        8,
        async i => count(`other ${await open(proxied(addressOf(i >> 3)), i & 1 ? '/relay' : '/endpoint')}`),
        4_000,
      ),
    ]),
  guesses: () =>
    Promise.all([
      crowd(8, async i => count(await answers(direct('127.0.0.68'), guess(i)))),
      crowd(64, async i => count(`other ${await answers(proxied(addressOf(i >> 1)), guess(i))}`)),
    ]),
  messages: () => floods(1, Buffer.alloc(0), many(frame(0x81, 'x'))),
  pings: () => floods(2, Buffer.alloc(0), many(frame(0x89, 'x'))),
  fragments: () => floods(3, frame(0x01, 'x'), many(frame(0x00, 'x'))),
};

// What is measured is the server: the tests come first where there are few cores.
setPriority(Math.min(19, getPriority() + 5));
const over = new Promise<void>(resolve =>
  process.stdin.on('end', () => {
    isOver = true;
    resolve();
  }),
);
process.stdin.resume();
process.stdout.write('begun\n');
await Promise.race([ATTACKS[name](), over]);
process.stdout.write(JSON.stringify(tally), () => process.exit());
