import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import type { RouteConfig } from '../../src/config/config.ts';
import type { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import type { WebSocketClient } from '../../src/websocket/protocol/client.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';
import { Http2Client } from './http2-client.ts';
import { type Answered, ask, Lines, type Wire, WiredServer, wires } from './wires.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

let lines: Lines;
async function start(config: Config): Promise<WiredServer> {
  lines = new Lines();
  const server = await WiredServer.start(config, lines);
  closing.push(() => server.close());
  return server;
}

/** Answers of which the first part is there. */
async function begun(server: WiredServer, wire: Wire, paths: readonly string[]): Promise<Promise<Answered>[]> {
  const parts: Promise<void>[] = [];
  const answers = paths.map(path => {
    const { promise, resolve } = Promise.withResolvers<void>();
    parts.push(promise);
    return ask(server, wire, { path, onData: resolve });
  });
  await Promise.all(parts);
  return answers;
}

const text =
  (body: string): NonNullable<RouteConfig['fetch']> =>
  () =>
    new Response(body);
const echo = (path: string) =>
  defineEndpoint({ path, origins: 'any', onMessage: (connection, data) => void connection.send(data) });

async function open(
  server: WiredServer,
  wire: Wire,
  path: string,
  headers: Record<string, string> = {},
): Promise<WebSocketClient> {
  if (wire === 'http/2') {
    const client = await Http2Client.connect(server.url(wire));
    closing.push(() => client[Symbol.dispose]());
    return client.webSocket(path, headers);
  }
  const url = server.url(wire).replace('http', 'ws') + path;
  const client = await testClient(url, { headers, tls: { rejectUnauthorized: false } });
  closing.push(() => client[Symbol.asyncDispose]());
  return client;
}

async function echoes(client: WebSocketClient): Promise<boolean> {
  client.send('still there?');
  return (await client.receive()) === 'still there?';
}

/** A backend that sends back what it gets. */
async function echoBackend(): Promise<string> {
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  sockets.on('connection', socket => socket.on('message', data => socket.send(String(data))));
  await once(sockets, 'listening');
  closing.push(() => {
    for (const socket of sockets.clients) socket.terminate();
    sockets.close();
  });
  return `http://127.0.0.1:${(sockets.address() as { port: number }).port}`;
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-reload-'));
  closing.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe.each(wires)('over %s, after a reload', wire => {
  test('a connection that was kept is served by the new configuration', async () => {
    const server = await start({ routes: [{ path: '/a', fetch: text('one') }] });
    if (wire === 'http/2') {
      using client = await Http2Client.connect(server.url(wire));
      expect((await client.request({ ':path': '/a' })).body).toBe('one');
      await server.reload({ routes: [{ path: '/a', fetch: text('two') }] });
      expect((await client.request({ ':path': '/a' })).body).toBe('two');
      return;
    }
    const { Agent, request } = wire === 'tls' ? https : http;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    closing.push(() => agent.destroy());
    const get = async () => {
      const sent = request(`${server.url(wire)}/a`, { agent, ...({ rejectUnauthorized: false } as object) }).end();
      const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
      let body = '';
      for await (const part of response) body += part;
      return { body, port: sent.socket!.localPort };
    };
    const first = await get();
    await server.reload({ routes: [{ path: '/a', fetch: text('two') }] });
    expect(await get()).toEqual({ body: 'two', port: first.port });
  });

  test('WebSockets of endpoints and relays whose route is the same are untouched', async () => {
    const url = await echoBackend();
    const endpoint = echo('/endpoint');
    const routes = [{ endpoint }, { path: '/relay', upstream: 'app' }];
    const upstreams = { app: { servers: [url] } };
    const server = await start({ upstreams, routes });
    const sockets = [await open(server, wire, '/endpoint'), await open(server, wire, '/relay')];
    const report = await server.reload({ upstreams, routes: [...routes, { path: '/new', fetch: text('new') }] });
    expect(report).toEqual({ added: ['/new'], changed: [], removed: [], sockets: 0, needsRestart: [] });
    for (const socket of sockets) expect(await echoes(socket)).toBe(true);
    expect((await ask(server, wire, { path: '/new' })).body).toBe('new');
  });

  test('WebSockets whose route is gone close with 1001, and their path is 404', async () => {
    const url = await echoBackend();
    const upstreams = { app: { servers: [url] } };
    const server = await start({
      drain: { over: 0 },
      upstreams,
      routes: [{ endpoint: echo('/endpoint') }, { path: '/relay', upstream: 'app' }],
    });
    const sockets = [await open(server, wire, '/endpoint'), await open(server, wire, '/relay')];
    const report = await server.reload({ drain: { over: 0 }, upstreams });
    expect(report).toEqual({ added: [], changed: [], removed: ['/endpoint', '/relay'], sockets: 2, needsRestart: [] });
    for (const socket of sockets)
      expect(await socket.closed).toMatchObject({ code: 1001, reason: 'the route is gone' });
    await expect(open(server, wire, '/endpoint')).rejects.toThrow('404');
  });

  test.each<[string, Config['policy'] | RouteConfig['policy'], 'server' | 'route']>([
    ['an address list of the server', { addresses: { deny: ['127.0.0.0/8'] } }, 'server'],
    ['an address list of the route', { addresses: { deny: ['127.0.0.0/8'] } }, 'route'],
    ['origins', { origins: ['https://other.example'] }, 'route'],
  ])('WebSockets that %s keeps out close with 1008', async (_what, policy, place) => {
    const url = await echoBackend();
    const upstreams = { app: { servers: [url] } };
    const endpoint = defineEndpoint({ path: '/endpoint', onMessage: (connection, data) => void connection.send(data) });
    const routes = (own: RouteConfig['policy'] = { origins: 'any' }): RouteConfig[] => [
      { endpoint, policy: own },
      { path: '/relay', upstream: 'app', policy: own },
      { name: 'untouched', endpoint: quiet, policy: { origins: 'any' } },
    ];
    const quiet = echo('/quiet');
    const server = await start({ upstreams, routes: routes() });
    const headers = { Origin: 'https://page.example' };
    const sockets = [await open(server, wire, '/endpoint', headers), await open(server, wire, '/relay', headers)];
    const untouched = await open(server, wire, '/quiet', headers);
    await server.reload(
      place === 'server'
        ? { upstreams, routes: routes(), policy: policy as Config['policy'] }
        : { upstreams, routes: routes({ origins: 'any', ...policy } as RouteConfig['policy']) },
    );
    for (const socket of sockets)
      expect(await socket.closed).toMatchObject({ code: 1008, reason: 'not allowed any more' });
    if (place === 'route') expect(await echoes(untouched)).toBe(true);
    else expect((await untouched.closed).code).toBe(1008);
    // Of lines that say the same the log has one.
    expect(lines.all.filter(({ fields }) => fields.event === 'socket-refused')).toHaveLength(1);
  });

  test('WebSockets of users without a role that is needed now close with 1008, the others stay', async () => {
    const auth = {
      key: {
        type: 'function' as const,
        authenticate: ({ headers }: { headers: Readonly<Record<string, unknown>> }) => {
          const [name, ...roles] = String(headers['x-key']).split(',');
          return { name: name!, roles };
        },
      },
    };
    const url = await echoBackend();
    const endpoint = echo('/endpoint');
    const config = (policy: RouteConfig['policy']): Config => ({
      auth,
      upstreams: { app: { servers: [url] } },
      routes: [
        { endpoint, policy },
        { path: '/relay', upstream: 'app', policy },
      ],
    });
    const server = await start(config({ auth: 'key' }));
    for (const path of ['/endpoint', '/relay']) {
      const [alice, bob] = [
        await open(server, wire, path, { 'X-Key': 'alice,admin' }),
        await open(server, wire, path, { 'X-Key': 'bob' }),
      ];
      await server.reload(config({ auth: 'key', roles: ['admin'] }));
      expect((await bob.closed).code).toBe(1008);
      expect(await echoes(alice)).toBe(true);
      await server.reload(config({ auth: 'key' }));
    }
  });

  test('WebSockets that nobody signed in for close with 1008 where a user is asked for now', async () => {
    const endpoint = echo('/endpoint');
    const server = await start({ routes: [{ endpoint }] });
    const socket = await open(server, wire, '/endpoint');
    const auth = { key: { type: 'function' as const, authenticate: () => undefined } };
    await server.reload({ auth, routes: [{ endpoint, policy: { auth: 'key' } }] });
    expect((await socket.closed).code).toBe(1008);
  });

  test('event streams end where their route has changed, and go on where it is the same', async () => {
    const streams = new Map<string, ReadableStreamDefaultController<Uint8Array>>();
    const stream = (name: string) => () =>
      new Response(
        new ReadableStream<Uint8Array>({
          start(controller) {
            streams.set(name, controller);
            controller.enqueue(Buffer.from('data: first\n\n'));
          },
        }),
        { headers: { 'Content-Type': 'text/event-stream' } },
      );
    const same: RouteConfig = { path: '/same', fetch: stream('same') };
    const server = await start({ routes: [same, { path: '/changed', fetch: stream('changed') }] });
    const bodies = [ask(server, wire, { path: '/same' }), ask(server, wire, { path: '/changed' })];
    await until(() => streams.size === 2);
    await sleep(50);
    await server.reload({ routes: [same, { path: '/changed', fetch: stream('changed again') }] });
    expect((await bodies[1])!.body).toBe('data: first\n\n');
    streams.get('same')!.enqueue(Buffer.from('data: second\n\n'));
    streams.get('same')!.close();
    expect((await bodies[0])!.body).toBe('data: first\n\ndata: second\n\n');
  });

  test('an event stream ends that begins when its route is another one already', async () => {
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const late: RouteConfig['fetch'] = async () => {
      asked.resolve();
      await answer.promise;
      const body = new ReadableStream<Uint8Array>({ start: it => it.enqueue(Buffer.from('data: first\n\n')) });
      return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
    };
    const server = await start({ routes: [{ path: '/late', fetch: late }] });
    const answered = ask(server, wire, { path: '/late' });
    await asked.promise;
    await server.reload({ routes: [{ path: '/late', fetch: text('another') }] });
    answer.resolve();
    expect((await answered).status).toBe(200);
  });

  const function_ = (name: string) => ({ type: 'function' as const, authenticate: () => ({ name }) });
  test.each<[string, Config, Config]>([
    ['constraints', {}, { constraints: [{ paths: ['/stream'], transport: 'confidential' }] }],
    [
      'schemes of users',
      { policy: { auth: 'key' }, auth: { key: function_('alice') } },
      { policy: { auth: 'key' }, auth: { key: function_('bob') } },
    ],
  ])('event streams end where %s have changed', async (_what, before, now) => {
    const began = Promise.withResolvers<void>();
    const stream: RouteConfig['fetch'] = () => {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(Buffer.from('data: first\n\n'));
          began.resolve();
        },
      });
      return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
    };
    const routes: RouteConfig[] = [{ path: '/stream', fetch: stream }];
    const server = await start({ routes, ...before });
    const answered = ask(server, wire, { path: '/stream' });
    await began.promise;
    await sleep(50);
    expect(await server.reload({ routes, ...before })).toMatchObject({ changed: [] });
    expect(await server.reload({ routes, ...now })).toMatchObject({ changed: ['/stream'] });
    expect((await answered).body).toBe('data: first\n\n');
  });

  test('event streams of clients that the server keeps out now end, and no others do for its addresses', async () => {
    const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
    const stream: RouteConfig['fetch'] = () => {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(Buffer.from('data: first\n\n'));
          streams.push(controller);
        },
      });
      return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
    };
    const config: Config = { trustedProxies: ['127.0.0.0/8'], routes: [{ path: '/stream', fetch: stream }] };
    const server = await start(config);
    const from = (address: string) => ask(server, wire, { path: '/stream', headers: { 'X-Forwarded-For': address } });
    const stays = from('192.0.2.1');
    await until(() => streams.length === 1);
    const ends = from('192.0.2.2');
    await until(() => streams.length === 2);
    await sleep(50);
    const report = await server.reload({ ...config, policy: { addresses: { deny: ['192.0.2.2'] } } });
    expect(report).toMatchObject({ changed: [] });
    expect((await ends).body).toBe('data: first\n\n');
    streams[0]!.enqueue(Buffer.from('data: second\n\n'));
    streams[0]!.close();
    expect((await stays).body).toBe('data: first\n\ndata: second\n\n');
    expect((await from('192.0.2.2')).status).toBe(403);
  });

  test('routes of one path are told apart by their methods, and those of one name by their paths', async () => {
    const url = await echoBackend();
    const upstreams = { app: { servers: [url] } };
    const config = (...paths: string[]): Config => ({
      drain: { over: 0 },
      upstreams,
      routes: [
        { path: '/a', methods: ['GET'], upstream: 'app' },
        { path: '/a', methods: ['POST'], fetch: posted },
        { name: 'many', path: paths, upstream: 'app' },
      ],
    });
    const posted = text('posted');
    const server = await start(config('/one', '/two'));
    const [first, one, two] = [
      await open(server, wire, '/a'),
      await open(server, wire, '/one'),
      await open(server, wire, '/two'),
    ];
    expect(await server.reload(config('/one', '/two'))).toEqual({
      added: [],
      changed: [],
      removed: [],
      sockets: 0,
      needsRestart: [],
    });
    for (const socket of [first, one, two]) expect(await echoes(socket)).toBe(true);
    // What has its name alone now is the route of the same path.
    const report = await server.reload(config('/one'));
    expect(report).toEqual({ added: [], changed: ['many'], removed: ['many (* /two)'], sockets: 1, needsRestart: [] });
    expect((await two.closed).code).toBe(1001);
    expect(await echoes(one)).toBe(true);
    expect(await echoes(first)).toBe(true);
  });

  test('event streams of backends end where their route has changed', async () => {
    const backend = http.createServer((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: first\n\n');
      if (request.url === '/same') setTimeout(() => response.end('data: second\n\n'), 300);
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    closing.push(() => {
      backend.closeAllConnections();
      backend.close();
    });
    const upstreams = { app: { servers: [`http://127.0.0.1:${(backend.address() as { port: number }).port}`] } };
    const same: RouteConfig = { path: '/same', upstream: 'app' };
    const server = await start({ upstreams, routes: [same, { path: '/changed', upstream: 'app' }] });
    const bodies = await begun(server, wire, ['/same', '/changed']);
    await server.reload({ upstreams, routes: [same, { path: '/changed', upstream: 'app', websocket: false }] });
    expect((await bodies[1])!.body).toBe('data: first\n\n');
    expect((await bodies[0])!.body).toBe('data: first\n\ndata: second\n\n');
  });

  test('a backend is left whose event stream has ended, and a handler is told, and its stream is cancelled', async () => {
    const ended: string[] = [];
    const backend = http.createServer((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: first\n\n');
      response.on('close', () => ended.push('backend'));
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    closing.push(() => {
      backend.closeAllConnections();
      backend.close();
    });
    const handler: RouteConfig['fetch'] = request => {
      request.signal.addEventListener('abort', () => ended.push('signal'));
      const body = new ReadableStream<Uint8Array>({
        start: it => it.enqueue(Buffer.from('data: first\n\n')),
        cancel: () => void ended.push('stream'),
      });
      return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
    };
    const upstreams = { app: { servers: [`http://127.0.0.1:${(backend.address() as { port: number }).port}`] } };
    const routes = (own: Partial<RouteConfig> = {}): RouteConfig[] => [
      { path: '/backend', upstream: 'app', ...own },
      { path: '/handler', fetch: handler, ...own },
    ];
    const server = await start({ upstreams, routes: routes() });
    const bodies = await begun(server, wire, ['/backend', '/handler']);
    await server.reload({ upstreams, routes: routes({ policy: { origins: 'any' } }) });
    expect((await Promise.all(bodies)).map(({ body }) => body)).toEqual(['data: first\n\n', 'data: first\n\n']);
    await expect.poll(() => ended.toSorted()).toEqual(['backend', 'signal', 'stream']);
  });

  test('event streams end without an error, however much their backends and handlers send meanwhile', async () => {
    const backend = http.createServer((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      const timer = setInterval(() => response.write('data: x\n\n'), 1);
      response.on('close', () => clearInterval(timer));
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    closing.push(() => {
      backend.closeAllConnections();
      backend.close();
    });
    const handler: RouteConfig['fetch'] = () => {
      let timer: NodeJS.Timeout;
      const body = new ReadableStream<Uint8Array>({
        start: it => {
          timer = setInterval(() => it.enqueue(Buffer.from('data: x\n\n')), 1);
        },
        cancel: () => clearInterval(timer),
      });
      return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
    };
    const upstreams = { app: { servers: [`http://127.0.0.1:${(backend.address() as { port: number }).port}`] } };
    const routes = (own: Partial<RouteConfig> = {}): RouteConfig[] => [
      { path: '/backend', upstream: 'app', ...own },
      { path: '/handler', fetch: handler, ...own },
    ];
    const server = await start({ upstreams, routes: routes() });
    const paths = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? '/backend' : '/handler'));
    const answers = await begun(server, wire, paths);
    await server.reload({ upstreams, routes: routes({ policy: { origins: 'any' } }) });
    for (const { body } of await Promise.all(answers)) expect(body).toMatch(/^(?:data: x\n\n)+$/);
  });

  test('a request that was under way is finished by what it began with', async () => {
    const answer = Promise.withResolvers<string>();
    const asked = Promise.withResolvers<void>();
    const slow: RouteConfig = {
      path: '/slow',
      fetch: async () => {
        asked.resolve();
        return new Response(await answer.promise);
      },
    };
    const server = await start({ routes: [slow] });
    const body = ask(server, wire, { path: '/slow' });
    await asked.promise;
    await server.reload({ routes: [] });
    answer.resolve('finished');
    expect(await body).toMatchObject({ status: 200, body: 'finished' });
    expect((await ask(server, wire, { path: '/slow' })).status).toBe(404);
  });

  test('a handshake that was under way is held to the rules that hold when it opens', async () => {
    const let_in = Promise.withResolvers<boolean>();
    const asked = Promise.withResolvers<void>();
    const endpoint = defineEndpoint({
      path: '/endpoint',
      accept: () => {
        asked.resolve();
        return let_in.promise;
      },
    });
    const server = await start({ routes: [{ endpoint }] });
    const opening = open(server, wire, '/endpoint');
    await asked.promise;
    await server.reload({ routes: [{ endpoint }], policy: { addresses: { deny: ['127.0.0.1'] } } });
    let_in.resolve(true);
    expect(await (await opening).closed).toMatchObject({ code: 1008 });
  });

  test('a handshake that was under way loses its session with the store: it closes with 1012', async () => {
    const letIn = Promise.withResolvers<boolean>();
    const asked = Promise.withResolvers<void>();
    const endpoint = defineEndpoint({
      path: '/endpoint',
      origins: 'any',
      accept: () => {
        asked.resolve();
        return letIn.promise;
      },
    });
    const config = (session: Config['session']): Config => ({
      session,
      routes: [{ endpoint }, { path: '/open', session: 'create', fetch: text('open') }],
    });
    const server = await start(config({ store: 'memory:', tracking: 'header' }));
    const ticket = (await ask(server, wire, { path: '/open' })).headers['holdfast-session-ticket']!;
    const opening = open(server, wire, '/endpoint', { 'Holdfast-Session-Ticket': ticket });
    await asked.promise;
    await server.reload(config({ store: 'memory:', tracking: 'header', write: { every: '10s' } }));
    letIn.resolve(true);
    expect(await (await opening).closed).toMatchObject({ code: 1012 });
  });

  test('limits count the WebSockets of before', async () => {
    const endpoint = echo('/endpoint');
    const limited = (connections: number): Config => ({ routes: [{ endpoint, policy: { limits: { connections } } }] });
    const server = await start({ routes: [{ endpoint }] });
    const first = await open(server, wire, '/endpoint');
    await server.reload(limited(1));
    await expect(open(server, wire, '/endpoint')).rejects.toThrow('503');
    await server.reload(limited(2));
    await open(server, wire, '/endpoint');
    await expect(open(server, wire, '/endpoint')).rejects.toThrow('503');
    await first.close();
    await first.closed;
    await sleep(20);
    await open(server, wire, '/endpoint');
    await expect(open(server, wire, '/endpoint')).rejects.toThrow('503');
  });
});

describe('a server of an upstream', () => {
  test('that is taken away has its WebSockets closed with 1012, those of others stay', async () => {
    const [one, two] = [await echoBackend(), await echoBackend()];
    const config = (servers: string[]): Config => ({
      drain: { over: 0 },
      upstreams: { app: { servers } },
      routes: [{ path: '/*', upstream: 'app' }],
    });
    const server = await start(config([one, two]));
    const sockets = [await open(server, 'http/1', '/'), await open(server, 'http/1', '/')];
    await server.reload(config([two]));
    const ended = await Promise.race(sockets.map(async (socket, index) => ({ index, ...(await socket.closed) })));
    expect(ended).toMatchObject({ code: 1012 });
    expect(await echoes(sockets[1 - ended.index]!)).toBe(true);
    expect(server.server.upstreams.get('app')!.status.servers.map(({ url }) => url)).toEqual([two]);
  });

  test('stays where other settings of its upstream change: its WebSockets go on', async () => {
    const url = await echoBackend();
    const config = (answerTimeout: string): Config => ({
      upstreams: { app: { servers: [url], answerTimeout: answerTimeout as '5s' } },
      routes: [{ path: '/*', upstream: 'app' }],
    });
    const server = await start(config('5s'));
    const before = server.server.upstreams.get('app');
    const socket = await open(server, 'http/1', '/');
    await server.reload(config('6s'));
    expect(server.server.upstreams.get('app')).not.toBe(before);
    expect(await echoes(socket)).toBe(true);
    await server.reload(config('6s'));
    expect(await echoes(socket)).toBe(true);
  });
});

describe('sessions', () => {
  const counting: RouteConfig['fetch'] = async (_request, { session }) =>
    new Response(String(await session!.update('n', n => Number(n ?? 0) + 1)));
  const config = (session: Config['session']): Config => ({
    drain: { over: 0 },
    session,
    routes: [{ path: '/count', session: 'create', fetch: counting }, { endpoint }],
  });
  const endpoint = defineEndpoint({
    path: '/socket',
    onMessage: (connection, data) => void connection.send(connection.session ? data : 'none'),
  });

  test.each<[string, Config['session'], boolean]>([
    ['nothing', { store: 'memory:' }, true],
    ['a time', { store: 'memory:', idleTimeout: '7m', absoluteTimeout: '1h' }, true],
    ['how many there may be', { store: 'memory:', maxSessions: 50 }, true],
    ['the name of a header', { store: 'memory:', tracking: ['cookie', 'header'], header: 'My-Session' }, true],
    ['when they are written', { store: 'memory:', write: { every: '10s' } }, false],
  ])('go on in memory where %s changes', async (_what, session, keepsSockets) => {
    const server = await start(config({ store: 'memory:' }));
    const first = await ask(server, 'http/1', { path: '/count' });
    const headers = { Cookie: /[^;]+/.exec(first.headers['set-cookie']!)![0] };
    const socket = await open(server, 'http/1', '/socket', { ...headers, Origin: server.url('http/1') });
    await server.reload(config(session));
    expect((await ask(server, 'http/1', { path: '/count', headers })).body).toBe('2');
    if (keepsSockets) expect(await echoes(socket)).toBe(true);
    else expect(await socket.closed).toMatchObject({ code: 1012 });
    expect(await server.server.sessions.count()).toBe(1);
  });

  test('keep what listens to them, whichever manager has them', async () => {
    const server = await start(config({ store: 'memory:' }));
    const created: string[] = [];
    server.server.sessions.on('created', ({ sid }) => created.push(sid));
    await ask(server, 'http/1', { path: '/count' });
    for (const every of ['10s', '10s', '20s'] as const) {
      await server.reload(config({ store: 'memory:', write: { every } }));
      await ask(server, 'http/1', { path: '/count' });
    }
    expect(created).toHaveLength(4);
  });

  test('are listed to the end for the program and its administration, whose store a reload has replaced', async () => {
    const [begun, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isClosed = false;
    class Store extends MemoryStore {
      override async *sids(): AsyncGenerator<string> {
        begun.resolve();
        await goOn.promise;
        if (isClosed) throw new Error('the store is closed');
        yield* super.sids();
      }

      override async close(): Promise<void> {
        isClosed = true;
        await super.close();
      }
    }
    const store = new Store();
    const server = await start(config({ store }));
    await ask(server, 'http/1', { path: '/count' });
    const listed = Array.fromAsync(server.server.sessions!.list());
    await begun.promise;
    await server.reload(config({ store }));
    await server.reload(config({}));
    await sleep(50);
    expect(isClosed).toBe(false);
    goOn.resolve();
    expect(await listed).toHaveLength(1);
    await expect.poll(() => isClosed).toBe(true);
  });

  test('in a store that the program has opened go on until nothing has it, and it is closed once', async () => {
    let closed = 0;
    class Store extends MemoryStore {
      override async close(): Promise<void> {
        closed++;
        await super.close();
      }
    }
    const store = new Store();
    const server = await start(config({ store }));
    const first = await ask(server, 'http/1', { path: '/count' });
    const headers = { Cookie: /[^;]+/.exec(first.headers['set-cookie']!)![0] };
    const shop: RouteConfig = { mount: '/shop', application: { session: { store }, routes: config({}).routes! } };
    let count = 1;
    const goesOn = async () => {
      expect((await ask(server, 'http/1', { path: '/count', headers })).body).toBe(`${++count}`);
      expect(closed).toBe(0);
    };
    await server.reload(config({ store, profile: 'failover', coherence: 'relaxed', maxSessions: 50 }));
    await goesOn();
    const bad = defineEndpoint({ path: '/bad', init: () => Promise.reject(new Error('init failed')) });
    await expect(server.reload({ ...config({ store }), routes: [{ endpoint: bad }] })).rejects.toThrow('init failed');
    await goesOn();
    await server.reload({ ...config({ store }), routes: [...config({}).routes!, shop] });
    await goesOn();
    const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<Response>()];
    const fetchSlow = () => {
      asked.resolve();
      return answer.promise;
    };
    await server.reload({ ...config({ store }), routes: [...config({}).routes!, { path: '/slow', fetch: fetchSlow }] });
    await goesOn();
    // Something is under way: the store leaves later, and is wanted again by then.
    const slow = ask(server, 'http/1', { path: '/slow' });
    await asked.promise;
    await server.reload(config({ store: 'memory:' }));
    await server.reload(config({ store }));
    answer.resolve(new Response('slow'));
    expect((await slow).body).toBe('slow');
    await sleep(50);
    await goesOn();
    await server.server.stop({ drain: 0 });
    expect(closed).toBe(1);
  });

  test('are signed with keys that are in their files now, and those of before count as long as they are there', async () => {
    const path = folder();
    const keys = ['a', 'b'].map(name => join(path, name));
    for (const [index, file] of keys.entries()) writeFileSync(file, `${index}`.repeat(48));
    const server = await start(config({ store: 'memory:', keyFiles: [keys[0]!] }));
    const first = await ask(server, 'http/1', { path: '/count' });
    const headers = { Cookie: /[^;]+/.exec(first.headers['set-cookie']!)![0] };
    await server.reload(config({ store: 'memory:', keyFiles: [keys[1]!, keys[0]!] }));
    expect((await ask(server, 'http/1', { path: '/count', headers })).body).toBe('2');
    writeFileSync(keys[0]!, '2'.repeat(48));
    await server.reload(config({ store: 'memory:', keyFiles: [keys[1]!, keys[0]!] }));
    expect((await ask(server, 'http/1', { path: '/count', headers })).body).toBe('1');
  });

  test('have forms to sign in on that are signed with the keys of now, too', async () => {
    const path = folder();
    const keys = ['a', 'b'].map(name => join(path, name));
    for (const [index, file] of keys.entries()) writeFileSync(file, `${index}`.repeat(48));
    const staff = { type: 'form' as const, verify: () => ({ name: 'alice' }) };
    const withForm = (...keyFiles: string[]): Config => ({
      session: { store: 'memory:', keyFiles },
      auth: { staff },
      policy: { auth: 'staff' },
      routes: [{ path: '/*', fetch: text('in') }],
    });
    const server = await start(withForm(keys[0]!));
    const form = async () => {
      const page = await ask(server, 'http/1', { path: '/login' });
      return {
        token: /value="([^"]+\.[^"]+\.[^"]+)"/.exec(page.body)![1]!,
        cookie: String(page.headers['set-cookie']).match(/[\w-]+-form=[\w-]+/)![0],
      };
    };
    const before = await form();
    await server.reload(withForm(keys[1]!));
    const keyIdOf = ({ token }: { token: string }) => token.split('.')[1];
    expect(keyIdOf(await form())).not.toBe(keyIdOf(before));
  });

  test('go on in lmdb, in a store that stays open, and are found by mounted applications that came later', async () => {
    const store = `lmdb:${join(folder(), 'sessions')}`;
    const server = await start(config({ store, keyFiles: undefined }));
    const first = await ask(server, 'http/1', { path: '/count' });
    const headers = { Cookie: /[^;]+/.exec(first.headers['set-cookie']!)![0] };
    await server.reload(config({ store, coherence: 'relaxed' }));
    expect((await ask(server, 'http/1', { path: '/count', headers })).body).toBe('2');
    await server.reload({
      ...config({ store }),
      routes: [{ mount: '/shop', application: { session: { store: 'memory:' }, routes: config({}).routes! } }],
    });
    expect((await ask(server, 'http/1', { path: '/shop/count' })).body).toBe('1');
    expect(await server.server.sessionsOf('/shop').count()).toBe(1);
    await server.reload(config({ store }));
    expect((await ask(server, 'http/1', { path: '/count', headers })).body).toBe('3');
    expect(() => server.server.sessionsOf('/shop')).toThrow('has sessions of its own');
  });
});

