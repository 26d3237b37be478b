import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { ask } from '../guard/ask.ts';
import { Served, wires } from '../guard/served.ts';

/**
 * A backend that answers everything with 200 or 101, gives an id at `/login`, and sends at `/echo` every cookie back.
 */
async function startBackend() {
  /** What each request had in `X-Session-ID`. */
  const told: (string | undefined)[] = [];
  let count = 0;
  const server = http.createServer((request, response) => {
    told.push(request.headers['x-session-id'] as string | undefined);
    if (request.url === '/login') response.setHeader('Set-Cookie', `ID=given${++count}; Path=/`);
    if (request.url === '/echo') {
      response.setHeader('Set-Cookie', `${request.headers.cookie}; Path=/`);
      response.setHeader('Session-Token', request.headers['session-token'] ?? '');
    }
    response.end('ok');
  });
  new WebSocketServer({ server }).on('connection', (_, request) =>
    told.push(request.headers['x-session-id'] as string | undefined),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    told,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const stack = new AsyncDisposableStack();
let backend: Awaited<ReturnType<typeof startBackend>>;
let server: Served;
const config = (session: string) => `
session: { store: 'lmdb:sessions' }
upstreams: { app: { servers: ['${backend.url}'], session: { mode: observed, cookie: ID, header: Session-Token${session} } } }
routes: [{ path: /*, upstream: app, policy: { origins: any } }]
`;

beforeAll(async () => {
  backend = stack.use(await startBackend());
  server = stack.use(await Served.yaml(config('')));
});
afterAll(() => stack.disposeAsync());

describe.each(wires)('over %s', wire => {
  const told = async (path: string, headers: readonly string[], isUpgrade = false) => {
    await ask(server, wire, { path, headers, isUpgrade });
    return backend.told.at(-1);
  };

  test.each([
    ['a page', '/page', ['Cookie', 'ID=madeup'], false],
    ['a page that sends the cookie back', '/echo', ['Cookie', 'ID=madeup'], false],
    ['a page that sends the header back', '/echo', ['Session-Token', 'madeup'], false],
    ['a WebSocket', '/socket', ['Cookie', 'ID=madeup', 'Origin', 'http://localhost'], true],
  ] as const)(
    'an id that somebody has made up becomes live by no answer: %s',
    async (_what, path, headers, isUpgrade) => {
      for (let i = 0; i < 3; i++) expect(await told(path, headers, isUpgrade)).toBeUndefined();
      expect(await told('/page', headers)).toBeUndefined();
    },
  );

  test('an id that the backend has given is live', async () => {
    const { setCookies } = await ask(server, wire, { path: '/login' });
    const cookie = setCookies[0]!.split(';')[0]!;
    expect(await told('/page', ['Cookie', cookie])).toBe(cookie.split('=')[1]);
    expect(await told('/socket', ['Cookie', cookie, 'Origin', 'http://localhost'], true)).toBe(cookie.split('=')[1]);
  });
});

test('at the start it is said when nothing is known of what a backend has given before, and not when it is', async () => {
  const warned = (served: Served) =>
    served.logged().filter(({ event }) => event === 'observed-sessions-unknown').length;
  expect(warned(server)).toBe(1);
  await using again = await Served.yaml(config(''), { folder: server.folder });
  await using changeover = await Served.yaml(config(', trustUntil: 2099-01-01'));
  // What is there is known to both processes.
  const { setCookies } = await ask(server, 'http/1', { path: '/login' });
  await ask(again, 'http/1', { path: '/page', headers: ['Cookie', setCookies[0]!.split(';')[0]!] });
  expect(backend.told.at(-1)).toMatch(/^given/);
  expect([warned(again), warned(changeover)]).toEqual([0, 0]);
  // Visitors of a changeover keep what they have.
  for (let i = 0; i < 2; i++) await ask(changeover, 'http/1', { path: '/page', headers: ['Cookie', 'ID=old'] });
  expect(backend.told.slice(-2)).toEqual([undefined, 'old']);
});
