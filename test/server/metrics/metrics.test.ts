import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { silentLogger } from '../../../src/base/logger.ts';
import { testClient } from '../../../src/testing/test-client.ts';
import { writeSelfSignedCertificate } from '../../self-signed-certificate.ts';
import { closing } from '../../services/closing.ts';
import { Http2Client } from '../http2-client.ts';
import { samplesOf } from './samples.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-metrics-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
const open = closing();

async function start(config: Config): Promise<Server> {
  const server = createServer(
    { listen: [{ port: 0, host: '127.0.0.1' }], dataFolder: folder, session: false, metrics: true, ...config },
    { logger: silentLogger },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return server;
}

async function read(server: Server): Promise<Map<string, number>> {
  return samplesOf((await server.metrics()).body);
}

/** Waits until this number is there: what happens to sockets is known a moment after their peers know it. */
async function until(server: Server, name: string, value: number): Promise<void> {
  await expect.poll(async () => (await read(server)).get(name)).toBe(value);
}

async function backend(): Promise<string> {
  const answers = http.createServer((_, response) => response.end('ok'));
  new WebSocketServer({ server: answers }).on('connection', socket => socket.on('message', data => socket.send(data)));
  await new Promise<void>(resolve => answers.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => {
      answers.closeAllConnections();
      return new Promise(resolve => answers.close(resolve));
    },
  });
  return `http://127.0.0.1:${(answers.address() as { port: number }).port}`;
}

const echo = defineEndpoint({
  path: '/echo',
  onMessage: (connection, data) => {
    connection.send(data);
  },
});

