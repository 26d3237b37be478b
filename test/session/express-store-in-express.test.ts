import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express } from 'express';
import session from 'express-session';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type ExpressStore, toExpressStore } from '../../src/session/express-store.ts';
import { FaultyStore } from './fixture.ts';
import { Client } from './frameworks/rig.ts';

declare module 'express-session' {
  interface SessionData {
    visits?: number;
    user?: string;
    slow?: string;
  }
}

let backend: FaultyStore;
let store: ExpressStore;
let server: http.Server;
let client: Client;
let app: Express;

/** An application with a session of express-session, as it is after a restart when `over` is given. */
async function start(options: Partial<session.SessionOptions> = {}): Promise<void> {
  await stop();
  store = toExpressStore(backend);
  app = express();
  app.set('env', 'test');
  app.use(session({ secret: 'a secret', resave: false, saveUninitialized: false, store, ...options }));
  app.get('/visit', (req, res) => {
    req.session.visits = (req.session.visits ?? 0) + 1;
    res.json({ visits: req.session.visits, id: req.sessionID });
  });
  app.get('/read', (req, res) => void res.json({ visits: req.session.visits ?? null, user: req.session.user ?? null }));
  app.get('/sign-in', (req, res, next) => {
    req.session.regenerate(error => {
      if (error) return next(error);
      req.session.user = 'ann';
      res.json({ id: req.sessionID });
    });
  });
  app.get('/sign-out', (req, res, next) => {
    req.session.destroy(error => (error ? next(error) : res.json({})));
  });
  app.get('/sign-out-without-waiting', (req, res) => {
    req.session.destroy(undefined as never);
    res.json({});
  });
  server = http.createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  client = new Client((server.address() as AddressInfo).port);
}

async function stop(): Promise<void> {
  if (!server?.listening) return;
  client.close();
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
  await store.close();
}

beforeEach(() => {
  backend = new FaultyStore();
});
afterEach(async () => {
  vi.useRealTimers();
  await stop();
});

/** The cookie that an answer sets. */
function cookieOf(answer: { headers: http.IncomingHttpHeaders }): string {
  return answer.headers['set-cookie']![0]!.split(';')[0]!;
}

test('a session is read and written, also after a restart', async () => {
  await start();
  const first = await client.get('/visit');
  const cookie = cookieOf(first);
  expect(JSON.parse((await client.get('/visit', cookie)).body)).toMatchObject({ visits: 2 });
  await start();
  const seen: boolean[] = [];
  app.get('/classes', (req, res) => {
    seen.push(req.session instanceof session.Session, req.session.cookie instanceof session.Cookie);
    seen.push(req.session.id === req.sessionID, req.session.cookie.expires === null);
    res.json(Object.keys(req.session));
  });
  const answer = await client.get('/classes', cookie);
  expect([answer.body, seen]).toEqual(['["cookie","visits"]', [true, true, true, true]]);
  expect(JSON.parse((await client.get('/visit', cookie)).body)).toEqual({ visits: 3, id: JSON.parse(first.body).id });
});

test('requests that only read write nothing but the expiry', async () => {
  await start({ cookie: { maxAge: 60_000 } });
  const cookie = cookieOf(await client.get('/visit'));
  const key = (await Array.fromAsync(backend.sids()))[0]!;
  const before = (await backend.read(key))!;
  backend.calls.length = 0;
  // The clock is the real one, and the expiry is to be a later one.
  await new Promise(resolve => setTimeout(resolve, 5));
  await client.get('/read', cookie);
  const after = (await backend.read(key))!;
  expect(after.attributes).toEqual(before.attributes);
  expect(after.header.absoluteExpiresAt).toBeGreaterThan(before.header.absoluteExpiresAt!);
  expect(backend.calls).toEqual(['read', 'commit', 'read']);
});

test('a request without a session makes none', async () => {
  await start();
  expect((await client.get('/read')).headers).not.toHaveProperty('set-cookie');
  expect(backend.calls).toEqual([]);
});

test('an expired session is a new one, at the millisecond', async () => {
  await start({ cookie: { maxAge: 60_000 } });
  vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 });
  const first = await client.get('/visit');
  const cookie = cookieOf(first);
  vi.setSystemTime(1_800_000_059_999);
  expect(JSON.parse((await client.get('/visit', cookie)).body).visits).toBe(2);
  vi.setSystemTime(1_800_000_059_999 + 60_000);
  const late = await client.get('/visit', cookie);
  expect(JSON.parse(late.body).visits).toBe(1);
  expect(JSON.parse(late.body).id).not.toBe(JSON.parse(first.body).id);
});

test('rolling sends the cookie again with the expiry that the store has', async () => {
  await start({ rolling: true, cookie: { maxAge: 60_000 } });
  vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 });
  const cookie = cookieOf(await client.get('/visit'));
  vi.setSystemTime(1_800_000_030_000);
  const answer = await client.get('/read', cookie);
  const expires = Date.parse(/Expires=([^;]+)/.exec(answer.headers['set-cookie']![0]!)![1]!);
  expect(expires).toBe(1_800_000_090_000);
  const [data] = Object.values(await store.all());
  expect(Date.parse(data!.cookie.expires as string)).toBe(expires);
  expect(data!.cookie.originalMaxAge).toBe(60_000);
});

