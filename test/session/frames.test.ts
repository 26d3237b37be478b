import { beforeEach, describe, expect, test } from 'vitest';
import { Cluster, cookiesOf, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
beforeEach(() => {
  store = new FaultyStore();
  cluster = new Cluster(store);
  [one, two] = [cluster.process(), cluster.process()];
});

async function page(process = one, isSecure = false): Promise<string> {
  const binding = process.request(undefined, { isDocumentNavigation: true, isSecure });
  expect(await binding.existing()).toBeUndefined();
  await binding.commit();
  binding.release();
  return cookiesOf(binding)[0]!;
}

describe('a page without a session', () => {
  test('gets a signed nonce for a day that scripts cannot see', async () => {
    const binding = one.request(undefined, { isDocumentNavigation: true, isSecure: true });
    await binding.existing();
    expect(binding.hasNews).toBe(true);
    expect(binding.responseHeaders()).toEqual([
      {
        name: 'Set-Cookie',
        value: expect.stringMatching(/^sid-new=n1\.[\w.-]+; Max-Age=86400; Path=\/; Secure; HttpOnly; SameSite=Lax$/),
      },
    ]);
    expect(store.calls).toEqual([]);
  });

  test('gets none when it has a session, nor do its parts', async () => {
    const { cookie } = await visit(one, undefined, () => {});
    const again = one.request(cookie, { isDocumentNavigation: true });
    await again.existing();
    const part = one.request();
    await part.existing();
    expect([again.responseHeaders(), part.responseHeaders()]).toEqual([[], []]);
  });
});

describe('the parts of a page', () => {
  test('make one session with five equal tickets, on two processes', async () => {
    const nonce = await page();
    const bindings = [one, two, one, two, one].map(process => process.request(nonce));
    const sessions = (await Promise.all(bindings.map(binding => binding.open()))) as Data[];
    for (const [index, session] of sessions.entries()) session.set(`part${index}`, index);
    await Promise.all(bindings.map(binding => binding.commit()));
    expect(new Set(bindings.flatMap(cookiesOf)).size).toBe(1);
    expect(await store.count()).toBe(1);
    const [cookie] = cookiesOf(bindings[0]!);
    for (const process of [one, two]) {
      const { result } = await visit(process, cookie, session => session.keys().length);
      expect(result).toBe(5);
    }
  });

  test('that come one after the other find the session that the first has made', async () => {
    const nonce = await page();
    const open = [one.request(nonce), one.request(nonce)];
    const first = await open[0]!.open();
    const second = await open[1]!.open(); // before the first is in the store
    await open[0]!.commit();
    await open[1]!.commit();
    const third = await visit(two, nonce, session => session.isNew);
    const fourth = await visit(one, nonce, session => session.isNew);
    expect(new Set([first.id, second.id, third.sid, fourth.sid]).size).toBe(1);
    expect([third.result, fourth.result, third.cookie]).toEqual([true, true, fourth.cookie]);
  });

  test('find the session that is made between their two questions, whether it exists and whether it ever did', async () => {
    const nonce = await page();
    const { get } = cluster.ledger;
    let made = '';
    cluster.ledger.get = async key => {
      cluster.ledger.get = get;
      made = (await visit(one, nonce, () => {})).sid;
      return get.call(cluster.ledger, key);
    };
    const { sid } = await visit(two, nonce, () => {});
    expect(sid).toBe(made);
  });

  test('open it once each, however parallel', async () => {
    const binding = one.request(await page());
    const [a, b] = (await Promise.all([binding.open(), binding.open()])) as [Data, Data];
    expect(a).toBe(b);
    a.set('n', 1);
    await binding.commit();
    binding.release();
    expect((await visit(two, cookiesOf(binding)[0], session => session.get('n'))).result).toBe(1);
    expect(one.manager.statistics().activeNow).toBe(0);
  });

  test('work when one of them signs in before the others are done', async () => {
    const nonce = await page();
    const [login, other] = [one.request(nonce), two.request(nonce)];
    await login.open();
    const part = (await other.open()) as Data;
    part.set('part', 1);
    await login.signIn(user('ann'));
    await other.commit(); // the store has it now, with the derived secret
    await login.commit();
    const { result } = await visit(two, cookiesOf(login)[0], session => [session.owner?.name, session.get('part')]);
    expect(result).toEqual(['ann', 1]);
  });

  test.each([undefined, { max: 3, whenReached: 'refuse' }] as const)(
    'sign in twice when somebody clicks twice, with the limit %j',
    async maxSessionsPerUser => {
      const limited = cluster.process({ ...(maxSessionsPerUser && { maxSessionsPerUser }) });
      const nonce = await page();
      const logins = [limited, limited].map(process => process.request(nonce));
      // Both before anything of them is stored, then one after the other is there.
      const sessions = await Promise.all(logins.map(binding => binding.signIn(user('ann'))));
      sessions.forEach((session, index) => {
        (session as Data).set('login', index);
      });
      await Promise.all(logins.map(binding => binding.commit()));
      logins.push(limited.request(nonce));
      ((await logins[2]!.signIn(user('ann'))) as Data).set('login', 2);
      await logins[2]!.commit();
      const seen = await Promise.all(
        logins.map(async (binding, index) => {
          const found = (await two.request(cookiesOf(binding)[0]).get()) as Data;
          expect(found.id).toBe(binding.current!.id);
          return [found.get('login'), found.owner?.name, index === found.get('login')];
        }),
      );
      expect(seen).toEqual([0, 1, 2].map(index => [index, 'ann', true]));
      expect(await store.count()).toBe(3);
    },
  );

  test('that come too late for a login neither end the session nor close its sockets', async () => {
    const nonce = await page();
    const late = one.request(nonce);
    await late.open();
    const { cookie, sid } = await visit(two, nonce, (_, binding) => binding.signIn(user('ann')));
    expect((await one.request(cookie).get())?.id).toBe(sid);
    const socket = (await one.manager.attach(sid))!;
    await expect(late.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_SUPERSEDED' });
    expect([socket.isEnded, one.socketEnds, late.responseHeaders()]).toEqual([false, [], []]);
    await socket.release();
  });
});

describe('a nonce opens nothing', () => {
  test('of the session after a login', async () => {
    const nonce = await page();
    const { sid } = await visit(one, nonce, (_, binding) => binding.signIn(user('ann')));
    for (const process of [one, two]) {
      const late = process.request(nonce);
      await expect(late.open()).rejects.toMatchObject({ code: 'ERR_SESSION_SUPERSEDED' });
      expect([late.current, late.responseHeaders()]).toEqual([undefined, []]);
    }
    expect((await store.read(sid))?.header.owner?.name).toBe('ann');
  });

  test('that is older than another one of a former domain', async () => {
    const stale = await page();
    await cluster.clock.advance(60_000);
    const nonce = await page();
    const parts = [one, two].map(process => process.request(`${stale}; ${nonce}`));
    const sids = await Promise.all(parts.map(async binding => (await binding.open()).id));
    expect(sids[0]).toBe(sids[1]);
  });

  test('of the session after a logout, in this process, another, and one that has heard nothing', async () => {
    const nonce = await page();
    const { cookie, sid } = await visit(one, nonce, () => {});
    await visit(one, cookie, session => session.invalidate());
    await settle();
    for (const process of [one, two, cluster.process()]) {
      const fresh = await visit(process, nonce, () => {});
      expect(fresh.sid).not.toBe(sid);
      expect(await process.request(cookie).get()).toBeUndefined();
    }
  });

  test('when the logout came while the part was on its way', async () => {
    const nonce = await page();
    const slow = two.request(nonce);
    const session = await slow.open();
    const { cookie, sid } = await visit(one, nonce, () => {});
    expect(session.id).toBe(sid);
    await visit(one, cookie, found => found.invalidate());
    await expect(slow.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
    expect([await store.count(), slow.responseHeaders()]).toEqual([0, []]);
  });

  test.each([
    ['forged', (nonce: string) => `${nonce.slice(0, -2)}xx`, 0],
    ['expired', (nonce: string) => nonce, 30_000],
    ['far too long', (nonce: string) => `${nonce}${'x'.repeat(5_000)}`, 0],
  ])('when it is %s: a fresh session begins', async (_what, change, age) => {
    const nonce = await page();
    const derived = await visit(one, nonce, () => {});
    await cluster.clock.advance(age);
    expect((await visit(two, change(nonce), () => {})).sid).not.toBe(derived.sid);
  });

  test('to another user than the one whose request made the session', async () => {
    const nonce = await page();
    const { cookie } = await visit(one, nonce, session => session.set('secret', 1), { user: user('ann') });
    await expect(two.request(nonce, { user: user('bob') }).open()).rejects.toMatchObject({
      code: 'ERR_SESSION_UNAUTHORIZED',
    });
    const veiled = (await two.request(nonce).open()) as Data;
    expect([veiled.owner, veiled.get('secret')]).toEqual([undefined, undefined]);
    expect((await visit(two, cookie, session => session.get('secret'), { user: user('ann') })).result).toBe(1);
  });
});

test('parts that are all authenticated by their own credentials make one session', async () => {
  const nonce = await page();
  const bindings = [one, two, one, two, one].map(process => process.request(nonce, { user: user('ann') }));
  const sessions = await Promise.all(bindings.map(binding => binding.open()));
  await Promise.all(bindings.map(binding => binding.commit()));
  expect(new Set(sessions.map(({ id }) => id)).size).toBe(1);
  expect(new Set(bindings.flatMap(cookiesOf)).size).toBe(1);
  expect(await store.count()).toBe(1);
});

test('a clock that is some seconds behind that of the process which made the nonce does not matter', async () => {
  const nonce = await page();
  const derived = await visit(one, nonce, () => {});
  cluster.clock.jump(cluster.clock.now() - 2_000);
  expect((await visit(two, nonce, () => {})).sid).toBe(derived.sid);
});
