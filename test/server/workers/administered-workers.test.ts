import { describe, expect, test } from 'vitest';
import type { Configuration } from '../../../src/admin/shapes.ts';
import { HoldfastError } from '../../../src/base/errors.ts';
import {
  AdministeredWorkers,
  type AskedWorker,
  type SupervisorOperations,
} from '../../../src/server/workers/administered-workers.ts';
import { Link, type LinkMessage } from '../../../src/server/workers/link.ts';

interface WorkerSettings {
  readonly number: number;
  readonly isLeaving?: boolean;
  /** How long it takes until it answers. */
  readonly ms?: number;
  readonly fails?: boolean;
}

/** A worker that answers the configuration `{ from: number }`. */
function worker({ number, isLeaving = false, ms = 0, fails = false }: WorkerSettings): AskedWorker {
  const methods = {
    async administer(method: string) {
      await new Promise(resolve => setTimeout(resolve, ms));
      if (fails) throw new HoldfastError('ERR_SERVER_STATE', `worker ${number} has ended`);
      return method === 'configuration' ? { from: number } : {};
    },
  };
  const near: Link = new Link(message => far.receive(message as LinkMessage), {});
  const far: Link = new Link(message => near.receive(message as LinkMessage), methods);
  return { number, isLeaving, link: near };
}

function configurationOf(...settings: WorkerSettings[]): Promise<Configuration> {
  const workers = settings.map(worker);
  const supervisor: Pick<SupervisorOperations, 'workers'> = { workers: () => workers };
  return new AdministeredWorkers(supervisor as SupervisorOperations).configuration();
}

describe('what one worker is asked for all', () => {
  test('comes from a worker that stays, even if one that is about to end answers sooner', async () => {
    const answer = configurationOf({ number: 2, ms: 50 }, { number: 1, isLeaving: true });
    expect(await answer).toEqual({ from: 2 });
  });

  test('comes from the worker that answers first of those that stay', async () => {
    expect(await configurationOf({ number: 1, ms: 50 }, { number: 2 })).toEqual({ from: 2 });
  });

  test('comes from a worker that is about to end when no other answers', async () => {
    expect(await configurationOf({ number: 2, fails: true }, { number: 1, isLeaving: true })).toEqual({ from: 1 });
    expect(await configurationOf({ number: 1, isLeaving: true })).toEqual({ from: 1 });
  });

  test('is the error of a worker that stays when none answers', async () => {
    const answer = configurationOf({ number: 2, fails: true }, { number: 1, isLeaving: true, fails: true });
    await expect(answer).rejects.toThrow('worker 2 has ended');
  });
});
