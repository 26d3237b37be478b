import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { Server as SocketServer } from 'socket.io';
import { io as connectSocketIo, type Socket } from 'socket.io-client';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { attachSession, attachSocket, SessionManager, type SessionManagerOptions } from '../../src/session/index.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock, testClient } from '../../src/testing/index.ts';
import { Lines } from '../server/wires.ts';
import { FaultyStore } from './fixture.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function aManager(options: Partial<SessionManagerOptions> = {}): SessionManager {
  const sessions = new SessionManager({ store: new MemoryStore(), keys: ['k'.repeat(43)], ...options });
  closers.push(() => sessions.close());
  return sessions;
}

/** An Express application with a login, on a server that sockets of other libraries come to as well. */
async function startApp(
  sessions: SessionManager,
  server = http.createServer(),
): Promise<{ url: string; server: http.Server }> {
  const app = express();
  app.use((req, res, next) => {
    attachSession(sessions, req, res);
    next();
  });
  app.post('/sign-in/:name', async (req, res) => {
    await sessions.signIn(req, { name: req.params.name, roles: [] });
    res.sendStatus(204);
  });
  app.post('/sign-out', async (req, res) => {
    await (await sessions.get(req))?.invalidate();
    res.sendStatus(204);
  });
  server.on('request', app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

async function post(url: string, cookie = ''): Promise<string> {
  const response = await fetch(url, { method: 'POST', headers: { cookie } });
  expect(response.status).toBe(204);
  return response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie;
}

describe('attachSocket under tracking by url', () => {
  test('finds the session of a request as often as it is asked, also when the URL has lost its ticket', async () => {
    const sessions = aManager({ tracking: 'url' });
    const first = sessions.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
    await first.signIn({ name: 'ann', roles: [] });
    await first.commit();
    const url = first.encodeUrl('/socket?x=1');
    first.release();
    expect(url).toContain(';holdfast=');
    const request = { headers: {}, rawHeaders: [], socket: {}, url, method: 'GET' } as never as http.IncomingMessage;
    for (let n = 0; n < 3; n++) {
      const held = await attachSocket(sessions, request);
      expect([held?.session.owner?.name, request.url]).toEqual(['ann', '/socket?x=1']);
      await held!.release();
    }
    const other = aManager({ tracking: 'url', urlParameter: 'other' });
    expect(await attachSocket(other, request)).toBeUndefined();
  });
});

describe('attachSocket with ws', () => {
  /** Says who its client is, counts messages in the session, and closes with it: 4001, or 4002 after a login. */
  async function startWs(sessions: SessionManager) {
    const { url, server } = await startApp(sessions);
    const sockets = new WebSocketServer({ server });
    const released: string[] = [];
    sockets.on('connection', async (socket, request) => {
      const held = await attachSocket(sessions, request, {
        onEnd: why => socket.close(why === 'ended' ? 4001 : 4002),
      }).catch(error => void socket.close(4000, error.code));
      if (!held) return void socket.send('nobody');
      socket.once('close', async () => {
        await held.release();
        released.push(held.session.id);
      });
      socket.send(held.session.owner?.name ?? 'somebody');
      socket.on('message', async () => {
        held.touch();
        socket.send(String(await held.session.update('n' as never, n => (Number(n ?? 0) + 1) as never)));
      });
    });
    const open = (cookie: string) => testClient(url.replace('http', 'ws'), { headers: { cookie } });
    return { url, open, released };
  }

  test('gives the socket the session of its handshake, to read and to change', async () => {
    const sessions = aManager();
    const { url, open, released } = await startWs(sessions);
    const cookie = await post(`${url}/sign-in/ann`);
    const client = await open(cookie);
    expect(await client.receive()).toBe('ann');
    client.send('');
    client.send('');
    expect([await client.receive(), await client.receive()]).toEqual(['1', '2']);
    client.terminate();
    const sid = (await sessions.ofUser('ann'))[0]!.sid;
    await expect.poll(() => released).toEqual([sid]);
    expect(await sessions.access(sid, session => session.get('n' as never))).toBe(2);
    expect(sessions.statistics().activeNow).toBe(0);
  });

  test('has none for a client without a cookie, with one that is made up, or after its session has ended', async () => {
    const sessions = aManager();
    const { url, open } = await startWs(sessions);
    const cookie = await post(`${url}/sign-in/ann`);
    await sessions.endAllOf('ann');
    for (const shown of ['', 'holdfast=made.up.for.this', cookie]) {
      const client = await open(shown);
      expect(await client.receive()).toBe('nobody');
      client.terminate();
    }
    expect(await sessions.count()).toBe(0);
  });

  test('closes the socket with its session, with a login in it, and with its time', async () => {
    const clock = new FakeClock();
    const sessions = aManager({ clock, idleTimeoutMs: 60_000 });
    await sessions.start();
    const { url, open } = await startWs(sessions);
    const first = await post(`${url}/sign-in/ann`);
    const before = await open(first);
    await before.receive();
    const cookie = await post(`${url}/sign-in/ann`, first);
    expect((await before.closed).code).toBe(4002);
    const stale = await open(first);
    expect(await stale.receive()).toBe('nobody');
    stale.terminate();

    const two = [await open(cookie), await open(cookie)];
    await Promise.all(two.map(client => client.receive()));
    await post(`${url}/sign-out`, cookie);
    expect(await Promise.all(two.map(async client => (await client.closed).code))).toEqual([4001, 4001]);

    const silent = await open(await post(`${url}/sign-in/bob`));
    await silent.receive();
    await clock.advance(40_000);
    silent.send(''); // touches
    await silent.receive();
    await clock.advance(40_000);
    silent.send('');
    expect(await silent.receive()).toBe('2');
    await clock.advance(60_000);
    expect((await silent.closed).code).toBe(4001);
  });

  test('closes it as well when another process ends the session', async () => {
    const [store, ledger] = [new MemoryStore(), new MemoryLedger()];
    const [here, there] = [aManager({ store, ledger }), aManager({ store, ledger })];
    await Promise.all([here.start(), there.start()]);
    const { url, open } = await startWs(here);
    const client = await open(await post(`${url}/sign-in/ann`));
    await client.receive();
    expect(await there.endAllOf('ann')).toBe(1);
    expect((await client.closed).code).toBe(4001);
  });

  test('rejects when the store cannot be asked', async () => {
    const store = new FaultyStore();
    const { url, open } = await startWs(aManager({ store }));
    const cookie = await post(`${url}/sign-in/ann`);
    store.failing.add('*');
    const client = await open(cookie);
    expect(await client.closed).toMatchObject({ code: 4000, reason: 'ERR_SESSION_STORE_UNAVAILABLE' });
  });

  test('rejects for a user whom the session does not belong to', async () => {
    const sessions = aManager();
    const { url, server } = await startApp(sessions);
    const cookie = await post(`${url}/sign-in/ann`);
    server.removeAllListeners('request');
    const asked = (name: string) =>
      new Promise<unknown>(resolve => {
        server.once('request', async (request, response) => {
          const user = { name, roles: [] };
          resolve(await attachSocket(sessions, request, { user }).catch(error => error.code));
          response.end();
        });
        void fetch(url, { headers: { cookie } });
      });
    expect(await asked('bob')).toBe('ERR_SESSION_UNAUTHORIZED');
    const held = (await asked('ann')) as NonNullable<Awaited<ReturnType<typeof attachSocket>>>;
    expect(held.session.owner?.name).toBe('ann');
    await held.release();
  });

  test('a listener that throws is logged, and the other sockets are closed all the same', async () => {
    const logger = new Lines();
    const sessions = aManager({ logger });
    const { url, server } = await startApp(sessions);
    const cookie = await post(`${url}/sign-in/ann`);
    server.removeAllListeners('request');
    const requests: IncomingMessage[] = [];
    server.on('request', (request, response) => {
      requests.push(request);
      response.end();
    });
    await fetch(url, { headers: { cookie } });
    const closed: string[] = [];
    const holds = [];
    for (const name of ['one', 'two', 'three', 'released'])
      holds.push(
        await attachSocket(sessions, requests[0]!, {
          onEnd() {
            closed.push(name);
            if (name === 'two') throw new Error('cannot close');
          },
        }),
      );
    await holds.pop()!.release();
    await sessions.endAllOf('ann');
    expect(closed).toEqual(['one', 'two', 'three']);
    expect(logger.of('error')).toEqual(['a listener for ended sessions threw']);
    for (const held of holds) await held!.release();
  });

  test.each([
    ['no manager', [undefined, {}], 'attachSocket: give it the SessionManager first, not undefined'],
    ['no request', [aManager(), undefined], 'attachSocket: give it the request of the handshake, not undefined'],
    ['the socket in its place', [aManager(), { on() {} }], 'attachSocket: give it the request of the handshake'],
    ['a misspelled option', [aManager(), { headers: {} }, { onend() {} }], 'did you mean "onEnd"'],
    ['an option of another kind', [aManager(), { headers: {} }, { onEnd: 'close' }], '"onEnd" is a function'],
  ])('says what is wrong with %s', async (_, args, message) => {
    await expect(attachSocket(...(args as Parameters<typeof attachSocket>))).rejects.toThrow(message);
  });
});

/** What comes with the next event of a socket. */
function next(socket: Socket, event: string): Promise<unknown[]> {
  return new Promise(resolve => {
    socket.once(event, (...values: unknown[]) => resolve(values));
  });
}

describe.each(['polling', 'websocket'])('Socket.IO over %s', transport => {
  async function startIo(
    use: (io: SocketServer, sessions: SessionManager) => void,
    options: Partial<SessionManagerOptions> = {},
  ) {
    const sessions = aManager(options);
    const server = http.createServer();
    const app = await startApp(sessions, server);
    const io = new SocketServer(server);
    use(io, sessions);
    closers.push(() => io.close());
    const connect = (cookie: string): Socket => {
      const client = connectSocketIo(app.url, {
        transports: [transport],
        extraHeaders: { cookie },
        forceNew: true,
        reconnection: false,
      });
      closers.push(() => client.close());
      return client;
    };
    return { ...app, sessions, connect };
  }

  test('attachSocket gives a socket its session, and a logout disconnects it', async () => {
    const { url, sessions, connect } = await startIo((io, sessions) => {
      io.use(async (socket, pass) => {
        const held = await attachSocket(sessions, socket.request, { onEnd: () => socket.conn.close() });
        if (!held) return pass(new Error('sign in first'));
        socket.conn.once('close', () => held.release());
        socket.data.session = held.session;
        pass();
      });
      io.on('connection', ({ data }) => {
        data.session.set('seen', true);
      });
      io.on('connection', socket => socket.emit('hello', socket.data.session.owner.name));
    });
    const stranger = connect('');
    const [refused] = await next(stranger, 'connect_error');
    expect((refused as Error).message).toBe('sign in first');

    const cookie = await post(`${url}/sign-in/ann`);
    const client = connect(cookie);
    expect(await next(client, 'hello')).toEqual(['ann']);
    const sid = (await sessions.ofUser('ann'))[0]!.sid;
    await expect.poll(() => sessions.access(sid, session => session.get('seen' as never))).toBe(true);

    const disconnected = next(client, 'disconnect');
    await post(`${url}/sign-out`, cookie);
    await disconnected;
    await expect.poll(() => sessions.statistics().activeNow).toBe(0);
  });

  test('attachSession in io.engine.use does not harm, and tells its client no cookie where none can be sent', async () => {
    const clock = new FakeClock();
    const lines = new Lines();
    const seen: unknown[] = [];
    const { url, sessions, connect } = await startIo(
      (io, sessions) => {
        io.engine.use((req: IncomingMessage, res: http.ServerResponse, pass: () => void) => {
          attachSession(sessions, req, res);
          sessions.get(req).then(session => {
            seen.push(session?.owner?.name);
            pass();
          }, pass);
        });
        io.on('connection', socket => socket.emit('hello'));
      },
      { clock, renewalTimeoutMs: 60_000, logger: lines },
    );
    const cookie = await post(`${url}/sign-in/ann`);
    // A new secret is due, and with it a cookie.
    await clock.advance(61_000);
    const client = connect(cookie);
    await next(client, 'hello');
    expect(new Set(seen)).toEqual(new Set(['ann']));
    client.close();
    // What is used up there is let go of.
    await expect.poll(() => sessions.statistics().activeNow).toBe(0);
    expect(lines.of('error')).toEqual([]);
    const after = connect(cookie);
    await next(after, 'hello');
    after.close();
  });
});
