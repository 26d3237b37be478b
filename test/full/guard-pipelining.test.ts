import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';

// What follows on a connection (RFC 9112 §9.3.2, §9.6): what came whole is answered in order, then comes 400 or the
// end, and behind `close` nothing.

const wires = ['http/1', 'tls'] as const;
type PlainWire = (typeof wires)[number];

/** How the pieces leave: in one packet, in one each, or each when the one before it was answered. */
const spacings = ['together', 'apart', 'after the answer'] as const;
type Spacing = (typeof spacings)[number];

const CONFIG = `
import { createServer as createBackend } from 'node:http';

const seen = [];
const note = url => seen.push(new URL(url, 'http://a').searchParams.get('n'));
const backend = createBackend((request, response) => {
  note(request.url);
  request.resume().on('end', () => setTimeout(() => response.end('upstream'), 5));
});
await new Promise(resolve => backend.listen(0, '127.0.0.1', resolve));
backend.unref();

export default defineConfig({
  listen,
  session: { store: 'memory:' },
  upstreams: { app: { servers: [\`http://127.0.0.1:\${backend.address().port}\`] } },
  routes: [
    { path: '/fetch', session: 'create', fetch: async request => { note(request.url); return new Response(await request.text()); } },
    { path: '/closing', fetch: request => { note(request.url); return new Response('closing', { headers: { Connection: 'close' } }); } },
    { path: '/keeping', fetch: request => { note(request.url); return new Response('keeping', { headers: { Connection: 'keep-alive' } }); } },
    { path: '/slow', fetch: async request => { await new Promise(resolve => setTimeout(resolve, 1_100)); return new Response('slow'); } },
    { path: '/large', fetch: () => new Response('x'.repeat(1_000_000)) },
    { path: '/files/*', files: '.' },
    { path: '/redirect', redirect: '/elsewhere' },
    { path: '/upstream', upstream: 'app', policy: { origins: 'any' } },
    { path: '/seen', fetch: () => Response.json(seen) },
    { endpoint: defineEndpoint({ path: '/ws', onMessage: (connection, data) => connection.send(data) }), policy: { origins: 'any' } },
  ],
  headerTimeout: '1s',
});
`;

let server: Served;
beforeAll(async () => {
  server = await Served.module(CONFIG, { files: { 'index.html': 'file' } });
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

interface Target {
  readonly name: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Does its effect show up in `/seen`? */
  readonly isNoted: boolean;
}

const targets: readonly Target[] = [
  { name: 'fetch', method: 'POST', path: '/fetch', status: 200, isNoted: true },
  { name: 'files', method: 'GET', path: '/files/index.html', status: 200, isNoted: false },
  { name: 'redirect', method: 'POST', path: '/redirect', status: 308, isNoted: false },
  { name: 'upstream', method: 'POST', path: '/upstream', status: 200, isNoted: true },
  { name: 'refused', method: 'POST', path: '/nowhere', status: 404, isNoted: false },
];

let lastId = 0;
const nextId = () => `n${++lastId}`;

interface Piece {
  readonly kind: 'good' | 'close' | 'half' | 'junk';
  readonly bytes: string;
  readonly id?: string;
}

function request(target: Target, isLast = false): Piece {
  const id = nextId();
  const close = isLast ? 'Connection: close\r\n' : '';
  const body = target.method === 'POST' ? 'Content-Length: 3\r\n\r\nabc' : '\r\n';
  const bytes = `${target.method} ${target.path}?n=${id} HTTP/1.1\r\nHost: localhost\r\n${close}${body}`;
  return { kind: isLast ? 'close' : 'good', bytes, id };
}

const half = (target: Target): Piece => ({
  kind: 'half',
  bytes: `${target.method} ${target.path}?n=${nextId()} HTTP/1.1\r\nHost: local`,
});
// A line that is no request, and one with which no line of a header could go on.
const junk: Piece = { kind: 'junk', bytes: '\x16\x03\x01\x02 junk\r\n\r\n' };

const make: Record<Piece['kind'], (target: Target) => Piece> = {
  good: target => request(target),
  close: target => request(target, true),
  half,
  junk: () => junk,
};

/** The statuses that these pieces are answered with, and the ids of requests that are worked on. */
function expected(pieces: readonly Piece[], target: Target): { statuses: number[]; ids: string[] } {
  const statuses: number[] = [];
  const ids: string[] = [];
  for (const { kind, id } of pieces) {
    // What follows a half makes no request of it; nor does the end of the connection.
    if (kind === 'half' || kind === 'junk') return { statuses: [...statuses, 400], ids };
    statuses.push(target.status);
    if (target.isNoted) ids.push(id!);
    if (kind === 'close') break;
  }
  return { statuses, ids };
}

/** Every order of the four, and two good ones before each. */
function sequences(): Piece['kind'][][] {
  const kinds: Piece['kind'][] = ['good', 'close', 'half', 'junk'];
  const orders = (rest: Piece['kind'][]): Piece['kind'][][] =>
    rest.length === 0
      ? [[]]
      : rest.flatMap(first => orders(rest.filter(kind => kind !== first)).map(order => [first, ...order]));
  return [...orders(kinds), ...kinds.map((kind): Piece['kind'][] => ['good', 'good', kind])];
}

interface Heard {
  readonly statuses: number[];
  readonly text: string;
  readonly error: string | undefined;
}

/**
 * Sends the pieces, whatever comes back meanwhile, and reads until the server has ended its side.
 *
 * @param end Ends this side when all is sent; else when the server has ended its own.
 */
async function talk(wire: PlainWire, pieces: readonly string[], spacing: Spacing, end = true): Promise<Heard> {
  const socket = await server.dial(wire);
  socket.setNoDelay(true);
  let text = '';
  let error: string | undefined;
  socket.on('data', data => {
    text += data.toString('latin1');
  });
  socket.on('error', (cause: NodeJS.ErrnoException) => {
    error ??= cause.code;
  });
  const ended = new Promise(resolve => socket.once('close', resolve));
  if (spacing === 'together') socket.write(Buffer.from(pieces.join(''), 'latin1'));
  else
    for (const piece of pieces) {
      const before = text.length;
      socket.write(Buffer.from(piece, 'latin1'));
      await pause(2);
      if (spacing === 'apart') continue;
      for (let i = 0; i < 10 && text.length === before && !socket.readableEnded; i++) await pause(3);
    }
  if (end || socket.readableEnded) socket.end();
  else socket.once('end', () => socket.end());
  await ended;
  return { statuses: statusesOf(text), text, error };
}

function statusesOf(text: string): number[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, code]) => Number(code));
}

