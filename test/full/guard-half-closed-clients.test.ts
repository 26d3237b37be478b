import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Flag, FrameType, frame, Http2Wire } from '../guard/http2-wire.ts';
import { productUrl, Served } from '../guard/served.ts';
import { until } from '../services/until.ts';

// A client that has ended its side owes nothing more, and waits for its answer (RFC 9112 §9.6). One that has gone looks
// the same until it is sent something.

const wires = ['http/1', 'tls'] as const;
type PlainWire = (typeof wires)[number];

const CONFIG = `
import { createServer as createBackend } from 'node:http';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MemoryStore } from '${new URL('session/stores/memory.ts', productUrl)}';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');

const gone = [];
const later = (ms, value) => new Promise(resolve => setTimeout(resolve, ms, value));
class SlowStore extends MemoryStore {
  async create(sid, record) {
    await later(2_000);
    return super.create(sid, record);
  }
}
const backend = createBackend((request, response) => {
  response.on('close', () => { if (!response.writableFinished) gone.push(request.url); });
  request.resume().on('end', async () => {
    if (request.url.startsWith('/upstream/never')) return;
    if (request.url === '/hints') {
      response.writeEarlyHints({ link: '</a.css>; rel=preload' });
      return response.end('late');
    }
    if (request.url === '/upstream/begun') response.write('first, ');
    await later(3_000);
    response.end('late');
  });
});
await new Promise(resolve => backend.listen(0, '127.0.0.1', resolve));
backend.unref();

const note = request => request.signal.addEventListener('abort', () => gone.push(new URL(request.url).pathname));
export default defineConfig({
  listen,
  session: { store: new SlowStore() },
  upstreams: { app: { servers: [\`http://127.0.0.1:\${backend.address().port}\`], affinity: 'none' } },
  routes: [
    { path: '/gone', session: 'none', fetch: () => Response.json(gone) },
    { path: '/collect', session: 'none', fetch: () => { collect(); return new Response(); } },
    { path: '/now', session: 'none', fetch: () => new Response('now') },
    { path: '/fetch', session: 'none', fetch: async request => { await request.text(); return later(3_000, new Response('late')); } },
    { path: '/begun', session: 'none', fetch: () => new Response(new ReadableStream({
      async start(controller) {
        controller.enqueue(new TextEncoder().encode('first, '));
        controller.enqueue(await later(3_000, new TextEncoder().encode('late')));
        controller.close();
      },
    })) },
    { path: '/files/*', session: 'none', files: '.' },
    { path: '/session', session: 'create', fetch: () => later(1_000, new Response('late')) },
    { path: '/body', session: 'create', fetch: async request => { await request.text(); return new Response('late'); } },
    { path: '/hints', session: 'create', upstream: 'app' },
    { path: '/fetch/never/*', session: 'none', fetch: request => { note(request); return new Promise(() => {}); } },
    {
      path: '/events/*', session: 'none', fetch: request => {
        note(request);
        return new Response(new ReadableStream({ start: controller => controller.enqueue(new TextEncoder().encode('first')) }));
      },
    },
    { path: '/upstream/*', session: 'none', upstream: 'app' },
  ],
});
`;

