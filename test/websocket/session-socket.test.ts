import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { constants, deflateRawSync } from 'node:zlib';
import { type Config, defineEndpoint, type EndpointOptions, type FetchHandler, type ServerSessions } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { gate, Journal } from './journal.ts';
import { BINARY, closeFrame, frame, PING, RawClient, TEXT } from './raw-client.ts';
import { type Served, serve } from './serve.ts';

let dataFolder: string;
beforeAll(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-session-socket-'));
});
afterAll(() => rm(dataFolder, { recursive: true }));

/** A memory store that can be made to fail. */
class FailingStore extends MemoryStore {
  isDown = false;

  reads = 0;

  override async glance(sid: string) {
    this.reads++;
    this.#check();
    return super.glance(sid);
  }

  override async read(sid: string) {
    this.reads++;
    this.#check();
    return super.read(sid);
  }

  override async commit(...args: Parameters<MemoryStore['commit']>) {
    this.#check();
    return super.commit(...args);
  }

  #check(): void {
    if (this.isDown) throw new Error('the disk is on fire');
  }
}

interface Parts {
  readonly served: Served;
  readonly journal: Journal;
  readonly clock: FakeClock;
  readonly store: FailingStore;
  readonly sessions: ServerSessions;
  /** A new session's cookie. */
  signIn(): Promise<string>;
  /** What an HTTP request with this cookie sees. */
  look(cookie: string): Promise<unknown>;
  open(cookie?: string, ...headers: string[]): Promise<RawClient>;
}

/** A server with sessions, an endpoint at `/`, `/in` that makes a session, `/look` and `/out`. */
async function withSessions(
  options: (server: () => Served['server'], journal: Journal) => Partial<EndpointOptions> = () => ({}),
  session: Exclude<Config['session'], false> = {},
): Promise<Parts & AsyncDisposable> {
  const clock = new FakeClock();
  const store = new FailingStore();
  const journal = new Journal();
  const page: FetchHandler = async (request, { session: own }) => {
    const { pathname } = new URL(request.url);
    if (pathname === '/out') await own?.invalidate('logout');
    if (pathname === '/burn') {
      store.isDown = true;
      own!.set('n', 1);
      await own!.sync();
    }
    return Response.json(
      pathname === '/out' ? 'out' : Object.fromEntries(own?.keys().map(key => [key, own.get(key)]) ?? []),
    );
  };
  const endpoint = defineEndpoint({
    path: '/',
    idleTimeout: -1,
    heartbeat: false,
    onOpen: () => journal.add('open'),
    onClose: (_, { code, reason }) => journal.add(`close ${code} ${reason}`),
    ...options(() => served.server, journal),
  });
  const served = await serve(
    endpoint,
    {
      session: { store, ...session },
      dataFolder,
      routes: [
        { path: '/in', session: 'create', fetch: page },
        { path: '/look', session: 'existing', fetch: page },
        { path: '/out', session: 'existing', fetch: page },
        { path: '/burn', session: 'existing', fetch: page },
      ],
    },
    { clock },
  );
  const http = served.url.replace('ws', 'http');
  const get = (path: string, cookie?: string) =>
    fetch(http + path, { headers: { ...(cookie && { Cookie: cookie }), Connection: 'close' } });
  return {
    served,
    journal,
    clock,
    store,
    sessions: served.server.sessions,
    signIn: async () => cookieOf((await get('/in')).headers.getSetCookie()),
    look: async cookie => (await get('/look', cookie)).json(),
    open: (cookie, ...headers) =>
      RawClient.connect(served.url, {
        headers: [`Origin: ${http}`, ...(cookie ? [`Cookie: ${cookie}`] : []), ...headers],
      }),
    [Symbol.asyncDispose]: () => served[Symbol.asyncDispose](),
  };
}

const cookieOf = (setCookies: string[]) => setCookies.find(line => line.startsWith('holdfast='))!.split(';')[0]!;

