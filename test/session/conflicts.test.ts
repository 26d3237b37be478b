import { describe, expect, test } from 'vitest';
import type { ConflictPolicy } from '../../src/session/record/write-policy.ts';
import { Cluster, type Data, type Process, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const CONFLICT = { code: 'ERR_SESSION_CONFLICT', status: 409 };

async function begin(conflicts: ConflictPolicy, options = {}) {
  const store = new FaultyStore();
  const cluster = new Cluster(store, { conflicts, ...options });
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie } = await visit(one, undefined, session => {
    session.set('a', [1]);
    session.set('b', [1]);
  });
  const open = async (process: Process) => {
    const binding = process.request(cookie);
    return { binding, session: (await binding.open()) as Data };
  };
  const read = async (name: string) => (await visit(two, cookie, session => session.get(name))).result;
  return { clock: cluster.clock, store, one, two, cookie, open, read };
}

describe('two requests that change', () => {
  test.each(['last-wins', 'reject', () => 'merged'] as const)(
    'different attributes never conflict (%s)',
    async policy => {
      const { one, two, open, read } = await begin(policy as ConflictPolicy);
      const [mine, theirs] = [await open(one), await open(two)];
      mine.session.set('a', 'mine');
      theirs.session.set('b', 'theirs');
      await theirs.binding.commit();
      await mine.binding.commit();
      expect([await read('a'), await read('b')]).toEqual(['mine', 'theirs']);
      expect(one.manager.statistics().conflicts).toBe(0);
    },
  );

  test('the same attribute: the last one wins', async () => {
    const { one, two, open, read } = await begin('last-wins');
    const [mine, theirs] = [await open(one), await open(two)];
    mine.session.set('a', 'mine');
    theirs.session.set('a', 'theirs');
    await theirs.binding.commit();
    await mine.binding.commit();
    expect(await read('a')).toBe('mine');
  });

  test('the same attribute: the second is rejected and writes nothing, and can do it again', async () => {
    const { one, two, open, read } = await begin('reject');
    const [mine, theirs] = [await open(one), await open(two)];
    mine.session.set('a', 'mine');
    mine.session.set('b', 'mine');
    theirs.session.set('a', 'theirs');
    await theirs.binding.commit();
    await expect(mine.binding.commit()).rejects.toMatchObject(CONFLICT);
    expect([await read('a'), await read('b')]).toEqual(['theirs', [1]]);
    expect(one.manager.statistics().conflicts).toBe(1);
    await mine.binding.commit(); // nothing is left
    expect(mine.session.get('a')).toBe('theirs');
    mine.session.set('a', 'mine after all');
    await mine.binding.commit();
    expect(await read('a')).toBe('mine after all');
  });

  test('the same attribute: a function merges them', async () => {
    const seen: unknown[] = [];
    const { one, two, open, read } = await begin(conflict => {
      seen.push(conflict);
      return [...(conflict.theirs as number[]), ...(conflict.mine as number[]).slice(1)];
    });
    const [mine, theirs] = [await open(one), await open(two)];
    mine.session.set('a', [1, 2]);
    mine.session.set('b', ['untouched by others']);
    theirs.session.set('a', [1, 3]);
    await theirs.binding.commit();
    await mine.binding.commit();
    expect(seen).toEqual([{ name: 'a', base: [1], mine: [1, 2], theirs: [1, 3] }]);
    expect([await read('a'), await read('b')]).toEqual([[1, 3, 2], ['untouched by others']]);
    expect(mine.session.get('a')).toEqual([1, 3, 2]);
  });

  test('an attribute that the other has deleted, or both have made', async () => {
    const { one, two, open, read } = await begin(({ base, mine, theirs }) => [base, mine, theirs].map(v => v ?? null));
    const [mine, theirs] = [await open(one), await open(two)];
    mine.session.set('a', 'mine');
    mine.session.set('new', 'mine');
    theirs.session.delete('a');
    theirs.session.set('new', 'theirs');
    await theirs.binding.commit();
    await mine.binding.commit();
    expect([await read('a'), await read('new')]).toEqual([
      [[1], 'mine', null],
      [null, 'mine', 'theirs'],
    ]);
  });

  test('the same attribute again and again: the merge gives up when the time of its store is over', async () => {
    let merges = 0;
    const { clock, store, one, two, cookie, open } = await begin(({ mine }) => {
      merges++;
      return mine;
    });
    const mine = await open(one);
    mine.session.set('a', 'mine');
    const { commit } = store;
    let isTheirs = false;
    store.commit = async (...args) => {
      if (!isTheirs) {
        isTheirs = true;
        await visit(two, cookie, session => session.update('a', () => Math.random()));
        isTheirs = false;
      }
      return commit(...args);
    };
    const refused = expect(mine.binding.commit()).rejects.toMatchObject(CONFLICT);
    for (let ms = 0; ms <= 5_000; ms += 50) await clock.advance(50);
    await refused;
    expect(merges).toBeGreaterThan(8);
  });
});

describe('a commit does not conflict', () => {
  test('with the one before it of the same request', async () => {
    const { one, open, read } = await begin('reject');
    const { binding, session } = await open(one);
    session.set('a', 1);
    const first = binding.commit();
    session.set('a', 2);
    await first;
    session.set('a', 3);
    const second = binding.commit();
    session.delete('a');
    await second;
    session.set('a', 4);
    await binding.commit();
    expect(await read('a')).toBe(4);
    await session.update('a', a => (a as number) + 1);
    session.set('a', (session.get('a') as number) + 1);
    await binding.commit();
    expect([await read('a'), one.manager.statistics().conflicts]).toEqual([6, 0]);
  });

  test.each(['get-and-set', 'all'])('with others over what it has only read, nor undoes them (%s)', async contents => {
    const { one, two, open, read } = await begin('reject', { contents });
    const [mine, theirs] = [await open(one), await open(two)];
    mine.session.get('a');
    mine.session.set('b', 'mine');
    theirs.session.set('a', 'theirs');
    await theirs.binding.commit();
    await mine.binding.commit();
    expect([await read('a'), await read('b')]).toEqual(['theirs', 'mine']);
  });
});

test.each(['last-wins', 'reject', () => 'merged'])(
  'no policy writes into a session that is gone (%s)',
  async policy => {
    const { store, one, two, open } = await begin(policy as ConflictPolicy);
    const [mine, theirs] = [await open(one), await open(two)];
    mine.session.set('a', 'mine');
    await theirs.session.invalidate();
    await expect(mine.binding.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
    expect(await store.count()).toBe(0);
  },
);

test('syncs, renewals and commits at once run one after the other', async () => {
  const { one, open, read } = await begin('reject');
  const { binding, session } = await open(one);
  for (let n = 0; n < 10; n++) {
    session.set('a', n);
    const first = session.sync();
    session.set('b', n);
    const second = session.sync();
    const third = session.renew();
    session.set('a', `${n} again`);
    await Promise.all([first, second, third, binding.commit()]);
  }
  expect([await read('a'), await read('b')].every(value => value === undefined)).toBe(true); // the secret is another now
  expect([session.get('a'), session.get('b')]).toEqual(['9 again', 9]);
});
