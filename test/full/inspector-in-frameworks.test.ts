import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attachSession } from '../../src/session/attach-session.ts';
import type { SessionManager } from '../../src/session/manager.ts';
import type { Inspection } from '../../src/session/reports/inspection-page.ts';
import type { InspectorOptions } from '../../src/session/reports/inspector.ts';
import { createSite, FaultyStore, login, type Site } from '../session/fixture.ts';
import { appOf, listen } from '../session/frameworks/apps.ts';
import { Client } from '../session/frameworks/rig.ts';

interface App {
  readonly port: number;
  close(): Promise<unknown>;
}

/** An application with the inspector at this path, and a login at `/in`, as the users of the framework write it. */
interface Way {
  readonly name: string;
  readonly path: string;
  start(sessions: SessionManager, options?: InspectorOptions): Promise<App>;
}

const ADMIN = { name: 'root', roles: ['admin'] };

const nodeHttp = (work: (sessions: SessionManager, options?: InspectorOptions) => http.RequestListener) => {
  return (sessions: SessionManager, options?: InspectorOptions) => listen(http.createServer(work(sessions, options)));
};

function expressWith(
  mount: (app: express.Express, sessions: SessionManager, options?: InspectorOptions) => unknown,
  ...parsers: express.RequestHandler[]
) {
  return (sessions: SessionManager, options?: InspectorOptions) => {
    const app = express();
    for (const parser of parsers) app.use(parser);
    app.use((req, res, next) => {
      attachSession(sessions, req, res);
      next();
    });
    app.get('/in', async (req, res) => {
      await sessions.signIn(req, ADMIN);
      res.end();
    });
    mount(app, sessions, options);
    app.use((req, res) => res.status(404).send(`nothing at ${req.originalUrl}`));
    return listen(http.createServer(app));
  };
}

function fastifyWith(prepare: (app: ReturnType<typeof fastify>) => unknown = () => {}) {
  return async (sessions: SessionManager, options?: InspectorOptions) => {
    const app = fastify({ forceCloseConnections: true });
    prepare(app);
    app.addHook('onRequest', async (request, reply) => void attachSession(sessions, request, reply));
    app.get('/in', async (request, reply) => {
      await sessions.signIn(request, ADMIN);
      return reply.send('');
    });
    app.all('/admin/sessions', sessions.inspector(options));
    await app.listen({ port: 0, host: '127.0.0.1' });
    return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
  };
}

function honoWith(mount: (app: Hono, sessions: SessionManager, options?: InspectorOptions) => unknown) {
  return async (sessions: SessionManager, options?: InspectorOptions) => {
    const app = new Hono();
    app.use(async (c, next) => {
      attachSession(sessions, c);
      await next();
    });
    app.get('/in', async c => {
      await sessions.signIn(c, ADMIN);
      return c.body(null);
    });
    mount(app, sessions, options);
    app.onError((error, c) => c.body(null, ((error as { status?: number }).status ?? 500) as 500));
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1', overrideGlobalObjects: false });
    await once(server, 'listening');
    return appOf(server as http.Server);
  };
}

