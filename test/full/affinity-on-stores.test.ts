import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SessionStatistics } from '../../src/session/reports/statistics.ts';
import { type RaceProcess, startRaceProcess } from '../session/race-program.ts';
import { type Place, SHARED_PLACES, skipNote } from '../session/race-stores.ts';

const TURNS = 20;

describe.each(
  SHARED_PLACES.flatMap(place =>
    (['strict', 'relaxed'] as const).map(coherence => ({
      ...place,
      coherence,
      title: `${place.name} in ${coherence} coherence${skipNote(place)}`,
    })),
  ),
)('two processes that take turns on $title', ({ missing, open, coherence }) => {
  let place: Place;
  const processes: RaceProcess[] = [];
  beforeAll(async () => {
    if (missing) return;
    place = await open();
    for (let n = 0; n < 2; n++) processes.push(await startRaceProcess(place.address, { coherence }));
  });
  afterAll(async () => {
    await Promise.all(processes.splice(0).map(process => process.close()));
    await place?.close();
  });

  const ask = (index: number, path: string, headers: Record<string, string> = {}) =>
    fetch(new URL(path, processes[index % 2]!.url), { headers });
  const breaks = async () => {
    const all = [];
    for (const index of [0, 1]) all.push((await (await ask(index, '/statistics')).json()) as SessionStatistics);
    return all.map(({ affinityBreaks }) => affinityBreaks);
  };

  test.skipIf(missing).each([
    ['read', '/'],
    ['write', '/set?value=a'],
    ['update', '/update'],
    // The event takes longer, now and then, on a machine that has other work.
  ])(
    'to %s break affinity with each request, and one that stays alone with none',
    { retry: 2 },
    async (_what, path) => {
      const cookie = (await ask(0, '/in')).headers.getSetCookie()[0]!.split(';')[0]!;
      for (let n = 0; n < TURNS; n++) await ask(0, path, { cookie });
      const before = await breaks();
      for (let turn = 1; turn <= TURNS; turn++) {
        expect((await ask(turn, path, { cookie })).status).toBe(200);
        // In relaxed coherence an event says that the session is elsewhere.
        if (coherence === 'relaxed') await new Promise(resolve => setTimeout(resolve, 100));
      }
      expect((await breaks()).map((count, index) => count - before[index]!)).toEqual([TURNS / 2, TURNS / 2]);
      for (let n = 0; n < TURNS; n++) await ask(0, path, { cookie });
      expect((await breaks()).map((count, index) => count - before[index]!)).toEqual([TURNS / 2, TURNS / 2]);
    },
  );
});
