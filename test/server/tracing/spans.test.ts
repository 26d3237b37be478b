import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { silentLogger } from '../../../src/base/logger.ts';
import type { ServerEnvironment } from '../../../src/server/server.ts';
import { testClient } from '../../../src/testing/test-client.ts';
import { closing } from '../../services/closing.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`;

const open = closing();

async function start(config: Config, environment: ServerEnvironment = {}): Promise<Server> {
  const server = createServer(
    { listen: [{ port: 0, host: '127.0.0.1' }], session: false, ...config },
    { logger: silentLogger, ...environment },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return server;
}

/** A backend that keeps the headers of what it gets, takes WebSockets and echoes. */
async function backend(): Promise<{ url: string; seen: http.IncomingHttpHeaders[] }> {
  const seen: http.IncomingHttpHeaders[] = [];
  const server = http.createServer((request, response) => {
    seen.push(request.headers);
    response.end('ok');
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket, request) => {
    seen.push(request.headers);
    socket.on('message', data => socket.send(data));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

const toBackend = (url: string): Config => ({
  upstreams: { app: { servers: [url] } },
  routes: [{ path: '/*', name: 'app', upstream: 'app', websocket: true, policy: { origins: 'any' } }],
});

describe('without an SDK', () => {
  test('traceparent and tracestate of a client reach the backend as they are, of requests and handshakes', async () => {
    const { url, seen } = await backend();
    const server = await start(toBackend(url));
    const headers = { traceparent: TRACEPARENT, tracestate: 'vendor=1' };
    await (await fetch(server.urls[0]!, { headers })).text();
    await using _ = await testClient(server.urls[0]!.replace('http', 'ws'), { headers });
    expect(seen).toHaveLength(2);
    for (const got of seen) expect(got).toMatchObject(headers);
  });

  test('the trace id of a client is in the lines of its request, and what is not one is left out', async () => {
    const lines: string[] = [];
    const server = await start(
      { routes: [{ path: '/', fetch: () => new Response('hello') }], log: { access: 'json' } },
      { accessLog: { write: line => lines.push(line) } },
    );
    for (const traceparent of [TRACEPARENT, `00-${'0'.repeat(32)}-${PARENT}-01`, '00-x\\n', 'a'.repeat(10_000)])
      await (await fetch(server.urls[0]!, { headers: { traceparent } })).text();
    await expect.poll(() => lines.length).toBe(4);
    expect(lines.map(line => JSON.parse(line).traceId)).toEqual([TRACE, undefined, undefined, undefined]);
  });
});

describe('with an SDK', () => {
  const exporter = new InMemorySpanExporter();

  beforeAll(() => {
    trace.setGlobalTracerProvider(new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }));
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  });
  afterAll(() => {
    trace.disable();
    context.disable();
    propagation.disable();
  });
  beforeEach(() => exporter.reset());

  const spans = () => exporter.getFinishedSpans();
  const spanOf = (name: string) => spans().find(span => span.name === name);
  const named = async (name: string): Promise<ReadableSpan> => {
    await expect.poll(() => spanOf(name)).toBeDefined();
    return spanOf(name)!;
  };

  test('a request is a span of kind SERVER by the semantic conventions, with one for each part of the flow', async () => {
    const server = await start({
      session: { store: 'memory:' },
      routes: [{ path: '/hello', name: 'hello', fetch: () => new Response('hello') }],
    });
    await (await fetch(`${server.urls[0]}/hello;jsessionid=SECRET?token=SECRET`)).text();
    await (await fetch(`${server.urls[0]}/hello?token=SECRET`, { headers: { traceparent: TRACEPARENT } })).text();
    await expect.poll(() => spans().filter(span => span.name === 'GET hello')).toHaveLength(2);
    const span = spans().findLast(({ name }) => name === 'GET hello')!;
    expect(span.kind).toBe(SpanKind.SERVER);
    expect(span.spanContext().traceId).toBe(TRACE);
    expect(span.parentSpanContext?.spanId).toBe(PARENT);
    expect(span.attributes).toMatchObject({
      'http.request.method': 'GET',
      'http.route': 'hello',
      'http.response.status_code': 200,
      'url.path': '/hello',
      'url.scheme': 'http',
      'server.address': 'localhost',
      'client.address': '127.0.0.1',
      'network.protocol.version': '1.1',
    });
    const parts = spans().filter(part => part.parentSpanContext?.spanId === span.spanContext().spanId);
    expect(parts.map(({ name }) => name)).toEqual([
      'holdfast.entry',
      'holdfast.route',
      'holdfast.policies',
      'holdfast.authenticate',
      'holdfast.session',
      'holdfast.authorize',
      'holdfast.backend-session',
      'holdfast.limits',
      'holdfast.fetch',
    ]);
    expect(JSON.stringify(spans().map(({ name, attributes }) => [name, attributes]))).not.toContain('SECRET');
  });

  test('a refusal has its code at the step that refuses, and at the request', async () => {
    const server = await start({
      routes: [{ path: '/', name: 'home', policy: { transport: 'confidential' }, fetch: () => new Response('hello') }],
    });
    await (await fetch(server.urls[0]!)).text();
    const span = await named('GET home');
    const refused = spans().find(({ name }) => name === 'holdfast.policies')!;
    for (const one of [span, refused]) expect(one.attributes['holdfast.refusal.code']).toBe('ERR_POLICY_TRANSPORT');
    expect(span.status.code).toBe(SpanStatusCode.UNSET);
  });

  test('a backend gets the context of the span of its request, whatever the client has sent', async () => {
    const { url, seen } = await backend();
    const server = await start(toBackend(url));
    await (await fetch(server.urls[0]!, { headers: { traceparent: TRACEPARENT, tracestate: 'vendor=1' } })).text();
    await expect.poll(() => spans().filter(({ kind }) => kind === SpanKind.CLIENT)).toHaveLength(1);
    const client = spans().find(({ kind }) => kind === SpanKind.CLIENT)!;
    expect(seen[0]!.traceparent).toBe(`00-${TRACE}-${client.spanContext().spanId}-01`);
    expect(seen[0]!.tracestate).toBe('vendor=1');
    expect(client.attributes).toMatchObject({
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
      'holdfast.upstream': 'app',
      'http.response.status_code': 200,
    });
    expect(client.parentSpanContext?.spanId).toBe((await named('GET app')).spanContext().spanId);
  });

  test('a backend that cannot be reached is an error of the span of its request', async () => {
    const server = await start(toBackend('http://127.0.0.1:1'));
    await (await fetch(server.urls[0]!)).text();
    const span = await named('GET app');
    expect(span.status.code).toBe(SpanStatusCode.ERROR);
    const client = spans().find(({ kind }) => kind === SpanKind.CLIENT)!;
    expect(client.attributes['error.type']).toBe('refused');
    expect(client.events[0]!.attributes).toMatchObject({ 'error.type': 'refused' });
  });

  test('a relayed WebSocket is a span of its own, which ends with the close code', async () => {
    const { url, seen } = await backend();
    const server = await start(toBackend(url));
    const client = await testClient(server.urls[0]!.replace('http', 'ws'), { headers: { traceparent: TRACEPARENT } });
    expect(seen[0]!.traceparent).toMatch(new RegExp(`^00-${TRACE}-`));
    const handshake = await named('GET app');
    expect(handshake.attributes['http.response.status_code']).toBe(101);
    expect(spanOf('websocket')).toBeUndefined();
    client.close(1000, 'a secret reason');
    const socket = await named('websocket');
    expect(socket.parentSpanContext?.spanId).toBe(handshake.spanContext().spanId);
    expect(socket.attributes).toMatchObject({ 'holdfast.close.code': 1000, 'http.route': 'app' });
    expect(socket.events.map(({ name }) => name)).toEqual(['close']);
    expect(JSON.stringify([socket.attributes, socket.events])).not.toContain('secret');
  });

  test('the time in which an endpoint decides is a span, and what it does is part of the trace', async () => {
    const seen: (string | undefined)[] = [];
    const endpoint = defineEndpoint({
      path: '/chat',
      accept: () => {
        seen.push(trace.getActiveSpan()?.spanContext().traceId);
        return true;
      },
    });
    const server = await start({ routes: [{ name: 'chat', endpoint }] });
    await using _ = await testClient(`${server.urls[0]!.replace('http', 'ws')}/chat`, {
      headers: { traceparent: TRACEPARENT },
    });
    await named('holdfast.accept');
    expect(seen).toEqual([TRACE]);
  });

  test('a handshake that an attached server leaves to others has a span, which ends without a status', async () => {
    const shared = http.createServer();
    const others = new WebSocketServer({ noServer: true });
    shared.on('upgrade', (request, socket, head) => {
      if (request.url === '/other') others.handleUpgrade(request, socket, head, () => {});
    });
    const server = createServer(
      { session: false, routes: [{ endpoint: defineEndpoint({ path: '/ours' }) }] },
      { logger: silentLogger },
    );
    await server.attach(shared);
    open.push({ close: () => server.stop({ drain: 0 }) });
    await new Promise<void>(resolve => shared.listen(0, '127.0.0.1', resolve));
    open.push({ close: () => shared.close() });
    await using _ = await testClient(`ws://127.0.0.1:${(shared.address() as AddressInfo).port}/other`);
    const span = await named('GET');
    expect(span.attributes['http.response.status_code']).toBeUndefined();
    expect(span.status.code).toBe(0);
  });

  test('the trace that we begin is in the lines of its request', async () => {
    const lines: string[] = [];
    const server = await start(
      { routes: [{ path: '/', name: 'home', fetch: () => new Response('hello') }], log: { access: 'json' } },
      { accessLog: { write: line => lines.push(line) } },
    );
    await (await fetch(server.urls[0]!)).text();
    await expect.poll(() => lines.length).toBe(1);
    expect(JSON.parse(lines[0]!).traceId).toBe((await named('GET home')).spanContext().traceId);
  });

  test('with "tracing: false" there are no spans, and the context of the client passes as it is', async () => {
    const { url, seen } = await backend();
    const server = await start({ ...toBackend(url), tracing: false });
    await (await fetch(server.urls[0]!, { headers: { traceparent: TRACEPARENT } })).text();
    expect(seen[0]!.traceparent).toBe(TRACEPARENT);
    expect(spans()).toEqual([]);
  });
});