const WAYS: readonly Way[] = [
  {
    name: 'node:http',
    path: '/sessions',
    start: nodeHttp((sessions, options) => {
      const inspect = sessions.inspector(options);
      return async (req, res) => {
        attachSession(sessions, req, res);
        if (req.url!.split('?')[0] === '/sessions') return inspect(req, res);
        if (req.url === '/in') await sessions.signIn(req, ADMIN);
        res.end();
      };
    }),
  },
  {
    name: 'Express, mounted',
    path: '/admin/sessions',
    start: expressWith((app, sessions, options) => app.use('/admin/sessions', sessions.inspector(options))),
  },
  {
    name: 'Express behind parsers, in a router, at a route',
    path: '/admin/sessions',
    start: expressWith(
      (app, sessions, options) => {
        const router = express.Router();
        router.all('/sessions', sessions.inspector(options));
        app.use('/admin', router);
      },
      express.json(),
      express.urlencoded({ extended: false }),
      express.text(),
    ),
  },
  {
    name: 'Express behind a parser of everything',
    path: '/sessions',
    start: expressWith(
      (app, sessions, options) => app.use('/sessions', sessions.inspector(options)),
      express.raw({ type: () => true }),
    ),
  },
  { name: 'Fastify', path: '/admin/sessions', start: fastifyWith() },
  {
    name: 'Fastify with a parser of forms',
    path: '/admin/sessions',
    start: fastifyWith(app => {
      const parse = async (_request: unknown, body: string) => Object.fromEntries(new URLSearchParams(body));
      app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, parse);
    }),
  },
  {
    name: 'Hono',
    path: '/admin/sessions',
    start: honoWith((app, sessions, options) => {
      const inspect = sessions.inspector(options);
      app.all('/admin/sessions', c => inspect(c));
    }),
  },
  {
    name: 'Hono, as the handler itself, behind middleware that reads forms',
    path: '/sessions',
    start: honoWith((app, sessions, options) => {
      app.use(async (c, next) => {
        if (c.req.method === 'POST') await c.req.parseBody();
        await next();
      });
      app.all('/sessions', sessions.inspector(options));
    }),
  },
  {
    name: 'Hono behind middleware that reads what is sent as text',
    path: '/sessions',
    start: honoWith((app, sessions, options) => {
      app.use(async (c, next) => {
        if (c.req.method === 'POST') await c.req.text();
        await next();
      });
      app.all('/sessions', sessions.inspector(options));
    }),
  },
  {
    name: 'Hono by the request of the web',
    path: '/sessions',
    start: honoWith((app, sessions, options) => {
      const inspect = sessions.inspector(options);
      app.all('/sessions', c => inspect(c.req.raw));
    }),
  },
];

