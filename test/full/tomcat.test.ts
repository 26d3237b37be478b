import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createServer, type Server } from '../../src/index.ts';
import { startTomcat, type Tomcat, tomcatMissing } from '../services/tomcat.ts';

/** A visitor with a cookie jar of one cookie. */
class Visitor {
  readonly #base: string;
  cookie: string | undefined;

  constructor(server: Server) {
    this.#base = server.urls[0]!;
  }

  /** What `counter.jsp` says. */
  async visit(path = '/counter.jsp'): Promise<{ status: number; route: string; count: number; id: string }> {
    const response = await fetch(new URL(path, this.#base), this.cookie ? { headers: { Cookie: this.cookie } } : {});
    const set = response.headers.getSetCookie().find(line => line.startsWith('JSESSIONID='));
    if (set) this.cookie = set.split(';')[0]!;
    const [route = '', count, id = ''] = (await response.text()).trim().split(' ');
    return { status: response.status, route, count: Number(count), id };
  }
}

async function startGateway(tomcats: readonly Tomcat[], strict: boolean): Promise<Server> {
  const server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams: {
      app: {
        servers: tomcats.map(({ url, route }) => ({ url, route })),
        affinity: { by: 'route', strict },
        ejection: { time: '50ms' },
      },
    },
    routes: [{ path: '/*', upstream: 'app' }],
    log: { level: 'silent' },
  });
  await server.start();
  return server;
}

