import { expect, test } from 'vitest';
import { Cluster, type Data, settle, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

/** Two sockets of one session, and a store that commits nothing any more. */
async function sockets() {
  const store = new FaultyStore();
  const cluster = new Cluster(store);
  const process = cluster.process();
  await process.manager.start();
  const { cookie } = await visit(process, undefined, session => session.set('cart', 3));
  const socket = async () => {
    const binding = process.request(cookie);
    await binding.get();
    binding.markHeadersSent();
    const held = await binding.attach();
    binding.release();
    return held!;
  };
  const [one, other] = [await socket(), await socket()];
  const fail = async () => {
    store.failing.add('commit');
    (other.session as Data).set('cart', 4);
    for (let i = 0; i < 12; i++) {
      await settle();
      await cluster.clock.advance(1_000);
    }
  };
  return { one, other, fail };
}

test('a socket whose listener for errors is that of another one goes on hearing them when the other is gone', async () => {
  const { one, other, fail } = await sockets();
  const errors: Error[] = [];
  const listener = (error: Error) => void errors.push(error);
  one.onError(listener);
  other.onError(listener);
  await one.release();
  await fail();
  expect(errors).toHaveLength(1);
});

test('a listener for errors that throws disturbs neither the process nor the others', async () => {
  const { one, other, fail } = await sockets();
  const errors: Error[] = [];
  one.onError(() => {
    throw new Error('of the listener');
  });
  other.onError(error => void errors.push(error));
  await fail();
  expect(errors).toHaveLength(1);
});