describe.each(WAYS)('the inspector in $name', ({ path, start }) => {
  let store: FaultyStore;
  let site: Site;
  let app: App;
  let client: Client;
  let admin: string;
  let victim: { sid: string; cookie: string };

  beforeEach(async () => {
    store = new FaultyStore();
    site = createSite(store);
    await site.manager.start();
    app = await start(site.manager);
    client = new Client(app.port);
    admin = (await client.get('/in')).cookie!;
    victim = await login(site, { diary: 'dear diary' });
  });
  afterEach(async () => {
    client.close();
    await app.close();
    await site.manager.close();
  });

  const own = () => ({ origin: `http://127.0.0.1:${app.port}` });
  const end = (headers: Record<string, string>, body = `sid=${victim.sid}\r\n`, type = 'text/plain', cookie = admin) =>
    client.ask({
      method: 'POST',
      path: `${path}?user=ann`,
      cookie,
      body,
      headers: { 'content-type': type, ...headers },
    });

  test('is for who is signed in as an administrator', async () => {
    expect((await client.get(path)).status).toBe(403);
    expect((await client.get(path, victim.cookie)).status).toBe(403);
    const answer = await client.get(path, admin);
    expect([answer.status, answer.headers['content-type'], answer.headers['cache-control']]).toEqual([
      200,
      expect.stringMatching(/^application\/json/),
      'no-store',
    ]);
    const { sessions, statistics, all, history } = JSON.parse(answer.body) as Inspection;
    expect(sessions).toHaveLength(2);
    expect([statistics.created, all.sum.created, history.at(-1)?.created]).toEqual([2, 2, 2]);
    expect((await client.ask({ method: 'PUT', path, cookie: admin })).status).toBe(405);
  });

  test('answers what is asked for: one session, those of a user, a page for a browser, a head', async () => {
    const one = JSON.parse((await client.get(`${path}?sid=${victim.sid}`, admin)).body) as Inspection;
    expect(one.sessions.map(({ sid }) => sid)).toEqual([victim.sid]);
    const ofUser = JSON.parse((await client.get(`${path}?user=root`, admin)).body) as Inspection;
    expect(ofUser.sessions.map(({ owner }) => owner?.name)).toEqual(['root']);
    const page = await client.ask({ path, cookie: admin, headers: { accept: 'text/html' } });
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.body).toContain(victim.sid);
    expect(page.body).not.toContain('dear diary');
    const head = await client.ask({ method: 'HEAD', path, cookie: admin });
    expect([head.status, head.body]).toEqual([200, '']);
  });

  test('ends a session for a form of its own page, and leads back to where it is mounted', async () => {
    const answer = await end(own());
    expect([answer.status, answer.headers.location]).toEqual([303, path]);
    expect(await site.manager.info(victim.sid)).toBeUndefined();
    expect(site.ends).toContainEqual({ sid: victim.sid, reason: 'admin' });
  });

  test('takes the form as its page sends it, whatever a proxy makes of the host', async () => {
    const page = await client.ask({ path, cookie: admin, headers: { accept: 'text/html' } });
    expect(page.body).toContain('<form method="post" enctype="text/plain">');
    expect(page.headers['referrer-policy']).toBe('same-origin'); // or its forms would have the origin "null"
    const headers = { origin: 'https://shop.example', host: 'backend:3000', 'sec-fetch-site': 'same-origin' };
    expect((await end(headers)).status).toBe(303);
    expect(await site.manager.info(victim.sid)).toBeUndefined();
  });

  test('ends nothing for pages of other sites, nor for other users', async () => {
    const { origin } = own();
    const others: Record<string, string>[] = [
      {},
      { origin: 'null' },
      { origin: 'https://evil.example' },
      { origin: 'http://127.0.0.1:1' },
      { origin, 'sec-fetch-site': 'cross-site' },
      { origin, 'sec-fetch-site': 'same-site' },
    ];
    for (const headers of others) expect([headers, (await end(headers)).status]).toEqual([headers, 403]);
    expect((await end({ origin }, undefined, undefined, victim.cookie)).status).toBe(403);
    expect(await site.manager.info(victim.sid)).toBeDefined();
  });

  test('answers a form that is none, or too large, and goes on', async () => {
    expect((await end(own(), 'uid=1\r\n')).status).toBe(400);
    expect((await end(own(), '')).status).toBe(400);
    expect((await end(own(), `sid=${'x'.repeat(20_000)}`)).status).toBe(413);
    expect((await client.get(path, admin)).status).toBe(200);
  });

  test('a store that cannot be asked is 503', async () => {
    store.failing.add('*');
    expect((await client.get(path, admin)).status).toBe(503);
    store.failing.clear();
    expect((await client.get(path, admin)).status).toBe(200);
  });
});

describe.each(WAYS)('the inspector in $name', ({ path, start }) => {
  test('lets in whom "allow" lets in, who sees the request in both forms', async () => {
    const site = createSite(new FaultyStore());
    const seen: unknown[] = [];
    const app = await start(site.manager, {
      allow: async (request, carrier) => {
        seen.push(await site.manager.get(carrier)); // it is bound
        return request.headers.get('authorization') === 'Bearer of-admins' && new URL(request.url).pathname === path;
      },
    });
    const client = new Client(app.port);
    expect((await client.get(path)).status).toBe(403);
    expect((await client.ask({ path, headers: { authorization: 'Bearer of-admins' } })).status).toBe(200);
    expect(seen).toEqual([undefined, undefined]);
    client.close();
    await app.close();
    await site.manager.close();
  });
});

