import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PostgresOptions, PostgresStore } from '../../src/session/stores/postgres.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';

const COMMITS = 10_000;
const LANES = 8;

/** A process that commits, and what it was told is done. */
function startWriter(options: PostgresOptions, name: string) {
  const script = fileURLToPath(new URL('postgres-writer.ts', import.meta.url));
  const parameters = ['-C', 'holdfast-source', script, JSON.stringify(options), name, String(LANES)];
  const child = spawn(process.execPath, parameters, { stdio: ['ignore', 'pipe', 'inherit'] });
  /** The last acknowledged commit of each session. */
  const committed = new Map<string, number>();
  const created = new Set<string>();
  const deleted = new Set<string>();
  let commits = 0;
  const reader = createInterface(child.stdout).on('line', line => {
    const [event, sid, round] = line.split(' ') as [string, string, string];
    if (event === 'created') created.add(sid);
    else if (event === 'deleted') deleted.add(sid);
    else {
      expect(event).toBe('committed');
      committed.set(sid, Number(round));
      commits++;
    }
  });
  const ended = once(reader, 'close');
  return {
    committed,
    created,
    deleted,
    get commits() {
      return commits;
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Everything acknowledged is there, and nothing is torn. */
async function check(store: PostgresStore, writer: ReturnType<typeof startWriter>): Promise<void> {
  for (const [sid, round] of writer.committed) {
    const { header, attributes } = (await store.read(sid))!;
    const found = Number(Buffer.from(attributes.get('b')!.value).toString());
    expect(found, sid).toBeGreaterThanOrEqual(round);
    expect(found, `${sid}: at most the one that was on its way`).toBeLessThanOrEqual(round + 1);
    expect(Buffer.from(attributes.get('a')!.value).equals(Buffer.alloc(2_500, `${found} `)), `${sid} is whole`).toBe(
      true,
    );
    expect(header.idleTimeoutMs).toBe(60_000 + found);
  }
  for (const sid of writer.created) {
    const found = await store.read(sid);
    if (writer.deleted.has(sid)) expect(found, sid).toBeUndefined();
    // One whose delete was on its way may be gone.
    else if (found) expect(found.attributes.size, sid).toBe(2);
    else expect(Number(sid.split('-').at(-1)) % 20, sid).toBe(0);
  }
}

describe.skipIf(postgresMissing)(`postgres${postgresMissing ? ` (skipped: ${postgresMissing})` : ''}`, () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({}); // synced to disk, as in production
  }, 60_000);
  afterAll(() => server?.stop());

  test('holds every acknowledged commit when the writing processes are killed with -9', {
    timeout: 180_000,
  }, async () => {
    const options = { url: server.url, schema: 'writers' };
    const survivor = await PostgresStore.open(options);
    let commits = 0;
    for (let round = 0; commits < COMMITS; round++) {
      const writer = startWriter(options, `w${round}`);
      await expect.poll(() => writer.commits, { timeout: 60_000 }).toBeGreaterThan(COMMITS / 4);
      await writer.kill();
      commits += writer.commits;
      await check(survivor, writer);
    }
    await survivor.close();
  });

  test('holds every acknowledged commit when the server is killed with -9', { timeout: 240_000 }, async () => {
    const options = { url: server.url, schema: 'servers', notify: true };
    const survivor = await PostgresStore.open(options);
    const feed = await survivor.watch!(() => {});
    const writer = startWriter(options, 'w');
    for (let round = 1; writer.commits < COMMITS; round++) {
      const { commits } = writer;
      await expect.poll(() => writer.commits, { timeout: 60_000 }).toBeGreaterThan(commits + COMMITS / 6);
      await server.kill();
      expect(feed.isCurrent).toBe(false);
      await server.start();
      await expect.poll(() => feed.isCurrent, { timeout: 5_000 }).toBe(true);
      expect(feed.gaps).toBeGreaterThanOrEqual(round);
    }
    await wait(200);
    await server.kill();
    await writer.kill();
    await server.start();
    await check(survivor, writer);
    await feed.close();
    await survivor.close();
  });
});
