import { beforeEach, describe, expect, test } from 'vitest';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const ann = user('ann');

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
let cookie: string;
let sid: string;
beforeEach(async () => {
  store = new FaultyStore();
  cluster = new Cluster(store, { idleTimeoutMs: 24 * HOUR, absoluteTimeoutMs: 48 * HOUR });
  [one, two] = [cluster.process(), cluster.process()];
  await Promise.all([one.manager.start(), two.manager.start()]);
  ({ cookie, sid } = await visit(one, undefined, session => session.set('cart', 3)));
});

describe('after a login', () => {
  const login = () => visit(one, cookie, session => session.renew({ owner: ann }));

  test('the old secret opens nothing, and for a minute its sender is told nothing that undoes the login', async () => {
    const { cookie: fresh } = await login();
    await cluster.clock.advance(MINUTE - 1);
    for (const process of [one, two]) {
      const late = process.request(cookie, { isDocumentNavigation: true });
      expect([await late.get(), await late.auto(), await late.existing()]).toEqual([undefined, undefined, undefined]);
      await expect(late.open()).rejects.toMatchObject({ code: 'ERR_SESSION_SUPERSEDED', status: 409 });
      await late.commit();
      expect(late.responseHeaders()).toEqual([]);
    }
    expect((await two.request(fresh).get())?.id).toBe(sid);
    expect(one.manager.statistics().deadSecrets + two.manager.statistics().deadSecrets).toBe(0);
  });

  test('who shows a user of their own with the old secret begins a session', async () => {
    const { cookie: fresh } = await login();
    for (const isDocumentNavigation of [false, true]) {
      const late = two.request(cookie, { user: user('bob'), isDocumentNavigation });
      const session = await (isDocumentNavigation ? late.auto() : late.open());
      expect([session?.owner?.name, session?.id === sid, (session as Data).get('cart')]).toEqual([
        'bob',
        false,
        undefined,
      ]);
      await late.commit();
      expect(late.responseHeaders()).toHaveLength(1);
    }
    expect((await one.request(fresh).get())?.owner?.name).toBe('ann');
  });

  test.each([['end-of-request'], ['manual'], [{ everyMs: 10_000 }]] as const)(
    'a login that was let in before it ends nothing, and keeps what it had changed where it was, writing %j',
    async write => {
      const process = cluster.process({ write });
      for (const name of ['ann', 'bob']) {
        const begun = await visit(process, undefined, () => {});
        const slow = process.request(begun.cookie);
        ((await slow.open()) as Data).set('seen', name);
        const first = await visit(process, begun.cookie, (_, binding) => binding.signIn(ann));
        const session = (await slow.signIn(user(name))) as Data;
        expect([session.id === begun.sid, session.owner?.name, session.get('seen')]).toEqual([false, name, undefined]);
        await slow.commit();
        slow.release();
        await settle();
        const found = (await process.request(first.cookie).get()) as Data;
        expect([found.owner?.name, found.get('seen')]).toEqual(['ann', name]);
      }
    },
  );

  test('whoever sends the old secret later is anonymous, logged and counted', async () => {
    await login();
    await cluster.clock.advance(MINUTE);
    const late = two.request(cookie, { isDocumentNavigation: true });
    expect((await late.auto())?.id).not.toBe(sid);
    expect(two.manager.statistics().deadSecrets).toBe(1);
    expect(two.log).toContainEqual(expect.objectContaining({ event: 'dead-secret', sid: sid.slice(0, 8) }));
    expect(JSON.stringify(two.log)).not.toContain(sid);
  });

  test('a request that was admitted before finishes, and what it changed is kept', async () => {
    const before = two.request(cookie);
    const session = (await before.open()) as Data;
    const { cookie: fresh } = await login();
    session.set('late', 1);
    await before.commit();
    expect(before.responseHeaders()).toEqual([]);
    expect((await visit(one, fresh, found => [found.get('late'), found.owner?.name])).result).toEqual([1, 'ann']);
  });

  test.each([['end-of-request'], ['manual'], [{ everyMs: 10_000 }]] as const)(
    'another at the same moment fails, in one process and in two, writing %j',
    async write => {
      for (const isInTwo of [false, true]) {
        const cluster = new Cluster(store, { write });
        const first = cluster.process();
        const second = isInTwo ? cluster.process() : first;
        const begun = await visit(first, undefined, () => {});
        const bindings = [first, second].map(process => process.request(begun.cookie));
        const sessions = await Promise.all(bindings.map(binding => binding.open()));
        const logins = await Promise.allSettled(
          sessions.map((session, index) => session.renew({ owner: user(['ann', 'bob'][index]!) })),
        );
        expect(logins.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
        const winner = logins.findIndex(({ status }) => status === 'fulfilled');
        expect((await store.read(begun.sid))?.header.owner?.name).toBe(['ann', 'bob'][winner]);
        const loser = logins[1 - winner] as PromiseRejectedResult;
        expect(['ERR_SESSION_SUPERSEDED', 'ERR_SESSION_UNAUTHORIZED']).toContain(loser.reason.code);
        expect(bindings[1 - winner]!.responseHeaders()).toEqual([]);
        const set = bindings[winner]!.responseHeaders()[0]!.value.split(';')[0];
        expect((await second.request(set).get())?.id).toBe(begun.sid);
      }
    },
  );

  test('the sockets that came before go, in every process, and those that come later stay', async () => {
    const old = [(await one.manager.attach(sid))!, (await two.manager.attach(sid))!];
    const { cookie: fresh } = await login();
    expect(one.socketEnds).toEqual([sid]);
    await settle();
    expect(two.socketEnds).toEqual([sid]);
    expect((await two.request(fresh).get())?.id).toBe(sid);
    const later = (await two.manager.attach(sid))!;
    await cluster.clock.advance(30_000);
    await settle();
    expect([one.socketEnds, two.socketEnds, later.isEnded]).toEqual([[sid], [sid], false]);
    await Promise.all([...old, later].map(socket => socket.release()));
  });

  test('a handshake that was let in before gets no socket', async () => {
    const [early, late] = [one.request(cookie), two.request(cookie)];
    await Promise.all([early.get(), late.get()]);
    const { cookie: fresh } = await login();
    expect(await early.attach()).toBeUndefined();
    expect(await late.attach()).toBeUndefined();
    const after = two.request(fresh);
    await after.get();
    const socket = (await after.attach())!;
    expect(socket.session.owner?.name).toBe('ann');
    await socket.release();
    expect([one, two].map(({ manager }) => manager.statistics().activeNow)).toEqual([1, 2]); // the requests
  });

  test('a process that the ledger did not reach closes them before a later socket comes', async () => {
    const deaf = cluster.process({ ledger: new Cluster(store).ledger });
    const old = (await deaf.manager.attach(sid))!;
    const { cookie: fresh } = await login();
    await settle();
    expect(deaf.socketEnds).toEqual([]);
    expect((await deaf.request(fresh).get())?.id).toBe(sid); // the handshake
    expect(deaf.socketEnds).toEqual([sid]);
    const later = (await deaf.manager.attach(sid))!;
    await cluster.clock.advance(10_000);
    expect(deaf.socketEnds).toEqual([sid]);
    await Promise.all([old.release(), later.release()]);
  });
});

describe('rotation by time', () => {
  beforeEach(() => cluster.clock.advance(4 * HOUR));
  const rotate = () => visit(one, cookie, () => {});

  test('gives a session in use another secret, and does not close its sockets', async () => {
    const sockets = [(await one.manager.attach(sid))!, (await two.manager.attach(sid))!];
    const rotated = await rotate();
    expect(rotated.cookie).not.toBe(cookie);
    expect((await visit(two, rotated.cookie, session => session.get('cart'))).result).toBe(3);
    await cluster.clock.advance(10_000);
    await settle();
    expect([one.socketEnds, two.socketEnds, sockets.map(({ isEnded }) => isEnded)]).toEqual([[], [], [false, false]]);
    await Promise.all(sockets.map(socket => socket.release()));
  });

  test('a handshake from before a login gets no socket, also where the secret was replaced by time since', async () => {
    const early = [one.request(cookie), two.request(cookie)];
    for (const binding of early) await binding.get();
    const login = await visit(one, cookie, session => session.renew({ owner: ann }));
    await cluster.clock.advance(4 * HOUR);
    const rotated = await visit(one, login.cookie, () => {});
    expect(rotated.cookie).not.toBe(login.cookie);
    for (const binding of early) expect(await binding.attach()).toBeUndefined();
    const after = two.request(rotated.cookie);
    await after.get();
    const socket = (await after.attach())!;
    expect(socket.session.owner?.name).toBe('ann');
    await socket.release();
    for (const binding of [...early, after]) binding.release();
  });

  test('a process that could not reach the store since before a login closes the sockets from before it', async () => {
    let isCutOff = false;
    const own: FaultyStore = Object.create(store);
    own.glance = async id => {
      if (isCutOff) throw new Error('connection refused');
      return store.glance(id);
    };
    const process = cluster.process({ store: own, ledger: new Cluster(store).ledger });
    const socket = (await process.manager.attach(sid))!;
    isCutOff = true;
    const login = await visit(one, cookie, session => session.renew({ owner: ann }));
    await cluster.clock.advance(4 * HOUR);
    const rotated = await visit(one, login.cookie, () => {});
    expect([rotated.cookie !== login.cookie, process.socketEnds]).toEqual([true, []]);
    isCutOff = false;
    await cluster.clock.advance(5_000);
    await settle();
    expect(process.socketEnds).toEqual([sid]);
    await socket.release();
  });

  test('a socket stays where the response with the new secret was lost, and another is made', async () => {
    const socket = (await one.manager.attach(sid))!;
    const handshake = one.request(cookie);
    await rotate(); // lost
    await settle();
    await handshake.get();
    await cluster.clock.advance(MINUTE);
    const again = await rotate();
    expect(again.setCookies).toHaveLength(1);
    await settle();
    const late = (await handshake.attach())!;
    expect(late.session.id).toBe(sid);
    await cluster.clock.advance(10_000);
    await settle();
    expect([one.socketEnds, two.socketEnds]).toEqual([[], []]);
    await Promise.all([socket.release(), late.release()]);
    handshake.release();
  });

  test.each([['end-of-request'], ['manual'], [{ everyMs: 10_000 }]] as const)(
    'lets the old secret work until the new one was used, and 30 s longer, writing %j',
    async write => {
      const cluster2 = Object.assign(new Cluster(store, { write }), { clock: cluster.clock });
      const [a, b] = [cluster2.process(), cluster2.process()];
      const rotated = await visit(a, cookie, () => {});
      expect(rotated.cookie).not.toBe(cookie);
      await cluster.clock.advance(29_000);
      expect((await visit(b, cookie, () => {})).setCookies).toEqual([]);
      expect((await visit(b, rotated.cookie, () => {})).setCookies).toEqual([]);
      await settle();
      await cluster.clock.advance(29_999);
      expect((await a.request(cookie).get())?.id).toBe(sid);
      await cluster.clock.advance(1);
      expect(await a.request(cookie).get()).toBeUndefined();
      expect(a.manager.statistics().deadSecrets).toBe(1);
    },
  );

  test('under manual writing does not write what was not synced', async () => {
    const manual = Object.assign(new Cluster(store, { write: 'manual' }), { clock: cluster.clock }).process();
    const rotated = await visit(manual, cookie, () => {});
    await visit(manual, rotated.cookie, session => session.set('cart', 4));
    await settle();
    expect((await visit(two, rotated.cookie, session => session.get('cart'))).result).toBe(3);
  });

  test('is done again when the response that carried it was lost: nobody is signed out', async () => {
    await rotate(); // lost
    for (let minutes = 0; minutes < 10; minutes++) {
      await cluster.clock.advance(MINUTE);
      const again = await visit(two, cookie, session => session.get('cart'));
      expect([again.result, again.setCookies.length]).toEqual([3, 1]);
    }
    const { cookie: latest } = await visit(two, cookie, () => {}).then(async () => {
      await cluster.clock.advance(MINUTE);
      return visit(two, cookie, () => {});
    });
    expect((await visit(one, latest, session => session.get('cart'))).result).toBe(3);
  });

  test('is done once by parallel requests', async () => {
    const bindings = [one, two, one, two].map(process => process.request(cookie));
    await Promise.all(bindings.map(binding => binding.get()));
    await Promise.all(bindings.map(binding => binding.commit()));
    expect(bindings.flatMap(binding => binding.responseHeaders())).toHaveLength(1);
    expect(one.manager.statistics().conflicts + two.manager.statistics().conflicts).toBe(0);
  });

  test('does not bring an older secret back to life when a login comes in between', async () => {
    const rotated = await rotate();
    const { glance } = store;
    let once = true;
    // The first use of the new secret has read the header; before it says so, a login replaces the secret.
    store.glance = async id => {
      const answer = await glance(id);
      if (once) {
        once = false;
        const login = Object.assign(new Cluster(store), { clock: cluster.clock }).process();
        await visit(login, rotated.cookie, session => session.renew({ owner: ann }));
      }
      return answer;
    };
    await visit(one, rotated.cookie, () => {});
    expect(await two.request(cookie).get()).toBeUndefined();
    expect(await two.request(rotated.cookie).get()).toBeUndefined();
    expect((await store.read(sid))?.header.former?.kind).toBe('renewed');
  });

  test('waits for a response that can carry it', async () => {
    const binding = one.request(cookie);
    binding.markHeadersSent();
    expect((await binding.get())?.id).toBe(sid);
    await binding.commit();
    expect((await store.read(sid))?.header.secretAt).toBeUndefined();
  });

  test('is off with Infinity, and under `url`, where links cannot be told', async () => {
    for (const options of [{ renewalTimeoutMs: Number.POSITIVE_INFINITY }, { tracking: 'url' as const }]) {
      const process = Object.assign(new Cluster(store, { idleTimeoutMs: 24 * HOUR }), { clock: cluster.clock }).process(
        options,
      );
      const urlTicket = cookie.slice('sid='.length);
      expect((await visit(process, cookie, () => {}, { urlTicket })).setCookies).toEqual([]);
      expect((await store.read(sid))?.header.secretAt).toBeUndefined();
    }
  });
});