describe('connection.session', () => {
  test('is the session of the handshake’s cookie, and a handshake makes none by itself', async () => {
    await using parts = await withSessions((_, journal) => ({
      accept({ session }) {
        journal.add(`accept ${session?.get('name')}`);
        return true;
      },
      onOpen: ({ session }) => journal.add(session ? `open with ${session.get('name')}` : 'open without'),
    }));
    const cookie = await parts.signIn();
    const sid = cookie.split('.')[1]!;
    await parts.sessions.access(sid, session => session.set('name', 'alice'));
    using without = await parts.open();
    expect(without.header('Set-Cookie')).toEqual([]);
    using withCookie = await parts.open(cookie);
    expect(withCookie.status).toBe(101);
    await parts.journal.until('open with alice');
    expect(parts.journal.entries).toEqual(['accept undefined', 'open without', 'accept alice', 'open with alice']);
    expect(await parts.store.count()).toBe(1);
  });

  test('that accept opens sets its cookie on the 101, beside those of the application', async () => {
    await using parts = await withSessions(server => ({
      async accept(handshake) {
        const session = await server().sessions.open(handshake);
        session.set('name', 'bob');
        return { headers: { 'set-cookie': 'theme=dark' } };
      },
      onMessage: (connection, data) => void connection.send(`${connection.session?.get('name')} ${data}`),
    }));
    using client = await parts.open();
    expect(client.header('Set-Cookie')).toEqual(['theme=dark', expect.stringMatching(/^holdfast=v1\..*; HttpOnly/)]);
    client.send(frame(TEXT, 'hello'));
    expect(await client.text()).toBe('bob hello');
    const cookie = cookieOf(client.header('Set-Cookie'));
    expect(await parts.look(cookie)).toEqual({ name: 'bob' });
    using again = await parts.open(cookie);
    expect(again.header('Set-Cookie').filter(line => line.startsWith('holdfast='))).toEqual([]);
  });

  test('is let go of when the handshake fails after all', async () => {
    await using parts = await withSessions(() => ({
      accept: ({ query }) => ({ headers: { 'X-Line': query.has('bad') ? 'a\r\nb' : 'a' } }),
    }));
    const cookie = await parts.signIn();
    const readsOf = async (query: string) => {
      const before = parts.store.reads;
      using client = await RawClient.connect(`${parts.served.url}/${query}`, {
        headers: [`Origin: ${parts.served.url.replace('ws', 'http')}`, `Cookie: ${cookie}`],
      });
      client.send(closeFrame());
      client.socket.end();
      await client.ended();
      return [client.status, parts.store.reads - before];
    };
    const [, fresh] = await readsOf('');
    expect(fresh).toBeGreaterThan(0);
    expect(await readsOf('?bad')).toMatchObject([500, expect.any(Number)]);
    // Were it still held, it would be found in memory, as old as it is.
    expect(await readsOf('')).toEqual([101, fresh]);
  });

  test('shows what one socket sets to the others at once, and to requests when it is committed', async () => {
    await using parts = await withSessions(() => ({
      onMessage(connection, data) {
        const [verb, value] = (data as string).split(' ');
        if (verb === 'set') connection.session!.set('value', value);
        connection.send(`${connection.session!.get('value')}`);
      },
    }));
    const cookie = await parts.signIn();
    using a = await parts.open(cookie);
    using b = await parts.open(cookie);
    a.send(frame(TEXT, 'set 1'));
    expect(await a.text()).toBe('1');
    b.send(frame(TEXT, 'get'));
    expect(await b.text()).toBe('1');
    await expect.poll(() => parts.look(cookie)).toEqual({ value: '1' });
  });

  test('can be used until onClose has settled, also when that takes a while after the peer has gone', async () => {
    const closing = gate();
    await using parts = await withSessions((_, journal) => ({
      async onClose({ session }) {
        session!.set('first', 1);
        await closing.promise;
        session!.set('second', session!.get('first'));
        journal.add('closed');
      },
    }));
    const cookie = await parts.signIn();
    using client = await parts.open(cookie);
    client.reset();
    await expect.poll(() => parts.look(cookie)).toEqual({ first: 1 });
    closing.resolve();
    await parts.journal.until('closed');
    await expect.poll(() => parts.look(cookie)).toEqual({ first: 1, second: 1 });
  });

  test('is committed before the server has stopped', async () => {
    const parts = await withSessions((_, journal) => ({
      async onClose({ session }) {
        await new Promise(resolve => setImmediate(resolve));
        session!.set('left', true);
        journal.add('closed');
      },
    }));
    const cookie = await parts.signIn();
    const commits: string[] = [];
    const { commit } = parts.store;
    parts.store.commit = (sid, changes) => {
      commits.push(...(changes.set?.keys() ?? []));
      return commit.call(parts.store, sid, changes);
    };
    using _client = await parts.open(cookie);
    await parts.served.server.stop({ drain: 0 });
    expect(parts.journal.entries).toContain('closed');
    expect(commits).toEqual(['left']);
  });
});

