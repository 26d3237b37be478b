import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer, type Server } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { HoldfastError } from '../../src/base/errors.ts';
import type { UpstreamSessionConfig } from '../../src/gateway/backend-session/observed/options.ts';
import type { ServerEnvironment } from '../../src/server/server.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { ServletBackend } from '../gateway/servlet-backend.ts';
import { closing } from '../services/closing.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-observed-'));
});
afterEach(() => rm(folder, { recursive: true }));
const open = closing();

async function servlet(options?: { cookie?: string; suffix?: string }): Promise<ServletBackend> {
  const backend = await ServletBackend.start(options);
  open.push(backend);
  return backend;
}

/** @param more of the upstream, and the server's own sessions. */
async function gateway(
  servers: string | string[],
  session: Omit<UpstreamSessionConfig, 'mode'>,
  more: {
    upstream?: object;
    session?: Config['session'];
    route?: object;
    log?: Config['log'];
    environment?: ServerEnvironment;
  } = {},
): Promise<Server> {
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: more.session ?? false,
      upstreams: { app: { servers: [servers].flat(), session: { mode: 'observed', ...session }, ...more.upstream } },
      routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' }, ...more.route }],
      log: more.log ?? { level: 'silent' },
    },
    more.environment,
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return server;
}

interface Reply {
  readonly status: number;
  /** The cookie that it sets, as a `Cookie` header. */
  readonly cookie: string | undefined;
}

