import { hostname } from 'node:os';
import { expect, test } from 'vitest';
import type { StatisticsOfAll } from '../../src/session/reports/statistics-of-all.ts';
import { startRaceProcess } from '../session/race-program.ts';
import { SHARED_PLACES, skipNote } from '../session/race-stores.ts';

for (const place of SHARED_PLACES)
  test.skipIf(place.missing)(
    `processes of one machine that share ${place.name} have one sum, without those that were killed${skipNote(place)}`,
    async () => {
      const { address, close } = await place.open();
      const processes = [await startRaceProcess(address)];
      while (processes.length < 3) processes.push(await startRaceProcess(address));
      const ask = (index: number, path: string) => fetch(new URL(path, processes[index]!.url));
      const all = async (index: number) => (await (await ask(index, '/statistics-of-all')).json()) as StatisticsOfAll;
      for (const [index, visits] of [1, 2, 3].entries()) for (let n = 0; n < visits; n++) await ask(index, '/in');
      const seen = await all(1);
      expect(seen.isComplete).toBe(true);
      expect(seen.sum.created).toBe(6);
      expect(seen.processes.map(({ statistics }) => statistics.created).sort()).toEqual([1, 2, 3]);
      expect(seen.processes[0]!.statistics.created).toBe(2);
      expect(new Set(seen.processes.map(({ pid }) => pid)).size).toBe(3);
      expect(seen.machines.map(({ host, processes }) => [host, processes])).toEqual([[hostname(), 3]]);
      await processes.splice(2, 1)[0]!.kill();
      const first = await all(1);
      expect([first.processes.length, first.sum.created, first.isComplete]).toEqual([2, 3, false]);
      expect((await all(1)).isComplete).toBe(true);
      expect((await all(0)).sum.created).toBe(3);
      for (const process of processes) await process.close();
      await close();
    },
  );
