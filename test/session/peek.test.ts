import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import { Cluster, type Data, type Process, user, visit } from './cluster.ts';
import { FaultyStore, KEY } from './fixture.ts';
import { connect, PLACES, type Place, skipNote } from './race-stores.ts';

const SECOND = 1_000;

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let cookie: string;
let sid: string;
beforeEach(async () => {
  store = new FaultyStore();
  cluster = new Cluster(store, { idleTimeoutMs: 3 * SECOND });
  one = cluster.process();
  ({ cookie, sid } = await visit(one, undefined, async session => {
    session.set('cart', { items: ['pen'] });
    session.set('bytes', new Uint8Array([1, 2, 3]));
    await session.renew({ owner: user('ann') });
  }));
});
const peek = async (process = one) => (await process.manager.peek(sid)) as unknown as Data | undefined;

describe('a look into a session', () => {
  test('shows what is stored of it: attributes, owner and times', async () => {
    const seen = (await peek(cluster.process()))!;
    expect([seen.id, seen.owner, seen.keys(), seen.has('cart'), seen.has('nothing')]).toEqual([
      sid,
      user('ann'),
      ['cart', 'bytes'],
      true,
      false,
    ]);
    expect([seen.get('cart'), seen.get('bytes'), seen.get('nothing')]).toEqual([
      { items: ['pen'] },
      new Uint8Array([1, 2, 3]),
      undefined,
    ]);
    const { createdAt, lastAccessedAt, idleTimeoutMs, absoluteExpiresAt } = (await one.manager.info(sid))!;
    expect(seen).toMatchObject({ createdAt, lastAccessedAt, idleTimeoutMs, absoluteExpiresAt });
  });

  test('is no access: it keeps nothing alive and in memory, and writes nothing', async () => {
    const other = cluster.process();
    store.calls.length = 0;
    for (let second = 0; second < 3; second++) {
      expect((await peek(other))?.id).toBe(sid);
      await cluster.clock.advance(SECOND);
    }
    expect(await peek(other)).toBeUndefined();
    expect(new Set(store.calls)).toEqual(new Set(['read']));
    expect(other.manager.statistics()).toMatchObject({ liveNow: 0, activeNow: 0 });
    expect(await one.request(cookie).get()).toBeUndefined();
  });

  test('cannot change anything', async () => {
    const seen = (await peek())!;
    expect(() => (seen.get('cart') as { items: string[] }).items.push('ink')).toThrow(TypeError);
    (seen.get('bytes') as Uint8Array)[0] = 9;
    expect((await peek())!.get('bytes')).toEqual(new Uint8Array([1, 2, 3]));
    expect((seen.get('bytes') as Uint8Array)[0]).toBe(1);
    expect(() => Object.assign(seen, { cart: 1 })).toThrow(TypeError);
    expect(() => Object.assign(seen.owner!.roles, { 0: 'admin' })).toThrow(TypeError);
    for (const change of ['set', 'update', 'delete', 'renew', 'invalidate', 'sync', 'scope'])
      expect(change in seen).toBe(false);
  });

  test('stays what it was, whatever becomes of the session', async () => {
    const seen = (await peek())!;
    await visit(one, cookie, session => session.set('cart', 4));
    expect(seen.get('cart')).toEqual({ items: ['pen'] });
    await one.manager.end(sid, 'admin');
    expect([seen.get('cart'), seen.owner?.name]).toEqual([{ items: ['pen'] }, 'ann']);
    expect(await peek()).toBeUndefined();
  });

  test('sees through the veil, as administrators do by access', async () => {
    const veiled = await visit(one, undefined, session => session.set('cart', 3), { user: user('bob') });
    const seen = (await one.manager.peek(veiled.sid)) as unknown as Data;
    expect([seen.owner?.name, seen.get('cart')]).toEqual(['bob', 3]);
  });

  test('of what no session is called is nothing, and of what is no name a wrong call', async () => {
    expect(await one.manager.peek('A'.repeat(22))).toBeUndefined();
    for (const no of ['', undefined, {}])
      await expect((async () => one.manager.peek(no as never))()).rejects.toThrow(TypeError);
  });

  test('fails where the store fails', async () => {
    store.failing.add('read');
    await expect(peek()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 });
  });
});

describe.each(PLACES.map(place => ({ place, title: `${place.name}${skipNote(place)}` })))('on $title', ({ place }) => {
  let at: Place;
  beforeAll(async () => {
    if (!place.missing) at = await place.open();
  });
  afterAll(() => at?.close());

  test.skipIf(place.missing)('a look shows what the other attributes are and moves no last access', async () => {
    const manager = new SessionManager({ ...(await connect(at.address)), keys: [KEY], cookie: { name: 'sid' } });
    const binding = manager.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
    const session = (await binding.open()) as Data;
    session.set('cart', new Map([['pen', 3]]));
    await binding.commit();
    const { id } = session;
    binding.release();
    const before = await manager.info(id);
    const seen = (await manager.peek(id)) as unknown as Data;
    expect(seen.get('cart')).toEqual(new Map([['pen', 3]]));
    expect(await manager.info(id)).toEqual(before);
    await manager.end(id, 'admin');
    expect(await manager.peek(id)).toBeUndefined();
    await manager.close();
  });
});