test('a longer life, given by a request that changes nothing else, is kept', async () => {
  await start({ cookie: { maxAge: 60_000 } });
  app.get('/remember', (req, res) => {
    req.session.cookie.maxAge = 3_600_000;
    res.json({});
  });
  const cookie = cookieOf(await client.get('/visit'));
  await client.get('/remember', cookie);
  const [data] = Object.values(await store.all());
  expect(data!.cookie.originalMaxAge).toBe(3_600_000);
  expect(Date.parse(data!.cookie.expires as string)).toBeGreaterThan(Date.now() + 3_500_000);
});

test('signing in changes the sid, and the old one is dead', async () => {
  await start();
  const before = cookieOf(await client.get('/visit'));
  const signedIn = await client.get('/sign-in', before);
  const cookie = cookieOf(signedIn);
  expect(cookie).not.toBe(before);
  expect((await client.get('/read', cookie)).body).toBe('{"visits":null,"user":"ann"}');
  expect((await client.get('/read', before)).body).toBe('{"visits":null,"user":null}');
  expect(await store.length()).toBe(1);
});

test('reload, save and destroy of a session work, with and without somebody waiting', async () => {
  await start();
  app.get('/reload', (req, res, next) => {
    req.session.visits = 100;
    req.session.reload(error => {
      if (error) return next(error);
      req.session.visits = (req.session.visits ?? 0) + 10;
      req.session.save(error => (error ? next(error) : res.json({ visits: req.session.visits })));
    });
  });
  const cookie = cookieOf(await client.get('/visit'));
  expect((await client.get('/reload', cookie)).body).toBe('{"visits":11}');
  expect((await client.get('/read', cookie)).body).toBe('{"visits":11,"user":null}');
  await client.get('/sign-out-without-waiting', cookie);
  expect((await client.get('/read', cookie)).body).toBe('{"visits":null,"user":null}');
});

test.each(['destroy', 'keep'] as const)('unset: %s', async unset => {
  await start({ unset });
  app.get('/unset', (req, res) => {
    req.session = null as never;
    res.json({});
  });
  const cookie = cookieOf(await client.get('/visit'));
  await client.get('/unset', cookie);
  expect(await store.length()).toBe(unset === 'destroy' ? 0 : 1);
});

test('resave and saveUninitialized save what was not changed', async () => {
  await start({ resave: true, saveUninitialized: true });
  const first = await client.get('/read');
  const cookie = cookieOf(first);
  expect(await store.length()).toBe(1);
  backend.calls.length = 0;
  await client.get('/read', cookie);
  expect(backend.calls).toEqual(['read', 'commit']);
});

test('load makes a session outside a request', async () => {
  await start();
  const { id } = JSON.parse((await client.get('/visit')).body);
  await start();
  const loaded = (await store.load(id)) as session.Session & session.SessionData;
  expect(loaded).toBeInstanceOf(session.Session);
  expect([loaded.id, loaded.visits, loaded.cookie instanceof session.Cookie]).toEqual([id, 1, true]);
  loaded.visits = 7;
  await new Promise(resolve => loaded.save(resolve));
  expect(await store.get(id)).toMatchObject({ visits: 7 });
  expect(await store.load('nobody')).toBeUndefined();
});

test('the sid may be any text', async () => {
  let made = 0;
  await start({ genid: req => `user/${req.url}:${++made} ü` });
  const first = await client.get('/visit');
  expect(JSON.parse(first.body).id).toBe('user//visit:1 ü');
  expect(JSON.parse((await client.get('/visit', cookieOf(first))).body).visits).toBe(2);
  expect(Object.keys(await store.all())).toEqual(['user//visit:1 ü']);
});

describe('with a slow or failing store', () => {
  test('a logout while a slow request writes is final, 20 times of 20', async () => {
    await start();
    let gate = Promise.withResolvers<void>();
    let started = Promise.withResolvers<void>();
    app.get('/slow', async (req, res) => {
      started.resolve();
      await gate.promise;
      req.session.slow = 'done';
      res.json({});
    });
    let back = 0;
    const other = new Client((server.address() as AddressInfo).port);
    for (let round = 0; round < 20; round++) {
      gate = Promise.withResolvers();
      started = Promise.withResolvers();
      const cookie = cookieOf(await client.get('/sign-in'));
      const slow = other.get('/slow', cookie);
      await started.promise;
      await client.get('/sign-out', cookie);
      gate.resolve();
      expect((await slow).status).toBe(200);
      if ((await client.get('/read', cookie)).body !== '{"visits":null,"user":null}') back++;
    }
    other.close();
    expect([back, await store.length()]).toEqual([0, 0]);
  });

  test('an outage is 503, and the session is there when it is over', async () => {
    await start();
    const cookie = cookieOf(await client.get('/visit'));
    backend.failing.add('*');
    expect((await client.get('/read', cookie)).status).toBe(503);
    backend.failing.clear();
    expect((await client.get('/read', cookie)).body).toBe('{"visits":1,"user":null}');
  });

  test('an outage at a logout that nobody waits for does not end the process', async () => {
    await start();
    const cookie = cookieOf(await client.get('/visit'));
    backend.failing.add('commit');
    expect((await client.get('/sign-out-without-waiting', cookie)).status).toBe(200);
    backend.failing.clear();
    expect((await client.get('/read', cookie)).body).toBe('{"visits":1,"user":null}');
  });
});