describe('what is ours in requests', () => {
  const asked: { readonly url: string; readonly cookie: string | undefined; readonly ticket: unknown }[] = [];
  async function backend(): Promise<Config> {
    asked.length = 0;
    const heard = http.createServer(({ url, headers }, response) => {
      asked.push({ url: url!, cookie: headers.cookie, ticket: headers['my-ticket'] });
      response.end();
    });
    heard.listen(0, '127.0.0.1');
    await once(heard, 'listening');
    closing.push(() => void heard.close());
    const url = `http://127.0.0.1:${(heard.address() as { port: number }).port}`;
    return { upstreams: { app: { servers: [url] } }, routes: [{ path: '/*', upstream: 'app' }] };
  }
  const shown = { Cookie: 'mine=a; app_own=b; theirs=c', 'My-Ticket': 'd' };

  test('by names that are new stays with us from the reload on', async () => {
    const config = await backend();
    const server = await start({ ...config, session: { store: 'memory:' } });
    const tracking = ['cookie', 'header', 'url'] as const;
    await server.reload({
      ...config,
      session: { store: 'memory:', cookie: { name: 'mine' }, tracking, header: 'My-Ticket', urlParameter: 'ticket' },
    });
    await ask(server, 'http/1', { path: '/page;ticket=secret', headers: shown });
    expect(asked).toEqual([{ url: '/page', cookie: 'app_own=b; theirs=c', ticket: undefined }]);
  });

  test('by names of before stays with us, in paths too, and those of now count beside them', async () => {
    const config = await backend();
    const named = (urlParameter: string): Config => ({
      ...config,
      session: { store: 'memory:', tracking: 'url', urlParameter },
      routes: [
        {
          path: '/new',
          fetch: async request => {
            await sessions().open(request);
            return new Response(sessions().encodeUrl(request, '/page'));
          },
        },
        { path: '/who/*', fetch: async request => new Response((await sessions().get(request))?.id ?? 'nobody') },
        ...config.routes!,
      ],
    });
    const server = await start(named('old'));
    const sessions = () => server.server.sessions;
    const link = async () => (await ask(server, 'http/1', { path: '/new' })).body;
    const before = await link();
    await server.reload(named('new'));
    const now = await link();
    expect([before, now]).toEqual([expect.stringMatching(/^\/page;old=/), expect.stringMatching(/^\/page;new=/)]);
    await ask(server, 'http/1', { path: before, headers: { Cookie: shown.Cookie } });
    expect(asked.map(({ url }) => url)).toEqual(['/page']);
    const who = async (parameters: string) => (await ask(server, 'http/1', { path: `/who/page${parameters}` })).body;
    const [old, current] = [before, now].map(url => url.slice('/page'.length));
    expect(await who(old!)).toBe('nobody');
    expect(await who(current!)).not.toBe('nobody');
    expect(await who(old! + current!)).toBe(await who(current!));
  });

  test('is as it was where a configuration with other names was refused', async () => {
    const config = await backend();
    const server = await start({ ...config, session: { store: 'memory:' } });
    const { app } = config.upstreams!;
    const refused: Config = {
      session: { store: 'memory:', cookie: { name: 'mine' }, tracking: ['cookie', 'header'], header: 'My-Ticket' },
      upstreams: { app: app!, other: { ...app!, cookies: { prefix: 'app_' } } },
      routes: [{ endpoint: defineEndpoint({ path: '/bad', init: () => Promise.reject(new Error('init failed')) }) }],
    };
    await expect(server.reload(refused)).rejects.toThrow('init failed');
    await ask(server, 'http/1', { path: '/page', headers: shown });
    expect(asked).toEqual([{ url: '/page', cookie: shown.Cookie, ticket: 'd' }]);
  });
});

