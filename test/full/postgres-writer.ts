/**
 * Commits in a loop and prints each commit once it is acknowledged, until it is killed; when a call fails it tries
 * again. Run by the crash tests of the postgres store.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { type PostgresOptions, PostgresStore } from '../../src/session/stores/postgres.ts';

const [options, writer, lanes] = process.argv.slice(2) as [string, string, string];
const store = await PostgresStore.open(JSON.parse(options) as PostgresOptions);
const header = { secretHash: 'hash', createdAt: Date.now(), idleTimeoutMs: 60_000 };

function record(value: Buffer) {
  const attributes = new Map([
    ['a', { value, version: 1 }],
    ['b', { value, version: 1 }],
  ]);
  return { header, version: 1, lastAccessedAt: Date.now(), attributes };
}

async function untilDone<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch {
      await wait(20);
    }
  }
}

await Promise.all(
  Array.from({ length: Number(lanes) }, async (_, lane) => {
    const sid = `${writer}-${lane}`;
    await untilDone(() => store.create(sid, record(Buffer.from('0'))));
    for (let round = 1; ; round++) {
      // Two attributes of one commit, one of them of several pages: both are there or neither.
      const value = Buffer.alloc(2_500, `${round} `);
      const set = new Map([
        ['a', value],
        ['b', Buffer.from(String(round))],
      ]);
      const { status } = await untilDone(() => store.commit(sid, { set, header: { idleTimeoutMs: 60_000 + round } }));
      process.stdout.write(`${status} ${sid} ${round}\n`);
      if (round % 10 > 0) continue;
      const other = `${sid}-${round}`;
      await untilDone(() => store.create(other, record(value)));
      process.stdout.write(`created ${other} ${round}\n`);
      if (round % 20 > 0) continue;
      await untilDone(() => store.delete(other));
      process.stdout.write(`deleted ${other} ${round}\n`);
    }
  }),
);
