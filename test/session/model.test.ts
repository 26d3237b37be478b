import { expect, test } from 'vitest';
import { Cluster } from './cluster.ts';
import { FaultyStore } from './fixture.ts';
import { runModel } from './model.ts';

test.each(Array.from({ length: 40 }, (_, index) => index + 1))(
  'interleaved requests of several clients on two processes do what the model says (seed %i)',
  async seed => {
    const cluster = new Cluster(new FaultyStore(), { cacheSessions: seed % 3 === 0 ? 2 : 10_000 });
    const counts = await runModel(() => [cluster.process().manager, cluster.process().manager], seed, 400);
    expect(Object.keys(counts).sort()).toEqual([
      'begin',
      'commit',
      'invalidate',
      'read',
      'renew',
      'replay',
      'set',
      'update',
    ]);
  },
);
