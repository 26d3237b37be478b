import { once } from 'node:events';
import type http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import fastify, { type FastifyInstance } from 'fastify';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { attachSession } from '../../../src/session/attach-session.ts';
import { createSite, FaultyStore, type Site } from '../fixture.ts';
import { type AnySession, Client } from './rig.ts';

let store: FaultyStore;
let site: Site;
let app: FastifyInstance;
let client: Client;

beforeEach(() => {
  store = new FaultyStore();
  site = createSite(store);
  app = fastify({ forceCloseConnections: true });
  app.addHook('onRequest', async (request, reply) => {
    attachSession(site.manager, request, reply);
    ((await site.manager.open(request)) as AnySession).set('url', request.url);
  });
});
afterEach(async () => {
  client?.close();
  await app.close();
});

async function start(): Promise<void> {
  await app.listen({ port: 0, host: '127.0.0.1' });
  client = new Client((app.server.address() as AddressInfo).port);
}

test.each([
  ['json', { a: 1 }, '{"a":1}'],
  ['text', 'text', 'text'],
  ['bytes', Buffer.from('bytes'), 'bytes'],
  ['a stream', () => Readable.from(['one', 'two']), 'onetwo'],
  ['a web stream', () => Readable.toWeb(Readable.from(['one', 'two'].map(text => Buffer.from(text)))), 'onetwo'],
  ['a Response', () => new Response('fetched', { headers: { 'x-a': '1' } }), 'fetched'],
])('%s is answered once, whether it is returned or sent', async (_what, payload, body) => {
  const make = () => (typeof payload === 'function' ? payload() : payload);
  app.get('/returned', async () => make());
  app.get('/sent', async (_request, reply) => reply.send(make()));
  app.get('/by-callback', (_request, reply) => void reply.send(make()));
  await start();
  for (const path of ['/returned', '/sent', '/by-callback']) {
    const answer = await client.get(path);
    expect([path, answer.status, answer.body, answer.cookie !== undefined]).toEqual([path, 200, body, true]);
  }
  expect(await store.count()).toBe(3);
});

test('an async handler that sends and returns nothing has answered', async () => {
  app.get('/', async (_request, reply) => void reply.send({ ok: true }));
  await start();
  expect(await client.get('/')).toMatchObject({ status: 200, body: '{"ok":true}' });
});

test('a stream that fails before its first byte is an error page, with the cookie', async () => {
  app.get('/', async (_request, reply) =>
    reply.type('text/plain').send(
      new Readable({
        read() {
          this.destroy(new Error('the source failed'));
        },
      }),
    ),
  );
  await start();
  const answer = await client.get('/');
  expect(answer).toMatchObject({ status: 500, cookie: expect.any(String) });
  expect(JSON.parse(answer.body)).toMatchObject({ message: 'the source failed' });
});

test('a stream that fails after its first bytes is cut off, and what was set is kept', async () => {
  app.get('/', async (_request, reply) => {
    const source = new Readable({ read() {} });
    source.push('some');
    source.once('data', () => setImmediate(() => source.destroy(new Error('the source failed'))));
    return reply.send(source);
  });
  await start();
  await expect(client.get('/')).rejects.toMatchObject({ code: 'ECONNRESET' });
  await expect.poll(() => store.count()).toBe(1);
});

test('events by reply.raw, without hijack, go on after the handler has returned', async () => {
  const stop = Promise.withResolvers<void>();
  app.get('/', async (_request, reply) => {
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' });
    reply.raw.write('data: 1\n\n');
    void stop.promise.then(() => reply.raw.end('data: 2\n\n'));
  });
  await start();
  const request = client.request({ path: '/' });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let text = String((await once(response, 'data'))[0]);
  response.on('data', chunk => {
    text += chunk;
  });
  stop.resolve();
  await once(response, 'end');
  expect([response.statusCode, text]).toEqual([200, 'data: 1\n\ndata: 2\n\n']);
});

test('an error after the answer changes nothing', async () => {
  app.get('/', (_request, reply) => {
    reply.send('all is well');
    throw new Error('the handler failed');
  });
  await start();
  expect(await client.get('/')).toMatchObject({ status: 200, body: 'all is well', cookie: expect.any(String) });
});

test('hooks see the answer, and what onSend sets in the session is kept', async () => {
  app.addHook('onSend', async request => {
    ((await site.manager.open(request)) as AnySession).set('sent', 'yes');
  });
  app.get('/', async (_request, reply) => reply.header('x-a', '1').send({ ok: true }));
  await start();
  const answer = await client.get('/');
  expect(answer).toMatchObject({ status: 200, headers: { 'x-a': '1' } });
  expect(((await site.request(answer.cookie).get()) as AnySession).get('sent')).toBe('yes');
});

test('trailers are sent', async () => {
  app.get('/', async (_request, reply) => {
    reply.trailer('x-sum', async () => '42');
    return reply.send('body');
  });
  await start();
  expect(await client.get('/')).toMatchObject({ body: 'body', trailers: { 'x-sum': '42' } });
});

test('inject, by which applications of Fastify are tested, answers after the commit too', async () => {
  app.get('/', async () => ({ ok: true }));
  const answer = await app.inject('/');
  expect([answer.statusCode, answer.body]).toEqual([200, '{"ok":true}']);
  expect(answer.headers['set-cookie']).toMatch(/^sid=/);
  store.failing.add('create');
  expect((await app.inject('/')).statusCode).toBe(503);
});
