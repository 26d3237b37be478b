import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type net from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import type tls from 'node:tls';
import { beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { UpstreamOptions } from '../../src/gateway/upstream/options.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';
import { closing } from '../services/closing.ts';
import { until } from '../services/until.ts';
import { type GatewayOptions, listenDeaf, listenTcp, TestGateway, unusedServer } from './gateway-server.ts';

const open = closing();

interface Backend {
  readonly url: string;
  /** How many requests and handshakes it has got. */
  count: number;
  /** TCP connections that were made to it. */
  connections: number;
  /** Those that are open. */
  open: number;
  close(): Promise<unknown>;
}

interface BackendOptions {
  name?: string;
  port?: number;
  path?: string;
  tls?: https.ServerOptions;
  onRequest?: http.RequestListener;
}

/** Answers requests with its name, echoes WebSocket messages behind its name. */
async function backend({
  name = 'backend',
  port = 0,
  path,
  tls: secure,
  onRequest,
}: BackendOptions = {}): Promise<Backend> {
  const answer: http.RequestListener = (_, response) => response.end(name);
  const server = secure ? https.createServer(secure) : http.createServer();
  const webSockets = new WebSocketServer({ server });
  webSockets.on('connection', socket => {
    one.count++;
    socket.on('error', () => {});
    socket.on('message', data => socket.send(`${name}: ${data}`));
  });
  server.on('request', (request, response) => {
    one.count++;
    // A check closes its connection when it has made up its mind: not before that, and not from here.
    if (request.headers['user-agent'] === 'Holdfast-Health-Check') response.shouldKeepAlive = true;
    (onRequest ?? answer)(request, response);
  });
  server.on('connection', socket => {
    one.connections++;
    one.open++;
    socket.on('close', () => one.open--);
  });
  server.listen(path === undefined ? { port, host: '127.0.0.1' } : { path });
  await once(server, 'listening');
  const authority = `localhost:${(server.address() as AddressInfo).port}`;
  const one: Backend = {
    url: path === undefined ? `${secure ? 'https' : 'http'}://${authority}` : `unix:${path}`,
    count: 0,
    connections: 0,
    open: 0,
    close: () => {
      for (const client of webSockets.clients) client.terminate();
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  };
  open.push(one);
  return one;
}

async function gateway(servers: UpstreamOptions['servers'], options?: GatewayOptions): Promise<TestGateway> {
  const one = await new TestGateway(servers, { connectTimeout: '5s', ...options }).listen();
  open.push(one);
  return one;
}

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

async function ask(to: TestGateway, options: http.RequestOptions & { body?: string } = {}): Promise<Answer> {
  const request = http.request({ port: to.port, host: '127.0.0.1', agent: false, ...options });
  request.end(options.body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return { status: response.statusCode!, headers: response.headers, body: await text(response) };
}

async function connect(to: TestGateway): Promise<WebSocket> {
  const client = new WebSocket(`ws://127.0.0.1:${to.port}/`);
  client.on('error', () => {});
  open.push({
    async close() {
      client.terminate();
    },
  });
  await once(client, 'open');
  return client;
}

async function echo(client: WebSocket, message: string): Promise<string> {
  client.send(message);
  return String((await once(client, 'message'))[0]);
}

/** The status that a handshake was refused with. */
async function refusedHandshake(to: TestGateway): Promise<number> {
  const client = new WebSocket(`ws://127.0.0.1:${to.port}/`);
  client.on('error', () => {});
  const [, response] = (await once(client, 'unexpected-response')) as [unknown, http.IncomingMessage];
  return response.statusCode!;
}

function stateOf(to: TestGateway): string[] {
  return to.upstream.status.servers.map(({ state }) => state);
}

describe('servers', () => {
  test('share requests by weight, and WebSockets with them', async () => {
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([{ url: a.url, weight: 3 }, b.url]);
    for (let i = 0; i < 36; i++) await ask(to);
    for (let i = 0; i < 4; i++) await connect(to);
    expect([a.count, b.count]).toEqual([30, 10]);
    expect(to.upstream.status.servers.map(({ requests, active, sockets }) => [requests, active, sockets])).toEqual([
      [30, 3, 3],
      [10, 1, 1],
    ]);
  });

  test('with least connections get a WebSocket where there are fewest', async () => {
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([a.url, b.url], { balance: 'least-connections' });
    const clients = [await connect(to), await connect(to), await connect(to), await connect(to)];
    expect([a.count, b.count]).toEqual([2, 2]);
    for (const client of clients) if ((await echo(client, 'x')).startsWith('a')) client.close();
    await until(() => to.upstream.status.servers[0]!.active === 0);
    await connect(to);
    await connect(to);
    expect([a.count, b.count]).toEqual([4, 2]);
  });

  test('may be Unix sockets, for requests and WebSockets', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-unix-'));
    const one = await backend({ name: 'unix', path: join(folder, 'app.sock') });
    const to = await gateway([one.url]);
    expect(await ask(to)).toMatchObject({ status: 200, body: 'unix' });
    expect(await echo(await connect(to), 'hello')).toBe('unix: hello');
    await one.close();
    rmSync(folder, { recursive: true, force: true });
    expect((await ask(to)).status).toBe(503);
  });

  test('may be written ws:', async () => {
    const one = await backend();
    const to = await gateway([one.url.replace('http', 'ws')]);
    expect((await ask(to)).status).toBe(200);
    expect(await echo(await connect(to), 'hello')).toBe('backend: hello');
  });

  test.each([
    [{ servers: ['http://a', 'http://a:80/'] }, /http:\/\/a is there already/],
    [{ servers: [{ url: 'http://a', weight: 0 }] }, /weight of http:\/\/a is below 1/],
    [{ servers: ['https://a?x'] }, /write http:\/\/host:port or unix:/],
    [{ servers: ['unix:'] }, /not a server: "unix:"/],
  ])('%j is a TypeError', async (options, message) => {
    expect(() => new TestGateway(options.servers)).toThrow(message);
  });
});

describe('TLS to a server', () => {
  const authority = createAuthority('backend authority');
  const other = createAuthority('somebody');
  let certificate: { certificate: string; key: string };

  beforeAll(() => {
    certificate = createCertificate({ name: 'localhost', authority });
  });

  const secure = (more: https.ServerOptions = {}) =>
    backend({ name: 'tls', tls: { cert: certificate.certificate, key: certificate.key, ...more } });
  const ca = authority.certificate;

  test('is verified by the CA of the upstream, and used for requests and WebSockets', async () => {
    const one = await secure();
    const to = await gateway([one.url], { tls: { ca } });
    expect(await ask(to)).toMatchObject({ status: 200, body: 'tls' });
    expect(await ask(to)).toMatchObject({ status: 200, body: 'tls' });
    expect(one.connections).toBe(1);
    expect(await echo(await connect(to), 'hello')).toBe('tls: hello');
    const wss = await gateway([one.url.replace('https', 'wss')], { tls: { ca } });
    expect(await echo(await connect(wss), 'hello')).toBe('tls: hello');
  });

  test.each<[string, GatewayOptions['tls']]>([
    ['an authority that is not known', {}],
    ['another authority', { ca: other.certificate }],
    ['another name', { ca, serverName: 'other.example' }],
  ])('with %s is a 502, and nothing is sent', async (_, options) => {
    const one = await secure();
    const to = await gateway([one.url], { tls: options! });
    expect((await ask(to, { method: 'POST', body: 'secret' })).status).toBe(502);
    expect(await refusedHandshake(to)).toBe(502);
    expect(one.count).toBe(0);
    expect(await to.outcome()).toMatchObject({
      code: 'ERR_UPSTREAM_BAD_ANSWER',
      reason: expect.stringContaining('tls'),
    });
  });

  test('takes a certificate of another name when that is the one asked for', async () => {
    const names: (string | false)[] = [];
    const inner = createCertificate({ name: 'backend.internal', authority });
    const one = await secure({
      cert: inner.certificate,
      key: inner.key,
      SNICallback: (name, done) => {
        names.push(name);
        done(null);
      },
    });
    const to = await gateway([one.url], { tls: { ca, serverName: 'backend.internal' } });
    expect((await ask(to)).status).toBe(200);
    expect(names).toEqual(['backend.internal']);
  });

  test('takes any certificate with verify: false', async () => {
    const one = await secure();
    expect((await ask(await gateway([one.url], { tls: { verify: false } }))).status).toBe(200);
  });

  test('shows our certificate to a server that asks for one', async () => {
    const subjects: string[] = [];
    const one = await backend({
      tls: {
        cert: certificate.certificate,
        key: certificate.key,
        ca: other.certificate,
        requestCert: true,
        rejectUnauthorized: true,
      },
      onRequest: (request, response) => {
        subjects.push(String((request.socket as tls.TLSSocket).getPeerCertificate().subject.CN));
        response.end();
      },
    });
    const own = createCertificate({ name: 'gateway', authority: other });
    expect((await ask(await gateway([one.url], { tls: { ca, ...own } }))).status).toBe(200);
    expect(subjects).toEqual(['gateway']);
    expect((await ask(await gateway([one.url], { tls: { ca } }))).status).toBe(502);
  });

  test('to a server that speaks none is a 502; a second server gets the request instead', async () => {
    const plain = await listenTcp(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    open.push(plain);
    const to = await gateway([plain.url.replace('http', 'https')], { tls: { ca } });
    expect((await ask(to)).status).toBe(502);
    const one = await secure();
    const both = await gateway([plain.url.replace('http', 'https'), one.url], { tls: { ca } });
    expect(await ask(both, { method: 'POST', body: 'x' })).toMatchObject({ status: 200, body: 'tls' });
  });

  test('that never comes to an end is a 504 after the connect timeout', async () => {
    const clock = new FakeClock();
    const arrived = Promise.withResolvers<void>();
    const silent = await listenTcp(() => arrived.resolve());
    open.push(silent);
    const to = await gateway([silent.url.replace('http', 'https')], { clock, tls: { ca } });
    const answer = ask(to);
    await arrived.promise;
    await setImmediate();
    await clock.advance(5_000);
    expect((await answer).status).toBe(504);
  });
});

describe('a server that cannot be reached', () => {
  test('costs the connect timeout once: others take what follows, and it is tried again by us', async () => {
    const clock = new FakeClock();
    const deaf = await listenDeaf();
    open.push(deaf);
    const good = await backend();
    const to = await gateway([deaf.url, good.url], { clock });
    const arrived = once(to.server, 'request');
    const first = ask(to, { method: 'POST', body: 'not yet sent' });
    await arrived;
    await setImmediate();
    await clock.advance(5_000);
    expect((await first).status).toBe(200);
    expect(stateOf(to)).toEqual(['ejected', 'in-service']);
    for (let i = 0; i < 5; i++) expect((await ask(to)).status).toBe(200);
    expect(good.count).toBe(6);
    expect(to.upstream.status).toMatchObject({ retries: 1, servers: [{ requests: 1, failures: 1, ejections: 1 }, {}] });
  });

  test('alone is a 504 once, then 503 with Retry-After at once', async () => {
    const clock = new FakeClock();
    const deaf = await listenDeaf();
    open.push(deaf);
    const to = await gateway([deaf.url], { clock });
    const arrived = once(to.server, 'request');
    const first = ask(to);
    await arrived;
    await setImmediate();
    await clock.advance(5_000);
    expect((await first).status).toBe(504);
    expect(await ask(to)).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(await refusedHandshake(to)).toBe(503);
  });

  test('because it refuses is asked again when there is no other, so that it is back as soon as it can', async () => {
    const url = (await unusedServer()).replace('127.0.0.1', 'localhost');
    const to = await gateway([url]);
    expect(await ask(to)).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    expect(stateOf(to)).toEqual(['ejected']);
    await backend({ port: Number(new URL(url).port) });
    expect((await ask(to)).status).toBe(200);
    expect(stateOf(to)).toEqual(['in-service']);
  });

  test('is back after its time when it takes a connection, and stays out twice as long when it does not', async () => {
    const clock = new FakeClock();
    const url = await unusedServer();
    const good = await backend({ name: 'good' });
    const to = await gateway([url, good.url], { clock, ejection: { time: '1s', maxTime: '3s' } });
    await ask(to);
    expect(to.upstream.status.servers[0]).toMatchObject({ state: 'ejected', returnsInMs: 1000 });
    const backOffs: number[] = [];
    for (let wait = 1000, i = 0; i < 3; i++) {
      await clock.advance(wait);
      await until(() => to.upstream.status.servers[0]!.returnsInMs > 0);
      wait = to.upstream.status.servers[0]!.returnsInMs;
      backOffs.push(wait);
    }
    expect(backOffs).toEqual([2000, 3000, 3000]);
    const returned = await backend({ name: 'returned', port: Number(new URL(url).port) });
    await clock.advance(2_999);
    expect(returned.connections).toBe(0);
    await clock.advance(1);
    await until(() => stateOf(to)[0] === 'in-service');
    expect(returned.count).toBe(0);
    const bodies = [(await ask(to)).body, (await ask(to)).body];
    expect(bodies.toSorted()).toEqual(['good', 'returned']);
  });

  test('is out of service for handshakes, too, and for whoever it was that found out', async () => {
    const good = await backend();
    const to = await gateway([await unusedServer(), good.url]);
    await connect(to);
    expect(stateOf(to)).toEqual(['ejected', 'in-service']);
    for (let i = 0; i < 3; i++) await connect(to);
    expect(to.upstream.status.retries).toBe(1);
  });

  test('does not go out of service with ejection: false', async () => {
    const to = await gateway([await unusedServer(), (await backend()).url], { ejection: false });
    for (let i = 0; i < 4; i++) expect((await ask(to)).status).toBe(200);
    expect(to.upstream.status).toMatchObject({ retries: 2, servers: [{ state: 'in-service' }, {}] });
  });
});

describe('a server that fails what it is asked', () => {
  test('five times in a row is out of service; one good answer in between begins anew', async () => {
    let isGood = false;
    const flaky = await backend({
      name: 'flaky',
      onRequest: (request, response) => {
        // A kept connection that it closes would be no failure.
        if (isGood) response.writeHead(200, { Connection: 'close' }).end('flaky');
        else request.socket.destroy();
      },
    });
    const clock = new FakeClock();
    const to = await gateway([flaky.url, (await backend({ name: 'good' })).url], { balance: 'in-order', clock });
    for (let i = 0; i < 4; i++) expect((await ask(to, { method: 'POST' })).status).toBe(502);
    isGood = true;
    expect((await ask(to)).body).toBe('flaky');
    isGood = false;
    for (let i = 0; i < 5; i++) expect((await ask(to, { method: 'POST' })).status).toBe(502);
    expect((await ask(to)).body).toBe('good');
    // It takes connections, so it is back, on trial: one more failure, and it is out for longer.
    await clock.advance(1_000);
    await until(() => stateOf(to)[0] === 'in-service');
    expect((await ask(to, { method: 'POST' })).status).toBe(502);
    expect(to.upstream.status.servers[0]).toMatchObject({ state: 'ejected', returnsInMs: 2000 });
  });

  test('by closing kept connections does not fail: that is its right', async () => {
    const sockets = new Set<net.Socket>();
    const one = await listenTcp(socket => {
      let requests = 0;
      socket.on('data', () => {
        // Like a server whose time for idle connections is over when the next request is on its way.
        if (++requests === 2) socket.destroy();
        else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      });
      sockets.add(socket);
    });
    open.push(one);
    const to = await gateway([one.url], { ejection: { failures: 1 } });
    for (let i = 0; i < 3; i++) {
      expect((await ask(to, { method: 'POST' })).status).toBe(200);
      expect((await ask(to, { method: 'POST' })).status).toBe(502);
      expect(stateOf(to)).toEqual(['in-service']);
    }
    expect(sockets.size).toBe(3);
  });

  test('with a status is no failure: that is for the application to say', async () => {
    const one = await backend({ onRequest: (_, response) => response.writeHead(503).end() });
    const to = await gateway([one.url]);
    for (let i = 0; i < 10; i++) expect((await ask(to)).status).toBe(503);
    expect(to.upstream.status.servers[0]).toMatchObject({ state: 'in-service', failures: 0 });
  });
});

describe('retries', () => {
  test('never follow a request of which a byte was sent', async () => {
    const broken = await backend({ onRequest: request => request.socket.destroy() });
    const good = await backend();
    const to = await gateway([broken.url, good.url], { balance: 'in-order' });
    expect((await ask(to)).status).toBe(502);
    expect((await ask(to, { method: 'POST', body: 'x' })).status).toBe(502);
    expect(good.count).toBe(0);
  });

  test('follow a handshake that broke off without an answer', async () => {
    const broken = await listenTcp(socket => socket.once('data', () => socket.destroy()));
    open.push(broken);
    const to = await gateway([broken.url, (await backend({ name: 'good' })).url]);
    expect(await echo(await connect(to), 'hello')).toBe('good: hello');
  });

  test('do not follow a handshake that was answered, be it with garbage', async () => {
    const garbage = await listenTcp(socket => socket.once('data', () => socket.end('garbage\r\n\r\n')));
    open.push(garbage);
    const good = await backend();
    expect(await refusedHandshake(await gateway([garbage.url, good.url]))).toBe(502);
    expect(good.count).toBe(0);
  });

  test('are as many as the upstream allows', async () => {
    const unused = await Promise.all([1, 2, 3].map(unusedServer));
    const good = await backend();
    const to = await gateway([...unused, good.url], { retries: 2, balance: 'in-order' });
    expect((await ask(to)).status).toBe(503);
    expect((await ask(to)).status).toBe(200);
    const none = await gateway([await unusedServer(), good.url], { retries: 0, balance: 'in-order' });
    expect((await ask(none)).status).toBe(503);
  });

  test('are bounded by a budget: ten at once, then a fifth of the requests', async () => {
    const clock = new FakeClock();
    const to = await gateway([await unusedServer(), (await backend()).url], {
      clock,
      ejection: false,
      balance: 'in-order',
    });
    const statuses: number[] = [];
    for (let i = 0; i < 40; i++) statuses.push((await ask(to)).status);
    const retried = statuses.filter(status => status === 200).length;
    expect(statuses.slice(0, 10)).toEqual(Array(10).fill(200));
    // 10 + 0.2 for each of them.
    expect(retried).toBeGreaterThanOrEqual(17);
    expect(retried).toBeLessThanOrEqual(18);
    await clock.advance(3_000);
    for (let i = 0; i < 3; i++) expect((await ask(to)).status).toBe(200);
  });
});

describe('active checks', () => {
  const health = { path: '/healthz', interval: '10s', timeout: '2s', unhealthyAfter: 2, healthyAfter: 2 };

  test('by HTTP take a server out after failing twice, and back after succeeding twice', async () => {
    const clock = new FakeClock();
    let status = 200;
    const checks: (string | undefined)[] = [];
    const server = (name: string, healthOf: () => number) =>
      backend({
        onRequest: (request, response) => {
          const isCheck = request.url === '/healthz';
          if (isCheck) checks.push(request.headers['user-agent']);
          response.writeHead(isCheck ? healthOf() : 200).end(name);
        },
      });
    const [checked, other] = [await server('checked', () => status), await server('other', () => 200)];
    const to = await gateway([checked.url, other.url], { clock, health, balance: 'in-order' });
    to.upstream.start();
    const check = (count: number) => until(() => checks.length === 2 * count && checked.open === 0 && other.open === 0);
    await check(1);
    status = 500;
    await clock.advance(10_000);
    await check(2);
    expect(stateOf(to)[0]).toBe('in-service');
    await clock.advance(10_000);
    await check(3);
    expect(stateOf(to)[0]).toBe('unhealthy');
    expect((await ask(to)).body).toBe('other');
    status = 204;
    await clock.advance(10_000);
    await check(4);
    expect(stateOf(to)[0]).toBe('unhealthy');
    await clock.advance(10_000);
    await check(5);
    expect(stateOf(to)[0]).toBe('in-service');
    expect((await ask(to)).body).toBe('checked');
    expect(new Set(checks)).toEqual(new Set(['Holdfast-Health-Check']));
  });

  test('by WebSocket are a real handshake: a server that answers HTTP only is unhealthy', async () => {
    const closes: [number, string][] = [];
    const webSockets = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/live' });
    open.push({ close: () => new Promise(resolve => webSockets.close(resolve)) });
    webSockets.on('connection', socket => socket.on('close', (code, reason) => closes.push([code, String(reason)])));
    await once(webSockets, 'listening');
    const plain = await listenTcp(socket => {
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
    });
    open.push(plain);
    const url = `http://127.0.0.1:${(webSockets.address() as AddressInfo).port}`;
    const to = await gateway([url, plain.url], {
      health: { path: '/live', websocket: true, interval: '20ms', timeout: '2s', unhealthyAfter: 1, healthyAfter: 1 },
    });
    to.upstream.start();
    await until(() => stateOf(to)[1] === 'unhealthy' && closes.length > 1);
    expect(stateOf(to)).toEqual(['in-service', 'unhealthy']);
    // It says goodbye.
    expect(new Set(closes.map(String))).toEqual(new Set(['1000,']));
  });

  /** A server of one connection at a time that answers each request with the next of these bytes. */
  async function answering(...answers: string[]): Promise<{ url: string; isAnswered(count: number): boolean }> {
    let begun = 0;
    let closed = 0;
    const server = await listenTcp(socket => {
      socket.on('close', () => closed++);
      socket.once('data', () => socket.write(answers[Math.min(begun++, answers.length - 1)]!, 'latin1'));
    });
    open.push(server);
    return { url: server.url, isAnswered: count => begun === count && closed === count };
  }

  test.each([
    ['chunked', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'],
    ['that ends with the connection', 'HTTP/1.1 200 OK\r\n\r\nok'],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    [
      'behind interim ones',
      'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\n\r\n',
    ],
    ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['of which most is still to come', `HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n${'x'.repeat(100_000)}`],
  ])('take an answer %s for a good one, and close the connection', async (_what, answer) => {
    const clock = new FakeClock();
    const server = await answering('HTTP/1.1 500 Not yet\r\n\r\n', answer);
    const to = await gateway([server.url], { clock, health: { ...health, unhealthyAfter: 1, healthyAfter: 1 } });
    to.upstream.start();
    await until(() => server.isAnswered(1));
    expect(stateOf(to)).toEqual(['unhealthy']);
    await clock.advance(10_000);
    await until(() => server.isAnswered(2));
    expect(stateOf(to)).toEqual(['in-service']);
    // For the next check.
    expect(clock.pending).toBe(1);
  });

  test.each([
    ['a folded header line', 'HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok'],
    ['two codings', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.9\r\n'],
    [
      'a protocol that was not asked for',
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
    ],
  ])(
    'take a server that answers with %s out of service, as no request could get its answers',
    async (_what, answer) => {
      const clock = new FakeClock();
      const server = await answering(answer);
      const to = await gateway([server.url], { clock, health: { ...health, unhealthyAfter: 1 } });
      expect((await ask(to)).status).toBe(502);
      to.upstream.start();
      await until(() => stateOf(to)[0] === 'unhealthy');
      await until(() => server.isAnswered(2));
      expect(clock.pending).toBe(1);
    },
  );

  test('send what is configured in the place of their own headers', async () => {
    const heads: string[] = [];
    const server = await listenTcp(socket => {
      socket.once('data', bytes => {
        heads.push(String(bytes));
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
      });
    });
    open.push(server);
    const headers = { host: 'app.example', 'X-Probe': '1' };
    const to = await gateway([server.url], { health: { ...health, headers } });
    to.upstream.start();
    await until(() => heads.length === 1);
    const [line, ...lines] = heads[0]!.trimEnd().split('\r\n');
    expect(line).toBe('GET /healthz HTTP/1.1');
    expect(lines.sort()).toEqual([
      'Connection: close',
      'User-Agent: Holdfast-Health-Check',
      'X-Probe: 1',
      'host: app.example',
    ]);
  });

  test('cannot have headers that no request can have', async () => {
    const headers = { 'X-Probe': 'a\r\nb' };
    expect(() => new TestGateway(['http://a'], { health: { headers } })).toThrow(/health.*headers/);
  });

  test.each([false, true])('reach a server over TLS and over a Unix socket (websocket: %s)', async websocket => {
    const authority = createAuthority('backend authority');
    const { certificate, key } = createCertificate({ name: 'localhost', authority });
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-'));
    open.push({ close: async () => rmSync(folder, { recursive: true }) });
    const servers = [
      await backend({ tls: { cert: certificate, key } }),
      await backend({ path: join(folder, 'socket') }),
      await backend({ tls: createCertificate({ name: 'localhost', authority: createAuthority('somebody') }) }),
    ];
    const to = await gateway(
      servers.map(({ url }) => url),
      { clock: new FakeClock(), tls: { ca: authority.certificate }, health: { websocket, unhealthyAfter: 1 } },
    );
    to.upstream.start();
    await until(() => servers.every(server => server.connections === 1 && server.open === 0));
    expect(stateOf(to)).toEqual(['in-service', 'in-service', 'unhealthy']);
    expect(servers.map(({ count }) => count)).toEqual([1, 1, 0]);
  });

  test('that time out have failed; when none is healthy the answer is 503', async () => {
    const clock = new FakeClock();
    let asked = 0;
    const silent = await backend({ onRequest: () => void asked++ });
    const to = await gateway([silent.url], { clock, health: { ...health, unhealthyAfter: 1 } });
    to.upstream.start();
    await until(() => asked === 1);
    await clock.advance(2_000);
    await until(() => stateOf(to)[0] === 'unhealthy');
    expect((await ask(to)).status).toBe(503);
    expect(await to.outcome()).toMatchObject({
      code: 'ERR_UPSTREAM_UNAVAILABLE',
      reason: 'upstream "app" has no usable server: every one is unhealthy',
    });
  });

  test('end with the upstream', async () => {
    const clock = new FakeClock();
    const one = await backend();
    const to = await gateway([one.url], { clock, health });
    to.upstream.start();
    await until(() => one.count === 1 && one.open === 0);
    expect(clock.pending).toBe(1);
    await to.upstream.close();
    expect(clock.pending).toBe(0);
  });
});

describe('at run time', () => {
  /** The code and the time at which each client was closed. */
  function closings(clients: WebSocket[], clock: FakeClock): [code: number, atMs: number][] {
    const seen: [number, number][] = [];
    for (const client of clients) client.on('close', code => seen.push([code, clock.monotonic()]));
    return seen;
  }

  test('a server is added and takes its share', async () => {
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([a.url]);
    await ask(to);
    to.upstream.add({ url: b.url, weight: 2 });
    for (let i = 0; i < 6; i++) await ask(to);
    expect([a.count, b.count]).toEqual([3, 4]);
    expect(() => to.upstream.add(b.url)).toThrow(/is there already/);
  });

  test('a server that drains closes its WebSockets with 1012, spread evenly over the time, and takes nothing new', async () => {
    const clock = new FakeClock();
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([a.url, b.url], { clock });
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect(to)));
    const names = await Promise.all(clients.map(client => echo(client, 'x')));
    const leaving = clients.filter((_, i) => names[i] === 'a: x');
    const staying = clients.filter((_, i) => names[i] === 'b: x');
    expect(leaving.length).toBe(10);
    const seen = closings(leaving, clock);
    let isDrained = false;
    const drained = to.upstream.drain(a.url, { over: '10s' }).then(() => {
      isDrained = true;
    });
    expect(stateOf(to)).toEqual(['draining', 'in-service']);
    for (let second = 1; second <= 10; second++) {
      await clock.advance(1_000);
      await until(() => seen.length === second);
      expect(isDrained && second < 10).toBe(false);
    }
    await drained;
    expect(seen.map(([code]) => code)).toEqual(Array(10).fill(1012));
    expect(seen.map(([, at]) => at)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(second => second * 1000));
    for (const client of staying) expect(await echo(client, 'y')).toBe('b: y');
    expect(await echo(await connect(to), 'z')).toBe('b: z');
    to.upstream.resume(a.url);
    expect(await echo(await connect(to), 'z')).toMatch(/^[ab]: z$/);
    expect(stateOf(to)).toEqual(['in-service', 'in-service']);
  });

  test('a server that drains may keep its WebSockets until they end', async () => {
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([a.url, b.url], { balance: 'in-order' });
    const client = await connect(to);
    let isDrained = false;
    const drained = to.upstream.drain(a.url, { sockets: 'stay' }).then(() => {
      isDrained = true;
    });
    expect((await ask(to)).body).toBe('b');
    expect(await echo(client, 'x')).toBe('a: x');
    expect(isDrained).toBe(false);
    client.close();
    await drained;
  });

  test('a server that is removed is gone when its last request is answered; its WebSockets close with 1012', async () => {
    const held = Promise.withResolvers<http.ServerResponse>();
    const a = await backend({ name: 'a', onRequest: (_, response) => held.resolve(response) });
    const b = await backend({ name: 'b' });
    const to = await gateway([a.url, b.url], { balance: 'in-order' });
    const client = await connect(to);
    const closed = once(client, 'close');
    const answer = ask(to);
    const response = await held.promise;
    const removed = to.upstream.remove(a.url, { over: 0 });
    expect((await closed)[0]).toBe(1012);
    expect(to.upstream.status.servers.map(({ url, state }) => [url, state])).toEqual([
      [b.url, 'in-service'],
      [a.url, 'draining'],
    ]);
    expect((await ask(to)).body).toBe('b');
    response.end('late');
    expect((await answer).body).toBe('late');
    await removed;
    expect(to.upstream.status.servers.map(({ url }) => url)).toEqual([b.url]);
    await to.upstream.remove(b.url);
    expect(await ask(to)).toMatchObject({ status: 503 });
    expect(to.outcomes.at(-1)).toMatchObject({ reason: 'upstream "app" has no usable server: every one was removed' });
  });

  test('a handshake that is answered while its server drains is closed at once', async () => {
    const upgraded = Promise.withResolvers<() => void>();
    const webSockets = new WebSocketServer({ noServer: true });
    const server = http.createServer().on('upgrade', (request, socket, early) => {
      upgraded.resolve(() => webSockets.handleUpgrade(request, socket as net.Socket, early, () => {}));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    open.push({
      close: () => {
        server.closeAllConnections();
        return new Promise(resolve => server.close(resolve));
      },
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const to = await gateway([url]);
    const connecting = connect(to);
    const upgrade = await upgraded.promise;
    const drained = to.upstream.drain(url, { over: 0 });
    upgrade();
    const client = await connecting;
    expect((await once(client, 'close'))[0]).toBe(1012);
    await drained;
  });

  test('names that are not there and times without end are TypeErrors, and change nothing', async () => {
    const one = await backend();
    const to = await gateway([one.url]);
    await expect(to.upstream.remove('http://nobody')).rejects.toThrow(/has no server http:\/\/nobody; it has http/);
    await expect(to.upstream.remove(one.url, { over: -1 })).rejects.toThrow(/needs an end/);
    await expect(to.upstream.drain(one.url, { over: -1 })).rejects.toThrow(/needs an end/);
    expect(() => to.upstream.resume('nobody')).toThrow(TypeError);
    expect(stateOf(to)).toEqual(['in-service']);
  });
});

describe('the pool of a server', () => {
  test('holds as many connections as it may; more requests wait for a free one', async () => {
    const waiting: http.ServerResponse[] = [];
    const one = await backend({ onRequest: (_, response) => waiting.push(response) });
    const to = await gateway([one.url], { maxConnections: 2 });
    const answers = [ask(to), ask(to), ask(to)];
    await until(() => waiting.length === 2 && to.upstream.status.servers[0]!.active === 3);
    expect(one.connections).toBe(2);
    waiting.shift()!.end('x');
    await until(() => waiting.length === 2);
    for (const response of waiting) response.end('x');
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(one.connections).toBe(2);
  });

  test('that stays full for the connect timeout passes requests to another server, and is not to blame', async () => {
    const clock = new FakeClock();
    let asked = 0;
    const one = await backend({ onRequest: () => void asked++ });
    const other = await backend({ name: 'other' });
    const to = await gateway([one.url, other.url], { clock, maxConnections: 1, balance: 'in-order' });
    const cut = new AbortController();
    const held = ask(to, { signal: cut.signal }).catch(() => {});
    await until(() => asked === 1);
    const second = ask(to);
    await until(() => to.upstream.status.servers[0]!.active === 2);
    await clock.advance(5_000);
    expect((await second).body).toBe('other');
    expect(stateOf(to)).toEqual(['in-service', 'in-service']);
    cut.abort();
    await held;
  });

  test('keeps as many idle connections as it may', async () => {
    const one = await backend({ onRequest: (_, response) => void setTimeout(() => response.end(), 30) });
    const to = await gateway([one.url], { maxIdleConnections: 1 });
    await Promise.all([ask(to), ask(to), ask(to)]);
    expect(one.connections).toBe(3);
    await Promise.all([ask(to), ask(to)]);
    expect(one.connections).toBe(4);
  });

  test('closes an idle connection after its time, and none that waits for more of an answer', async () => {
    const one = await backend({
      onRequest: (request, response) => {
        response.write('begun, ');
        setTimeout(() => response.end('ended'), request.url === '/slow' ? 400 : 0);
      },
    });
    const to = await gateway([one.url], { idleConnectionTimeout: '100ms' });
    expect((await ask(to, { path: '/slow' })).body).toBe('begun, ended');
    expect((await ask(to)).body).toBe('begun, ended');
    expect(one.connections).toBe(1);
    await until(() => one.open === 0);
    await ask(to);
    expect(one.connections).toBe(2);
  });

  test('does not use a connection again that the server is about to close', async () => {
    const one = await backend({
      onRequest: (_, response) => void response.writeHead(200, { 'Keep-Alive': 'timeout=1' }).end(),
    });
    const to = await gateway([one.url]);
    for (let i = 0; i < 3; i++) await ask(to);
    expect(one.connections).toBe(3);
  });
});

describe('affinity', () => {
  test('by cookie reaches the client with the answer and with the 101, stays with us, and makes the answer private', async () => {
    const cookies: (string | undefined)[] = [];
    const options = (name: string) => ({
      name,
      onRequest: (request: http.IncomingMessage, response: http.ServerResponse) => {
        cookies.push(request.headers.cookie);
        response.writeHead(200, {
          'Cache-Control': 'public, max-age=60',
          'Set-Cookie': ['own=1', 'holdfast-app=fake'],
        });
        response.end(name);
      },
    });
    const [a, b] = [await backend(options('a')), await backend(options('b'))];
    const to = await gateway([a.url, b.url], { affinity: 'cookie', keys: ['k'.repeat(32)] });
    const first = await ask(to);
    expect(first.headers['set-cookie']).toEqual(['own=1', expect.stringMatching(/^holdfast-app=[\w-]{22}; Path=\/; /)]);
    expect(first.headers['cache-control']).toBe('private, no-cache');
    const cookie = first.headers['set-cookie']![1]!.split(';')[0]!;
    for (let i = 0; i < 3; i++) {
      const next = await ask(to, { headers: { Cookie: `x=1; ${cookie}` } });
      expect([next.body, next.headers['set-cookie'], next.headers['cache-control']]).toEqual([
        first.body,
        ['own=1'],
        'public, max-age=60',
      ]);
    }
    expect(cookies).toEqual([undefined, 'x=1', 'x=1', 'x=1']);
    const client = new WebSocket(`ws://127.0.0.1:${to.port}/`);
    open.push({ close: async () => client.terminate() });
    const [upgrade] = (await once(client, 'upgrade')) as [http.IncomingMessage];
    expect(upgrade.headers['set-cookie']).toEqual([expect.stringMatching(/^holdfast-app=[\w-]{22}; /)]);
  });

  test('brings requests and WebSockets of a session to one server, and moves both when it is gone', async () => {
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([a.url, b.url], { sid: 'the session' });
    const { body } = await ask(to);
    const [home, other] = body === 'a' ? [a, b] : [b, a];
    for (let i = 0; i < 3; i++) expect((await ask(to)).body).toBe(body);
    expect(await echo(await connect(to), 'x')).toBe(`${body}: x`);
    expect(other.count).toBe(0);
    await home.close();
    expect((await ask(to)).body).not.toBe(body);
    expect(await echo(await connect(to), 'x')).not.toBe(`${body}: x`);
    expect(to.upstream.status.moves).toBe(1);
  });

  test('strict is a 503 while the server of the session is gone', async () => {
    const [a, b] = [await backend({ name: 'a' }), await backend({ name: 'b' })];
    const to = await gateway([a.url, b.url], { sid: 'the session', affinity: { by: 'session', strict: true } });
    const { body } = await ask(to);
    const home = body === 'a' ? a : b;
    await home.close();
    expect(await ask(to)).toMatchObject({ status: 503, headers: { 'retry-after': expect.any(String) } });
    expect(await refusedHandshake(to)).toBe(503);
    await backend({ name: body, port: Number(new URL(home.url).port) });
    expect((await ask(to)).body).toBe(body);
    expect(to.upstream.status.moves).toBe(0);
  });
});
