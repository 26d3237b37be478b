/** One of several processes that change the same sessions. Run by the tests of the postgres store. */
import { once } from 'node:events';
import { type PostgresOptions, PostgresStore } from '../../../src/session/stores/postgres.ts';

const store = await PostgresStore.open(JSON.parse(process.argv[2]!) as PostgresOptions);
process.send!('ready');
const [{ updates, sids }] = (await once(process, 'message')) as [{ updates: number; sids: string[] }];

for (let done = 0; done < updates; ) {
  const before = (await store.read('counter'))!.attributes.get('n');
  const next = Number(before ? Buffer.from(before.value).toString() : 0) + 1;
  const result = await store.commit('counter', {
    set: new Map([['n', Buffer.from(String(next))]]),
    expected: new Map([['n', before?.version ?? 0]]),
  });
  if (result.status === 'committed') done++;
}

const deleted: string[] = [];
await Promise.all(sids.map(async sid => (await store.delete(sid)) && deleted.push(sid)));
await store.close();
process.send!({ deleted });
process.disconnect!();