describe('the end of a session', () => {
  test.each([
    [
      'by a request',
      async (parts: Parts, cookie: string) => {
        await fetch(`${parts.served.url.replace('ws', 'http')}/out`, { headers: { Cookie: cookie } });
      },
    ],
    [
      'by one of its sockets',
      async (parts: Parts, cookie: string) => {
        using client = await parts.open(cookie);
        client.send(frame(TEXT, 'out'));
        expect(await client.closeCode()).toBe(1008);
      },
    ],
    [
      'from elsewhere in the process',
      async (parts: Parts, cookie: string) => {
        await parts.sessions.access(cookie.split('.')[1]!, session => session.invalidate('admin'));
      },
    ],
    ['by time', async (parts: Parts) => parts.clock.advance(32 * 60_000)],
  ])('%s closes its sockets with 1008, anonymous as it is, and no others', async (_, end) => {
    await using parts = await withSessions(
      () => ({
        async onMessage({ session }, data) {
          if (data === 'out') await session!.invalidate('logout');
        },
      }),
      { idleTimeout: '30m' },
    );
    const cookie = await parts.signIn();
    using first = await parts.open(cookie);
    using second = await parts.open(cookie);
    using none = await parts.open();
    await parts.journal.until('open', 3);
    await end(parts, cookie);
    for (const client of [first, second]) {
      const next = await client.next();
      expect(next?.payload.readUInt16BE(0)).toBe(1008);
      expect(next?.payload.toString('utf8', 2)).toBe('session ended');
    }
    none.send(frame(PING, 'alive'));
    expect((await none.next())?.payload.toString()).toBe('alive');
    using late = await parts.open(cookie);
    late.send(frame(PING, 'without a session'));
    expect((await late.next())?.payload.toString()).toBe('without a session');
  });

  test('closes with 1008 also while a compressed message waits to be inflated, which is not delivered', async () => {
    await using parts = await withSessions((_, journal) => ({
      compression: true,
      maxMessageSize: '32MiB',
      onMessage({ session }, data) {
        journal.add(`${data.length} bytes`);
        setImmediate(() => void session!.invalidate('logout'));
      },
    }));
    using client = await parts.open(await parts.signIn(), 'Sec-WebSocket-Extensions: permessage-deflate');
    const large = deflateRawSync(Buffer.alloc(32 * 1024 * 1024), { finishFlush: constants.Z_SYNC_FLUSH });
    client.send(frame(TEXT, 'out'), frame(BINARY, large.subarray(0, -4), { rsv1: true }));
    expect(await client.closeCode()).toBe(1008);
    client.socket.end();
    await parts.journal.until('close 1008 session ended');
    expect(parts.journal.entries).toEqual(['open', '3 bytes', 'close 1008 session ended']);
  });

  test('while accept is thinking refuses the handshake with 401', async () => {
    const thinking = gate();
    await using parts = await withSessions((_, journal) => ({
      async accept() {
        journal.add('thinking');
        await thinking.promise;
        return true;
      },
    }));
    const cookie = await parts.signIn();
    const opening = parts.open(cookie);
    await parts.journal.until('thinking');
    await parts.sessions.access(cookie.split('.')[1]!, session => session.invalidate('logout'));
    thinking.resolve();
    using client = await opening;
    expect(client.status).toBe(401);
  });
});

