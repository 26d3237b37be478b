import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { LmdbStore } from '../../../src/session/stores/lmdb.ts';
import { storeConformance } from '../../../src/testing/store-conformance.ts';

const folders: string[] = [];
async function createFolder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-lmdb-'));
  folders.push(path);
  return path;
}
afterAll(() => Promise.all(folders.map(path => rm(path, { recursive: true }))));

const NOW = Date.UTC(2026, 0, 1);
const HEADER = { secretHash: 'hash', createdAt: NOW, idleTimeoutMs: 1_000 };

function record(value = 'x') {
  const attributes = new Map([['a', { value: Buffer.from(value), version: 1 }]]);
  return { header: HEADER, version: 1, lastAccessedAt: NOW, attributes };
}

storeConformance('lmdb', async () => new LmdbStore({ path: await createFolder() }), { describe, test });

describe('lmdb store', () => {
  test('finds everything again after it was closed', async () => {
    const path = await createFolder();
    const before = new LmdbStore({ path });
    await before.create('s1', record());
    await before.commit('s1', {
      set: new Map([['b', Buffer.from('y')]]),
      header: { owner: { name: 'ann', roles: [] } },
    });
    const written = await before.read('s1');
    await before.close();
    const after = new LmdbStore({ path });
    expect(await after.read('s1')).toEqual(written);
    expect(await after.expired(NOW + 2_000, 10)).toEqual(['s1']);
    await after.close();
  });

  test('makes a folder and files that only their owner can read', async () => {
    const path = join(await createFolder(), 'deep', 'sessions');
    const store = new LmdbStore({ path });
    for (const file of ['.', 'data.mdb', 'lock.mdb']) expect((await stat(join(path, file))).mode & 0o077, file).toBe(0);
    await store.close();
  });

  test.skipIf(process.platform === 'win32')('that cannot write any more says so and goes on reading', async () => {
    const program = `
      import { LmdbStore } from ${JSON.stringify(import.meta.resolve('../../../src/session/stores/lmdb.ts'))};
      const store = new LmdbStore({ path: process.argv[1] });
      const value = Buffer.alloc(100_000);
      const create = sid => store.create(sid, { header: ${JSON.stringify(HEADER)}, version: 1, lastAccessedAt: 1, attributes: new Map([['a', { value, version: 1 }]]) });
      await create('s0');
      const results = await Promise.allSettled(Array.from({ length: 100 }, (_, i) => create('s' + (i + 1))));
      await new Promise(resolve => setImmediate(resolve));
      console.log(results.at(-1).status, (await store.read('s0')).attributes.get('a').value.length);
      await store.close();
    `;
    // A limit on the size of files fails as a full disk does, and needs no rights.
    const limited = `trap '' XFSZ; ulimit -f 4096; exec "$0" --input-type=module --eval "$1" "$2"`;
    const path = join(await createFolder(), 'sessions');
    const child = spawn('sh', ['-c', limited, process.execPath, program, path], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    expect([output, code]).toEqual(['rejected 100000\n', 0]);
  });

  test('that cannot be opened says which folder', async () => {
    const path = join(await createFolder(), 'a-file');
    await writeFile(path, '');
    expect(() => new LmdbStore({ path })).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_STORE_UNAVAILABLE', message: expect.stringContaining(path) }),
    );
  });

  test('forgets the index entries of sessions that were deleted or touched, as time passes', async () => {
    const store = new LmdbStore({ path: await createFolder() });
    for (let index = 0; index < 50; index++) await store.create(`s${index}`, record());
    for (let index = 0; index < 25; index++) await store.delete(`s${index}`);
    await store.touch(new Map(Array.from({ length: 25 }, (_, index) => [`s${index + 25}`, NOW + 5_000])));
    expect(await store.expired(NOW + 2_000, 10)).toEqual([]);
    expect(await store.expired(NOW + 6_000, 100)).toHaveLength(25);
    await store.close();
  });
});

describe('lmdb store shared by processes', () => {
  async function start(path: string, worker: string): Promise<{ kill(): Promise<string[]>; lines: string[] }> {
    const script = fileURLToPath(new URL('commit-loop.ts', import.meta.url));
    const child = spawn(process.execPath, ['-C', 'holdfast-source', script, path, worker], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines: string[] = [];
    const reader = createInterface(child.stdout).on('line', line => lines.push(line));
    const ended = once(reader, 'close');
    return {
      lines,
      async kill() {
        child.kill('SIGKILL');
        await ended;
        return lines;
      },
    };
  }

  test('holds everything that was acknowledged when its writers are killed with -9, and goes on', async () => {
    const path = await createFolder();
    const survivor = new LmdbStore({ path });
    for (let round = 0; round < 3; round++) {
      const writers = await Promise.all([start(path, `r${round}-a`), start(path, `r${round}-b`)]);
      await expect
        .poll(() => Math.min(...writers.map(({ lines }) => lines.length)), { timeout: 15_000 })
        .toBeGreaterThan(60);
      const lines = (await Promise.all(writers.map(writer => writer.kill()))).flat();

      // A store that was open all the time and one opened after the crash see the same.
      const reopened = new LmdbStore({ path });
      for (const store of [survivor, reopened]) {
        for (const line of lines) {
          const [event, sid] = line.split(' ') as [string, string];
          const found = await store.read(sid);
          const sizes = Array.from(found?.attributes ?? [], ([name, { value }]) => `${name} ${value.length}`);
          if (event === 'created') expect(sizes, line).toContain('a 2000');
          if (event === 'committed') expect(sizes, line).toEqual(['a 2000', 'b 2000']);
          if (event === 'deleted') expect(found, line).toBeUndefined();
        }
        expect(await store.create(`after-${round}-${Math.random()}`, record())).toBe(true);
      }
      await reopened.close();
    }
    await survivor.close();
  });
});
