import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const program = fileURLToPath(new URL('./type-deployment-process.ts', import.meta.url));
const releases: Release[] = [];
let folder: string;

/** A process that runs one release of the application. */
class Release {
  readonly #process: ChildProcess;

  constructor(release: 'old' | 'new') {
    this.#process = fork(program, [folder, release], { execArgv: ['-C', 'holdfast-source'] });
    releases.push(this);
  }

  async ask(step: string, sid?: string): Promise<unknown> {
    this.#process.send({ step, sid });
    const [message] = await Promise.race([
      once(this.#process, 'message'),
      once(this.#process, 'exit').then(([code]) => {
        throw new Error(`the process ended with ${code} at ${step}`);
      }),
    ]);
    return message.answer;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, 'exit');
    this.#process.send({ step: 'close' });
    const deadline = setTimeout(() => this.#process.kill('SIGKILL'), 5_000);
    await exit;
    clearTimeout(deadline);
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-deployment-'));
});
afterAll(async () => {
  await Promise.all(releases.map(release => release.stop()));
  await rm(folder, { recursive: true });
});

test('a release that lacks a class serves sessions that hold it, and loses nothing of them', async () => {
  const before = new Release('old');
  const after = new Release('new');
  const sid = (await after.ask('open')) as string;
  await after.ask('setPrice', sid);
  expect(await after.ask('getPrice', sid)).toBe('5 EUR');

  const unknown = { code: 'ERR_SESSION_TYPE_UNKNOWN', attribute: 'price', type: 'Money', isOwn: true };
  expect(await before.ask('getPrice', sid)).toEqual(unknown);
  expect(await before.ask('names', sid)).toEqual([true, 'price', 'visits']);
  expect(await before.ask('unknownTypes', sid)).toBe(1);

  expect(await before.ask('getVisits', sid)).toBe(1);
  await before.ask('setVisits', sid);
  expect(await before.ask('updateVisits', sid)).toBe(3);
  expect(await before.ask('updatePrice', sid)).toEqual(unknown);

  expect(await after.ask('getVisits', sid)).toBe(3);
  expect(await after.ask('getPrice', sid)).toBe('5 EUR');
  expect(await after.ask('unknownTypes', sid)).toBe(0);

  await before.ask('deletePrice', sid);
  expect(await after.ask('names', sid)).toEqual([false, 'visits']);
});
