import { defineEndpoint } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Config, RouteConfig } from '../../src/config/config.ts';
import { FakeClock } from '../../src/testing/index.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

const ORIGIN = 'https://app.example';

let server: WiredServer;
let backend: RawBackend;
let log: Lines;
let clock: FakeClock;

async function start(config: Config) {
  log = new Lines();
  server = await WiredServer.start(
    { session: {}, upstreams: { app: { servers: [backend.url] } }, ...config },
    log,
    clock,
  );
}

const policy = { origins: [ORIGIN], tickets: true, cors: true } satisfies RouteConfig['policy'];
const whoEndpoint = (path: string) =>
  defineEndpoint({
    path,
    accept: ({ user, session, url }) => ({
      headers: { 'X-Who': `${user?.name ?? session?.id ?? 'nobody'} ${url.search}` },
    }),
  });
const config: Config = {
  auth: {
    key: {
      type: 'function',
      authenticate: ({ headers }) =>
        headers['x-key'] === undefined
          ? undefined
          : {
              name: String(headers['x-key']),
              ...(headers['x-for'] !== undefined && { expiresAt: clock.now() + Number(headers['x-for']) }),
            },
    },
    login: { type: 'session' },
  },
  routes: [
    {
      path: '/in/:name',
      methods: ['POST'],
      fetch: async (request, { params }) => {
        const session = await server.server.sessions.signIn(request, { name: params.name!, roles: [] });
        return new Response(session.id);
      },
    },
    { endpoint: whoEndpoint('/socket'), policy: { ...policy, auth: ['key', 'login'] } },
    { endpoint: whoEndpoint('/other'), policy: { ...policy, auth: ['key', 'login'] } },
    { endpoint: whoEndpoint('/plain'), policy },
    { path: '/app/*', upstream: 'app', policy: { ...policy, auth: ['key', 'login'] } },
  ],
};

beforeEach(async () => {
  clock = new FakeClock(Date.now());
  backend = await RawBackend.listen();
  await start(config);
});
afterEach(async () => {
  await server.close();
  await backend.close();
});

async function ticketFor(path: string, headers: Record<string, string>, origin: string | undefined = ORIGIN) {
  const answer = await ask(server, 'http/1', {
    method: 'POST',
    path: `${path}/ticket`,
    headers: { ...headers, ...(origin && { Origin: origin }) },
  });
  return { ...answer, ticket: answer.status === 200 ? (JSON.parse(answer.body).ticket as string) : '' };
}

async function login(name: string) {
  const { headers, body } = await ask(server, 'http/1', { method: 'POST', path: `/in/${name}` });
  return { cookie: headers['set-cookie']!.split(';')[0]!, sid: body };
}

describe.each(wires)('over %s', wire => {
  const open = (path: string, headers: Record<string, string> = {}) =>
    knock(server, wire, { path, headers: { Origin: ORIGIN, ...headers } });

  test('a ticket opens one WebSocket as the user that asked for it, and neither handler nor log sees it', async () => {
    const { status, headers, body, ticket } = await ticketFor('/socket', { 'X-Key': 'alice' });
    expect([status, headers['cache-control'], headers['access-control-allow-origin']]).toEqual([
      200,
      'no-store',
      ORIGIN,
    ]);
    expect(JSON.parse(body)).toEqual({ ticket: expect.stringMatching(/^holdfast-[\w-]{43}$/), expiresIn: 10 });
    const opened = await open(`/socket?room=1&ticket=${ticket}&x=2`);
    expect([opened.status, opened.headers['x-who']]).toEqual([101, 'alice ?room=1&x=2']);
    expect((await open(`/socket?ticket=${ticket}`)).status).toBe(401);
    expect(JSON.stringify(log.all)).not.toContain(ticket);
  });

  test('a ticket brings the session that it was asked for with, also where no cookie comes', async () => {
    const { cookie } = await login('alice');
    const { ticket } = await ticketFor('/socket', { Cookie: cookie });
    expect((await open(`/socket?ticket=${ticket}`)).headers['x-who']).toBe('alice');
    const anonymous = await ticketFor('/plain', { Cookie: cookie });
    expect((await open(`/plain?ticket=${anonymous.ticket}`)).headers['x-who']).toBe('alice');
  });

  test('a relayed WebSocket takes one, and the backend sees neither it nor the key', async () => {
    backend.answer = () => 'HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n';
    const { ticket } = await ticketFor('/app', { 'X-Key': 'alice' });
    expect((await open(`/app/chat?a=1&ticket=${ticket}`)).status).toBe(503);
    expect(backend.requests).toHaveLength(1);
    expect(backend.requests[0]).toMatch(/^GET \/app\/chat\?a=1 HTTP/);
    expect(backend.requests[0]).toMatch(/^X-Forwarded-User: alice\r$/m);
    expect(backend.requests[0]).not.toContain(ticket);
  });
});

