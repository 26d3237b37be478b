import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http, { type Server as HttpServer } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer, defineEndpoint } from 'holdfast';
import { Server as SocketServer } from 'socket.io';
import { io as connectSocketIo } from 'socket.io-client';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { gate, Journal } from './journal.ts';
import { RawClient } from './raw-client.ts';

const echo = () =>
  defineEndpoint({
    path: '/echo',
    onOpen: connection => void connection.send(`secure ${connection.isSecure}`),
    onMessage: (connection, data) => void connection.send(data),
  });

async function listen(server: HttpServer): Promise<string> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return `${server instanceof https.Server ? 'wss' : 'ws'}://127.0.0.1:${port}`;
}

function create(...endpoints: ReturnType<typeof echo>[]) {
  return createServer(
    { session: false, log: { access: 'off' }, routes: endpoints.map(endpoint => ({ endpoint })) },
    { logger: silentLogger },
  );
}

async function shut(server: HttpServer): Promise<void> {
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
}

describe('attach', () => {
  test('serves the upgrades of an existing HTTP server, whose requests stay its own', async () => {
    const own = http.createServer((_, response) => response.end('own'));
    const server = create(echo());
    await server.attach(own);
    const url = await listen(own);
    await using client = await testClient(`${url}/echo`);
    expect(await client.receive()).toBe('secure false');
    client.send('hello');
    expect(await client.receive()).toBe('hello');
    for (const path of ['/', '/echo']) expect(await (await fetch(url.replace('ws', 'http') + path)).text()).toBe('own');
    await server.stop({ drain: '1s' });
    expect((await client.closed).code).toBe(1001);
    // The server is let go of, and lives.
    expect(await (await fetch(url.replace('ws', 'http'))).text()).toBe('own');
    expect(own.listenerCount('upgrade')).toBe(0);
    await shut(own);
  });

  test('serves the upgrades of an existing HTTPS server', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-attach-'));
    const files = writeSelfSignedCertificate(folder);
    const certificate = readFileSync(files.certificate);
    const own = https.createServer({ key: readFileSync(files.key), cert: certificate });
    rmSync(folder, { recursive: true });
    const server = create(echo());
    await server.attach(own);
    const url = await listen(own);
    await using client = await testClient(`${url}/echo`, { tls: { ca: certificate } });
    expect(await client.receive()).toBe('secure true');
    client.send('x'.repeat(60_000));
    expect(await client.receive()).toBe('x'.repeat(60_000));
    await server.stop({ drain: 0 });
    await shut(own);
  });

  test('answers other paths with 404 when nobody else takes upgrades', async () => {
    const own = http.createServer();
    await using server = create(echo());
    await server.attach(own);
    const url = await listen(own);
    using client = await RawClient.connect(`${url}/other`);
    expect(client.status).toBe(404);
    await client.ended();
    await shut(own);
  });

  test('leaves the upgrades of others alone', async () => {
    const own = http.createServer();
    const others = new WebSocketServer({ noServer: true });
    own.on('upgrade', (request, socket, head) => {
      if (request.url !== '/theirs') return;
      others.handleUpgrade(request, socket, head, theirs => {
        theirs.send('theirs');
        theirs.on('message', data => theirs.send(data.toString()));
      });
    });
    await using server = create(echo());
    await server.attach(own);
    const url = await listen(own);
    await using theirs = await testClient(`${url}/theirs`);
    expect(await theirs.receive()).toBe('theirs');
    theirs.send('still theirs');
    expect(await theirs.receive()).toBe('still theirs');
    await using ours = await testClient(`${url}/echo`);
    expect(await ours.receive()).toBe('secure false');
    theirs.terminate();
    ours.terminate();
    await shut(own);
  });

  test('several can be attached to one server', async () => {
    const own = http.createServer();
    const second = defineEndpoint({ path: '/second', onOpen: connection => void connection.send('second') });
    await using a = create(echo());
    await using b = create(second);
    await a.attach(own);
    await b.attach(own);
    const url = await listen(own);
    await using one = await testClient(`${url}/echo`);
    await using two = await testClient(`${url}/second`);
    expect([await one.receive(), await two.receive()]).toEqual(['secure false', 'second']);
    one.terminate();
    two.terminate();
    await shut(own);
  });

  test('lets handshakes wait that come before the endpoints are ready', async () => {
    const own = http.createServer();
    const url = await listen(own);
    const ready = gate();
    const slow = defineEndpoint({
      path: '/echo',
      init: () => ready.promise,
      onOpen: connection => void connection.send('ready'),
    });
    await using server = create(slow);
    const attaching = server.attach(own);
    const opening = testClient(`${url}/echo`);
    await new Promise<void>(resolve => own.once('upgrade', () => resolve()));
    ready.resolve();
    await attaching;
    const client = await opening;
    expect(await client.receive()).toBe('ready');
    client.terminate();
    await shut(own);
  });

  test.each(['alone', 'beside others'])(
    'survives a client that breaks off in the middle of the handshake, %s',
    async how => {
      const own = http.createServer();
      const journal = new Journal();
      const thinking = gate();
      const endpoint = defineEndpoint({
        path: '/echo',
        async accept({ query }) {
          if (query.has('now')) return true;
          journal.add('thinking');
          await thinking.promise;
          return true;
        },
        onOpen: connection => void connection.send('open'),
      });
      await using server = create(endpoint);
      await server.attach(own);
      if (how !== 'alone') own.on('upgrade', () => {});
      const sockets: { error: unknown }[] = [];
      own.on('connection', socket => {
        const seen = { error: undefined as unknown };
        sockets.push(seen);
        socket.on('close', hadError => {
          seen.error = hadError;
        });
      });
      const url = await listen(own);
      using client = await RawClient.knock(`${url}/echo`);
      await journal.until('thinking');
      client.reset();
      // An error that nobody listens to would end this process.
      await expect.poll(() => sockets[0]!.error).toBe(true);
      thinking.resolve();
      await using next = await testClient(`${url}/echo?now`);
      expect(await next.receive()).toBe('open');
      next.terminate();
      await shut(own);
    },
  );

  describe('a handshake for a path that none of our servers has', () => {
    /** Two of our servers on an HTTP server, with a clock that stands still. */
    async function attachTwo(own: HttpServer, clock = new FakeClock()) {
      const servers = ['/one', '/two'].map(path =>
        createServer(
          { session: false, log: { access: 'off' }, routes: [{ endpoint: defineEndpoint({ path }) }] },
          { logger: silentLogger, clock },
        ),
      );
      for (const server of servers) await server.attach(own);
      return {
        clock,
        [Symbol.asyncDispose]: async () => void (await Promise.all(servers.map(one => one.stop({ drain: 0 })))),
      };
    }

    test('is answered with 404 when several of them are attached and nobody else listens', async () => {
      const own = http.createServer();
      await using two = await attachTwo(own);
      const url = await listen(own);
      using client = await RawClient.connect(`${url}/three`);
      expect(client.status).toBe(404);
      await two.clock.advance(10_000);
      await client.ended();
      await shut(own);
    });

    test('is answered with 404 after 30 s when others listen and none of them does anything', async () => {
      const own = http.createServer();
      own.on('upgrade', () => {});
      await using two = await attachTwo(own);
      const url = await listen(own);
      const seen = once(own, 'upgrade');
      const answer = RawClient.connect(`${url}/three`);
      await seen;
      await sleep(20); // until both have looked at it
      await two.clock.advance(29_900);
      expect(await Promise.race([answer, sleep(50, 'waiting')])).toBe('waiting');
      await two.clock.advance(100);
      using client = await answer;
      expect(client.status).toBe(404);
      await two.clock.advance(10_000);
      await client.ended();
      await shut(own);
    });

    test('is theirs for as long as they like, before and after they have answered', async () => {
      const own = http.createServer();
      const slow = gate();
      const others = new WebSocketServer({ noServer: true });
      own.on('upgrade', async (request, socket, head) => {
        socket.on('data', () => {}); // as a proxy, which pipes it on
        await slow.promise;
        socket.removeAllListeners('data');
        others.handleUpgrade(request, socket, head, theirs => theirs.send('theirs'));
      });
      await using two = await attachTwo(own);
      const url = await listen(own);
      const seen = once(own, 'upgrade');
      const opening = testClient(`${url}/three`);
      await seen;
      await sleep(20);
      await two.clock.advance(60_000);
      slow.resolve();
      const client = await opening;
      expect(await client.receive()).toBe('theirs');
      await two.clock.advance(60_000);
      expect(await client.ping('still there?')).toBe(true);
      client.terminate();
      await shut(own);
    });

    test('ends no process when its client breaks off while nobody looks at it', async () => {
      const own = http.createServer();
      own.on('upgrade', () => {});
      await using _ = await attachTwo(own);
      const url = await listen(own);
      const seen = once(own, 'upgrade');
      using client = await RawClient.knock(`${url}/three`);
      const [, socket] = await seen;
      await sleep(20);
      client.reset();
      // An error that nobody listens to would end this process.
      await expect.poll(() => socket.destroyed).toBe(true);
      await shut(own);
    });
  });

  describe('the sockets of others stay theirs', () => {
    /** Others who answer each handshake at once, beside ours, and the time to do ours wrong. */
    async function besideOthers(own: HttpServer) {
      const others = new WebSocketServer({ noServer: true });
      own.on('upgrade', (request, socket, head) => {
        if (request.url === '/echo') return;
        others.handleUpgrade(request, socket, head, theirs => {
          theirs.on('message', data => theirs.send(data.toString()));
          theirs.send('theirs');
        });
      });
      return listen(own);
    }
    async function expectTheirs(client: Awaited<ReturnType<typeof testClient>>) {
      expect(await client.receive()).toBe('theirs');
      await sleep(20);
      client.send('still');
      expect(await client.receive()).toBe('still');
      client.terminate();
    }

    test.each(['fails', 'is stopped'])('when our start %s', async how => {
      const own = http.createServer();
      const url = await besideOthers(own);
      const ready = gate();
      const seen = once(own, 'upgrade');
      const server = create(
        defineEndpoint({
          path: '/echo',
          init: async () => {
            await ready.promise;
            if (how === 'fails') throw new Error('no start');
          },
        }),
      );
      const attaching = server.attach(own).catch(error => error);
      const opening = testClient(`${url}/theirs`);
      await seen;
      const stopping = how === 'is stopped' ? server.stop({ drain: 0 }) : undefined;
      ready.resolve();
      await attaching;
      await expectTheirs(await opening);
      await stopping;
      await shut(own);
    });

    test('when another of our servers fails to start', async () => {
      const own = http.createServer();
      const ready = gate();
      await using good = create(echo());
      await good.attach(own);
      const init = () => ready.promise.then(() => Promise.reject(new Error('no start')));
      const failing = create(defineEndpoint({ path: '/other', init }))
        .attach(own)
        .catch(error => error);
      const url = await listen(own);
      const client = await testClient(`${url}/echo`);
      expect(await client.receive()).toBe('secure false');
      ready.resolve();
      await failing;
      await sleep(20);
      client.send('still');
      expect(await client.receive()).toBe('still');
      client.terminate();
      await shut(own);
    });

    test.each([
      ['an invalid escape in the path', '/theirs/%zz', {}],
      ['a Forwarded that nobody can read', '/theirs', { forwarded: 'for="' }],
    ])('whatever we would refuse: %s', async (_what, path, headers) => {
      const own = http.createServer();
      await using server = createServer(
        { session: false, log: { access: 'off' }, trustedProxies: ['127.0.0.1'], routes: [{ endpoint: echo() }] },
        { logger: silentLogger },
      );
      await server.attach(own);
      const url = await besideOthers(own);
      await expectTheirs(await testClient(`${url}${path}`, { headers }));
      await shut(own);
    });
  });

  describe.each(['before', 'after'])('a Socket.IO server that was attached %s ours', when => {
    test('has its path, and ours have theirs, also when they take longer than Socket.IO waits', async () => {
      const own = http.createServer();
      const thinking = gate();
      const slow = defineEndpoint({
        path: '/slow',
        accept: async () => {
          await thinking.promise;
          return true;
        },
        onOpen: connection => void connection.send('open'),
      });
      // By default it cuts what is not its own and has no answer after a second.
      const options = { destroyUpgrade: false };
      let io = when === 'before' ? new SocketServer(own, options) : undefined;
      await using server = create(slow);
      await server.attach(own);
      io ??= new SocketServer(own, options);
      io.on('connection', socket => socket.on('echo', (data, answer) => answer(data)));
      const url = await listen(own);
      const opening = testClient(`${url}/slow`);
      for (const transport of ['websocket', 'polling']) {
        const client = connectSocketIo(url.replace('ws', 'http'), {
          transports: [transport],
          reconnection: false,
          forceNew: true,
        });
        expect(await client.emitWithAck('echo', 'hello')).toBe('hello');
        client.close();
      }
      await sleep(1_100);
      thinking.resolve();
      const client = await opening;
      expect(await client.receive()).toBe('open');
      client.terminate();
      await io.close();
    });
  });
});
