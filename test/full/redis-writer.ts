/**
 * Commits to a hundred sessions, 32 at a time, and prints each commit once it is acknowledged. Run by the crash tests
 * of the redis store.
 */
import { RedisStore } from '../../src/session/stores/redis.ts';

const SESSIONS = 100;
const LANES = 32;

const [url, commits] = process.argv.slice(2) as [string, string];
const store = await RedisStore.open(url);
const record = (sid: string) => ({
  header: { secretHash: '0', createdAt: 0, idleTimeoutMs: 3_600_000, owner: { name: sid, roles: [] } },
  version: 1,
  lastAccessedAt: Date.now(),
  attributes: new Map(),
});
const sids = Array.from({ length: SESSIONS }, (_, index) => `s${index}`);
await Promise.all(sids.map(sid => store.create(sid, record(sid))));

const filler = 'x'.repeat(500);
await Promise.all(
  Array.from({ length: LANES }, async (_, lane) => {
    // Each session belongs to one lane, so its commits follow each other.
    for (let round = 0; round * LANES < Number(commits); round++) {
      const own = sids.filter((_, index) => index % LANES === lane);
      const sid = own[round % own.length]!;
      const count = String(Math.floor(round / own.length) + 1);
      const value = Buffer.from(`${count} ${filler}`);
      const set = new Map([
        ['a', value],
        ['b', value],
      ]);
      const result = await store.commit(sid, { header: { secretHash: count }, set });
      if (result.status === 'committed') process.stdout.write(`${sid} ${count}\n`);
    }
  }),
);
process.stdout.write('done\n');
await store.close();