describe('a configuration that cannot be used', () => {
  test.each<[string, (taken: number) => Config, string]>([
    ['has an unknown key', () => ({ rutes: [] }) as Config, 'rutes'],
    [
      'names a file that is not there',
      () => ({ auth: { a: { type: 'basic', realm: 'a', file: '/nowhere' } } }),
      'nowhere',
    ],
    [
      'listens where another program does',
      taken => ({ listen: [{ port: taken, host: '127.0.0.1' }] }),
      'cannot listen on',
    ],
    [
      'has an endpoint whose init fails',
      () => ({
        routes: [
          {
            endpoint: defineEndpoint({
              path: '/bad',
              init: () => {
                throw new Error('init failed');
              },
            }),
          },
        ],
      }),
      'init failed',
    ],
  ])('because it %s is refused, and everything is as it was', async (_what, next, message) => {
    const other = http.createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    closing.push(() => other.close());
    const endpoint = echo('/endpoint');
    let destroyed = 0;
    const counted = defineEndpoint({ path: '/counted', destroy: () => void destroyed++ });
    const server = await start({ routes: [{ path: '/a', fetch: text('one') }, { endpoint }, { endpoint: counted }] });
    const urls = server.server.urls;
    const socket = await open(server, 'http/1', '/endpoint');
    await expect(server.reload(next((other.address() as { port: number }).port))).rejects.toThrow(message);
    expect(server.server.urls).toEqual(urls);
    expect((await ask(server, 'http/1', { path: '/a' })).body).toBe('one');
    expect(await echoes(socket)).toBe(true);
    expect(destroyed).toBe(0);
    // The next one is not hindered by what was tried.
    await server.reload({ routes: [{ path: '/a', fetch: text('two') }, { endpoint }, { endpoint: counted }] });
    expect((await ask(server, 'http/1', { path: '/a' })).body).toBe('two');
  });
});