describe.skipIf(tomcatMissing)(tomcatMissing ?? 'two Tomcats with sessions of their own, behind us', () => {
  let tomcats: Tomcat[];
  let server: Server;
  let strict: Server;
  beforeAll(async () => {
    tomcats = await Promise.all([startTomcat('t1'), startTomcat('t2')]);
    server = await startGateway(tomcats, false);
    strict = await startGateway(tomcats, true);
  });
  afterAll(async () => {
    await server?.stop();
    await strict?.stop();
    for (const tomcat of tomcats ?? []) await tomcat[Symbol.asyncDispose]();
  });

  test('visitors without a session come to each in turn', async () => {
    const first = [await new Visitor(server).visit(), await new Visitor(server).visit()];
    expect(first.map(({ route }) => route).sort()).toEqual(['t1', 't2']);
    expect(first.map(({ count }) => count)).toEqual([1, 1]);
    for (const { id, route } of first) expect(id).toMatch(new RegExp(`^[0-9A-F]{32}\\.${route}$`));
  });

  test('each stays with the Tomcat that has its session, by cookie and by URL', async () => {
    const visitors = Array.from({ length: 6 }, () => new Visitor(server));
    const first = await Promise.all(visitors.map(visitor => visitor.visit()));
    for (let n = 2; n <= 5; n++) {
      const next = await Promise.all(visitors.map(visitor => visitor.visit()));
      expect(next).toEqual(first.map(visit => ({ ...visit, count: n })));
    }
    for (const { id, route } of first) {
      const byUrl = new Visitor(server);
      expect(await byUrl.visit(`/counter.jsp;jsessionid=${id}`)).toMatchObject({ route, count: 6, id });
    }
  });

  test('a WebSocket goes where the session of its page is, and messages, pings and close codes pass', async () => {
    for (const tomcat of tomcats) {
      const visitor = new Visitor(server);
      while ((await visitor.visit()).route !== tomcat.route) visitor.cookie = undefined;
      const before = server.upstreams.get('app')!.status.servers.map(({ sockets }) => sockets);
      const url = new URL('/examples/websocket/echoAnnotation', server.urls[0]!.replace('http', 'ws'));
      const socket = new WebSocket(url, { headers: { Cookie: visitor.cookie! }, origin: server.urls[0]! });
      await once(socket, 'open');
      const after = server.upstreams.get('app')!.status.servers.map(({ sockets }) => sockets);
      expect(after.map((count, i) => count - before[i]!)).toEqual(tomcats.map(one => (one === tomcat ? 1 : 0)));
      socket.send('Grüße');
      expect(String((await once(socket, 'message'))[0])).toBe('Grüße');
      const large = Buffer.alloc(8_000, 'x1y2');
      socket.send(large);
      expect((await once(socket, 'message'))[0]).toEqual(large);
      socket.ping('are you there?');
      expect(String((await once(socket, 'pong'))[0])).toBe('are you there?');
      socket.close(4001, 'enough');
      expect((await once(socket, 'close'))[0]).toBe(4001);
    }
  });

  describe('two applications whose cookie is JSESSIONID at "/", on one host', () => {
    /** One application of each Tomcat, at `/t1` and `/t2`. */
    async function startHost(prefixes: readonly (string | undefined)[]): Promise<Server> {
      const server = createServer({
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: false,
        upstreams: Object.fromEntries(
          tomcats.map(({ url, route }, i) => [
            route,
            {
              servers: [{ url, route }],
              affinity: 'route',
              ...(prefixes[i] !== undefined && { cookies: { prefix: prefixes[i] } }),
            },
          ]),
        ),
        routes: tomcats.map(({ route }) => ({ path: `/${route}/*`, upstream: route })),
        log: { level: 'silent' },
      });
      await server.start();
      return server;
    }

    /** Goes to each in turn, as one browser: with every cookie that it was given. */
    async function visitBoth(server: Server): Promise<{ counts: string[]; cookies: Map<string, string> }> {
      const cookies = new Map<string, string>();
      const counts: string[] = [];
      for (const path of ['/t1', '/t2', '/t1', '/t2', '/t1', '/t2']) {
        const Cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
        const response = await fetch(new URL(`${path}/counter.jsp`, server.urls[0]), { headers: { Cookie } });
        for (const line of response.headers.getSetCookie()) {
          const [, name, value] = /^([^=]+)=([^;]*).*; Path=\/(?:;|$)/.exec(line)!;
          cookies.set(name!, value!);
        }
        counts.push((await response.text()).trim().split(' ').slice(0, 2).join(' '));
      }
      return { counts, cookies };
    }

    test('with a prefix for each, both keep their sessions in one browser', async () => {
      await using server = await startHost(['app1_', 'app2_']);
      const { counts, cookies } = await visitBoth(server);
      expect(counts).toEqual(['t1 1', 't2 1', 't1 2', 't2 2', 't1 3', 't2 3']);
      expect([...cookies.keys()].sort()).toEqual(['app1_JSESSIONID', 'app2_JSESSIONID']);
    });

    test('without, each throws the session of the other away, which is what the above shows', async () => {
      await using server = await startHost([undefined, undefined]);
      const { counts } = await visitBoth(server);
      expect(counts).toEqual(['t1 1', 't2 1', 't1 1', 't2 1', 't1 1', 't2 1']);
    });
  });

  describe('one is killed with -9', () => {
    let homeless: Visitor;
    let settled: Visitor;
    let strictHomeless: Visitor;
    const at = async (gateway: Server, route: string) => {
      const visitor = new Visitor(gateway);
      while ((await visitor.visit()).route !== route) visitor.cookie = undefined;
      return visitor;
    };
    beforeAll(async () => {
      homeless = await at(server, 't1');
      settled = await at(server, 't2');
      strictHomeless = await at(strict, 't1');
      await tomcats[0]!.kill();
    });

    test('its visitors come to the other, which begins new sessions, and stay there', async () => {
      const { id } = await settled.visit();
      const moved = await homeless.visit();
      expect(moved).toMatchObject({ status: 200, route: 't2', count: 1 });
      expect(moved.id).toMatch(/\.t2$/);
      expect(await homeless.visit()).toEqual({ ...moved, count: 2 });
      expect(server.upstreams.get('app')!.status.moves).toBeGreaterThan(0);
      expect(await settled.visit()).toMatchObject({ status: 200, route: 't2', id });
    });

    test('strict: its visitors get 503 until it is back', async () => {
      expect(await strictHomeless.visit()).toMatchObject({ status: 503 });
      expect(await new Visitor(strict).visit()).toMatchObject({ status: 200, route: 't2' });
      await tomcats[0]!.restart();
      await expect.poll(() => strictHomeless.visit(), { timeout: 10_000 }).toMatchObject({ status: 200, route: 't1' });
    });
  });
});
