import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, defineEndpoint } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { RawClient } from './raw-client.ts';
import { serve } from './serve.ts';

type RouteConfig = NonNullable<Config['routes']>[number];

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-mount-'));
  await writeFile(join(folder, 'index.html'), '<title>Hello</title>');
  await writeFile(join(folder, 'style.css'), 'body { color: green }');
});
afterAll(() => rm(folder, { recursive: true }));

const saying = (text: string, path: string) =>
  defineEndpoint({ path, onOpen: connection => void connection.send(text) });

async function heardAt(url: string): Promise<unknown> {
  await using client = await testClient(url);
  return client.receive();
}

describe('mount', () => {
  test('serves /websocket-helloworld-wls/helloworld_delay.ws as the document does: page and endpoint of one application', async () => {
    const clock = new FakeClock();
    const asked = Promise.withResolvers<void>();
    const hello = defineEndpoint({
      path: '/helloworld_delay.ws',
      async onMessage(connection, seconds) {
        await new Promise<void>(resolve => {
          clock.setTimeout(resolve, Number(seconds) * 1_000);
          asked.resolve();
        });
        connection.send('Hello World');
      },
    });
    await using served = await serve(
      [],
      {
        routes: [{ mount: '/websocket-helloworld-wls', application: { routes: [{ endpoint: hello }], files: folder } }],
      },
      { clock },
    );
    const http = served.url.replace('ws', 'http');
    const page = await fetch(`${http}/websocket-helloworld-wls/`, { headers: { Connection: 'close' } });
    expect(await page.text()).toBe('<title>Hello</title>');
    using client = await RawClient.connect(`${served.url}/websocket-helloworld-wls/helloworld_delay.ws`);
    client.send(Buffer.from('818100000000' + '35', 'hex'));
    await asked.promise;
    await clock.advance(4_900);
    expect(client.frames).toEqual([]);
    await clock.advance(100);
    expect(await client.text()).toBe('Hello World');
    await expect(testClient(`${served.url}/helloworld_delay.ws`)).rejects.toMatchObject({ status: 404 });
  });

  test('puts endpoints, routes, files and a fetch handler under its prefix; several applications stand side by side', async () => {
    const application = (name: string): RouteConfig => ({
      mount: `/${name}`,
      application: {
        routes: [
          { endpoint: saying(`${name} chat`, '/chat') },
          { path: '/api/:id', fetch: (_, { params }) => new Response(`${name} api ${params.id}`) },
        ],
        files: folder,
        fetch: request => new Response(`${name} rest ${new URL(request.url).pathname}`),
      },
    });
    await using served = await serve(saying('root chat', '/chat'), {
      routes: [application('shop'), application('blog')],
    });
    const http = served.url.replace('ws', 'http');
    const get = async (path: string) => (await fetch(http + path)).text();
    for (const name of ['shop', 'blog']) {
      expect(await heardAt(`${served.url}/${name}/chat`)).toBe(`${name} chat`);
      expect(await get(`/${name}/api/7`)).toBe(`${name} api 7`);
      expect(await get(`/${name}/style.css`)).toBe('body { color: green }');
      expect(await get(`/${name}/no/such/file`)).toBe(`${name} rest /${name}/no/such/file`);
    }
    expect(await heardAt(`${served.url}/chat`)).toBe('root chat');
    expect((await fetch(`${http}/style.css`)).status).toBe(404);
  });

  test('may be mounted in a mounted application', async () => {
    await using served = await serve([], {
      routes: [
        {
          mount: '/outer',
          application: {
            routes: [{ mount: '/inner', application: { routes: [{ endpoint: saying('deep', '/chat') }] } }],
          },
        },
      ],
    });
    expect(await heardAt(`${served.url}/outer/inner/chat`)).toBe('deep');
  });

  test('deploys what the application declares', async () => {
    await writeFile(
      join(folder, 'declared.js'),
      `import { defineEndpoint } from '${new URL('../../src/index.ts', import.meta.url)}';
       export const chat = defineEndpoint({ path: '/declared', onOpen(connection) { connection.send('declared'); } });`,
    );
    await using served = await serve([], {
      routes: [{ mount: '/app', application: { endpoints: [join(folder, 'declared.js')] } }],
    });
    expect(await heardAt(`${served.url}/app/declared`)).toBe('declared');
  });

  test('without sessions of its own has those of the server: a visitor keeps one in all such applications', async () => {
    const counting = (mount: string): RouteConfig => ({
      mount,
      application: {
        routes: [
          {
            path: '/count',
            session: 'create',
            fetch: async (_, { session }) => new Response(`${await session!.update('n', n => Number(n ?? 0) + 1)}`),
          },
        ],
      },
    });
    await using served = await serve([], {
      dataFolder: join(folder, 'shared-sessions'),
      session: {},
      routes: [counting('/shop'), counting('/blog')],
    });
    const http = served.url.replace('ws', 'http');
    const first = await fetch(`${http}/shop/count`);
    const [setCookie] = first.headers.getSetCookie();
    expect(setCookie).toMatch(/; Path=\/(;|$)/);
    const headers = { Cookie: setCookie!.split(';')[0]! };
    const second = await fetch(`${http}/blog/count`, { headers });
    expect([await first.text(), await second.text(), second.headers.getSetCookie()]).toEqual(['1', '2', []]);
    expect(await (await fetch(`${http}/shop/count`, { headers })).text()).toBe('3');
  });

  test('may have sessions of its own: its cookie goes to its prefix only, and means nothing to its neighbours', async () => {
    const counting = (mount: string, session: object): RouteConfig => ({
      mount,
      application: {
        session,
        routes: [
          {
            path: '/count',
            session: 'create',
            fetch: (_, { session: own }) => {
              own!.set('n', ((own!.get('n') as number | undefined) ?? 0) + 1);
              return new Response(`${own!.get('n')}`);
            },
          },
          {
            endpoint: defineEndpoint({
              path: '/socket',
              onOpen: connection => void connection.send(`${connection.session?.get('n')}`),
            }),
          },
        ],
      },
    });
    await using served = await serve([], {
      dataFolder: join(folder, 'data'),
      session: {},
      routes: [counting('/shop', {}), counting('/blog', { cookie: { name: 'blog' } })],
    });
    const http = served.url.replace('ws', 'http');
    const first = await fetch(`${http}/shop/count`);
    const [setCookie] = first.headers.getSetCookie();
    expect(setCookie).toMatch(/^holdfast=.*; Path=\/shop(;|$)/);
    const Cookie = setCookie!.split(';')[0]!;
    expect(await (await fetch(`${http}/shop/count`, { headers: { Cookie } })).text()).toBe('2');
    await using socket = await testClient(`${served.url}/shop/socket`, { headers: { Cookie }, origin: http });
    expect(await socket.receive()).toBe('2');
    // The same bytes under the neighbour's name are not a session of his.
    const stolen = Cookie.replace('holdfast=', 'blog=');
    await using neighbour = await testClient(`${served.url}/blog/socket`, {
      headers: { Cookie: stolen },
      origin: http,
    });
    expect(await neighbour.receive()).toBe('undefined');
    const other = await fetch(`${http}/blog/count`, { headers: { Cookie: stolen } });
    expect(await other.text()).toBe('1');
    expect(other.headers.getSetCookie()[0]).toMatch(/^blog=.*; Path=\/blog(;|$)/);
  });

  test('may have sessions of its own in the same store: a visitor keeps one here and one there, whatever the browser sends', async () => {
    const counting = (path: string): RouteConfig => ({
      path,
      session: 'create',
      fetch: (_, { session }) => {
        session!.set('n', ((session!.get('n') as number | undefined) ?? 0) + 1);
        return new Response(`${session!.get('n')}`);
      },
    });
    const store = new MemoryStore({ maxSessions: 100 });
    await using served = await serve([], {
      dataFolder: join(folder, 'shared-store'),
      session: { store },
      routes: [
        counting('/count'),
        { mount: '/shop', application: { session: { store, idleTimeout: '5m' }, routes: [counting('/count')] } },
      ],
    });
    const cookies = new Map<string, string>();
    const visit = async (path: string) => {
      // Browsers send the cookie of the longer path first (RFC 6265 §5.4).
      const sent = ['/shop', '/']
        .filter(prefix => path.startsWith(prefix))
        .flatMap(prefix => cookies.get(prefix) ?? []);
      const response = await fetch(`${served.url.replace('ws', 'http')}${path}`, {
        headers: { Cookie: sent.join('; ') },
      });
      for (const line of response.headers.getSetCookie())
        cookies.set(/; Path=([^;]*)/.exec(line)![1]!, line.split(';')[0]!);
      return response.text();
    };
    expect(await visit('/count')).toBe('1');
    expect(await visit('/shop/count')).toBe('1');
    expect(await visit('/count')).toBe('2');
    expect(await visit('/shop/count')).toBe('2');
    expect(await store.count()).toBe(2);
  });

  test('has its own sessions at hand: server.sessionsOf its prefix', async () => {
    const signIn: RouteConfig = {
      path: '/sign-in',
      fetch: async request => {
        const session = await served.server.sessionsOf('/shop').signIn(request, { name: 'ann', roles: [] });
        return new Response(session.id);
      },
    };
    await using served = await serve([], {
      dataFolder: join(folder, 'own-sessions'),
      session: {},
      routes: [
        { mount: '/shop', application: { session: {}, routes: [signIn] } },
        { mount: '/blog', application: { routes: [] } },
      ],
    });
    const sid = await (await fetch(`${served.url.replace('ws', 'http')}/shop/sign-in`)).text();
    expect(await served.server.sessionsOf('/shop').ofUser('ann')).toMatchObject([{ sid }]);
    expect(await served.server.sessions.ofUser('ann')).toEqual([]);
    expect(served.server.sessionsOf('/shop').statistics().created).toBe(1);
    for (const mount of ['/blog', '/none', '']) {
      expect(() => served.server.sessionsOf(mount)).toThrow(
        expect.objectContaining({ code: 'ERR_SERVER_STATE', message: expect.stringContaining(JSON.stringify(mount)) }),
      );
    }
  });

  test('is a start-up error where two are mounted at the same prefix, or something else has a pattern of the application', async () => {
    const mounted = (): RouteConfig => ({
      mount: '/a',
      application: { routes: [{ endpoint: saying('x', '/chat') }] },
    });
    await expect(serve([], { routes: [mounted(), mounted()] })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringContaining('"/a"'),
    });
    await expect(serve(saying('y', '/a/chat'), { routes: [mounted()] })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringContaining('/a/chat'),
    });
  });
});

test('shows the backend of an application neither its own session cookie nor that of another', async () => {
  const backend = http.createServer((request, response) => response.end(request.headers.cookie ?? 'none'));
  await new Promise<void>(resolve => backend.listen(0, '127.0.0.1', resolve));
  const { port } = backend.address() as AddressInfo;
  const routes = [{ path: '/*', upstream: 'app' }];
  await using served = await serve([], {
    session: {},
    dataFolder: folder,
    upstreams: { app: { servers: [`http://127.0.0.1:${port}`] } },
    routes: [
      { mount: '/without', application: { session: false, routes } },
      { mount: '/own', application: { session: { cookie: { name: 'own' } }, routes } },
    ],
  });
  for (const path of ['/without/a', '/own/a']) {
    const headers = { Cookie: 'a=1; holdfast=secret; own=secret; b=2' };
    const answer = await fetch(served.url.replace('ws', 'http') + path, { headers });
    expect(await answer.text()).toBe('a=1; b=2');
  }
  backend.closeAllConnections();
  backend.close();
});
