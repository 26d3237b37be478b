import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { UpstreamSessionConfig } from '../../src/gateway/backend-session/observed/options.ts';
import { ServletBackend } from '../gateway/servlet-backend.ts';
import { closing } from '../services/closing.ts';
import { Http2Client } from './http2-client.ts';
import { type Wire, WiredServer } from './wires.ts';

const open = closing();

async function gateway(
  servers: object[],
  upstream: object,
  session: Partial<UpstreamSessionConfig>,
): Promise<WiredServer> {
  const server = await WiredServer.start({
    upstreams: { app: { servers: servers as never, ...upstream, session: { mode: 'observed', ...session } } },
    routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' } }],
  });
  open.push(server);
  return server;
}

interface Visitor {
  get(path: string, cookie?: string): Promise<number>;
  /** @returns the code and reason that it closes with, and a way to ask. */
  socket(cookie: string): Promise<{ closed: Promise<string>; echo(text: string): Promise<string> }>;
}

function visitor(server: WiredServer, wire: Wire): Visitor {
  const url = server.url(wire);
  if (wire === 'http/2') {
    const client = new Http2Client(url);
    open.push({ close: () => client.session.destroy() });
    return {
      get: async (path, cookie) => (await client.get(path, cookie === undefined ? {} : { cookie })).status,
      async socket(cookie) {
        const socket = await client.webSocket('/socket', { cookie });
        const closed = socket.closed.then(({ code, reason }) => `${code} ${reason}`);
        return {
          closed,
          async echo(text) {
            socket.send(text);
            return String(await socket.receive());
          },
        };
      },
    };
  }
  const tls = { rejectUnauthorized: false };
  return {
    async get(path, cookie) {
      const { request } = await (wire === 'tls' ? import('node:https') : import('node:http'));
      const sent = request(new URL(path, url), { ...tls, agent: false, headers: cookie ? { cookie } : {} }).end();
      const [answer] = await once(sent, 'response');
      answer.resume();
      await once(answer, 'end');
      return answer.statusCode;
    },
    async socket(cookie) {
      const client = new WebSocket(new URL('/socket', url.replace('http', 'ws')), { ...tls, headers: { cookie } });
      open.push({ close: () => client.terminate() });
      const closed = once(client, 'close').then(([code, reason]) => `${code} ${reason}`);
      await once(client, 'open');
      return {
        closed,
        async echo(text) {
          client.send(text);
          return String(await Promise.race([once(client, 'message').then(([data]) => data), closed]));
        },
      };
    },
  };
}

/** What an id becomes while its session stays the same, container by container. */
const FORMS: [container: string, suffix: UpstreamSessionConfig['suffix'], ids: string[]][] = [
  ['WebSphere', ':', ['0001Kx9_aB-71:c1', '0002Kx9_aB-71:c1:c2', '0003Kx9_aB-71:c2:c1', '9999Kx9_aB-71:c2']],
  ['WebSphere with CloneSeparatorChange', '+', ['0000Kx9_aB-71+c1', '0001Kx9_aB-71+c1+c2']],
  ['WebLogic', '!', ['Kx9aB71!-811!1203!1700', 'Kx9aB71!1203!-4!1701', 'Kx9aB71!1203!NONE']],
  ['Tomcat', '.', ['A7B1.t1', 'A7B1.t2', 'A7B1']],
  ['Jetty', '.', ['node0k9x1.node0', 'node0k9x1.node1']],
  ['WildFly', '.', ['Kx9_aB-71.one', 'Kx9_aB-71.two.one']],
];

describe.each(['http/1', 'tls', 'http/2'] as const)('over %s', wire => {
  test.each(FORMS)('a session of %s outlives each move to another server', async (_, suffix, [first, ...later]) => {
    const backend = await ServletBackend.start({ cookie: 'none' });
    open.push(backend);
    const server = await gateway([{ url: backend.url }], {}, { cookie: 'JSESSIONID', suffix });
    const { get, socket } = visitor(server, wire);
    backend.answerWith = { 'Set-Cookie': `JSESSIONID=${first}; Path=/; HttpOnly` };
    await get('/public');
    let shown = first!;
    const { closed, echo } = await socket(`JSESSIONID=${shown}`);
    for (const id of later) {
      backend.answerWith = { 'Set-Cookie': `JSESSIONID=${id}; Path=/; HttpOnly` };
      await get('/public', `JSESSIONID=${shown}`);
      backend.answerWith = {};
      await get('/public', `JSESSIONID=${id}`);
      expect(backend.told.at(-1)).toBe(id); // letter for letter
      expect(await echo(`after ${id}`)).toBe(`after ${id}`);
      // The browser of another tab may still show the earlier one.
      await get('/public', `JSESSIONID=${shown}`);
      expect(backend.told.at(-1)).toBe(shown);
      shown = id;
    }
    backend.answerWith = { 'Set-Cookie': 'JSESSIONID=; Path=/; Max-Age=0' };
    await get('/public', `JSESSIONID=${shown}`);
    expect(await closed).toBe('1008 session ended');
  });

  test('any clone that the id names may serve a session, the first one that is up: also where affinity is strict', async () => {
    const backends = await Promise.all([1, 2, 3].map(() => ServletBackend.start({ cookie: 'none' })));
    for (const backend of backends) open.push(backend);
    const servers = backends.map(({ url }, index) => ({ url, route: `c${index + 1}` }));
    const server = await gateway(
      servers,
      { affinity: { by: 'route', strict: true }, ejection: { time: '60s' } },
      { cookie: 'JSESSIONID', suffix: ':' },
    );
    const { get } = visitor(server, wire);
    const cookie = 'JSESSIONID=0002Kx9_aB-71:c2:c3';
    expect(await get('/public', cookie)).toBe(200);
    expect(backends.map(({ requests }) => requests.length)).toEqual([0, 1, 0]);
    await backends[1]!.close();
    expect([await get('/public', cookie), await get('/public', cookie)]).toEqual([200, 200]);
    expect(backends.map(({ requests }) => requests.length)).toEqual([0, 1, 2]);
    await backends[2]!.close();
    expect(await get('/public', cookie)).toBe(503);
    expect(backends[0]!.requests).toEqual([]);
    open.splice(open.indexOf(backends[1]!), 1);
    open.splice(open.indexOf(backends[2]!), 1);
  });
});