describe('ports', () => {
  test('that are new are opened, those that are not there any more are closed, and others have no gap', async () => {
    const [kept, left, added] = [await freePort(), await freePort(), await freePort()];
    const listen = (...ports: number[]): Config => ({
      listen: ports.map(port => ({ port, host: '127.0.0.1' })),
      routes: [{ path: '/*', fetch: text('here') }],
    });
    const server = await start(listen(kept, left));
    await server.reload(listen(kept, added));
    expect(await (await fetch(`http://127.0.0.1:${kept}/`)).text()).toBe('here');
    expect(await (await fetch(`http://127.0.0.1:${added}/`)).text()).toBe('here');
    const socket = connect(left, '127.0.0.1');
    await expect(once(socket, 'connect')).rejects.toThrow('ECONNREFUSED');
    expect(server.server.urls.map(url => Number(new URL(url).port))).toEqual([kept, added]);
  });

  test('can get TLS, and other settings of it, while connections of before go on', async () => {
    const port = await freePort();
    const certificate = writeSelfSignedCertificate(folder());
    const other = writeSelfSignedCertificate(folder());
    const endpoint = echo('/endpoint');
    const config = (tlsConfig?: typeof certificate): Config => ({
      listen: [{ port, host: '127.0.0.1', ...(tlsConfig && { tls: tlsConfig }) }],
      routes: [{ endpoint }, { path: '/*', fetch: text('here') }],
    });
    const server = await start(config());
    const plain = await open(server, 'http/1', '/endpoint');
    const shown = async () => {
      const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.destroy();
      return fingerprint256;
    };
    await server.reload(config(certificate));
    const first = await shown();
    const secure = await testClient(`wss://127.0.0.1:${port}/endpoint`, { tls: { rejectUnauthorized: false } });
    closing.push(() => secure[Symbol.asyncDispose]());
    await server.reload(config(other));
    expect(await shown()).not.toBe(first);
    expect(await echoes(plain)).toBe(true);
    expect(await echoes(secure)).toBe(true);
  });
});

