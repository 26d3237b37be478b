import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { attachSocket } from '../../src/session/attach-socket.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore, KEY } from './fixture.ts';
import { connect, PLACES, type Place, skipNote } from './race-stores.ts';

const ann = user('ann');
const bob = user('bob');

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
beforeEach(() => {
  store = new FaultyStore();
  cluster = new Cluster(store, { ownerRule: false });
  [one, two] = [cluster.process(), cluster.process()];
});
const signedIn = () =>
  visit(one, undefined, async session => {
    session.set('cart', 3);
    await session.renew({ owner: ann });
  });

const codeOf = (work: () => unknown) => {
  try {
    return work();
  } catch (error) {
    return (error as { code?: string }).code;
  }
};

/** Whoever holds it finds nothing of its new owner, and changes nothing. */
async function expectClosed(session: Data) {
  const uses: (() => unknown)[] = [
    () => session.owner,
    () => session.get('iban'),
    () => session.has('iban'),
    () => session.keys(),
    () => session.set('cart', 9),
    () => session.delete('cart'),
    () => session.scope('a').get('b'),
  ];
  expect(uses.map(codeOf)).toEqual(uses.map(() => 'ERR_SESSION_SUPERSEDED'));
  for (const use of [session.load('iban'), session.update('iban', () => 'x'), session.sync(), session.invalidate()])
    await expect(use).rejects.toMatchObject({ code: 'ERR_SESSION_SUPERSEDED' });
}

test.each(['yes', 1, null])('the owner rule is true or false, and not %j', ownerRule => {
  expect(() => cluster.process({ ownerRule: ownerRule as never })).toThrow(/ownerRule/);
});

