import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RouteConfig } from '../../src/config/config.ts';
import { createServer, type Server } from '../../src/server/server.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { defineEndpoint } from '../../src/websocket/endpoint.ts';

const clock = new FakeClock();
let folder: string;
let server: Server;
let url: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-touch-'));
  const fetch: RouteConfig['fetch'] = (_request, { session }) => new Response(session ? 'there' : 'gone');
  const news = { routes: [{ path: '/news', fetch }] };
  server = createServer(
    {
      listen: [{ host: '127.0.0.1', port: 0 }],
      dataFolder: folder,
      session: { idleTimeout: '30s' },
      log: { access: 'off' },
      routes: [
        { path: '/in', session: 'create', fetch },
        {
          mount: '/poll',
          touch: false,
          application: {
            routes: [
              ...news.routes,
              { path: '/counts', touch: true, fetch },
              {
                endpoint: defineEndpoint({
                  path: '/socket',
                  onMessage: (connection, data) => void connection.send(data),
                }),
              },
              { mount: '/deep', application: news },
              { mount: '/used', touch: true, application: news },
            ],
            fetch,
          },
        },
      ],
    },
    { clock },
  );
  await server.start();
  url = server.urls[0]!.replace(/\/$/, '');
});
afterAll(async () => {
  await server.stop({ drain: 0 });
  await rm(folder, { recursive: true });
});

async function signedIn(): Promise<{ cookie: string }> {
  const answer = await fetch(`${url}/in`);
  return { cookie: answer.headers.getSetCookie()[0]!.split(';')[0]! };
}

test.each([
  ['/poll/news', 'gone'],
  ['/poll/the/rest', 'gone'],
  ['/poll/deep/news', 'gone'],
  ['/poll/counts', 'there'],
  ['/poll/used/news', 'there'],
])('under a mount with "touch: false", after a minute of requests for %s the session is %s', async (path, expected) => {
  const headers = await signedIn();
  let seen = '';
  for (let seconds = 0; seconds <= 60; seconds += 10) {
    seen = await (await fetch(url + path, { headers })).text();
    await clock.advance(10_000);
  }
  expect(seen).toBe(expected);
});

test('a socket under a mount with "touch: false" ends with its session, however much it says', async () => {
  const { cookie } = await signedIn();
  const socket = await testClient(`${url.replace('http', 'ws')}/poll/socket`, { headers: { cookie, origin: url } });
  for (let seconds = 0; seconds < 30; seconds += 10) {
    socket.send('still here');
    expect(await socket.receive()).toBe('still here');
    await clock.advance(10_000);
  }
  expect((await socket.closed).code).toBe(1008);
});
