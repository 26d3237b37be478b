import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { RouteConfig, UpstreamConfig } from '../../src/config/config.ts';
import { createServer, type Server } from '../../src/index.ts';
import { closing } from '../services/closing.ts';

const open = closing();

interface Backend {
  url: string;
  /** `GET /path` and the cookies, of requests and handshakes. */
  seen: [request: string, cookie: string | undefined][];
  /** Headers of every answer, the 101 included. */
  answer: string[];
  status: number;
}

async function backend(): Promise<Backend> {
  const server = http.createServer();
  const one: Backend = { url: '', seen: [], answer: [], status: 200 };
  const note = (request: http.IncomingMessage) =>
    one.seen.push([`${request.method} ${request.url}`, request.headers.cookie]);
  server.on('request', (request, response) => {
    note(request);
    response.writeHead(one.status, one.answer).end('answer');
  });
  const sockets = new WebSocketServer({ noServer: true });
  sockets.on('headers', lines => {
    for (let i = 0; i < one.answer.length; i += 2) lines.push(`${one.answer[i]}: ${one.answer[i + 1]}`);
  });
  server.on('upgrade', (request, socket, early) => {
    note(request);
    if (one.status !== 200) {
      const lines = one.answer.map((item, i) => (i % 2 === 0 ? `${item}: ` : `${item}\r\n`)).join('');
      socket.end(`HTTP/1.1 ${one.status} No\r\n${lines}Content-Length: 0\r\n\r\n`);
    } else sockets.handleUpgrade(request, socket, early, () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  one.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  open.push({
    close: () => {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  });
  return one;
}

async function serve(routes: RouteConfig[], upstreams: Record<string, UpstreamConfig>): Promise<Server> {
  const server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams,
    routes,
    log: { level: 'silent' },
  });
  await server.start();
  open.push({ close: () => server.stop() });
  return server;
}

const HOST = 'shop.example:8080';

async function ask(server: Server, path: string, cookie = 'a=1'): Promise<http.IncomingMessage> {
  const request = http.get(`${server.urls[0]}${path}`, { agent: false, headers: { Host: HOST, Cookie: cookie } });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  await text(response);
  return response;
}

/** The answer to a handshake, be it a 101 or not. */
async function shake(server: Server, path: string, cookie = 'a=1'): Promise<http.IncomingMessage> {
  const socket = new WebSocket(server.urls[0]!.replace('http', 'ws') + path, {
    headers: { Host: HOST, Origin: `http://${HOST}`, Cookie: cookie },
  });
  socket.on('error', () => {});
  const answer = Promise.race([once(socket, 'upgrade'), once(socket, 'unexpected-response').then(([, one]) => [one])]);
  const [response] = (await answer) as [http.IncomingMessage];
  socket.terminate();
  return response;
}

describe('a route that is rewritten', () => {
  test.each([
    ['/app/*', '/other', '/app/a%2Fb?c=/app', '/other/a%2Fb?c=/app'],
    ['/app/*', '/', '/app', '/'],
    ['/socket', '/ws/chat', '//%73ocket?x', '/ws/chat?x'],
    ['/chat/:room', '/rooms/:room', '/chat/b%20c', '/rooms/b%20c'],
    ['/app/*', '/other', '/app/../app/x/%2e%2e/y', '/other/y'],
  ])('from %s to %s asks the backend, for %s, for %s: requests and WebSockets', async (path, rewrite, asked, seen) => {
    const app = await backend();
    const server = await serve([{ path, upstream: 'app', rewrite }], { app: { servers: [app.url] } });
    await ask(server, asked);
    await shake(server, asked);
    expect(app.seen.map(([request]) => request)).toEqual([`GET ${seen}`, `GET ${seen}`]);
  });

  test('below a mounted application replaces the whole path', async () => {
    const app = await backend();
    const routes = [{ path: '/app/*', upstream: 'app', rewrite: '/other' }];
    const server = await serve([{ mount: '/shop', application: { routes } }], { app: { servers: [app.url] } });
    app.answer = ['Location', '/other/login'];
    expect((await ask(server, '/shop/app/x')).headers.location).toBe('/shop/app/login');
    expect(app.seen[0]![0]).toBe('GET /other/x');
  });

  test('rewrites links and cookies back, in an answer, in a 101 and in an answer to a handshake', async () => {
    const app = await backend();
    const server = await serve([{ path: '/app/*', upstream: 'app', rewrite: '/other' }], {
      app: { servers: [app.url], cookies: { prefix: 'app1_' } },
    });
    app.answer = ['Location', `${app.url}/other/x`, 'Set-Cookie', 'id=1; Path=/other', 'Set-Cookie', 'b=2'];
    const expected = {
      location: `http://${HOST}/app/x`,
      'set-cookie': ['app1_id=1; Path=/app', 'app1_b=2'],
    };
    expect((await ask(server, '/app/a')).headers).toMatchObject(expected);
    expect((await shake(server, '/app/a')).headers).toMatchObject(expected);
    app.status = 302;
    const declined = await shake(server, '/app/a');
    expect([declined.statusCode, declined.headers]).toMatchObject([302, expected]);
  });

  test('to a path of which another route says that its WebSocket policy is stricter takes none', async () => {
    const app = await backend();
    const server = await serve(
      [
        { path: '/socket', upstream: 'app', policy: { transport: 'confidential' } },
        { path: '/other/*', upstream: 'app', rewrite: '/' },
        { path: '/third', upstream: 'app', rewrite: '/socket' },
        { path: '/fourth/*', upstream: 'app', rewrite: '/fourth' },
      ],
      { app: { servers: [app.url] } },
    );
    expect((await shake(server, '/other/socket')).statusCode).toBe(403);
    expect((await shake(server, '/third')).statusCode).toBe(403);
    expect((await shake(server, '/fourth/socket')).statusCode).toBe(101);
    expect(app.seen.map(([request]) => request)).toEqual(['GET /fourth/socket']);
  });
});

test('two applications that name their cookies alike see and set each only its own', async () => {
  const [one, two] = [await backend(), await backend()];
  const server = await serve(
    [
      { path: '/one/*', upstream: 'one' },
      { path: '/two/*', upstream: 'two' },
    ],
    {
      one: { servers: [one.url], cookies: { prefix: 'app1_' } },
      two: { servers: [two.url], cookies: { prefix: 'app2_' } },
    },
  );
  one.answer = two.answer = ['Set-Cookie', 'JSESSIONID=id; Path=/; HttpOnly'];
  const cookies = 'app1_JSESSIONID=first; app2_JSESSIONID=second; JSESSIONID=third';
  expect((await ask(server, '/one/', cookies)).headers['set-cookie']).toEqual(['app1_JSESSIONID=id; Path=/; HttpOnly']);
  expect((await shake(server, '/two/', cookies)).headers['set-cookie']).toEqual([
    'app2_JSESSIONID=id; Path=/; HttpOnly',
  ]);
  expect([one.seen[0]![1], two.seen[0]![1]]).toEqual(['JSESSIONID=first', 'JSESSIONID=second']);
});

test('affinity by route finds the cookie under its public name, and the parameter of the URL under its own', async () => {
  const backends = [await backend(), await backend()];
  const server = await serve([{ path: '/*', upstream: 'app' }], {
    app: {
      servers: backends.map(({ url }, i) => ({ url, route: `r${i}` })),
      affinity: 'route',
      cookies: { prefix: 'app1_' },
    },
  });
  for (let i = 0; i < 3; i++) {
    await ask(server, '/cookie', 'JSESSIONID=x.r0; app1_JSESSIONID=x.r1');
    await ask(server, '/path;jsessionid=x.r0');
  }
  expect(backends.map(({ seen }) => [...new Set(seen.map(([request]) => request))])).toEqual([
    ['GET /path;jsessionid=x.r0'],
    ['GET /cookie'],
  ]);
});