let server: Served;
beforeAll(async () => {
  server = await Served.module(CONFIG);
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

const head = (path: string, { method = 'GET', version = '1.1', more = '' } = {}) =>
  `${method} ${path} HTTP/${version}\r\nHost: localhost\r\n${more}\r\n`;

/** Sends all of it, ends this side at once, and reads until the other one has ended. */
async function sayAll(wire: PlainWire, bytes: string): Promise<string> {
  const socket = await server.dial(wire);
  let text = '';
  socket.on('data', chunk => {
    text += chunk.toString('latin1');
  });
  socket.end(bytes);
  await once(socket, 'close');
  return text;
}

/** Sends it, and is gone when what it waits for has come. */
async function leave(wire: PlainWire, bytes: string, waitsFor: RegExp | undefined, how: 'end' | 'destroy') {
  const socket = await server.dial(wire);
  let text = '';
  socket.on('data', chunk => {
    text += chunk.toString('latin1');
  });
  socket.write(bytes);
  await until(() => waitsFor === undefined || waitsFor.test(text), 2_000);
  await new Promise(resolve => setTimeout(resolve, 50));
  if (how === 'end') socket.end();
  else socket.destroy();
}

const isGone = async (path: string) => (await goneSoFar()).includes(path);
const goneSoFar = async () => (await fetch(`${server.url('http/1')}/gone`)).json() as Promise<string[]>;

/** The interim answers are those that somebody has written, and no questions of ours. */
const ANSWERED = /^(?:HTTP\/1\.1 10[03] .*\r\n(?:.+\r\n)*\r\n)?HTTP\/1\.1 200 OK\r\n[\s\S]*late/;

/** Side by side, because each takes seconds. */
const LATE: readonly (readonly [what: string, path: string, options?: Parameters<typeof head>[1]])[] = [
  ['a handler', '/fetch'],
  ['a handler with a body', '/fetch', { method: 'POST', more: 'Content-Length: 4\r\n' }],
  ['a handler that opens a session', '/session'],
  [
    'a slow store behind a 100 Continue',
    '/body',
    { method: 'POST', more: 'Expect: 100-continue\r\nContent-Length: 4\r\n' },
  ],
  ['a slow store behind early hints', '/hints', { more: 'Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n' }],
  ['a handler whose answer has begun', '/begun'],
  ['an upstream', '/upstream/a'],
  ['an upstream whose answer has begun', '/upstream/begun'],
  ['an upstream with a body', '/upstream/a', { method: 'POST', more: 'Content-Length: 4\r\n' }],
  ['a handler, to HTTP/1.0', '/fetch', { version: '1.0' }],
  ['an upstream, to HTTP/1.0', '/upstream/a', { version: '1.0' }],
];

test.concurrent.each(wires)('who has ended its side gets answers that begin after 2 and 3 s, over %s', async wire => {
  const answers = LATE.map(async ([what, path, options]) => {
    const text = await sayAll(wire, head(path, options) + (options?.method === 'POST' ? 'body' : ''));
    return [what, ANSWERED.test(text) ? 'answered' : text];
  });
  const queued = sayAll(wire, head('/now') + head('/upstream/a') + head('/now'));
  expect(await Promise.all(answers)).toEqual(LATE.map(([what]) => [what, 'answered']));
  // On a busy machine it may have been asked whether it is there.
  expect((await queued).match(/HTTP\/1\.1 [2-5]\d\d|now$|now(?=HTTP)|late/gm)).toEqual([
    ...['HTTP/1.1 200', 'now', 'HTTP/1.1 200', 'late', 'HTTP/1.1 200', 'now'],
  ]);
});

test.concurrent.each(wires)(
  'who has gone is noticed, with and without requests behind the one that is worked on, over %s',
  async wire => {
    // Of many it is not read on.
    const behind = { nothing: '', another: head('/now'), many: head('/now').repeat(40), junk: 'junk\r\n\r\n' };
    const notBegun = ['fetch', 'upstream'].flatMap(target =>
      Object.entries(behind).map(async ([what, bytes]) => {
        const path = `/${target}/never/${wire}/${what}`;
        await leave(wire, head(path) + bytes, undefined, 'destroy');
        // A handler that waits for nothing but the signal is held by nobody else.
        await fetch(`${server.url('http/1')}/collect`);
        await until(() => isGone(path), 10_000);
      }),
    );
    await Promise.all(notBegun);
  },
  15_000,
);

/** Sends this, and then ends its side as soon as it has been sent. */
async function endAfter(wire: Http2Wire, ...requests: (() => number)[]): Promise<number[]> {
  await wire.seen(() => wire.frames.find(({ type }) => type === FrameType.settings));
  wire.socket.allowHalfOpen = true;
  const streams = requests.map(request => request());
  wire.send(frame(FrameType.goAway, 0, 0, Buffer.alloc(8)));
  wire.socket.end();
  return streams;
}

test.concurrent('who has ended its side gets answers that begin later, over http/2', async () => {
  using wire = await Http2Wire.dial(server.port('http/2'));
  const streams = await endAfter(
    wire,
    () => wire.request('GET', '/fetch'),
    () => wire.request('GET', '/upstream/a'),
    () => wire.request('GET', '/upstream/begun'),
    () => wire.request('GET', '/now'),
    () => {
      const stream = wire.request('POST', '/upstream/a', { isWhole: false });
      wire.send(frame(FrameType.data, Flag.endStream, stream, Buffer.from('body')));
      return stream;
    },
  );
  await new Promise(resolve => wire.socket.on('close', resolve));
  const bodies = streams.map(stream =>
    Buffer.concat(wire.of(stream, FrameType.data).map(({ payload }) => payload)).toString(),
  );
  expect(bodies).toEqual(['late', 'late', 'first, late', 'now', 'late']);
});

test.concurrent('who has gone over http/2 is noticed, and a request that was not sent as a whole is at once', async () => {
  const noticed = ['with a word', 'without one'].map(async (how, i) => {
    using wire = await Http2Wire.dial(server.port('http/2'));
    const path = `/events/http/2/${i}`;
    wire.request('GET', path);
    if (how === 'with a word') wire.send(frame(FrameType.goAway, 0, 0, Buffer.alloc(8)));
    wire.socket.end();
    await until(() => isGone(path), 10_000);
  });
  await Promise.all(noticed);

  using half = await Http2Wire.dial(server.port('http/2'));
  await endAfter(half, () => half.request('POST', '/upstream/a', { isWhole: false }));
  await new Promise(resolve => half.socket.on('close', resolve));
  expect(half.frames.some(({ type }) => type === FrameType.headers)).toBe(false);
}, 15_000);
