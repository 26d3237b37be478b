import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openPostgres, type PgPoolLike } from '../../src/session/stores/postgres.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { type RaceProcess, startRaceProcess } from '../session/race-program.ts';
import { type Place, SHARED_PLACES, skipNote } from '../session/race-stores.ts';

const PROCESSES = 4;

describe.each(SHARED_PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'four processes on $title',
  ({ missing, open }) => {
    let place: Place;
    let processes: RaceProcess[] = [];
    beforeAll(async () => {
      if (missing) return;
      place = await open();
      // One first: it makes the schema.
      processes = [await startRaceProcess(place.address)];
      while (processes.length < PROCESSES) processes.push(await startRaceProcess(place.address));
    });
    afterAll(async () => {
      await Promise.all(processes.map(process => process.close()));
      await place?.close();
    });

    async function signIn(): Promise<Record<string, string>> {
      const answer = await fetch(new URL('/in', processes[0]!.url));
      return { cookie: answer.headers.getSetCookie()[0]!.split(';')[0]! };
    }

    const update = async (index: number, headers: Record<string, string>) => {
      const answer = await fetch(new URL('/update', processes[index % PROCESSES]!.url), { headers });
      return { status: answer.status, count: Number(await answer.text()) };
    };

    test.skipIf(missing).each([8, 32, 200])('count each of %d updates at the same time once', async calls => {
      const headers = await signIn();
      const answers = await Promise.all(Array.from({ length: calls }, (_, index) => update(index, headers)));
      expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
      expect(answers.map(({ count }) => count).sort((a, b) => a - b)).toEqual(
        Array.from({ length: calls }, (_, index) => index + 1),
      );
    });

    test.skipIf(missing)('come through beside three that update in a loop', async () => {
      const headers = await signIn();
      const at = (index: number, path: string) =>
        fetch(new URL(`${path}?gate=loop`, processes[index]!.url), { headers });
      const loops = [1, 2, 3].map(async index => Number(await (await at(index, '/loop')).text()));
      for (const index of [1, 2, 3]) await at(index, '/reached');
      const answers = [];
      for (let count = 0; count < 20; count++) answers.push(await update(0, headers));
      for (const index of [1, 2, 3]) await at(index, '/go');
      const total = (await Promise.all(loops)).reduce((sum, count) => sum + count, answers.length);
      expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
      expect((await update(0, headers)).count).toBe(total + 1);
    });
  },
);

test.skipIf(postgresMissing)('a PostgreSQL whose transactions are serializable counts each of 64 at once', async () => {
  const server = await startPostgres();
  const pool = new pg.Pool({
    connectionString: server.url,
    max: 16,
    options: '-c default_transaction_isolation=serializable',
  });
  const { ledger, close } = await openPostgres({ pool: pool as PgPoolLike });
  const sums = await Promise.all(Array.from({ length: 64 }, () => ledger.increment('n', 1, 60_000)));
  expect(sums.sort((a, b) => a - b)).toEqual(Array.from({ length: 64 }, (_, index) => index + 1));
  await close();
  await pool.end();
  await server.stop();
});