describe('in plain requests of a route with tickets', () => {
  const ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
  const targetOf = async (path: string, headers: Record<string, string> = {}) => {
    backend.requests.length = 0;
    backend.answer = () => ANSWER;
    const { status } = await ask(server, 'http/1', { path, headers: { 'X-Key': 'alice', ...headers } });
    expect(status).toBe(200);
    return /^GET (\S+)/.exec(backend.requests[0]!)![1];
  };

  test.each(['?ticket=A-17&x=1', '?ticket', '?TICKET=1&ticket=2', '?q=%74icket&ticket=a%20b', '?a=holdfast-x&ticket='])(
    'the application keeps its own %s',
    async query => expect(await targetOf(`/app/x${query}`)).toBe(`/app/x${query}`),
  );

  test('a ticket of ours reaches no backend, in whatever parameter, and stays good for its handshake', async () => {
    const { ticket } = await ticketFor('/app', { 'X-Key': 'alice' });
    expect(await targetOf(`/app/x?a=1&ticket=${ticket}&b=2`)).toBe('/app/x?a=1&b=2');
    for (const name of ['TICKET', '%74icket', 'x']) expect(await targetOf(`/app/x?${name}=${ticket}`)).toBe('/app/x');
    expect(await targetOf(`/app/x?ticket=mine&ticket=${ticket}`)).toBe('/app/x?ticket=mine');
    await targetOf('/app/x', { Referer: `https://public.example/p?ticket=${ticket}&ticket=mine` });
    expect(backend.requests[0]).toMatch(/^Referer: https:\/\/public\.example\/p\?ticket=mine\r$/m);
    backend.answer = () => 'HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n';
    const headers = { Origin: ORIGIN };
    expect((await knock(server, 'http/1', { path: `/app/c?ticket=${ticket}`, headers })).status).toBe(503);
  });

  test('nor does it where a route takes none', async () => {
    const { ticket } = await ticketFor('/app', { 'X-Key': 'alice' });
    await server.close();
    await start({ routes: [{ path: '/app/*', upstream: 'app' }] });
    expect(await targetOf(`/app/x?ticket=${ticket}&ticket=mine`)).toBe('/app/x?ticket=mine');
  });
});