describe('a store that fails', () => {
  test('answers a handshake with a cookie with 503, never as if nobody were signed in', async () => {
    await using parts = await withSessions();
    const cookie = await parts.signIn();
    parts.store.isDown = true;
    using client = await parts.open(cookie);
    expect(client.status).toBe(503);
    expect(client.header('Retry-After')).toHaveLength(1);
    parts.store.isDown = false;
    using again = await parts.open(cookie);
    expect(again.status).toBe(101);
  });

  test('while accept is thinking answers with 503, too', async () => {
    await using parts = await withSessions(() => ({
      accept({ session }) {
        session?.set('n', 1);
        parts.store.isDown = true;
        return true;
      },
    }));
    const cookie = await parts.signIn();
    using client = await parts.open(cookie);
    expect(client.status).toBe(503);
    expect(client.header('Retry-After')).toHaveLength(1);
    expect(parts.journal.entries).toEqual([]);
  });

  test('under the hands of a fetch handler answers with 503, too', async () => {
    await using parts = await withSessions();
    const cookie = await parts.signIn();
    const http = parts.served.url.replace('ws', 'http');
    const response = await fetch(`${http}/burn`, { headers: { Cookie: cookie } });
    expect(response.status).toBe(503);
    expect(response.headers.get('Retry-After')).toBe('5');
  });

  test('for a short while is not noticed: the commit is tried again', async () => {
    await using parts = await withSessions((_, journal) => ({
      onMessage({ session }) {
        session!.set('n', 1);
        journal.add('set');
      },
    }));
    const cookie = await parts.signIn();
    using client = await parts.open(cookie);
    parts.store.isDown = true;
    client.send(frame(TEXT));
    await parts.journal.until('set');
    await parts.clock.advance(500);
    parts.store.isDown = false;
    await parts.clock.advance(2_000);
    expect(await parts.look(cookie)).toEqual({ n: 1 });
    client.send(frame(PING));
    expect(await client.next()).toBeDefined();
  });

  test('for good is onError and 1013', async () => {
    await using parts = await withSessions((_, journal) => ({
      onMessage({ session }) {
        session!.set('n', 1);
        journal.add('set');
      },
      onError: (_connection, error) => journal.add(`error ${(error as Error & { code: string }).code}`),
    }));
    const cookie = await parts.signIn();
    using client = await parts.open(cookie);
    parts.store.isDown = true;
    client.send(frame(TEXT));
    await parts.journal.until('set');
    await parts.clock.advance(10_000);
    expect(await client.closeCode()).toBe(1013);
    expect(parts.journal.entries).toContain('error ERR_SESSION_STORE_UNAVAILABLE');
    parts.store.isDown = false;
  });
});

describe('traffic and the life of the session', () => {
  /** What the client does every eight minutes; the session ends after ten of silence. */
  async function survives(touchOnTraffic: 'message' | 'any' | 'never' | undefined, bytes: Buffer): Promise<boolean> {
    await using parts = await withSessions(
      (_, journal) => ({
        onMessage: () => journal.add('heard'),
        onPing: () => journal.add('heard'),
      }),
      { idleTimeout: '10m', ...(touchOnTraffic && { touchOnTraffic }) },
    );
    const cookie = await parts.signIn();
    using client = await parts.open(cookie);
    for (let i = 1; i <= 3; i++) {
      await parts.clock.advance(8 * 60_000);
      if (client.frames.some(({ opcode }) => opcode === 8)) return false;
      client.send(bytes);
      await parts.journal.until('heard', i);
    }
    return true;
  }

  test.each([
    [undefined, 'messages', true],
    ['message', 'messages', true],
    ['message', 'pings', false],
    ['any', 'messages', true],
    ['any', 'pings', true],
    ['never', 'messages', false],
    ['never', 'pings', false],
  ] as const)('touchOnTraffic %s: %s keep the session alive: %s', async (policy, what, alive) => {
    expect(await survives(policy, what === 'messages' ? frame(TEXT, 'x') : frame(PING))).toBe(alive);
  });
});

test('a connection without sessions on its server has none, and closes as ever', async () => {
  const journal = new Journal();
  await using served = await serve(
    defineEndpoint({
      path: '/',
      onOpen: ({ session, user }) => journal.add(`${session} ${user}`),
      onClose: () => journal.add('close'),
    }),
  );
  using client = await RawClient.connect(served.url);
  client.send(closeFrame(1000));
  client.socket.end();
  await journal.until('close');
  expect(journal.entries).toEqual(['undefined undefined', 'close']);
});