/** Lines of the head as they are, so that a header can be there twice. */
async function get(server: Server, path: string, ...lines: string[]): Promise<Reply> {
  const { hostname, port } = new URL(server.urls[0]!);
  const socket = net.connect(Number(port), hostname);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${[...lines, 'Connection: close'].join('\r\n')}\r\n\r\n`);
  let text = '';
  for await (const chunk of socket) text += chunk;
  const cookie = /^set-cookie: (.*?);/im.exec(text)?.[1];
  return { status: Number(text.slice(9, 12)), cookie };
}

async function socketOf(server: Server, cookie: string | undefined, path = '/socket') {
  const client = new WebSocket(new URL(path, server.urls[0]!.replace('http', 'ws')), {
    headers: cookie === undefined ? {} : { cookie },
  });
  open.push({ close: () => client.terminate() });
  const closed = once(client, 'close').then(([code, reason]) => `${code} ${reason}`);
  await once(client, 'open');
  let asked = 0;
  /** Whatever else the backend sends meanwhile. */
  const echo = async () => {
    const question = `question ${asked++}`;
    client.send(question);
    while (String((await once(client, 'message'))[0]) !== question);
    return 'answered';
  };
  return { client, closed, echo };
}

const GOOD = 'Cookie: SESSIONID=good';

/** What the table in `docs/guides/observed-sessions.md` says, row by row. */
describe('the backend is told of a session', () => {
  test.each<[sends: string[], told: string | undefined]>([
    [['Cookie: a=1; SESSIONID=good; b=2'], 'good'],
    [[], undefined],
    [['X-Session-ID: stolen'], undefined],
    [['X_Session_ID: stolen', 'x.session.id: stolen'], undefined],
    [['Cookie: SESSIONID='], undefined],
    [['Cookie: SESSIONID=', 'X-Session-ID: good'], undefined],
    [[GOOD, 'X-Session-ID: stolen'], 'good'],
    [['Cookie: SESSIONID=good; EVILSESSIONID=evil'], 'good'],
    [['Cookie: EVILSESSIONID=evil; SESSIONID=good'], 'good'],
    [['Cookie: x=SESSIONID=inner'], undefined],
    [['Cookie: x=SESSIONID=good'], undefined],
    [['Cookie: PHPSESSIONID=good'], undefined],
    [['Cookie: SESSIONID=good; SESSIONID=other'], undefined],
    [['Cookie: SESSIONID=good; SESSIONID=good'], 'good'],
    [[GOOD, 'Cookie: SESSIONID=other'], undefined],
    [['Cookie: sessionid=good'], undefined],
    [['Cookie: SESSIONID="good"'], 'good'],
    [['Cookie: SESSIONID=good bad'], undefined],
    [['Cookie: SESSIONID=go\tod'], undefined],
    [[`Cookie: SESSIONID=${'g'.repeat(4097)}`], undefined],
    [['Cookie: SESSIONID=other'], undefined],
  ])('%j: %s', async (sends, told) => {
    const backend = await servlet({ cookie: 'none' });
    const server = await gateway(backend.url, { cookie: 'SESSIONID', trust: 'accepted' });
    await get(server, '/public', GOOD);
    await get(server, '/public', ...sends);
    expect(backend.told).toEqual([undefined, told]);
    const names = backend.requests.at(-1)!.rawHeaders.filter(name => /^x.session.id$/i.test(name));
    expect(names).toEqual(told === undefined ? [] : ['X-Session-ID']);
  });

  test('also when the client names its header in Connection, in a request and in a handshake', async () => {
    const backend = await servlet({ cookie: 'none' });
    const server = await gateway(backend.url, { cookie: 'SESSIONID', trust: 'accepted' });
    await get(server, '/public', GOOD);
    await get(server, '/public', GOOD, 'Connection: X-Session-ID, cookie');
    const { port } = new URL(server.urls[0]!);
    const socket = net.connect(Number(port), '127.0.0.1');
    open.push({ close: () => socket.destroy() });
    socket.write(
      `GET /socket HTTP/1.1\r\nHost: localhost\r\n${GOOD}\r\nConnection: Upgrade, X-Session-ID\r\nUpgrade: websocket\r\n` +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 101 /);
    expect(backend.told).toEqual([undefined, 'good', 'good']);
  });

  test('that was not confirmed: an id that somebody made up is not, where the backend does not accept it', async () => {
    const backend = await servlet();
    const server = await gateway(backend.url, { trust: 'accepted', cookie: 'JSESSIONID' });
    const spoof = 'Cookie: JSESSIONID=madeup';
    for (const path of ['/', '/private', '/broken', '/logout', '/', '/private']) await get(server, path, spoof);
    // A cookie that the backend does not get is none that it has accepted.
    await get(server, '/public', spoof, 'Connection: cookie');
    await get(server, '/public', spoof);
    expect(new Set(backend.told)).toEqual(new Set([undefined]));
  });

  test.each([
    {},
    { trust: 'issued' },
    { trustUntil: '2026-01-01' },
    { trust: 'accepted', trustUntil: '2026-01-01' },
  ] as const)('only if the backend itself gave the id: %j', async trust => {
    const backend = await servlet();
    const server = await gateway(
      backend.url,
      { cookie: 'JSESSIONID', ...trust },
      { environment: { clock: new FakeClock(Date.UTC(2026, 0, 1)) } },
    );
    for (let i = 0; i < 3; i++) await get(server, '/public', 'Cookie: JSESSIONID=madeup');
    const { cookie } = await get(server, '/');
    await get(server, '/public', `Cookie: ${cookie}`);
    expect(backend.told).toEqual([undefined, undefined, undefined, undefined, cookie!.split('=')[1]]);
  });

  test('until the day of a changeover also what the backend accepts, and what was live then stays so', async () => {
    const backend = await servlet();
    const clock = new FakeClock(Date.UTC(2026, 0, 1));
    const server = await gateway(
      backend.url,
      { cookie: 'SESSIONID', trustUntil: '2026-01-01T00:10:00Z' },
      { environment: { clock } },
    );
    const told = async (cookie: string) => {
      await get(server, '/public', `Cookie: SESSIONID=${cookie}`);
      return backend.told.at(-1);
    };
    expect([await told('before'), await told('before')]).toEqual([undefined, 'before']);
    await clock.advance(10 * 60_000);
    expect([await told('after'), await told('after'), await told('before')]).toEqual([undefined, undefined, 'before']);
  });

  test('the first or the last of several, where it is set so', async () => {
    for (const [duplicates, told] of [
      ['first', 'good'],
      ['last', 'other'],
    ] as const) {
      const backend = await servlet({ cookie: 'none' });
      const server = await gateway(backend.url, { cookie: 'SESSIONID', duplicates, trust: 'accepted' });
      await get(server, '/public', GOOD);
      await get(server, '/public', 'Cookie: SESSIONID=other');
      await get(server, '/public', 'Cookie: SESSIONID=good; SESSIONID=other');
      expect(backend.told.at(-1)).toBe(told);
    }
  });

  test('by the header that a client without cookies sends, once the backend has given the id', async () => {
    const backend = await servlet({ cookie: 'none' });
    const server = await gateway(
      backend.url,
      { header: 'Session-ID', trust: 'accepted' },
      { upstream: { affinity: 'none' } },
    );
    await get(server, '/public', 'Session-ID: abc');
    await get(server, '/public', 'Session-ID: abc', 'X-Session-ID: stolen');
    await get(server, '/public', 'Session-ID: abc', 'Session-ID: def');
    await get(server, '/public', 'Session-ID: a b');
    expect(backend.told).toEqual([undefined, 'abc', undefined, undefined]);
  });

  test('under the name of the header that it comes in: then only what the backend has given is passed on', async () => {
    const backend = await servlet({ cookie: 'none' });
    const server = await gateway(backend.url, { trust: 'accepted', header: 'X-Session-ID' });
    for (let i = 0; i < 3; i++) await get(server, '/public', 'X-Session-ID: stolen');
    expect(backend.told).toEqual([undefined, undefined, undefined]);
    backend.answerWith = { 'X-Session-ID': 'given' };
    await get(server, '/public');
    backend.answerWith = {};
    await get(server, '/public', 'X-Session-ID: given');
    backend.answerWith = { 'X-Session-ID': '' };
    await get(server, '/public', 'X-Session-ID: given');
    backend.answerWith = {};
    await get(server, '/public', 'X-Session-ID: given');
    expect(backend.told.slice(4)).toEqual(['given', 'given', undefined]);
  });

  test.each(['X_Session_ID', 'X-Forwarded-User', 'X-Forwarded-Session'])(
    'never because of a header %s, which backends do not get: they cannot have accepted what it says',
    async header => {
      const backend = await servlet({ cookie: 'none' });
      const server = await gateway(backend.url, { header, trust: 'accepted' });
      for (let i = 0; i < 2; i++) await get(server, '/public', `${header}: stolen`);
      expect(backend.told).toEqual([undefined, undefined]);
    },
  );
});

describe('a relayed WebSocket', () => {
  test('ends with 1008 when the backend deletes the session that it came in with, and no other does', async () => {
    const backend = await servlet();
    const server = await gateway(backend.url, { cookie: 'JSESSIONID' });
    const alice = await get(server, '/');
    const bob = await get(server, '/');
    const sockets = await Promise.all([alice, alice, bob].map(({ cookie }) => socketOf(server, cookie)));
    const nobody = await socketOf(server, undefined);
    // Somebody who does not hold the id can neither end nor move it.
    await get(server, '/logout');
    await get(server, '/logout', 'Cookie: JSESSIONID=madeup');
    await get(server, '/login', 'Cookie: JSESSIONID=madeup');
    for (const socket of [...sockets, nobody]) expect(await socket.echo()).toBe('answered');
    await get(server, '/logout', `Cookie: ${alice.cookie}`);
    expect(await Promise.all([sockets[0]!.closed, sockets[1]!.closed])).toEqual(Array(2).fill('1008 session ended'));
    for (const socket of [sockets[2]!, nobody]) expect(await socket.echo()).toBe('answered');
    // What was ended is not live again by a request that brings it back.
    await get(server, '/public', `Cookie: ${alice.cookie}`);
    await get(server, '/public', `Cookie: ${alice.cookie}`);
    expect(backend.told.slice(-2)).toEqual([undefined, undefined]);
  });

  test('ends with 1012 when a login replaces the id, so that it comes again with the new one', async () => {
    const backend = await servlet();
    const server = await gateway(backend.url, { cookie: 'JSESSIONID' });
    const { cookie } = await get(server, '/');
    const socket = await socketOf(server, cookie);
    const login = await get(server, '/login', `Cookie: ${cookie}`);
    expect(await socket.closed).toBe('1012 session renewed');
    const again = await socketOf(server, login.cookie);
    expect(backend.told.at(-1)).toBe(login.cookie!.split('=')[1]);
    await get(server, '/logout', `Cookie: ${login.cookie}`);
    expect(await again.closed).toBe('1008 session ended');
  });

  test('stays over a login where it is to be rebound, and ends with the new session', async () => {
    const backend = await servlet();
    const server = await gateway(backend.url, { cookie: 'JSESSIONID', onReplace: 'rebind' });
    const { cookie } = await get(server, '/');
    const socket = await socketOf(server, cookie);
    const login = await get(server, '/login', `Cookie: ${cookie}`);
    expect(await socket.echo()).toBe('answered');
    await get(server, '/public', `Cookie: ${cookie}`);
    expect(backend.told.at(-1)).toBeUndefined(); // the old id is none any more
    await get(server, '/logout', `Cookie: ${login.cookie}`);
    expect(await socket.closed).toBe('1008 session ended');
  });

  test('makes a session live by its own handshake', async () => {
    const backend = await servlet({ cookie: 'none' });
    const server = await gateway(backend.url, { cookie: 'SESSIONID', trust: 'accepted' });
    await socketOf(server, 'SESSIONID=good');
    await socketOf(server, 'SESSIONID=good');
    expect(backend.told).toEqual([undefined, 'good']);
  });

  test('keeps its session while only the route at the end of the id changes', async () => {
    const backend = await servlet({ suffix: '.t1' });
    const server = await gateway(backend.url, { cookie: 'JSESSIONID', suffix: '.' });
    const { cookie } = await get(server, '/');
    const socket = await socketOf(server, cookie);
    const moved = cookie!.replace('.t1', '.t2');
    backend.answerWith = { 'Set-Cookie': `${moved}; Path=/` };
    await get(server, '/public', `Cookie: ${cookie}`);
    backend.answerWith = {};
    await get(server, '/public', `Cookie: ${moved}`);
    expect(backend.told.at(-1)).toBe(moved.split('=')[1]); // letter for letter
    expect(await socket.echo()).toBe('answered');
  });
});

test('the id that SockJS gives to everybody ties nobody: what one visitor deletes does not close the sockets of others', async () => {
  const backend = await servlet({ cookie: 'none' });
  const server = await gateway(backend.url, { cookie: 'JSESSIONID' });
  backend.answerWith = { 'Set-Cookie': 'JSESSIONID=dummy; path=/' };
  await get(server, '/public');
  const sockets = await Promise.all([1, 2].map(() => socketOf(server, 'JSESSIONID=dummy')));
  backend.answerWith = { 'Set-Cookie': 'JSESSIONID=; Path=/; Max-Age=0' };
  await get(server, '/public', 'Cookie: JSESSIONID=dummy');
  backend.answerWith = { 'Set-Cookie': 'JSESSIONID=fresh; Path=/' };
  await get(server, '/public', 'Cookie: JSESSIONID=dummy');
  expect(await Promise.all(sockets.map(({ echo }) => echo()))).toEqual(['answered', 'answered']);
  expect(new Set(backend.told)).toEqual(new Set([undefined]));
});

test('two gateways on one ledger: what one has seen the other knows, and a logout through one closes the sockets of both', async () => {
  const backend = await servlet();
  const shared = { session: { store: `lmdb:${folder}/sessions` } };
  const [one, two] = await Promise.all([1, 2].map(() => gateway(backend.url, { cookie: 'JSESSIONID' }, shared)));
  const { cookie } = await get(one!, '/');
  await get(two!, '/public', `Cookie: ${cookie}`);
  expect(backend.told).toEqual([undefined, cookie!.split('=')[1]]);
  const sockets = await Promise.all([one!, two!].map(server => socketOf(server, cookie)));
  await get(one!, '/logout', `Cookie: ${cookie}`);
  expect(await Promise.all(sockets.map(({ closed }) => closed))).toEqual(Array(2).fill('1008 session ended'));
  for (const server of [one!, two!]) await get(server, '/public', `Cookie: ${cookie}`);
  expect(backend.told.slice(-2)).toEqual([undefined, undefined]);
});

test('below a mounted application with sessions of its own, it is their ledger by which gateways agree', async () => {
  const backend = await servlet();
  const start = async () => {
    const application = {
      session: { store: `lmdb:${folder}/sessions` },
      routes: [{ path: '/*', upstream: 'app', rewrite: '/', policy: { origins: 'any' as const } }],
    };
    const server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: false,
      upstreams: { app: { servers: [backend.url], session: { mode: 'observed', cookie: 'JSESSIONID' } } },
      routes: [{ mount: '/shop', application }],
      log: { level: 'silent' },
    });
    await server.start();
    open.push({ close: () => server.stop({ drain: 0 }) });
    return server;
  };
  const [one, other] = [await start(), await start()];
  const { cookie } = await get(one, '/shop/');
  const client = await socketOf(other, cookie, '/shop/socket');
  expect(backend.told.at(-1)).toBe(cookie!.split('=')[1]);
  await get(one, '/shop/logout', `Cookie: ${cookie}`);
  expect(await client.closed).toBe('1008 session ended');
});

test('what is live is so after a restart, on the server that it was on', async () => {
  const backends = [await servlet(), await servlet(), await servlet()];
  const shared = { session: { store: `lmdb:${folder}/sessions` } };
  const urls = backends.map(({ url }) => url);
  const before = await gateway(urls, { cookie: 'JSESSIONID' }, shared);
  const cookies: string[] = [];
  for (let i = 0; i < 12; i++) cookies.push((await get(before, '/')).cookie!);
  await before.stop({ drain: 0 });
  for (const backend of backends) expect(backend.sessions.size).toBeGreaterThan(0);

  const after = await gateway(urls, { cookie: 'JSESSIONID' }, shared);
  for (const backend of backends) backend.told.length = 0;
  for (const cookie of cookies) expect((await get(after, '/', `Cookie: ${cookie}`)).cookie).toBeUndefined();
  const told = backends.flatMap(backend => backend.told);
  expect(told.sort()).toEqual(cookies.map(cookie => cookie.split('=')[1]).sort());
});

test('the cookie prefix of the upstream is part of the name for browsers only', async () => {
  const backend = await servlet();
  const server = await gateway(backend.url, { cookie: 'JSESSIONID' }, { upstream: { cookies: { prefix: 'app1_' } } });
  const { cookie } = await get(server, '/');
  expect(cookie).toMatch(/^app1_JSESSIONID=/);
  await get(server, '/public', `Cookie: ${cookie}`, 'Cookie: JSESSIONID=other');
  expect(backend.told.at(-1)).toBe(cookie!.split('=')[1]);
});

test('a ledger that cannot be asked is 503, not a visitor who seems to be signed out', async () => {
  class Ledger extends MemoryLedger {
    isDown = false;
    override get(key: string) {
      if (this.isDown) throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', 'down', { status: 503 });
      return super.get(key);
    }
  }
  const backend = await servlet();
  const ledger = new Ledger();
  const more = { session: { store: new MemoryStore({ maxSessions: 10 }), ledger } };
  const server = await gateway(backend.url, { cookie: 'JSESSIONID' }, more);
  const { cookie } = await get(server, '/');
  ledger.isDown = true;
  const answers = ['JSESSIONID=other', cookie!].map(one => get(server, '/public', `Cookie: ${one}`));
  expect((await Promise.all([...answers, get(server, '/public')])).map(({ status }) => status)).toEqual([
    503, 200, 200,
  ]);
});

test('traffic of the client keeps its session live as it is set, and what comes from the backend does not', async () => {
  const idleTimeout = '35m';
  const backend = await servlet();
  const clock = new FakeClock();
  const open = async (touchOnTraffic: 'message' | 'any' | 'never') => {
    const server = await gateway(
      backend.url,
      { cookie: 'JSESSIONID', idleTimeout, touchOnTraffic },
      { environment: { clock }, route: { websocket: { idleTimeout: -1, heartbeat: -1 } } },
    );
    return Promise.all([1, 2, 3].map(async () => socketOf(server, (await get(server, '/')).cookie)));
  };
  const [message, any, never] = [await open('message'), await open('any'), await open('never')];
  const closes = new Map<unknown, string>();
  for (const one of [...message, ...any, ...never]) void one.closed.then(code => closes.set(one, code));
  for (let minutes = 0; minutes < 40; minutes += 10) {
    for (const [messages, pings] of [message, any, never]) {
      await messages!.echo();
      pings!.client.ping();
      await once(pings!.client, 'pong');
    }
    backend.tell('news');
    await clock.advance(10 * 60_000);
  }
  // Each set: with messages, with pings, silent.
  const ended = [message[1], message[2], any[2], ...never];
  await Promise.all(ended.map(one => one!.closed));
  for (const one of ended) expect(closes.get(one)).toBe('1008 session ended');
  for (const one of [message[0]!, any[0]!, any[1]!]) expect(await one.echo()).toBe('answered');
});

test('a session of the backend stays on its server, whatever becomes of one of ours beside it', async () => {
  const backends = [await servlet(), await servlet(), await servlet()];
  const server = await gateway(
    backends.map(({ url }) => url),
    { cookie: 'JSESSIONID' },
    { session: { store: 'memory:' }, route: { session: 'create' } },
  );
  for (let i = 0; i < 12; i++) {
    const first = await fetch(new URL('/', server.urls[0]));
    const theirs = first.headers.getSetCookie().find(line => line.startsWith('JSESSIONID='))!;
    // A server that does not know it would give another one.
    const again = await fetch(new URL('/', server.urls[0]), { headers: { cookie: theirs.split(';')[0]! } });
    expect(again.headers.getSetCookie().filter(line => line.startsWith('JSESSIONID='))).toEqual([]);
  }
});

test("a session of ours beside that of the backend: the header is of the backend's, and a socket ends with either", async () => {
  const backend = await servlet();
  const server = await gateway(
    backend.url,
    { cookie: 'JSESSIONID' },
    { session: { store: 'memory:' }, route: { session: 'create' } },
  );
  const first = await fetch(new URL('/', server.urls[0]));
  const [theirs, ours] = ['JSESSIONID', 'holdfast'].map(
    name =>
      first.headers
        .getSetCookie()
        .find(line => line.startsWith(`${name}=`))!
        .split(';')[0]!,
  );
  const sockets = [1, 2].map(() => socketOf(server, `${ours}; ${theirs}`));
  const [one, two] = await Promise.all(sockets);
  expect(backend.told.slice(-2)).toEqual(Array(2).fill(theirs!.split('=')[1]));
  expect(backend.requests.at(-1)!.headers.cookie).toBe(theirs);
  await get(server, '/logout', `Cookie: ${theirs}`);
  expect(await Promise.all([one!.closed, two!.closed])).toEqual(Array(2).fill('1008 session ended'));
  const again = await socketOf(server, `${ours}; ${(await get(server, '/', `Cookie: ${ours}`)).cookie}`);
  await server.sessions.end(ours!.split('.')[1]!, 'admin');
  expect(await again.closed).toBe('1008 session ended');
});

test('a LogFormat that names the cookie and the header of the backend writes neither', async () => {
  const lines: string[] = [];
  const backend = await servlet();
  const server = await gateway(
    backend.url,
    { cookie: 'JSESSIONID', header: 'X-Backend-Session' },
    {
      upstream: { cookies: { prefix: 'app-' } },
      log: { access: '%{app-JSESSIONID}C %{x-backend-session}i %{theme}C %{x-theme}i' },
      environment: { accessLog: { write: line => lines.push(line) } },
    },
  );
  await get(
    server,
    '/public',
    'Cookie: app-JSESSIONID=SECRET; theme=dark',
    'X-Backend-Session: SECRET',
    'X-Theme: light',
  );
  await expect.poll(() => lines).toEqual(['*** *** dark light\n']);
});

test('the access log has the beginning of a hash, and nothing of an id', async () => {
  const lines: string[] = [];
  const logged: string[] = [];
  const note = (fields: object, message: string) => void logged.push(`${JSON.stringify(fields)} ${message}`);
  try {
    const backend = await servlet();
    const server = await gateway(
      backend.url,
      { cookie: 'JSESSIONID' },
      {
        log: { access: 'json' },
        environment: {
          logger: { debug: note, info: note, warn: note, error: note },
          accessLog: { write: line => lines.push(line) },
        },
      },
    );
    const { cookie } = await get(server, '/');
    const { closed } = await socketOf(server, cookie);
    await get(server, '/public', `Cookie: ${cookie}`);
    await get(server, '/public', `Cookie: ${cookie}; JSESSIONID=other`);
    await get(server, '/public', 'Cookie: JSESSIONID=madeup', 'Connection: cookie');
    await get(server, '/logout', `Cookie: ${cookie}`);
    await closed;
    await expect.poll(() => lines.length).toBe(7);
    const sids = lines.map(line => JSON.parse(line).sid as string | undefined).sort();
    expect(sids.filter(sid => sid === sids[0])).toHaveLength(5);
    expect(sids[0]).toMatch(/^[\w-]{8}$/);
    expect(sids.slice(5)).toEqual([undefined, undefined]);
    expect(logged.join('\n')).toContain('session-ambiguous');
    for (const line of [...lines, ...logged]) expect(line).not.toContain(cookie!.split('=')[1]);
  } finally {
  }
});