describe('a ticket', () => {
  const open = (path: string, headers: Record<string, string> = { Origin: ORIGIN }) =>
    knock(server, 'http/1', { path, headers });

  test.each<[string, (ticket: string) => Promise<{ status: number }>]>([
    ['on another route', ticket => open(`/other?ticket=${ticket}`)],
    ['from no page', ticket => open(`/socket?ticket=${ticket}`, {})],
    ['twice in one query', ticket => open(`/socket?ticket=${ticket}&ticket=${ticket}`)],
    ['shortened', ticket => open(`/socket?ticket=${ticket.slice(1)}`)],
    [
      'with the session of somebody else',
      async ticket => open(`/socket?ticket=${ticket}`, { Origin: ORIGIN, Cookie: (await login('eve')).cookie }),
    ],
  ])('that is shown %s is 401 and a failed login', async (_, show) => {
    const { cookie } = await login('alice');
    const { ticket } = await ticketFor('/socket', { Cookie: cookie });
    expect((await show(ticket)).status).toBe(401);
    expect(log.all.filter(({ fields }) => fields.event === 'login-failed')).toMatchObject([
      { fields: { scheme: 'ticket' } },
    ]);
  });

  test.each([
    ['again', async (ticket: string) => void (await open(`/socket?ticket=${ticket}`))],
    ['after its time', () => clock.advance(10_001)],
  ])('that is shown %s is 401 and bans nobody', async (_, before) => {
    const { cookie } = await login('alice');
    const { ticket } = await ticketFor('/socket', { Cookie: cookie });
    await before(ticket);
    expect((await open(`/socket?ticket=${ticket}`)).status).toBe(401);
    const events = log.all.map(({ fields }) => fields.event);
    expect(events.filter(event => event === 'credentials-expired' || event === 'login-failed')).toEqual([
      'credentials-expired',
    ]);
  });

  test('may be shown with an escaped name or value, and not in another parameter or in other letters', async () => {
    const shownBy = async (query: (ticket: string) => string) => {
      const { ticket } = await ticketFor('/socket', { 'X-Key': 'alice' });
      return (await open(`/socket?${query(ticket)}`)).status;
    };
    expect(await shownBy(ticket => `%74icket=${ticket}`)).toBe(101);
    expect(await shownBy(ticket => `ticket=${ticket.replace('-', '%2D')}`)).toBe(101);
    expect(await shownBy(ticket => `TICKET=${ticket}`)).toBe(401);
    expect(await shownBy(ticket => `token=${ticket}`)).toBe(401);
    expect(await shownBy(ticket => `ticket=${ticket}&%74icket=mine`)).toBe(401);
    expect(await shownBy(ticket => `ticket=${ticket}&TICKET=mine`)).toBe(101);
  });

  test('is over after 10 s', async () => {
    const { ticket } = await ticketFor('/socket', { 'X-Key': 'alice' });
    await clock.advance(10_001);
    expect((await open(`/socket?ticket=${ticket}`)).status).toBe(401);
  });

  test('for credentials that have ended meanwhile opens nothing', async () => {
    const { ticket } = await ticketFor('/socket', { 'X-Key': 'alice', 'X-For': '5000' });
    const other = await ticketFor('/socket', { 'X-Key': 'alice', 'X-For': '5000' });
    await clock.advance(4_999);
    expect((await open(`/socket?ticket=${ticket}`)).status).toBe(101);
    await clock.advance(1);
    expect((await open(`/socket?ticket=${other.ticket}`)).status).toBe(401);
  });

  test('of a session that has ended meanwhile opens nothing', async () => {
    const { cookie, sid } = await login('alice');
    const { ticket } = await ticketFor('/socket', { Cookie: cookie });
    const plain = await ticketFor('/plain', { Cookie: cookie });
    await server.server.sessions.end(sid, 'admin');
    expect((await open(`/socket?ticket=${ticket}`)).status).toBe(401);
    expect((await open(`/plain?ticket=${plain.ticket}`)).status).toBe(401);
  });

  test('is given to nobody who shows nothing, and to no GET', async () => {
    expect((await ticketFor('/socket', {})).status).toBe(401);
    expect((await ticketFor('/plain', {})).status).toBe(401);
    expect((await ask(server, 'http/1', { path: '/socket/ticket', headers: { 'X-Key': 'alice' } })).status).toBe(405);
  });

  test('is given 30 times in its lifetime to one user, and then again', async () => {
    const statuses: number[] = [];
    for (let i = 0; i < 31; i++) statuses.push((await ticketFor('/socket', { 'X-Key': 'alice' })).status);
    expect(statuses.filter(status => status === 200)).toHaveLength(30);
    expect(statuses.at(-1)).toBe(429);
    expect((await ticketFor('/socket', { 'X-Key': 'bob' })).status).toBe(200);
    await clock.advance(10_001);
    expect((await ticketFor('/socket', { 'X-Key': 'alice' })).status).toBe(200);
  });
});
