import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import express, { type Express } from 'express';
import session from 'express-session';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { attachSession } from '../../../src/session/attach-session.ts';
import { createSite, FaultyStore, type Site } from '../fixture.ts';
import { type AnySession, Client } from './rig.ts';

let folder: string;
let store: FaultyStore;
let site: Site;
let app: Express;
let server: http.Server;
let client: Client;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-express-'));
  await writeFile(join(folder, 'file.txt'), '0123456789');
  store = new FaultyStore();
  site = createSite(store);
  app = express();
  app.set('env', 'test'); // its own error handler prints to the console otherwise
  app.use(async (req, res, next) => {
    attachSession(site.manager, req, res);
    ((await site.manager.open(req)) as AnySession).set('path', req.path);
    next();
  });
  server = http.createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  client = new Client((server.address() as AddressInfo).port);
});
afterEach(async () => {
  client.close();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
  await rm(folder, { recursive: true, force: true });
});

test('sendFile answers ranges and conditions', async () => {
  app.get('/', (_req, res) => res.sendFile('file.txt', { root: folder }));
  const whole = await client.get('/');
  expect(whole).toMatchObject({ status: 200, body: '0123456789', cookie: expect.any(String) });
  expect(await client.ask({ path: '/', headers: { range: 'bytes=2-4' } })).toMatchObject({ status: 206, body: '234' });
  const fresh = await client.ask({ path: '/', headers: { 'if-none-match': whole.headers.etag! } });
  expect(fresh).toMatchObject({ status: 304, body: '', cookie: expect.any(String) });
});

test('sendFile of a file that is not there goes to the error page', async () => {
  app.get('/', (_req, res) => res.sendFile('nowhere.txt', { root: folder }));
  expect(await client.get('/')).toMatchObject({ status: 404, cookie: expect.any(String) });
});

test('what nobody answers is 404, with the cookie', async () => {
  expect(await client.get('/nowhere')).toMatchObject({ status: 404, cookie: expect.any(String) });
});

const failAfterTheAnswer = () => {
  app.get('/', (_req, res) => {
    res.json({ all: 'is well, and this is long enough to tell the difference' });
    throw new Error('the handler failed');
  });
  store.before = call => (call === 'create' ? new Promise(resolve => setTimeout(resolve, 20)) : undefined);
};

test('an answer whose handler throws after it is cut off, as Express does without us, and leaves no new session', async () => {
  failAfterTheAnswer();
  await expect(client.get('/')).rejects.toMatchObject({ code: 'ECONNRESET' });
  await expect.poll(() => store.calls.includes('delete'), { timeout: 2_000 }).toBe(true);
  expect(await store.count()).toBe(0);
});

test('an error handler that answers without asking whether there is an answer replaces it', async () => {
  failAfterTheAnswer();
  app.use((_error: unknown, _req: express.Request, res: express.Response, _next: express.NextFunction) => {
    res.status(500).json({ error: 'failed' });
  });
  const answer = await client.get('/');
  expect(answer).toMatchObject({ status: 500, body: '{"error":"failed"}', cookie: expect.any(String) });
  expect(await client.get('/nowhere')).toMatchObject({ status: 404, isReused: true });
});

test('a stream that fails after its first bytes is cut off, and what was set is kept', async () => {
  app.get('/', (_req, res, next) => {
    const source = new Readable({ read() {} });
    source.push('some');
    source.on('error', next).pipe(res);
    source.once('data', () => setImmediate(() => source.destroy(new Error('the source failed'))));
  });
  await expect(client.get('/')).rejects.toMatchObject({ code: 'ECONNRESET' });
  await expect.poll(() => store.count()).toBe(1);
});

test('a session of express-session lives beside ours', async () => {
  app.use(session({ secret: 'test', resave: false, saveUninitialized: false }));
  app.get('/', (req, res) => {
    const old = req.session as unknown as { count?: number };
    old.count = (old.count ?? 0) + 1;
    res.json({ count: old.count });
  });
  const first = await client.get('/');
  const cookie = first.headers['set-cookie']!.map(value => value.split(';')[0]).join('; ');
  expect(cookie).toMatch(/connect\.sid=.*sid=v1\.|sid=v1\..*connect\.sid=/);
  expect((await client.get('/', cookie)).body).toBe('{"count":2}');
});