test('WebSockets of a server that is gone close with 1012 although an endpoint that was replaced, and a request, go on', async () => {
  const url = await echoBackend();
  const answered = Promise.withResolvers<Response>();
  const waiting: RouteConfig = { path: '/wait', fetch: () => answered.promise };
  const drain = { over: 0 } as const;
  const server = await start({
    drain,
    upstreams: { app: { servers: [url] } },
    routes: [{ endpoint: echo('/endpoint') }, { path: '/relay', upstream: 'app' }, waiting],
  });
  const staying = await open(server, 'http/1', '/endpoint');
  const leaving = await open(server, 'http/1', '/relay');
  const asked = ask(server, 'http/1', { path: '/wait' });
  const other = await echoBackend();
  await server.reload({
    drain,
    upstreams: { app: { servers: [other], balance: 'least-connections' } },
    routes: [{ endpoint: echo('/endpoint') }, { path: '/relay', upstream: 'app' }, waiting],
  });
  expect(await leaving.closed).toMatchObject({ code: 1012 });
  expect(await echoes(staying)).toBe(true);
  answered.resolve(new Response('late'));
  expect((await asked).body).toBe('late');
});

test('observed sessions are looked up in the ledger of before until a reload is accepted', async () => {
  const path = folder();
  const url = await echoBackend();
  const config = (store: string, more: Config = {}): Config => ({
    dataFolder: path,
    session: { store },
    upstreams: { app: { servers: [url], session: { mode: 'observed', cookie: 'SID' } } },
    routes: [{ path: '/relay', upstream: 'app' }],
    ...more,
  });
  const server = await start(config('memory:'));
  const known = () => (server.server.upstreams.get('app') as Upstream).observer?.sessions;
  const before = known();
  expect(before).toBeDefined();
  const missing = { listen: [{ socket: '/nowhere/at/all.sock' }] };
  await expect(server.server.reload(config(`lmdb:${path}/db`, missing))).rejects.toThrow('there is no folder');
  expect(known()).toBe(before);
  await server.reload(config(`lmdb:${path}/db`));
  expect(known()).not.toBe(before);
});

