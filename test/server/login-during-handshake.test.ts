import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { attachSocket, MemoryStore, SessionManager } from '../../src/session/index.ts';
import { upgradeResponse } from '../../src/websocket/protocol/handshake.ts';
import { closing } from '../services/closing.ts';
import { until } from '../services/until.ts';
import { ask, WiredServer } from './wires.ts';

const open = closing();

/** A server in front of a backend that answers handshakes when it is told to. */
async function start() {
  const waiting: (() => void)[] = [];
  const sockets = new Set<Duplex>();
  const backend = http.createServer((request, response) => {
    const control = { '/login': 'renew; user=ann', '/logout': 'end' }[request.url!];
    if (control) response.setHeader('Holdfast-Session', control);
    response.end();
  });
  backend.on('upgrade', (request, socket) => {
    sockets.add(socket.on('error', () => {}));
    waiting.push(() => socket.write(upgradeResponse({ key: request.headers['sec-websocket-key']! })));
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  open.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      backend.close();
    },
  });
  const server = await WiredServer.start({
    session: {},
    upstreams: {
      app: {
        servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`],
        controlsSession: true,
        answerTimeout: '20s',
      },
    },
    routes: [{ path: '/*', upstream: 'app' }],
  });
  open.push(server);
  const cookieOf = async (path: string, cookie = '') => {
    const headers = { Accept: 'text/html', 'Sec-Fetch-Dest': 'document', 'Sec-Fetch-Site': 'none', Cookie: cookie };
    const { headers: told } = await ask(server, 'http/1', { path, headers });
    return told['set-cookie']?.split(';')[0] ?? cookie;
  };
  return { server, waiting, cookieOf };
}

describe('a WebSocket whose backend answers late', () => {
  test.each([
    ['/login', 1012],
    ['/logout', 1008],
    ['/page', undefined],
  ])('closes when the client has asked for %s meanwhile, with %j', async (path, code) => {
    const { server, waiting, cookieOf } = await start();
    const cookie = await cookieOf('/');
    const headers = { Cookie: cookie, Origin: 'http://public.example', Host: 'public.example' };
    const socket = new WebSocket(`ws://127.0.0.1:${server.port('http/1')}/socket`, { headers });
    const closed = once(socket, 'close').then(([closedWith]) => closedWith as number);
    await until(() => waiting.length === 1);
    await cookieOf(path, cookie);
    waiting[0]!();
    await once(socket, 'open');
    const first = await Promise.race([closed, wait(code === undefined ? 300 : 5_000)]);
    expect(first).toBe(code);
    socket.terminate();
  });
});

test('attachSocket leaves no socket with a session that a login renews at whatever moment', async () => {
  const sessions = new SessionManager({ store: new MemoryStore(), keys: ['k'.repeat(43)] });
  open.push(sessions);
  await sessions.start();
  const bind = (cookieHeader?: string) => sessions.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
  const results = new Set<string>();
  for (let steps = -40; steps < 40; steps++) {
    const first = bind();
    await first.open();
    await first.commit();
    const cookie = first.responseHeaders()[0]!.value.split(';')[0]!;
    first.release();
    const login = bind(cookie);
    await login.get();
    const handshake = { headers: { cookie }, rawHeaders: [], socket: {}, url: '/', method: 'GET' };
    let end: string | undefined;
    const onEnd = (why: string) => {
      end = why;
    };
    const after = async (count: number) => {
      for (let step = 0; step < count; step++) await null;
    };
    const [held] = await Promise.all([
      after(-steps).then(() => attachSocket(sessions, handshake as never, { onEnd })),
      after(steps).then(() => login.signIn({ name: 'ann', roles: [] })),
    ]);
    await wait(5);
    results.add(held ? `held, ${end}` : 'not held');
    await held?.release();
    login.release();
  }
  expect([...results].sort()).toEqual(['held, renewed', 'not held']);
});
