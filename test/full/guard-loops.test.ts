import { readdirSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';
import { freePort } from '../services/free-port.ts';

// A route that leads to ourselves, directly or through others, is 508 after one hop. Without that, one handshake takes
// every descriptor there is.

const CHAIN = 'X-Forwarded-Through';

/** A server, what it leads to, and another process in front of which and behind which it stands. */
let first: Served;
let second: Served;
let backend: { readonly url: string; close(): void };

function config(ports: readonly [plain: number, tls: number], others: Readonly<Record<string, string>>): string {
  const upstreams = Object.entries(others).map(
    ([name, url]) =>
      `${name}: { servers: ['${url}'], ${url.startsWith('https') ? 'tls: { verify: false }, ' : ''}ejection: false },`,
  );
  const routes = Object.keys(others).map(
    name => `{ path: '/${name}/*', upstream: '${name}', policy: { origins: 'any' } }, `,
  );
  return `export default defineConfig({
    listen: [
      { port: ${ports[0]}, host: '127.0.0.1' },
      { port: ${ports[1]}, host: '127.0.0.1', tls: { certificate: 'localhost.crt', key: 'localhost.key' } },
    ],
    session: false,
    upstreams: { ${upstreams.join('\n')} },
    routes: [
      ${routes.join('\n')}
      { path: '/elsewhere/*', upstream: 'self', rewrite: '/handler' },
      { path: '/handler/*', fetch: () => new Response('handled') },
    ],
  });`;
}

beforeAll(async () => {
  const answering = createServer((incoming, response) => response.end(JSON.stringify(incoming.rawHeaders)));
  await new Promise<void>(resolve => answering.listen(0, '127.0.0.1', resolve));
  backend = {
    url: `http://127.0.0.1:${(answering.address() as AddressInfo).port}`,
    close: () => answering.close().closeAllConnections(),
  };
  // Passes on what it gets, as a proxy does that knows nothing of us.
  const between = createServer((incoming, response) => {
    const to = request(
      { port: ports[2], path: incoming.url, method: incoming.method, headers: incoming.headers },
      from => {
        response.writeHead(from.statusCode!, from.headers);
        from.pipe(response);
      },
    );
    incoming.pipe(to);
  });
  const ports = [await freePort(), await freePort(), await freePort(), await freePort()] as const;
  await new Promise<void>(resolve => between.listen(0, '127.0.0.1', resolve).unref());
  const betweenUrl = `http://127.0.0.1:${(between.address() as AddressInfo).port}`;
  first = await Served.module(
    config([ports[0], ports[1]], {
      self: `http://127.0.0.1:${ports[0]}`,
      selfByTls: `https://127.0.0.1:${ports[1]}`,
      ring: `http://127.0.0.1:${ports[2]}`,
      ringByTls: `https://127.0.0.1:${ports[3]}`,
      chain: `http://127.0.0.1:${ports[2]}`,
      between: betweenUrl,
    }),
  );
  second = await Served.module(
    config([ports[2], ports[3]], {
      self: `http://127.0.0.1:${ports[2]}`,
      ring: `http://127.0.0.1:${ports[0]}`,
      ringByTls: `https://127.0.0.1:${ports[1]}`,
      chain: backend.url,
      between: backend.url,
    }),
  );
}, 60_000);
afterAll(async () => {
  await first[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
  backend.close();
});

const openFiles = (server: Served) => readdirSync(`/proc/${server.program.process.pid}/fd`).length;

/** The status and the rest of what the first server answers. */
async function ask(
  wire: 'http/1' | 'tls',
  path: string,
  ...headers: string[]
): Promise<{ status: number; body: string }> {
  const socket = await first.dial(wire);
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers.map(line => `${line}\r\n`).join('')}\r\n`,
  );
  const answer = await text(socket);
  socket.destroy();
  return { status: Number(answer.split(' ')[1]), body: answer.slice(answer.indexOf('\r\n\r\n') + 4) };
}

async function handshake(wire: 'http/1' | 'tls', path: string): Promise<number> {
  const socket = await first.dial(wire);
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  const answer = await text(socket);
  socket.destroy();
  return Number(answer.split(' ')[1]);
}

describe.each(['self', 'selfByTls', 'ring', 'ringByTls', 'elsewhere'])(
  'the route %s, which leads to its own server',
  name => {
    test.each(['http/1', 'tls'] as const)(
      'is 508 for requests and handshakes over %s, and takes no descriptors',
      async wire => {
        const before = openFiles(first) + openFiles(second);
        expect((await ask(wire, `/${name}/a`)).status).toBe(508);
        if (name !== 'elsewhere') expect(await handshake(wire, `/${name}/a`)).toBe(508);
        expect(openFiles(first) + openFiles(second) - before).toBeLessThan(20);
      },
    );

    test('is 508 over HTTP/2', async () => {
      using client = new Http2Client(first.url('http/2'));
      expect((await client.get(`/${name}/a`)).status).toBe(508);
      if (name !== 'elsewhere') expect((await client.knock(`/${name}/a`)).status).toBe(508);
    });
  },
);

test('two servers in a chain, also with another proxy between them, are not a loop', async () => {
  for (const path of ['/chain/a', '/between/a']) {
    const { status, body } = await ask('http/1', path);
    expect(status).toBe(200);
    expect(chainOf(body)).toMatch(/^holdfast-[\w-]{16}, holdfast-[\w-]{16}$/);
  }
});

test('what a client says about its way goes no further unless it is one, and is of no use to it', async () => {
  const ours = chainOf((await ask('http/1', '/chain/a')).body)!.split(', ');
  const odd = await ask(
    'http/1',
    '/chain/a',
    `${CHAIN}: a, holdfast-x, \t${'x'.repeat(5_000)}`,
    `${CHAIN}: holdfast-0123456789abcdef`,
  );
  expect(chainOf(odd.body)).toBe(`holdfast-0123456789abcdef, ${ours.join(', ')}`);
  // Only who has seen a backend's requests knows it, and it is the client's own request that is refused.
  expect((await ask('http/1', '/chain/a', `${CHAIN}: ${ours[0]}`)).status).toBe(508);
  expect((await ask('http/1', '/chain/a', `${CHAIN}: ${ours[1]}`)).status).toBe(508);
  expect((await ask('http/1', '/chain/a')).status).toBe(200);
});

test('a client cannot have its loop overlooked', async () => {
  for (const lines of [
    [`Connection: close, ${CHAIN}`],
    [`${CHAIN}:`],
    [`X_Forwarded_Through: a`],
    ['Connection: close, X-Forwarded-For'],
  ])
    expect((await ask('http/1', '/ring/a', ...lines)).status).toBe(508);
});

test('a way of more than 32 servers is refused, whoever they are', async () => {
  const way = Array.from({ length: 32 }, (_, i) => `holdfast-${String(i).padStart(16, '0')}`);
  expect((await ask('http/1', '/chain/a', `${CHAIN}: ${way.join(', ')}`)).status).toBe(508);
  expect((await ask('http/1', '/handler/a', `${CHAIN}: ${way.slice(1).join(', ')}`)).status).toBe(200);
});

test('the log names the loop', async () => {
  await ask('http/1', '/self/a');
  await expect
    .poll(() => first.logged().some(line => line.code === 'ERR_UPSTREAM_LOOP'), { timeout: 15_000 })
    .toBe(true);
});

function chainOf(body: string): string | undefined {
  const headers = JSON.parse(body) as string[];
  return headers[headers.indexOf(CHAIN) + 1];
}