describe('WebSockets of sessions that a backend keeps', () => {
  /** Of a logout. */
  let asked: PromiseWithResolvers<void>;
  let answer: PromiseWithResolvers<void>;

  /** Signs in, and out when it may, and takes WebSockets. */
  async function backend(): Promise<string> {
    asked = Promise.withResolvers();
    answer = Promise.withResolvers();
    const heard = http.createServer(async ({ url }, response) => {
      if (url === '/login') response.setHeader('Set-Cookie', 'SID=alice; Path=/');
      if (url === '/logout') {
        asked.resolve();
        await answer.promise;
        response.setHeader('Set-Cookie', 'SID=; Path=/; Max-Age=0');
      }
      response.end();
    });
    const sockets = new WebSocketServer({ server: heard });
    sockets.on('connection', socket => socket.on('message', data => socket.send(String(data))));
    heard.listen(0, '127.0.0.1');
    await once(heard, 'listening');
    closing.push(() => {
      for (const socket of sockets.clients) socket.terminate();
      heard.close();
    });
    return `http://127.0.0.1:${(heard.address() as { port: number }).port}`;
  }
  const Cookie = 'SID=alice';

  async function opened(session: Config['session']): Promise<{
    readonly server: WiredServer;
    readonly socket: WebSocketClient;
    config(session: Config['session'], more?: RouteConfig[]): Config;
  }> {
    const url = await backend();
    const config = (ours: Config['session'], more: RouteConfig[] = []): Config => ({
      ...(ours !== undefined && { session: ours }),
      drain: { over: 0 },
      upstreams: { app: { servers: [url], session: { mode: 'observed', cookie: 'SID' } } },
      routes: [{ path: '/*', upstream: 'app', session: 'none', policy: { origins: 'any' } }, ...more],
    });
    const server = await start(config(session));
    await ask(server, 'http/1', { path: '/login' });
    return { server, socket: await open(server, 'http/1', '/socket', { Cookie }), config };
  }

  test('close with 1012 where what is known of these is kept elsewhere now, and others stay', async () => {
    const { server, socket, config } = await opened(false);
    const anonymous = await open(server, 'http/1', '/socket');
    expect(await server.reload(config({ store: 'memory:' }))).toMatchObject({ changed: ['/*'], sockets: 1 });
    expect(await socket.closed).toMatchObject({ code: 1012, reason: 'session store is leaving' });
    expect(await echoes(anonymous)).toBe(true);
  });

  test('go on where it is kept as before, and close with 1008 when their session ends', async () => {
    const { server, socket, config } = await opened(false);
    expect(await server.reload(config(false, [{ path: '/new', redirect: '/' }]))).toMatchObject({ sockets: 0 });
    expect(await echoes(socket)).toBe(true);
    answer.resolve();
    await ask(server, 'http/1', { path: '/logout', headers: { Cookie } });
    expect((await socket.closed).code).toBe(1008);
  });

  test('close with 1008 by a logout that was under way when they were told to go', async () => {
    const { server, socket, config } = await opened(false);
    const out = ask(server, 'http/1', { path: '/logout', headers: { Cookie } });
    await asked.promise;
    const slow: Config = { ...config({ store: 'memory:' }), drain: { over: '5m' } };
    expect(await server.reload(slow)).toMatchObject({ sockets: 1 });
    expect(await echoes(socket)).toBe(true);
    answer.resolve();
    await out;
    expect((await socket.closed).code).toBe(1008);
  });
});

