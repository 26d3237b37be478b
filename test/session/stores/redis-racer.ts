/**
 * Races against another process on the same sessions, as told by its parent, and reports what it won. Run by the tests
 * of the redis store.
 */
import { RedisStore } from '../../../src/session/stores/redis.ts';

const [url, prefix, name] = process.argv.slice(2) as [string, string, string];
const store = await RedisStore.open(url, { prefix });

const record = (sid: string) => ({
  header: { secretHash: sid, createdAt: 0, idleTimeoutMs: 60_000 },
  version: 1,
  lastAccessedAt: Date.now(),
  attributes: new Map(),
});

async function increment(sid: string): Promise<void> {
  for (;;) {
    const before = (await store.read(sid))!.attributes.get('n');
    const value = Buffer.from(String(Number(before?.value.toString() ?? 0) + 1));
    const expected = new Map([['n', before?.version ?? 0]]);
    if ((await store.commit(sid, { set: new Map([['n', value]]), expected })).status === 'committed') return;
  }
}

process.once('message', async ({ sids, rounds }: { sids: string[]; rounds: number }) => {
  const created = await Promise.all(sids.map(sid => store.create(sid, record(sid))));
  for (let round = 0; round < rounds; round++) {
    await increment('shared');
    await store.commit('shared', { set: new Map([[`${name}-${round}`, Buffer.from(name)]]) });
  }
  const deleted = await Promise.all(sids.map(sid => store.delete(sid)));
  process.send!({ created, deleted });
  await store.close();
  process.disconnect?.();
});
process.send!('ready');
