import { expect, test } from 'vitest';
import { Cluster, settle, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

test.each(['manual', { everyMs: 1_000 }] as const)(
  'a request whose client has gone, and that never ends, keeps no session under the write policy %j; what it changes is written',
  async write => {
    const cluster = new Cluster(new FaultyStore(), { write });
    const process = cluster.process();
    const { cookie, sid } = await visit(process, undefined, async session => {
      session.set('n', 1);
      await session.sync();
    });
    const binding = process.request(cookie);
    const session = (await binding.open()) as unknown as {
      set(name: string, value: unknown): void;
      sync(): Promise<void>;
    };
    expect(process.manager.statistics().activeNow).toBe(1);
    binding.markClientGone();
    binding.markClientGone();
    expect(process.manager.statistics().activeNow).toBe(0);
    await settle();
    // Nobody asks the store for it again and again, as is done for what is shared.
    const calls = cluster.store.calls.length;
    await cluster.clock.advance(20_000);
    expect(cluster.store.calls.slice(calls).filter(call => call === 'glance' || call === 'read')).toEqual([]);
    session.set('late', 2);
    if (write === 'manual') await session.sync();
    await settle();
    expect((await cluster.store.read(sid))?.attributes.has('late')).toBe(true);
    binding.release();
    expect(process.manager.statistics().activeNow).toBe(0);
  },
);
