import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const CONNECTIONS = 5_000;
const STALLED = 50;
const PUBLICATIONS = 120;
/** Of them: while these go out, code is still compiled. They are not measured. */
const WARM_UP = 20;
const EVERY_MS = 50;
const ROUNDS = 2;

interface Run {
  /** Milliseconds from the publication to the last client that reads. */
  readonly delays: number[];
  /** For each client that reads: in how many publications it was in the last percent. */
  readonly timesLate: number[];
  /** The client that was last, for each publication. */
  readonly last: number[];
}

const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill();
});

function start(name: string, ...args: (string | number)[]): ChildProcess {
  const child = fork(fileURLToPath(new URL(name, import.meta.url)), args.map(String), {
    execArgv: ['-C', 'holdfast-source'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

async function message<T>(child: ChildProcess): Promise<T> {
  const failed = once(child, 'exit').then(() => {
    throw new Error('a process of the measurement ended early');
  });
  failed.catch(() => {});
  return (await Promise.race([once(child, 'message'), failed]))[0] as T;
}

/** One server and its crowd. */
async function run(stalled: number): Promise<Run> {
  const server = start('fairness-server.ts');
  const { url } = await message<{ url: string }>(server);
  const crowd = start('fairness-crowd.ts', url, CONNECTIONS - stalled, stalled, PUBLICATIONS);
  await message(crowd);
  const reported = message<{ completeAt: number[]; last: number[]; timesLate: number[] }>(crowd);
  server.send({ publish: PUBLICATIONS, every: EVERY_MS });
  const published = await message<{ publishedAt: number[]; sent: number; stalled: number }>(server);
  const { completeAt, last, timesLate } = await reported;
  // Otherwise this would measure something else than it says.
  expect(published.sent).toBe(CONNECTIONS * PUBLICATIONS);
  expect(published.stalled).toBe(stalled);
  const gone = [crowd, server].map(child => once(child, 'exit'));
  for (const child of [crowd, server]) child.disconnect();
  await Promise.all(gone);
  const delays = completeAt.map((at, i) => at - published.publishedAt[i]!).slice(WARM_UP);
  return { delays, timesLate, last };
}

function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * share) - 1]!;
}

async function compare(): Promise<{ ratio: number; runs: Run[] }> {
  const all: Run[] = [];
  const some: Run[] = [];
  // In turns, so that whatever else the machine does meets both.
  for (let round = 0; round < ROUNDS; round++) {
    all.push(await run(0));
    some.push(await run(STALLED));
  }
  const runs = [...all, ...some];
  const ratio = undisturbed(some, 0.99) / undisturbed(all, 0.99);
  const figures = (of: Run[]) =>
    `p50 ${undisturbed(of, 0.5).toFixed(1)} ms, p99 ${undisturbed(of, 0.99).toFixed(1)} ms`;
  const latest = Math.max(...runs.map(({ last }) => mostFrequent(last) / PUBLICATIONS));
  const late = Math.max(...runs.map(({ timesLate }) => Math.max(...timesLate) / PUBLICATIONS));
  console.log(
    [
      `publish to the last of ${CONNECTIONS} clients that read: ${figures(all)}`,
      `with ${STALLED} of them that do not: ${figures(some)}, p99 ${ratio.toFixed(2)} times`,
      `the same client last in at most ${percent(latest)}, in the last percent in at most ${percent(late)} of the publications of a run`,
    ].join('\n'),
  );
  return { ratio, runs };
}

/** What the run says that the rest of the machine has disturbed least. */
function undisturbed(runs: Run[], share: number): number {
  return Math.min(...runs.map(({ delays }) => percentile(delays, share)));
}

const percent = (share: number) => `${Math.round(share * 100)} %`;

function mostFrequent(values: number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return Math.max(...counts.values());
}

test('a publication to 5,000 reaches the last reader as soon when 50 do not read, and nobody is always last', async () => {
  let best = Number.POSITIVE_INFINITY;
  // Other work on the machine can only make a ratio worse: one good comparison of six is enough.
  for (let attempt = 0; attempt < 6 && best > 1.5; attempt++) {
    const { ratio, runs } = await compare();
    best = Math.min(best, ratio);
    for (const { timesLate, last } of runs) {
      expect(mostFrequent(last)).toBeLessThan(PUBLICATIONS / 4);
      expect(Math.max(...timesLate)).toBeLessThan(PUBLICATIONS / 2);
    }
  }
  expect(best).toBeLessThanOrEqual(1.5);
});