// Hono's server answers such a host itself.
test.each(WAYS.filter(({ name }) => !name.startsWith('Hono')))(
  'whatever the client says its host is, the inspector in $name answers, and "allow" sees the path that was asked for',
  async ({ path, start }) => {
    const site = createSite(new FaultyStore());
    const seen: string[] = [];
    const app = await start(site.manager, {
      allow: ({ url }) => {
        const { hostname, pathname, search } = new URL(url);
        seen.push(`${hostname} ${pathname}${search}`);
        return true;
      },
    });
    const client = new Client(app.port);
    const hosts = ['a@b', 'a:b@c', 'a/b?', 'a/b#', 'a\\b', '[', 'a b', 'a:99999', 'shop.example:8080'];
    for (const host of hosts)
      expect([host, (await client.ask({ path: `${path}?sid=1`, headers: { host } })).status]).toEqual([host, 200]);
    expect(seen).toEqual(hosts.map(host => `${host.startsWith('shop') ? 'shop.example' : 'localhost'} ${path}?sid=1`));
    client.close();
    await app.close();
    await site.manager.close();
  },
);

test('what fails under node:http is logged, since nobody else learns of it', async () => {
  const store = new FaultyStore();
  const lines: unknown[] = [];
  const nothing = () => {};
  const error = (fields: object, message: string) => void lines.push([fields, message]);
  const site = createSite(store, { logger: { debug: nothing, info: nothing, warn: nothing, error } });
  const thrown = new Error('the directory of users is away');
  const app = await WAYS[0]!.start(site.manager, {
    allow: () => {
      throw thrown;
    },
  });
  const client = new Client(app.port);
  const answer = await client.get('/sessions');
  expect([answer.status, answer.body]).toEqual([500, 'Sessions cannot be inspected now.\n']);
  expect(lines).toEqual([[{ err: thrown }, 'sessions could not be inspected']]);
  client.close();
  await app.close();
  await site.manager.close();
});

test('forms of a browser and of programs are read as long as the framework lets them through', async () => {
  const site = createSite(new FaultyStore());
  const app = await WAYS[0]!.start(site.manager);
  const client = new Client(app.port);
  const admin = (await client.get('/in')).cookie!;
  const origin = `http://127.0.0.1:${app.port}`;
  const part = '------boundary\r\nContent-Disposition: form-data; name="sid"\r\n\r\n';
  const forms: [string, (sid: string) => string][] = [
    ['application/x-www-form-urlencoded', sid => new URLSearchParams({ sid }).toString()],
    ['multipart/form-data; boundary=----boundary', sid => `${part}${sid}\r\n------boundary--\r\n`],
    ['text/plain;charset=UTF-8', sid => `sid=${sid}\n`],
  ];
  for (const [type, write] of forms) {
    const { sid } = await login(site);
    const headers = { 'content-type': type, origin };
    const answer = await client.ask({ method: 'POST', path: '/sessions', cookie: admin, body: write(sid), headers });
    expect([type, answer.status]).toEqual([type, 303]);
    expect(await site.manager.info(sid)).toBeUndefined();
  }
  client.close();
  await app.close();
});

test('where no session was attached the answer says what to do', async () => {
  const site = createSite(new FaultyStore());
  const inspect = site.manager.inspector();
  const app = await listen(http.createServer((req, res) => inspect(req, res)));
  const client = new Client(app.port);
  const answer = await client.get('/');
  expect([answer.status, answer.body]).toEqual([500, expect.stringContaining('attachSession(sessions, req, res)')]);
  client.close();
  await app.close();
});

test('under a mounted inspector other paths are left to the application', async () => {
  const site = createSite(new FaultyStore());
  const app = await WAYS[1]!.start(site.manager);
  const client = new Client(app.port);
  expect(await client.get('/admin/sessions/else')).toMatchObject({
    status: 404,
    body: 'nothing at /admin/sessions/else',
  });
  client.close();
  await app.close();
});

test('what is no request is a TypeError', async () => {
  const site = createSite(new FaultyStore());
  const inspect = site.manager.inspector() as (...args: unknown[]) => Promise<unknown>;
  for (const args of [[], [null], ['x'], [{}], [{ headers: {} }], [{ headers: {} }, {}]])
    await expect(inspect(...args)).rejects.toThrow(TypeError);
});