async function seen(): Promise<string[]> {
  return (await fetch(`${server.url('http/1')}/seen`)).json() as Promise<string[]>;
}

const get = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
const post = (path: string, more: string) => `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${more}`;

describe.each(wires)('over %s', wire => {
  describe.each(spacings)('%s', spacing => {
    test.each(targets)(
      'every order of good, closing, half and bad requests is answered up to its end: $name',
      async target => {
        const wrong: unknown[] = [];
        const ids: string[] = [];
        const avoided: string[] = [];
        await Promise.all(
          sequences().map(async kinds => {
            const pieces = kinds.map(kind => make[kind](target));
            const right = expected(pieces, target);
            const { statuses, error } = await talk(
              wire,
              pieces.map(({ bytes }) => bytes),
              spacing,
            );
            ids.push(...right.ids);
            avoided.push(...pieces.flatMap(({ id }) => (id !== undefined && !right.ids.includes(id) ? [id] : [])));
            if (String(statuses) !== String(right.statuses) || error !== undefined)
              wrong.push({ kinds: kinds.join(' '), statuses: String(statuses), right: String(right.statuses), error });
          }),
        );
        expect(wrong).toEqual([]);
        const worked = new Set(await seen());
        expect(ids.filter(id => !worked.has(id))).toEqual([]);
        expect(avoided.filter(id => worked.has(id))).toEqual([]);
      },
      60_000,
    );
  });

  test.each([
    ['of a length', 'Content-Length: 10\r\n\r\nabc'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n5\r\nabc'],
  ])('a body %s that ends half-way is a 400, and nothing is done', async (_, half) => {
    const [first, second] = [nextId(), nextId()];
    const pieces = [post(`/fetch?n=${first}`, 'Content-Length: 0\r\n\r\n'), post(`/fetch?n=${second}`, half)];
    expect((await talk(wire, pieces, 'together')).statuses).toEqual([200, 400]);
    expect(await seen()).toContain(first);
  });

  test('what follows a request that was answered before its body was there is not looked at', async () => {
    const id = nextId();
    const { statuses } = await talk(
      wire,
      [
        post('/redirect', 'Transfer-Encoding: chunked\r\n\r\n5\r\nabc'),
        `no chunk\r\n\r\n${post(`/fetch?n=${id}`, 'Content-Length: 0\r\n\r\n')}`,
      ],
      'after the answer',
    );
    expect(statuses).toEqual([308]);
    expect(await seen()).not.toContain(id);
  });

  test.each(spacings)('an answer with "Connection: close" is the last one, whatever follows %s', async spacing => {
    const ids = [nextId(), nextId(), nextId()];
    const pieces = [get(`/closing?n=${ids[0]}`), get(`/upstream?n=${ids[1]}`), get(`/closing?n=${ids[2]}`)];
    expect(await talk(wire, pieces, spacing)).toMatchObject({ statuses: [200], error: undefined });
    expect((await seen()).filter(id => ids.includes(id))).toEqual([ids[0]]);
  });

  test.each(spacings)(
    'a request with "Connection: close" is the last one, whatever its answer says: %s',
    async spacing => {
      const ids = [nextId(), nextId()];
      const pieces = [get(`/keeping?n=${ids[0]}`, 'Connection: close\r\n'), get(`/upstream?n=${ids[1]}`)];
      expect(await talk(wire, pieces, spacing)).toMatchObject({ statuses: [200], error: undefined });
      expect((await seen()).filter(id => ids.includes(id))).toEqual([ids[0]]);
    },
  );

  test('the connection ends behind a request with "Connection: close", though its client does not end it', async () => {
    const socket = await server.dial(wire);
    const ended = new Promise(resolve => socket.once('end', resolve));
    socket.write(get('/keeping', 'Connection: close\r\n'));
    socket.resume();
    await ended;
    socket.destroy();
  });

  test('a client that reads slowly loses nothing of its last answer by what it has sent behind it', async () => {
    const socket = await server.dial(wire);
    socket.write(get('/large', 'Connection: close\r\n'));
    let length = 0;
    let isSending = true;
    const sending = (async () => {
      while (isSending && socket.writable) {
        socket.write(get('/redirect'));
        await pause(1);
      }
    })();
    for await (const chunk of socket) {
      length += chunk.length;
      await pause(1);
    }
    isSending = false;
    await sending;
    socket.destroy();
    expect(length).toBeGreaterThan(1_000_000);
  }, 30_000);

  test('a client that has ended its side gets the answers to what it has sent', async () => {
    const pieces = [get('/upstream'), get('/large'), get('/upstream'), get('/redirect')];
    expect((await talk(wire, pieces, 'together')).statuses).toEqual([200, 200, 200, 308]);
  });

  test('requests behind a slow one wait in the network, not in memory', async () => {
    const before = server.residentBytes();
    const socket = await server.dial(wire);
    socket.write(get('/slow') + 'GET /redirect HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(300_000));
    let most = 0;
    for (let i = 0; i < 12; i++) {
      await pause(100);
      most = Math.max(most, server.residentBytes());
    }
    socket.destroy();
    expect(most - before).toBeLessThan(40_000_000);
  }, 20_000);
});

// These wait for a second.
describe.concurrent.each(wires)('over %s', wire => {
  test('whatever stands behind slow and large answers is answered behind them', async () => {
    const table: readonly (readonly [what: string, bytes: string, status: number])[] = [
      ['bytes of TLS', '\x16\x03\x01\x02\0\x01\xfc\x03', 400],
      ['a line that ends with LF', 'GET / HTTP/1.1\nHost: localhost\n\n', 400],
      ['a request with two hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
      ['a request with two lengths', post('/fetch', 'Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc'), 400],
      ['a CONNECT', 'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n', 400],
      ['a CONNECT with bytes behind it', `CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n${get('/redirect')}`, 400],
      ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
      ['a request of HTTP/2.0', 'GET /fetch HTTP/2.0\r\nHost: localhost\r\n\r\n', 505],
      ['a request of HTTP/0.9', 'GET /fetch HTTP/0.9\r\n\r\n', 505],
      ['a request of HTTP/1.2', 'GET /fetch HTTP/1.2\r\nHost: localhost\r\n\r\n', 505],
      ['a head that is too large', get('/redirect', `X: ${'x'.repeat(20_000)}\r\n`), 431],
      ['a megabyte of nothing', '\0'.repeat(1_000_000), 400],
      ['an unknown expectation', get('/redirect', 'Expect: wonders\r\n'), 417],
      // Not one of WebSocket: another answer is on its way.
      ['an upgrade', get('/ws', 'Upgrade: websocket\r\nConnection: Upgrade\r\n'), 426],
      ['a body whose chunks are none', post('/fetch', 'Transfer-Encoding: chunked\r\n\r\nnone\r\n'), 400],
    ];
    const before = get('/slow') + get('/large') + get('/redirect');
    const results = await Promise.all(
      table.map(async ([what, bytes]) => {
        const { statuses, text, error } = await talk(wire, [before + bytes], 'together', false);
        return { what, statuses, error, isWhole: text.length > 1_000_000 };
      }),
    );
    expect(results).toEqual(
      table.map(([what, , status]) => ({ what, statuses: [200, 200, 308, status], error: undefined, isWhole: true })),
    );
  }, 30_000);

  test('a head that is late is a 408 behind the answer that is under way', async () => {
    const socket = await server.dial(wire);
    let text = '';
    socket.on('data', data => {
      text += data;
    });
    socket.write(`${get('/slow')}GET /late HTTP/1.1\r\nHost: loc`);
    await new Promise(resolve => socket.once('end', resolve));
    socket.destroy();
    expect(statusesOf(text)).toEqual([200, 408]);
  }, 15_000);
});