describe('without the owner rule', () => {
  test('a session is given to whoever shows it, and a user of the request does not come to own it', async () => {
    const { cookie, sid } = await visit(one, undefined, session => session.set('cart', 3), { user: ann });
    for (const who of [ann, bob, undefined]) {
      const seen = await visit(two, cookie, session => [session.id, session.owner, session.get('cart')], {
        ...(who && { user: who }),
      });
      expect(seen.result).toEqual([sid, undefined, 3]);
      expect(seen.setCookies).toEqual([]);
    }
    expect((await store.read(sid))?.header.owner).toBeUndefined();
    expect(await two.manager.ofUser('ann')).toEqual([]);
    expect(two.manager.statistics().unauthorized).toBe(0);
  });

  test('a user of the request reads and changes the session of another user, and is never taken for them', async () => {
    const { cookie, sid } = await signedIn();
    const seen = await visit(
      two,
      cookie,
      session => {
        session.set('cart', 4);
        return [session.id, session.owner, session.keys()];
      },
      { user: bob },
    );
    expect(seen.result).toEqual([sid, undefined, ['cart']]);
    const own = await visit(one, cookie, session => [session.owner, session.get('cart')], { user: ann });
    expect(own.result).toEqual([ann, 4]);
    const nobody = await visit(one, cookie, session => [session.owner, session.get('cart')]);
    expect(nobody.result).toEqual([ann, 4]);
    expect((await two.manager.ofUser('ann')).map(info => info.sid)).toEqual([sid]);
    expect(two.log.map(({ event }) => event)).not.toContain('unauthorized-session-request');
  });

  test('a session whose owner shows credentials with each request is open, but for its owner', async () => {
    const ruled = cluster.process({ ownerRule: true });
    const { cookie, sid } = await visit(ruled, undefined, session => session.set('cart', 3), { user: ann });
    const seen = await visit(two, cookie, session => {
      session.set('cart', 4);
      session.scope('shop').set('a', 1);
      return [session.id, session.owner, session.keys()];
    });
    expect(seen.result).toEqual([sid, undefined, ['cart', 'shop:a']]);
    expect((await visit(two, cookie, session => session.owner, { user: ann })).result).toEqual(ann);
    expect((await visit(ruled, cookie, session => [session.owner, session.get('cart')], { user: ann })).result).toEqual(
      [ann, 4],
    );
    await expect(ruled.request(cookie, { user: bob }).get()).rejects.toMatchObject({ status: 403 });
  });

  test('a socket sees as much as its handshake', async () => {
    const { cookie } = await signedIn();
    const of = async (who?: typeof bob) => {
      const binding = two.request(cookie, { ...(who && { user: who }) });
      await binding.get();
      const socket = (await binding.attach())!;
      const { owner } = socket.session;
      const cart = (socket.session as unknown as Data).get('cart');
      binding.release();
      await socket.release();
      return [owner?.name, cart];
    };
    expect([await of(), await of(ann), await of(bob)]).toEqual([
      ['ann', 3],
      ['ann', 3],
      [undefined, 3],
    ]);
  });

  test('a socket of another library sees as much, whatever user comes with its request', async () => {
    const { cookie } = await signedIn();
    const nobodys = await visit(one, undefined, session => session.set('cart', 5));
    const seenBy = async (shown: string, who?: typeof bob) => {
      const request = { headers: { cookie: shown }, socket: {}, url: '/', method: 'GET' } as never;
      const held = (await attachSocket(two.manager, request, { ...(who && { user: who }) }))!;
      const { owner } = held.session;
      const cart = (held.session as unknown as Data).get('cart');
      await held.release();
      return [owner?.name, cart];
    };
    expect([await seenBy(cookie), await seenBy(cookie, ann), await seenBy(cookie, bob)]).toEqual([
      ['ann', 3],
      ['ann', 3],
      [undefined, 3],
    ]);
    expect(await seenBy(nobodys.cookie, bob)).toEqual([undefined, 5]);
  });

  test.each([
    ['signIn', (_: Data, binding: { signIn(owner: typeof bob): Promise<unknown> }) => binding.signIn(bob)],
    ['renew', (session: Data) => session.renew({ owner: bob })],
  ])(
    'a sign-in by another user (%s) takes the session over with all that is in it, and the log says so',
    async (_how, signIn) => {
      const { cookie, sid } = await signedIn();
      const taken = await visit(two, cookie, async (session, binding) => {
        await signIn(session, binding);
        return [session.id, session.owner, session.get('cart')];
      });
      expect(taken.result).toEqual([sid, bob, 3]);
      expect(taken.cookie).not.toBe(cookie);
      expect(await one.request(cookie).get()).toBeUndefined();
      expect((await visit(one, taken.cookie, session => session.owner)).result).toEqual(bob);
      expect(await one.manager.ofUser('ann')).toEqual([]);
      expect((await one.manager.ofUser('bob')).map(info => info.sid)).toEqual([sid]);
      await settle();
      expect(two.ends).toEqual([]);
      expect(two.log).toContainEqual(
        expect.objectContaining({ event: 'session-taken-over', sid: sid.slice(0, 8), owner: 'ann', user: 'bob' }),
      );
      expect(JSON.stringify(two.log)).not.toContain(sid);
    },
  );

  test('a sign-in by the request that showed another user is seen by that request', async () => {
    const { cookie, sid } = await signedIn();
    const binding = two.request(cookie, { user: user('carl') });
    expect((await binding.get())?.owner).toBeUndefined();
    expect(await binding.signIn(bob)).toMatchObject({ id: sid, owner: bob });
    binding.release();
  });

  test('sockets that were opened before a sign-in by another user must go, and see nothing of that user until then', async () => {
    const { cookie } = await signedIn();
    const why: string[] = [];
    await two.manager.start();
    const binding = two.request(cookie);
    await binding.get();
    const socket = (await binding.attach())!;
    binding.release();
    expect(socket.session.owner).toEqual(ann);
    const seen: unknown[] = [];
    two.manager.onSocketEnd((_sid, reason) => {
      why.push(reason);
      seen.push(codeOf(() => socket.session.owner));
    });
    const taken = await visit(one, cookie, async session => {
      await session.renew({ owner: bob });
      session.set('iban', 'DE1');
    });
    await settle();
    expect(why).toEqual(['renewed']);
    expect(seen).toEqual(['ERR_SESSION_SUPERSEDED']);
    await expectClosed(socket.session as unknown as Data);
    await socket.release();
    const later = await visit(two, taken.cookie, session => [session.owner, session.keys()]);
    expect(later.result).toEqual([bob, ['cart', 'iban']]);
  });

  test.each([{ everyMs: 1000 }, 'manual', 'end-of-request'] as const)(
    'a request that runs on does not become that of a user who signs in meanwhile, with changes written %j',
    async write => {
      const process = cluster.process({ write });
      const { cookie, sid } = await signedIn();
      for (const [before, facts] of [
        ['ann', {}],
        ['nobody', { user: user('carl') }],
      ] as const) {
        const start = before === 'ann' ? { cookie, sid } : await signedIn();
        const running = process.request(start.cookie, facts);
        const session = (await running.get()) as Data;
        const other = process.request(start.cookie);
        await other.signIn(bob);
        const own = other.current as Data;
        own.set('iban', 'DE1');
        await own.sync();
        expect([own.owner, own.get('iban')]).toEqual([bob, 'DE1']);
        if (write === 'end-of-request') expect([session.owner?.name, session.keys()]).not.toContain('iban');
        else await expectClosed(session);
        running.release();
        other.release();
        expect((await process.manager.peek(start.sid))?.owner).toEqual(bob);
      }
    },
  );

  test('a request with a dead secret is told nothing, whatever user it shows', async () => {
    const { cookie } = await visit(one, undefined, session => session.set('cart', 3));
    await visit(one, cookie, session => session.renew({ owner: ann }));
    const late = two.request(cookie, { user: bob, isDocumentNavigation: true });
    expect([await late.get(), await late.auto()]).toEqual([undefined, undefined]);
    await expect(late.open()).rejects.toMatchObject({ code: 'ERR_SESSION_SUPERSEDED' });
    expect(late.responseHeaders()).toEqual([]);
  });

  test('the sessions of one user are counted where somebody signs in, and handed over with the session', async () => {
    const limited = cluster.process({ maxSessionsPerUser: { max: 1, whenReached: 'refuse' } });
    for (let i = 0; i < 3; i++) await visit(limited, undefined, session => session.set('n', i), { user: ann });
    const first = await visit(limited, undefined, session => session.renew({ owner: ann }));
    await expect(visit(limited, undefined, session => session.renew({ owner: ann }))).rejects.toMatchObject({
      code: 'ERR_SESSION_USER_LIMIT',
    });
    await visit(limited, first.cookie, session => session.renew({ owner: bob }));
    await visit(limited, undefined, session => session.renew({ owner: ann }));
    expect((await limited.manager.ofUser('ann')).length + (await limited.manager.ofUser('bob')).length).toBe(2);
    expect(await limited.manager.endAllOf('bob')).toBe(1);
  });

  test('sessions that only show a user have the room of anonymous ones', async () => {
    store = new FaultyStore(10);
    const full = new Cluster(store, { ownerRule: false }).process();
    Object.assign(store, { hasRoom: (isAnonymous: boolean) => !isAnonymous });
    const binding = full.request(undefined, { user: ann, isDocumentNavigation: true });
    expect(await binding.auto()).toBeUndefined();
    binding.release();
  });
});

