/**
 * Commits in a loop and prints each commit once it is acknowledged, until it is killed. Run by the tests of the lmdb
 * store.
 */
import { LmdbStore } from '../../../src/session/stores/lmdb.ts';

const [path, worker] = process.argv.slice(2) as [string, string];
const store = new LmdbStore({ path });
const header = { secretHash: 'hash', createdAt: Date.now(), idleTimeoutMs: 60_000 };

await Promise.all(
  Array.from({ length: 4 }, async (_, lane) => {
    for (let round = 0; ; round++) {
      const sid = `${worker}-${lane}-${round}`;
      const value = Buffer.alloc(2_000, round % 256);
      const record = {
        header,
        version: 1,
        lastAccessedAt: Date.now(),
        attributes: new Map([['a', { value, version: 1 }]]),
      };
      if (await store.create(sid, record)) process.stdout.write(`created ${sid}\n`);
      const result = await store.commit(sid, { set: new Map([['b', value]]) });
      if (result.status === 'committed') process.stdout.write(`committed ${sid}\n`);
      if (round % 3 > 0) continue;
      await store.create(`${sid}-doomed`, record);
      if (await store.delete(`${sid}-doomed`)) process.stdout.write(`deleted ${sid}-doomed\n`);
    }
  }),
);