describe('metrics of a server', () => {
  test('without "metrics: true" a server counts nothing and says what to do', async () => {
    const server = await start({ metrics: false, admin: { port: 0 } });
    await expect(server.metrics()).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_SERVER_STATE', message: expect.stringContaining('metrics: true') }),
    );
  });

  test('/metrics of an admin port has them, for whoever has the token, and without "metrics: false"', async () => {
    const admin = { port: 0 };
    const server = await start({ metrics: undefined, admin } as Config);
    const authorization = `Bearer ${readFileSync(join(folder, 'keys/admin.token'), 'utf8').trim()}`;
    const answer = await fetch(new URL('/metrics', server.adminUrl), { headers: { authorization } });
    expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(samplesOf(await answer.text()).get('holdfast_draining')).toBe(0);
    expect((await fetch(new URL('/metrics', server.adminUrl))).status).toBe(401);
    const without = await start({ metrics: false, admin });
    expect((await fetch(new URL('/metrics', without.adminUrl), { headers: { authorization } })).status).toBe(404);
  });

  test('requests are counted by route and status, with their durations', async () => {
    const routes = [{ path: '/hello', name: 'hello', fetch: () => new Response('hello') }];
    const server = await start({ routes });
    for (let i = 0; i < 3; i++) await (await fetch(`${server.urls[0]}/hello`)).text();
    await (await fetch(`${server.urls[0]}/nowhere`)).text();
    await until(server, 'holdfast_requests_total{route="none",status="404"}', 1);
    const samples = await read(server);
    expect(samples.get('holdfast_requests_total{route="hello",status="200"}')).toBe(3);
    expect(samples.get('holdfast_request_duration_seconds_count{route="hello"}')).toBe(3);
    expect(samples.get('holdfast_request_duration_seconds_bucket{le="+Inf",route="hello"}')).toBe(3);
    expect(samples.get('holdfast_request_duration_seconds_sum{route="hello"}')).toBeGreaterThan(0);
    expect(samples.get('holdfast_refusals_total{kind="request",code="ERR_ROUTE_NOT_FOUND"}')).toBe(1);
    expect(samples.get('holdfast_requests_in_progress')).toBe(0);
    expect(samples.get('holdfast_connections_accepted_total')).toBeGreaterThan(0);
  });

  test('requests are counted the same with an access log', async () => {
    const routes = [{ path: '/hello', name: 'hello', fetch: () => new Response('hello') }];
    const lines: string[] = [];
    const server = createServer(
      { listen: [{ port: 0, host: '127.0.0.1' }], session: false, metrics: true, routes, log: { access: 'json' } },
      { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    open.push({ close: () => server.stop({ drain: 0 }) });
    await (await fetch(`${server.urls[0]}/hello`)).text();
    await until(server, 'holdfast_requests_total{route="hello",status="200"}', 1);
    expect((await read(server)).get('holdfast_requests_in_progress')).toBe(0);
    expect(lines).toHaveLength(1);
  });

  test.each(['off', 'json'] as const)(
    'a request over HTTP/2 that needs HTTP/1.1 is counted with its status, with the access log %s',
    async access => {
      const signsIn = http.createServer((_, response) => response.writeHead(401, { 'WWW-Authenticate': 'NTLM' }).end());
      await new Promise<void>(resolve => signsIn.listen(0, '127.0.0.1', resolve));
      open.push({ close: () => signsIn.close() });
      const { certificate, key } = writeSelfSignedCertificate(folder);
      const server = createServer(
        {
          ...{ dataFolder: folder, session: false, metrics: true, log: { access } },
          listen: [{ port: 0, host: '127.0.0.1', tls: { certificate, key } }],
          upstreams: { app: { servers: [`http://127.0.0.1:${(signsIn.address() as { port: number }).port}`] } },
          routes: [{ path: '/*', name: 'app', upstream: 'app' }],
        },
        { logger: silentLogger, accessLog: { write: () => {} } },
      );
      await server.start();
      open.push({ close: () => server.stop({ drain: 0 }) });
      using client = await Http2Client.connect(server.urls[0]!);
      const stream = client.open({ ':path': '/', ':authority': 'localhost' });
      await new Promise(resolve => stream.on('close', resolve));
      await until(server, 'holdfast_requests_total{route="app",status="505"}', 1);
    },
  );

  test('the messages and bytes of an endpoint are counted while its socket is open, and stay when it has closed', async () => {
    const server = await start({ routes: [{ name: 'chat', endpoint: echo }] });
    const client = await testClient(`${server.urls[0]!.replace('http', 'ws')}/echo`);
    client.send('hello');
    await client.receive();
    const labels = 'route="chat",kind="endpoint"';
    const during = await read(server);
    expect(during.get('holdfast_sockets_open{route="chat",kind="endpoint"}')).toBe(1);
    expect(during.get('holdfast_handshakes_total{route="chat",result="accepted"}')).toBe(1);
    expect(during.get(`holdfast_socket_messages_total{${labels},direction="received"}`)).toBe(1);
    expect(during.get(`holdfast_socket_messages_total{${labels},direction="sent"}`)).toBe(1);
    // A client masks, which takes four bytes.
    expect(during.get(`holdfast_socket_bytes_total{${labels},direction="received"}`)).toBe(11);
    expect(during.get(`holdfast_socket_bytes_total{${labels},direction="sent"}`)).toBe(7);
    client.close(1000);
    await until(server, 'holdfast_socket_closes_total{kind="endpoint",code="1000"}', 1);
    const after = await read(server);
    expect(after.get('holdfast_sockets_open{route="chat",kind="endpoint"}')).toBe(0);
    expect(after.get(`holdfast_socket_messages_total{${labels},direction="received"}`)).toBe(1);
    expect(after.get(`holdfast_socket_bytes_total{${labels},direction="received"}`)).toBeGreaterThan(11);
  });

  test('close codes of applications make two series, however many they use', async () => {
    const server = await start({ routes: [{ name: 'chat', endpoint: echo }] });
    for (const code of [3000, 3001, 4000, 4711]) {
      const client = await testClient(`${server.urls[0]!.replace('http', 'ws')}/echo`);
      client.close(code);
      await client.closed;
    }
    await until(server, 'holdfast_socket_closes_total{kind="endpoint",code="4xxx"}', 2);
    expect((await read(server)).get('holdfast_socket_closes_total{kind="endpoint",code="3xxx"}')).toBe(2);
  });

  test('a relay counts as an endpoint does, and its server has a state, requests and sockets', async () => {
    const url = await backend();
    const server = await start({
      upstreams: { app: { servers: [url] } },
      routes: [{ path: '/*', name: 'app', upstream: 'app', websocket: true, policy: { origins: 'any' } }],
    });
    await (await fetch(`${server.urls[0]}/page`)).text();
    const client = await testClient(`${server.urls[0]!.replace('http', 'ws')}/live`);
    client.send('hello');
    await client.receive();
    const at = `upstream="app",server="${url}"`;
    const samples = await read(server);
    expect(samples.get(`holdfast_upstream_server_state{${at},state="in-service"}`)).toBe(1);
    expect(samples.get(`holdfast_upstream_server_state{${at},state="ejected"}`)).toBe(0);
    expect(samples.get(`holdfast_upstream_requests_total{${at}}`)).toBe(2);
    expect(samples.get(`holdfast_upstream_sockets{${at}}`)).toBe(1);
    expect(samples.get(`holdfast_upstream_connections{${at},state="idle"}`)).toBe(1);
    expect(samples.get('holdfast_sockets_open{route="app",kind="relay"}')).toBe(1);
    expect(samples.get('holdfast_socket_messages_total{route="app",kind="relay",direction="received"}')).toBe(1);
    client.close(1000);
    await until(server, 'holdfast_socket_closes_total{kind="relay",code="1000"}', 1);
  });

  test('refused handshakes are counted by the error code', async () => {
    const server = await start({
      routes: [{ name: 'chat', endpoint: echo, policy: { origins: ['https://example.com'] } }],
    });
    const headers = { Origin: 'https://elsewhere.example' };
    await expect(testClient(`${server.urls[0]!.replace('http', 'ws')}/echo`, { headers })).rejects.toThrow();
    await until(server, 'holdfast_handshakes_total{route="chat",result="refused"}', 1);
    const samples = await read(server);
    expect(samples.get('holdfast_refusals_total{kind="handshake",code="ERR_POLICY_ORIGIN"}')).toBe(1);
    expect(samples.get('holdfast_security_events_total{event="refused"}')).toBe(1);
  });

  test('what a limit refuses is counted by the name of the limit', async () => {
    const server = await start({
      routes: [{ path: '/a', fetch: () => new Response('a'), policy: { limits: { requests: '1/h' } } }],
    });
    for (let i = 0; i < 3; i++) await (await fetch(`${server.urls[0]}/a`)).text();
    await until(server, 'holdfast_limits_refused_total{limit="requests"}', 2);
  });

  test('sessions and the calls of their store are counted', async () => {
    const server = await start({
      session: { store: 'memory:' },
      routes: [{ path: '/', session: 'create', fetch: () => new Response('hello') }],
    });
    const first = await fetch(server.urls[0]!);
    await first.text();
    const cookie = first.headers.getSetCookie()[0]!.split(';')[0]!;
    await (await fetch(server.urls[0]!, { headers: { cookie } })).text();
    const samples = await read(server);
    expect(samples.get('holdfast_sessions_created_total')).toBe(1);
    expect(samples.get('holdfast_sessions_in_memory')).toBe(1);
    expect(samples.get('holdfast_store_operations_total{operation="write"}')).toBeGreaterThan(0);
    expect(samples.get('holdfast_store_failures_total{operation="write"}')).toBe(0);
  });

  test('TLS handshakes and the end of the certificate are there', async () => {
    const { certificate, key } = writeSelfSignedCertificate(folder);
    const server = await start({
      listen: [{ port: 0, host: '127.0.0.1', tls: { certificate, key } }],
      routes: [{ path: '/', fetch: () => new Response('hello') }],
    });
    const { port } = new URL(server.urls[0]!);
    const good = tls.connect({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false });
    good.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await new Promise(resolve => good.once('data', resolve));
    good.destroy();
    const bad = tls.connect({ port: Number(port), host: '127.0.0.1', maxVersion: 'TLSv1.1', minVersion: 'TLSv1' });
    await new Promise(resolve => bad.once('error', resolve));
    await until(server, 'holdfast_tls_handshakes_total{result="failed"}', 1);
    const samples = await read(server);
    expect(samples.get('holdfast_tls_handshakes_total{result="completed"}')).toBe(1);
    const expiry = [...samples].find(([name]) => name.startsWith('holdfast_certificate_expiry_timestamp_seconds'));
    expect(expiry![0]).toContain(`listener="${port}"`);
    expect(expiry![1]).toBeGreaterThan(Date.now() / 1_000);
  });

  test('memory, CPU and the delay of the event loop are those of the process', async () => {
    const samples = await read(await start({}));
    expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(1e6);
    expect(samples.has('nodejs_eventloop_lag_p99_seconds')).toBe(true);
    expect(samples.get('holdfast_event_loop_utilization')).toBeGreaterThan(0);
  });

  test('two servers of one process have the metrics of the process each', async () => {
    const [one, other] = [await start({}), await start({})];
    expect((await read(one)).has('process_cpu_seconds_total')).toBe(true);
    expect((await read(other)).has('process_cpu_seconds_total')).toBe(true);
  });

  test('counters go on through reloads, also of what is replaced, and reloads are counted by their result', async () => {
    const [first, second] = [await backend(), await backend()];
    const configOf = (url: string, name: string): Config => ({
      ...{ listen: [{ port: 0, host: '127.0.0.1' }], dataFolder: folder, metrics: true },
      session: { store: 'memory:' },
      upstreams: { app: { servers: [url] } },
      routes: [
        { path: '/app', name: 'app', upstream: 'app' },
        { path: '/made', name, session: 'create', fetch: () => new Response('made') },
      ],
    });
    const server = await start(configOf(first, 'before'));
    const visit = async () => {
      for (const path of ['/app', '/made']) await (await fetch(new URL(path, server.urls[0]))).text();
    };
    await visit();
    await server.reload(configOf(second, 'after'));
    await visit();
    await expect(server.reload({ routes: [{ path: 'no path' }] } as Config)).rejects.toThrow();
    await until(server, 'holdfast_requests_total{route="app",status="200"}', 2);
    const samples = await read(server);
    expect(samples.get('holdfast_requests_total{route="before",status="200"}')).toBe(1);
    expect(samples.get('holdfast_requests_total{route="after",status="200"}')).toBe(1);
    expect(samples.get(`holdfast_upstream_requests_total{upstream="app",server="${first}"}`)).toBe(1);
    expect(samples.get(`holdfast_upstream_requests_total{upstream="app",server="${second}"}`)).toBe(1);
    expect(samples.get('holdfast_sessions_created_total')).toBe(2);
    expect(samples.get('holdfast_reloads_total{result="ok"}')).toBe(1);
    expect(samples.get('holdfast_reloads_total{result="refused"}')).toBe(1);
  });

  test('no client can make a series: a thousand paths and methods are those of one route', async () => {
    const server = await start({ routes: [{ path: '/*', name: 'all', fetch: () => new Response('hello') }] });
    const series = async () => [...(await read(server)).keys()].filter(name => name.startsWith('holdfast_')).length;
    const before = await series();
    for (let i = 0; i < 100; i++) await (await fetch(`${server.urls[0]}/${Math.random()}?${i}`)).text();
    await until(server, 'holdfast_requests_total{route="all",status="200"}', 100);
    // One of its status, and its durations: fourteen buckets, infinity, sum and count.
    expect((await series()) - before).toBe(1 + 17);
  });
});