test('with the owner rule, too, a request without a login does not become that of who signs in meanwhile', async () => {
  const process = new Cluster(store, { write: { everyMs: 1000 } }).process();
  const { cookie } = await visit(process, undefined, session => session.sync());
  const running = process.request(cookie);
  const session = (await running.get()) as Data;
  const other = process.request(cookie);
  await other.signIn(ann);
  (other.current as Data).set('iban', 'DE1');
  await expectClosed(session);
  const again = await running.signIn(ann);
  expect([again.owner, (again as Data).get('iban')]).toEqual([ann, undefined]);
  running.release();
  other.release();
});

describe('with the owner rule, a sign-in by another user says in the log whose session has ended', () => {
  let cookie: string;
  let sid: string;
  beforeEach(async () => {
    cluster = new Cluster(store, {});
    [one, two] = [cluster.process(), cluster.process()];
    ({ cookie, sid } = await signedIn());
  });
  const lines = () => two.log.filter(({ event }) => event === 'session-replaced');

  test.each([
    ['a request without a user', {}],
    ['a request that shows the other user', { user: bob }],
  ])('by %s', async (_what, facts) => {
    const binding = two.request(cookie, { ...facts, clientAddress: '192.0.2.7' });
    await binding.signIn(bob);
    binding.release();
    expect(lines()).toEqual([
      expect.objectContaining({ sid: sid.slice(0, 8), owner: 'ann', user: 'bob', address: '192.0.2.7' }),
    ]);
    expect(JSON.stringify(two.log)).not.toContain(sid);
    expect(two.ends).toEqual([{ sid, reason: 'logout' }]);
  });

  test('for each of several that the client has shown', async () => {
    const other = await visit(one, undefined, session => session.renew({ owner: user('carl') }));
    const nobodys = await visit(one, undefined, session => session.set('a', 1));
    const binding = two.request([cookie, other.cookie, nobodys.cookie].join('; '));
    await binding.signIn(bob);
    binding.release();
    expect(lines().map(({ sid, owner }) => [sid, owner])).toEqual([
      [sid.slice(0, 8), 'ann'],
      [other.sid.slice(0, 8), 'carl'],
    ]);
  });

  test('and of nobody, where the user signs in again or the session was anonymous', async () => {
    const nobodys = await visit(one, undefined, session => session.set('a', 1));
    for (const [shown, who] of [
      [cookie, ann],
      [nobodys.cookie, bob],
    ] as const) {
      const binding = two.request(shown);
      await binding.signIn(who);
      binding.release();
    }
    expect(lines()).toEqual([]);
  });
});

describe.each(PLACES.map(place => ({ place, title: `${place.name}${skipNote(place)}` })))('on $title', ({ place }) => {
  let at: Place;
  beforeAll(async () => {
    if (!place.missing) at = await place.open();
  });
  afterAll(() => at?.close());

  test.skipIf(place.missing)('a session that is taken over is found under its new owner only', async () => {
    const manager = new SessionManager({
      ...(await connect(at.address)),
      keys: [KEY, randomBytes(32)],
      cookie: { name: 'sid' },
      ownerRule: false,
    });
    const request = (cookieHeader?: string) =>
      manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
    const cookieOf = (binding: ReturnType<typeof request>) => binding.responseHeaders()[0]!.value.split(';')[0]!;
    const first = request();
    const session = (await first.signIn(ann)) as Data;
    session.set('cart', 3);
    await first.commit();
    const cookie = cookieOf(first);
    first.release();
    const second = request(cookie);
    await second.signIn(bob);
    await second.commit();
    const taken = cookieOf(second);
    second.release();
    const third = request(taken);
    const found = (await third.get()) as Data;
    expect([found.id, found.owner, found.get('cart')]).toEqual([session.id, bob, 3]);
    third.release();
    expect([(await manager.ofUser('ann')).length, (await manager.ofUser('bob')).length]).toEqual([0, 1]);
    expect([await manager.endAllOf('ann'), await manager.endAllOf('bob')]).toEqual([0, 1]);
    await manager.close();
  });
});
