import { once } from 'node:events';
import type http from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { serveStatic } from '@hono/node-server/serve-static';
import { Hono } from 'hono';
import { stream, streamText } from 'hono/streaming';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { attachSession } from '../../../src/session/attach-session.ts';
import { createSite, FaultyStore, type Site } from '../fixture.ts';
import { type AnySession, Client } from './rig.ts';

let store: FaultyStore;
let site: Site;
let app: Hono;
let server: http.Server;
let client: Client;

beforeEach(async () => {
  store = new FaultyStore();
  site = createSite(store);
  app = new Hono();
  app.use(async (c, next) => {
    attachSession(site.manager, c);
    ((await site.manager.open(c)) as AnySession).set('path', c.req.path);
    await next();
  });
  const options = { fetch: app.fetch, port: 0, hostname: '127.0.0.1', overrideGlobalObjects: false };
  server = serve(options) as http.Server;
  await once(server, 'listening');
  client = new Client((server.address() as AddressInfo).port);
});
afterEach(async () => {
  vi.restoreAllMocks();
  client.close();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const chunks = (...texts: string[]) =>
  new ReadableStream({
    async pull(controller) {
      const text = texts.shift();
      await new Promise(resolve => setImmediate(resolve));
      if (text === undefined) controller.close();
      else controller.enqueue(Buffer.from(text));
    },
  });

const answers: [string, () => Response, string][] = [
  ['a Response with a text', () => new Response('body'), 'body'],
  ['a Response with bytes', () => new Response(new Uint8Array(Buffer.from('body'))), 'body'],
  ['a Response with a Blob', () => new Response(new Blob(['body'])), 'body'],
  ['a Response with a stream', () => new Response(chunks('bo', 'dy')), 'body'],
  ['a Response without a body', () => new Response(null, { status: 202 }), ''],
];

test.each(answers)('%s arrives, after the commit', async (_what, make, body) => {
  app.get('/', () => make());
  expect(await client.get('/')).toMatchObject({ body, cookie: expect.any(String) });
  expect(await store.count()).toBe(1);
});

test.each(answers)('%s is 503 when the commit fails, and nothing hangs', async (_what, make) => {
  app.all('/', () => make());
  store.failing.add('create');
  expect(await client.get('/')).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
  expect(await client.post('/', undefined, 'x'.repeat(200_000))).toMatchObject({ status: 503 });
  store.failing.clear();
  expect(await client.get('/')).toMatchObject({ body: expect.any(String), cookie: expect.any(String) });
});

test('a Response of fetch is passed on', async () => {
  app.get('/inner', c => c.text('from inside'));
  app.get('/', c => fetch(new URL('/inner', c.req.url)));
  const answer = await client.get('/');
  expect(answer).toMatchObject({ status: 200, body: 'from inside' });
});

test('streaming helpers send as they go', async () => {
  app.get('/stream', c =>
    stream(c, async to => {
      for (let part = 0; part < 100; part++) await to.write(Buffer.alloc(20_000, 'x'));
    }),
  );
  app.get('/text', c =>
    streamText(c, async to => {
      await to.write('one ');
      await to.sleep(5);
      await to.write('two');
    }),
  );
  expect((await client.get('/stream')).body).toHaveLength(2_000_000);
  expect((await client.get('/text')).body).toBe('one two');
});

test('static files are served with the cookie', async () => {
  app.use('/package.json', serveStatic({ root: '.' }));
  expect(JSON.parse((await client.get('/package.json')).body)).toMatchObject({ name: 'holdfast' });
});

test('middleware that changes the headers afterwards is heard', async () => {
  app.use('/', async (c, next) => {
    await next();
    c.header('x-after', '1');
    ((await site.manager.open(c)) as AnySession).set('after', 'yes');
  });
  app.get('/', c => c.json({ ok: true }));
  const answer = await client.get('/');
  expect(answer).toMatchObject({ status: 200, headers: { 'x-after': '1' } });
  expect(((await site.request(answer.cookie).get()) as AnySession).get('after')).toBe('yes');
});

test('a stream that fails after its first bytes is cut off, and what was set is kept', async () => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
  let isFirst = true;
  app.get('/', c =>
    c.body(
      new ReadableStream({
        async pull(controller) {
          await new Promise(resolve => setTimeout(resolve, 5));
          if (isFirst) controller.enqueue(Buffer.from('some'));
          else controller.error(new Error('the source failed'));
          isFirst = false;
        },
      }),
    ),
  );
  await expect(client.get('/')).rejects.toMatchObject({ code: 'ECONNRESET' });
  await expect.poll(() => store.count()).toBe(1);
});

test('an application that runs without node:http is told so', async () => {
  const elsewhere = new Hono();
  elsewhere.onError(error => new Response(error.message, { status: 500 }));
  elsewhere.get('/', c => {
    attachSession(site.manager, c);
    return c.text('body');
  });
  expect(await (await elsewhere.request('/')).text()).toMatch(/Hono on @hono\/node-server/);
});
