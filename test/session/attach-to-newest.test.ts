import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Cluster, type Data, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const HOUR = 3_600_000;

/** A store over a network: each call takes a real turn. */
function slowDown(store: FaultyStore): void {
  for (const call of ['glance', 'read'] as const) {
    const original = store[call].bind(store) as (...args: unknown[]) => Promise<never>;
    store[call] = async (...args: unknown[]) => {
      await pause(5);
      return original(...args);
    };
  }
}

test.each([
  ['replaces its secret by time, for the first time', 'rotate', 1],
  ['replaces its secret by time, once more', 'rotate', 2],
  ['signs in', 'login', 1],
  ['signs in after a replacement by time', 'login', 2],
] as const)(
  'a handshake that %s gets its session, also while what others of its process have of it is older',
  async (_, kind, rounds) => {
    const store = new FaultyStore();
    const times = { idleTimeoutMs: 240 * HOUR, absoluteTimeoutMs: 480 * HOUR, renewalTimeoutMs: HOUR };
    const cluster = new Cluster(store, times as ConstructorParameters<typeof Cluster>[1]);
    const [one, two] = [cluster.process(), cluster.process()];
    await Promise.all([one.manager.start(), two.manager.start()]);
    let { cookie } = await visit(one, undefined, session => session.set('cart', 3));
    for (let round = 1; round < rounds; round++) {
      await cluster.clock.advance(HOUR + 1);
      ({ cookie } = await visit(one, cookie, session => void session.get('cart')));
      await visit(one, cookie, session => void session.get('cart'));
    }
    slowDown(store);
    const first = two.request(cookie);
    await first.get();
    first.markHeadersSent();
    expect(await first.attach()).toBeDefined();
    first.release();
    if (kind === 'rotate') await cluster.clock.advance(HOUR + 1);
    await pause(40);
    const handshake = two.request(cookie);
    const session = (await handshake.get()) as Data;
    await visit(one, cookie, other => other.set('other', 1 as never));
    if (kind === 'login') await session.renew({ owner: user('ann') });
    await handshake.commit();
    expect(await handshake.attach()).toBeDefined();
  },
);

test('a handshake that is refused leaves nothing behind that asks the store', async () => {
  const store = new FaultyStore();
  const cluster = new Cluster(store);
  const [one, two] = [cluster.process(), cluster.process()];
  await Promise.all([one.manager.start(), two.manager.start()]);
  const { cookie } = await visit(one, undefined, session => session.set('cart', 3));
  const handshake = two.request(cookie);
  await handshake.get();
  await visit(one, cookie, session => session.renew({ owner: user('ann') }));
  expect(await handshake.attach()).toBeUndefined();
  handshake.release();
  let glances = 0;
  const glance = store.glance.bind(store);
  store.glance = sid => {
    glances++;
    return glance(sid);
  };
  for (let i = 0; i < 10; i++) {
    await cluster.clock.advance(6_000);
    await settle();
  }
  expect(glances).toBe(0);
});
