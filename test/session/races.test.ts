import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attachSession } from '../../src/session/commit-before-headers.ts';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { LmdbStore } from '../../src/session/stores/lmdb.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FaultyStore, KEY } from './fixture.ts';

const ROUNDS = 20;

/** A store whose every call takes a while: what a busy disk or a network does. */
function createSlowStore(): SessionStore {
  const store = new FaultyStore();
  store.before = async () => {
    for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve));
  };
  return store;
}

/** The races that other session libraries lose in each of their rounds, over real connections. */
describe.each([
  ['memory', () => new MemoryStore()],
  ['lmdb', (path: string) => new LmdbStore({ path })],
  ['a slow memory', createSlowStore],
] as const)('on %s store', (_name, open) => {
  let path: string;
  let server: http.Server;
  let manager: SessionManager;
  let gate: PromiseWithResolvers<void>;

  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'holdfast-races-'));
    manager = new SessionManager({ store: open(path), keys: [KEY] });
    gate = Promise.withResolvers();
    server = http.createServer(async (req, res) => {
      attachSession(manager, req, res);
      const url = new URL(req.url!, 'http://x');
      const session = await manager.open(req);
      switch (url.pathname) {
        case '/set':
          session.set(url.searchParams.get('key')!, 'here');
          return res.end();
        case '/slow':
          await gate.promise;
          session.set('late', 'write');
          return res.end();
        case '/logout':
          await session.invalidate();
          return res.end();
        case '/post':
          session.set('written', url.searchParams.get('value'));
          return res.writeHead(303, { Location: '/' }).end();
        case '/stream':
          session.set('written', url.searchParams.get('value'));
          res.write('first byte');
          return gate.promise.then(() => res.end());
        default:
          return res.end(
            JSON.stringify({
              id: session.id,
              isNew: session.isNew,
              data: Object.fromEntries(session.keys().map(key => [key, session.get(key)])),
            }),
          );
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await manager.close();
    await rm(path, { recursive: true });
  });

  async function visit(target: string, cookie = ''): Promise<{ cookie: string; response: Response }> {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${target}`;
    const response = await fetch(url, { headers: { cookie }, redirect: 'manual' });
    const [set] = response.headers.getSetCookie();
    return { cookie: set?.split(';')[0] ?? cookie, response };
  }
  async function read(cookie: string): Promise<{ id: string; isNew: boolean; data: Record<string, unknown> }> {
    return JSON.parse(await (await visit('/', cookie)).response.text());
  }

  test('four parallel requests that each set another key lose none of them', async () => {
    let lost = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const { cookie } = await visit('/');
      await Promise.all(['a', 'b', 'c', 'd'].map(key => visit(`/set?key=${key}`, cookie)));
      lost += 4 - Object.keys((await read(cookie)).data).length;
    }
    expect(lost).toBe(0);
  });

  test('a logout while a request that writes is on its way stays a logout', async () => {
    let resurrected = 0;
    for (let round = 0; round < ROUNDS; round++) {
      gate = Promise.withResolvers();
      const { cookie } = await visit('/');
      const { id } = await read(cookie);
      const late = visit('/slow', cookie);
      await visit('/logout', cookie);
      gate.resolve();
      expect((await late).response.status).toBe(200);
      const after = await read(cookie);
      if (after.id === id || 'late' in after.data) resurrected++;
    }
    expect(resurrected).toBe(0);
  });

  test('who follows a redirect finds what the redirecting request wrote', async () => {
    const { cookie } = await visit('/');
    for (let round = 0; round < ROUNDS; round++) {
      expect((await visit(`/post?value=${round}`, cookie)).response.status).toBe(303);
      expect((await read(cookie)).data.written).toBe(String(round));
    }
  });

  test('who sees the first byte of a response finds what was written before it', async () => {
    const { cookie } = await visit('/');
    for (let round = 0; round < ROUNDS; round++) {
      gate = Promise.withResolvers();
      const { response } = await visit(`/stream?value=${round}`, cookie);
      const reader = response.body!.getReader();
      expect(Buffer.from((await reader.read()).value!).toString()).toBe('first byte');
      expect((await read(cookie)).data.written).toBe(String(round));
      gate.resolve();
      while (!(await reader.read()).done);
    }
  });
});
