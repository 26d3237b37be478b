import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server as SocketServer } from 'socket.io';
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Config, createServer, type Server } from '../../src/index.ts';
import { Http2Client } from '../server/http2-client.ts';

/** An application with Socket.IO as its documentation writes it, of which several run. */
async function startApplication(name: string) {
  const server = http.createServer();
  const sockets = new SocketServer(server);
  sockets.on('connection', socket => {
    socket.on('who', (answer: (name: string, transport: string, sid: string | undefined) => void) =>
      answer(name, socket.conn.transport.name, socket.handshake.headers['x-session-id'] as string | undefined),
    );
    socket.on('echo', (data: unknown, answer: (data: unknown) => void) => answer(data));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => void (await sockets.close()),
  };
}

describe('two instances of a Socket.IO application, behind us', () => {
  let applications: Awaited<ReturnType<typeof startApplication>>[];
  const dataFolder = mkdtempSync(join(tmpdir(), 'holdfast-socket-io-'));
  beforeAll(async () => {
    applications = await Promise.all(['one', 'two'].map(startApplication));
  });
  afterAll(async () => {
    for (const application of applications) await application[Symbol.asyncDispose]();
    rmSync(dataFolder, { recursive: true });
  });

  async function startGateway(affinity: 'session' | 'cookie' | 'address' | 'none'): Promise<Server> {
    const config: Config = {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: 'self-signed' },
      ],
      trustedProxies: ['127.0.0.1'],
      upstreams: { app: { servers: applications.map(({ url }) => url), affinity } },
      routes: [
        { path: '/sign-in', session: 'create', fetch: () => new Response() },
        { path: '/*', upstream: 'app' },
      ],
      dataFolder,
      log: { level: 'silent' },
    };
    const server = createServer(config);
    await server.start();
    return server;
  }

  /** A client as a browser is one: it sends its origin and its cookies. */
  function connect(server: Server, cookie: string | undefined, options: Partial<ManagerOptions & SocketOptions> = {}) {
    const url = server.urls[0]!;
    const extraHeaders = { Origin: new URL(url).origin, ...(cookie && { Cookie: cookie }) };
    return io(url, { reconnection: false, forceNew: true, extraHeaders, ...options });
  }

  /** Begins with polling and changes to a WebSocket; then messages pass. */
  async function works(socket: Socket): Promise<{ name: string; transport: string; sid: string | undefined }> {
    const transports: string[] = [];
    let failure: Error | undefined;
    socket.io.on('open', () => {
      transports.push(socket.io.engine.transport.name);
      socket.io.engine.once('upgrade', transport => transports.push(transport.name));
    });
    socket.io.on('error', error => {
      failure ??= error;
    });
    socket.io.on('close', reason => {
      failure ??= new Error(reason);
    });
    await expect
      .poll(() => failure !== undefined || (socket.connected && transports.length === 2), { timeout: 10_000 })
      .toBe(true);
    if (failure) throw failure;
    expect(transports).toEqual(['polling', 'websocket']);
    const large = Buffer.alloc(100_000, 'x1y2');
    expect(await socket.emitWithAck('echo', { text: 'Grüße', n: 1 })).toEqual({ text: 'Grüße', n: 1 });
    expect(await socket.emitWithAck('echo', large.subarray(0, 40_000))).toEqual(large.subarray(0, 40_000));
    return new Promise(resolve => {
      socket.emit('who', (name: string, transport: string, sid: string | undefined) =>
        resolve({ name, transport, sid }),
      );
    });
  }

  async function signIn(server: Server): Promise<string> {
    const response = await fetch(new URL('/sign-in', server.urls[0]));
    return response.headers.getSetCookie()[0]!.split(';')[0]!;
  }

  test('affinity by session: polling and the WebSocket reach the same one, which knows the session', async () => {
    await using server = await startGateway('session');
    const instances = new Set<string>();
    for (let visitor = 0; visitor < 40 && (visitor < 6 || instances.size < 2); visitor++) {
      const cookie = await signIn(server);
      const socket = connect(server, cookie);
      const { name, transport, sid } = await works(socket);
      expect(transport).toBe('websocket');
      expect(sid).toMatch(/^[\w-]{22}$/);
      instances.add(name);
      socket.close();
    }
    expect([...instances].sort()).toEqual(['one', 'two']);
  });

  test('affinity by our cookie: the same for clients without a session', async () => {
    await using server = await startGateway('cookie');
    const instances = new Set<string>();
    for (let visitor = 0; visitor < 6; visitor++) {
      // The client keeps the cookies that it is given.
      const socket = connect(server, undefined, { withCredentials: true });
      const { name, transport } = await works(socket);
      expect(transport).toBe('websocket');
      instances.add(name);
      socket.close();
    }
    expect([...instances].sort()).toEqual(['one', 'two']);
  });

  test.each([
    ['http/1', 0],
    ['tls', 1],
  ])('affinity by address over %s: clients that keep no cookies work, whatever address they have', async (_, index) => {
    await using server = await startGateway('address');
    const url = server.urls[index]!;
    const instances = new Set<string>();
    for (let visitor = 0; visitor < 40 && (visitor < 6 || instances.size < 2); visitor++) {
      const address = visitor % 2 === 0 ? `203.0.113.${visitor}` : `2001:db8:0:${visitor}::1`;
      const extraHeaders = { Origin: new URL(url).origin, 'X-Forwarded-For': address };
      const options = { reconnection: false, forceNew: true, rejectUnauthorized: false, extraHeaders };
      const socket = io(url, options);
      const { name, transport } = await works(socket);
      expect(transport).toBe('websocket');
      instances.add(name);
      socket.close();
    }
    expect([...instances].sort()).toEqual(['one', 'two']);
  });

  test('affinity by address over HTTP/2: polling without cookies stays with one instance, on new connections too', async () => {
    await using server = await startGateway('address');
    const names = new Set<string>();
    for (let visitor = 0; visitor < 40 && (visitor < 6 || names.size < 2); visitor++) {
      const poll = async (query: string, body?: string) => {
        using client = new Http2Client(server.urls[1]!);
        const path = `/socket.io/?EIO=4&transport=polling${query}`;
        const headers = { ':path': path, 'x-forwarded-for': `198.51.100.${visitor}` };
        const answer = await client.request({ ...headers, ':method': body === undefined ? 'GET' : 'POST' }, body);
        expect(answer).toMatchObject({ status: 200 });
        return answer.body;
      };
      const { sid } = JSON.parse((await poll('')).slice(1)) as { sid: string };
      expect(await poll(`&sid=${sid}`, '40')).toBe('ok'); // connect
      expect(await poll(`&sid=${sid}`)).toMatch(/^40/);
      expect(await poll(`&sid=${sid}`, '420["who"]')).toBe('ok');
      names.add(/^430\["(\w+)"/.exec(await poll(`&sid=${sid}`))![1]!);
    }
    expect([...names].sort()).toEqual(['one', 'two']);
  });

  test('a client that asks for a WebSocket at once needs no affinity', async () => {
    await using server = await startGateway('none');
    const socket = connect(server, undefined, { transports: ['websocket'] });
    await once(socket as never, 'connect');
    expect(await socket.emitWithAck('echo', 'hello')).toBe('hello');
    socket.close();
  });

  test('without affinity it does not work, which is what the above shows', async () => {
    await using server = await startGateway('none');
    await expect(works(connect(server, await signIn(server)))).rejects.toThrow();
  });
});