test('an endpoint that runs keeps its dispatch policy until a reload is accepted', async () => {
  const endpoint = defineEndpoint({ path: '/chat', dispatch: 'few' });
  const config = (concurrency: number, more: Config = {}): Config => ({
    dispatch: { few: { concurrency } },
    routes: [{ endpoint }],
    ...more,
  });
  const server = await start(config(2));
  const policy = () => (endpoint as unknown as { dispatcher: object }).dispatcher;
  const before = policy();
  const missing = { listen: [{ socket: '/nowhere/at/all.sock' }] };
  await expect(server.server.reload(config(3, missing))).rejects.toThrow('there is no folder');
  expect(policy()).toBe(before);
  await server.reload(config(3));
  expect(policy()).not.toBe(before);
});

describe('a port that stays open', () => {
  test('answers connections of before as its redirect and hosts are now', async () => {
    const port = await freePort();
    const routes: RouteConfig[] = [{ path: '/*', fetch: text('here') }];
    const listen = { port, host: '127.0.0.1' };
    const server = createServer({ listen: [listen], session: false, routes }, { logger: silentLogger });
    closing.push(() => server.stop({ drain: 0 }));
    await server.start();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    closing.push(() => agent.destroy());
    const get = async () => {
      const sent = http.request(`http://127.0.0.1:${port}/`, { agent, headers: { host: 'other.example' } }).end();
      const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
      await once(response.resume(), 'end');
      return { status: response.statusCode, port: sent.socket!.localPort };
    };
    const first = await get();
    expect(first.status).toBe(200);
    await server.reload({ listen: [{ ...listen, hosts: ['example.com'] }], session: false, routes });
    expect(await get()).toEqual({ status: 421, port: first.port });
    await server.reload({ listen: [listen], session: false, routes });
    expect((await get()).status).toBe(200);
    const secure = { port: 0, host: '127.0.0.1', tls: writeSelfSignedCertificate(folder()) };
    await server.reload({ listen: [{ ...listen, redirect: 'https' }, secure], session: false, routes });
    expect((await get()).status).toBe(308);
  });

  const of = (...listen: NonNullable<Config['listen']>): Config => ({ listen, session: false, routes: [] });

  test('gets the mode of its socket file that the configuration has now', async () => {
    const socket = join(folder(), 'here.sock');
    const server = createServer(of({ socket, mode: '0600' }), { logger: silentLogger });
    closing.push(() => server.stop({ drain: 0 }));
    await server.start();
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    await server.reload(of({ socket, mode: '0666' }));
    await until(() => (statSync(socket).mode & 0o777) === 0o666);
    await server.reload(of({ socket }));
    await until(() => (statSync(socket).mode & 0o777) === 0o660);
  });

  test.runIf(process.geteuid?.() === 0)(
    'gets the group of its socket file that the configuration has now',
    async () => {
      const socket = join(folder(), 'here.sock');
      const server = createServer(of({ socket, group: 4242 }), { logger: silentLogger });
      closing.push(() => server.stop({ drain: 0 }));
      await server.start();
      expect(statSync(socket).gid).toBe(4242);
      await server.reload(of({ socket }));
      await until(() => statSync(socket).gid === process.getegid!());
      await expect(server.reload(of({ socket, group: 'no-such-group' }))).rejects.toThrow('has no group');
    },
  );

  test('cannot be shared by "reusePort" from a reload on, and the refusal says so', async () => {
    const port = await freePort();
    const server = createServer(of({ port, host: '127.0.0.1' }), { logger: silentLogger });
    closing.push(() => server.stop({ drain: 0 }));
    await server.start();
    const refused = server.reload(of({ port, host: '127.0.0.1', reusePort: true }));
    await expect(refused).rejects.toThrow(/which a reload cannot change; restart the server/);
    await server.reload(of({ port, host: '127.0.0.1', reusePort: false }));
  });

  test('cannot move to another host of the same port, and the refusal does not blame another program', async () => {
    const port = await freePort();
    const server = createServer(of({ port, host: '127.0.0.1' }), { logger: silentLogger });
    closing.push(() => server.stop({ drain: 0 }));
    await server.start();
    const refused = server.reload(of({ port }));
    await expect(refused).rejects.toThrow(/listens there, which is this one: .*restart the server/);
  });

  test('has no timer of settings of a reload that was refused', async () => {
    const port = await freePort();
    const certificate = writeSelfSignedCertificate(folder());
    const clock = new FakeClock();
    const server = createServer(of({ port, host: '127.0.0.1' }), { logger: silentLogger, clock });
    closing.push(() => server.stop({ drain: 0 }));
    await server.start();
    const tls = of({ port, host: '127.0.0.1', tls: certificate }, { socket: '/nowhere/at/all.sock' });
    await expect(server.reload(tls)).rejects.toThrow('there is no folder /nowhere/at');
    // The log has one as well, from its first line on.
    const before = clock.pending;
    await expect(server.reload(tls)).rejects.toThrow('there is no folder /nowhere/at');
    expect(clock.pending).toBe(before);
  });
});

describe('endpoints', () => {
  test('are begun and ended once, the latter when their last WebSocket has gone', async () => {
    const events: string[] = [];
    const named = (name: string) =>
      defineEndpoint({
        path: `/${name}`,
        init: () => void events.push(`init ${name}`),
        destroy: () => void events.push(`destroy ${name}`),
        onClose: () => void events.push(`close ${name}`),
      });
    const [one, two] = [named('one'), named('two')];
    const drain = { over: 0 } as const;
    const server = await start({ drain, routes: [{ endpoint: one }] });
    const socket = await open(server, 'http/1', '/one');
    await server.reload({ drain, routes: [{ endpoint: one }, { endpoint: two }] });
    await server.reload({ drain, routes: [{ endpoint: two }] });
    await socket.closed;
    await until(() => events.includes('destroy one'));
    expect(events).toEqual(['init one', 'init two', 'close one', 'destroy one']);
    await server.server.stop();
    expect(events.slice(4)).toEqual(['destroy two']);
  });

  test('that are taken back while they have WebSockets go on as they are', async () => {
    const events: string[] = [];
    const named = (name: string) =>
      defineEndpoint({
        path: '/here',
        init: () => void events.push(`init ${name}`),
        destroy: () => void events.push(`destroy ${name}`),
        onMessage: (connection, data) => void connection.send(data),
      });
    const [one, two] = [named('one'), named('two')];
    const bad = defineEndpoint({ path: '/bad', init: () => Promise.reject(new Error('init failed')) });
    const drain = { over: 0 } as const;
    const server = await start({ drain, routes: [{ endpoint: one }] });
    const socket = await open(server, 'http/1', '/here');
    await server.reload({ drain, routes: [{ endpoint: two }] });
    // Of a configuration that is refused it goes on leaving.
    await expect(server.reload({ routes: [{ endpoint: one }, { endpoint: bad }] })).rejects.toThrow('init failed');
    await server.reload({ drain, routes: [{ endpoint: one }] });
    await until(() => events.includes('destroy two'));
    expect(await echoes(socket)).toBe(true);
    expect(await echoes(await open(server, 'http/1', '/here'))).toBe(true);
    expect(events).toEqual(['init one', 'init two', 'destroy two']);
    await server.reload({ drain, routes: [] });
    await until(() => events.includes('destroy one'));
    // It has left: it begins anew.
    await server.reload({ drain, routes: [{ endpoint: one }] });
    expect(events.slice(3)).toEqual(['destroy one', 'init one']);
  });
});

test('bans go on, and are judged by the settings that hold now', async () => {
  const routes: RouteConfig[] = [{ path: '/*', fetch: text('in') }];
  const from = { 'X-Forwarded-For': '192.0.2.9' };
  const server = await start({ trustedProxies: ['127.0.0.1'], routes });
  await server.server.bans.add('192.0.2.9');
  expect((await ask(server, 'http/1', { headers: from })).status).toBe(403);
  await server.reload({ trustedProxies: ['127.0.0.1'], routes, bans: { action: 'refuse' } });
  expect((await ask(server, 'http/1', { headers: from })).status).toBe(403);
  await server.reload({ trustedProxies: ['127.0.0.1'], routes, bans: { allow: ['192.0.2.9'] } });
  expect((await ask(server, 'http/1', { headers: from })).status).toBe(200);
});

test('proxies are trusted that are named now', async () => {
  const routes: RouteConfig[] = [{ path: '/*', fetch: (_request, { clientAddress }) => new Response(clientAddress) }];
  const headers = { 'X-Forwarded-For': '192.0.2.9' };
  const server = await start({ routes });
  expect((await ask(server, 'http/1', { headers })).body).toBe('127.0.0.1');
  await server.reload({ routes, trustedProxies: ['127.0.0.1'] });
  expect((await ask(server, 'http/1', { headers })).body).toBe('192.0.2.9');
});

test('reloads that are asked for at once are done one after the other, and the last one counts', async () => {
  const server = await start({ routes: [{ path: '/a', fetch: text('none') }] });
  const names = Array.from({ length: 20 }, (_, index) => `${index}`);
  await Promise.all(names.map(name => server.reload({ routes: [{ path: '/a', fetch: text(name) }] })));
  expect((await ask(server, 'http/1', { path: '/a' })).body).toBe('19');
});

test('a reload of a server that stops is refused, and one that is under way leaves nothing open', async () => {
  const server = await start({ routes: [] });
  const reloading = server.reload({ routes: [{ path: '/a', fetch: text('late') }] });
  const stopping = server.server.stop({ drain: 0 });
  await expect(reloading).rejects.toThrow('the server stops');
  await stopping;
  await expect(server.reload({})).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' });
  expect(existsSync('nothing')).toBe(false);
});

test('a reload whose configuration has vanished is refused, and hinders none that was asked for with it', async () => {
  const server = await start({ routes: [{ path: '/a', fetch: text('one') }] });
  const all = await Promise.allSettled([
    server.server.reload(() => Promise.reject(new Error('it is gone'))),
    server.reload({ routes: [{ path: '/a', fetch: text('two') }] }),
    server.server.reload(() => Promise.reject(new Error('it is gone again'))),
  ]);
  expect(all.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected']);
  expect((await ask(server, 'http/1', { path: '/a' })).body).toBe('two');
});

test('a reload whose last step fails leaves nothing of the steps before: ports, endpoints and sockets are as they were', async () => {
  const socket = echo('/endpoint');
  let destroyed = 0;
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      log: { level: 'silent' },
      routes: [{ endpoint: socket }],
    },
    {},
  );
  closing.push(() => server.stop({ drain: 0 }));
  await server.start();
  const url = server.urls[0]!;
  const client = await testClient(`${url.replace('http', 'ws')}/endpoint`, {});
  closing.push(() => client[Symbol.asyncDispose]());
  const port = await freePort();
  const added = defineEndpoint({ path: '/added', destroy: () => void destroyed++ });
  const next: Config = {
    listen: [{ port, host: '127.0.0.1' }],
    session: false,
    // Logs are the last that may fail.
    log: { server: { file: '/nowhere/at/all.log' } },
    routes: [{ endpoint: added }],
  };
  await expect(server.reload(next)).rejects.toThrow('/nowhere/at/all.log');
  expect([server.urls, destroyed]).toEqual([[url], 1]);
  expect(await echoes(client)).toBe(true);
  // Nobody has the port.
  const other = http.createServer().listen(port, '127.0.0.1');
  await once(other, 'listening');
  other.close();
});

test('of many reloads at once with a stop among them, the stop is the end', async () => {
  const server = await start({ routes: [{ path: '/a', fetch: text('one') }] });
  const reload = () => server.reload({ routes: [{ path: '/a', fetch: text('two') }] });
  const before = Array.from({ length: 20 }, reload);
  const stopped = server.server.stop({ drain: 0 });
  const after = Array.from({ length: 20 }, reload);
  const results = await Promise.allSettled([...before, ...after]);
  await stopped;
  for (const result of results)
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ERR_SERVER_STATE' });
  expect(results.slice(20).map(({ status }) => status)).toEqual(Array(20).fill('rejected'));
});
