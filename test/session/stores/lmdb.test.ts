import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { open, type RootDatabase } from 'lmdb';
import { afterAll, describe, expect, test } from 'vitest';
import { LmdbLedger } from '../../../src/session/ledgers/lmdb.ts';
import type { SessionRecord, SessionStore } from '../../../src/session/store.ts';
import { Head } from '../../../src/session/stores/lmdb/head.ts';
import { joinKeys, keyOf } from '../../../src/session/stores/lmdb/keys.ts';
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

/** Values as text, with their versions. */
function textsOf(read: SessionRecord | undefined): Record<string, string> {
  const texts = Array.from(read!.attributes, ([name, { value, version }]) => [
    name,
    `${Buffer.from(value)} ${version}`,
  ]);
  return Object.fromEntries(texts);
}

const paths = new WeakMap<SessionStore, string>();
storeConformance(
  'lmdb',
  async () => {
    const path = await createFolder();
    const store = new LmdbStore({ path });
    paths.set(store, path);
    return store;
  },
  { describe, test },
  { openSecond: first => new LmdbStore({ path: paths.get(first)! }) },
);

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

describe('lmdb store and its folder', () => {
  const OPTIONS = { noSubdir: false, overlappingSync: false, encoding: 'binary', keyEncoding: 'binary' } as const;

  /** Changes the folder behind the back of the store. */
  async function alter(path: string, change: (root: RootDatabase) => unknown): Promise<void> {
    const root = open({ ...OPTIONS, path });
    await change(root);
    await root.close();
  }

  /** Entries for values that are not with the head of their record. */
  async function countValues(path: string): Promise<number> {
    let count = 0;
    await alter(path, root => {
      count = root.openDB({ name: 'values', ...OPTIONS }).getKeysCount({});
    });
    return count;
  }

  test('a folder of the first layout gets its index of owners once, and works on', async () => {
    const path = await createFolder();
    const before = new LmdbStore({ path });
    const created = Array.from({ length: 700 }, (_, index) => {
      const owner = { name: index % 2 ? 'ann' : '\ud800', roles: [] };
      return before.create(`s${index}`, { ...record(), ...(index % 7 && { header: { ...HEADER, owner } }) });
    });
    await Promise.all(created);
    const [ann, other] = [await before.sidsOf('ann'), await before.sidsOf('\ud800')];
    expect(ann).toHaveLength(300);
    await before.close();
    await alter(path, root => {
      for (const [name, useVersions] of [
        ['owners', false],
        ['meta', true],
      ] as const)
        root.openDB({ name, ...OPTIONS, useVersions }).dropSync();
    });
    const after = new LmdbStore({ path });
    expect(await after.sidsOf('ann')).toEqual(ann);
    expect(await after.sidsOf('\ud800')).toEqual(other);
    expect(await after.count()).toBe(700);
    await after.delete(ann[0]!);
    await after.close();
    const again = new LmdbStore({ path });
    expect(await again.sidsOf('ann')).toHaveLength(299);
    await again.close();
  });

  test('a record that layout 2 has written is read, changed and deleted like any other', async () => {
    const path = await createFolder();
    await new LmdbStore({ path }).close();
    const key = keyOf('s1');
    await alter(path, root => {
      const head = JSON.stringify(['s1', HEADER, [['a', 4], ['b', 2]]]); // biome-ignore format: a line of data
      root.openDB({ name: 'heads', ...OPTIONS, useVersions: true }).putSync(key, Buffer.from(head), 7);
      root.openDB({ name: 'accesses', ...OPTIONS, useVersions: true }).putSync(key, Buffer.alloc(0), NOW);
      const values = root.openDB({ name: 'values', ...OPTIONS });
      for (const name of ['a', 'b']) values.putSync(joinKeys(key, keyOf(name)), Buffer.from(name));
      root.openDB({ name: 'meta', ...OPTIONS, useVersions: true }).putSync(keyOf('layout'), Buffer.alloc(0), 2);
    });
    const store = new LmdbStore({ path });
    const before = await store.read('s1');
    expect(before).toMatchObject({ header: HEADER, version: 7, lastAccessedAt: NOW });
    expect(textsOf(before)).toEqual({ a: 'a 4', b: 'b 2' });
    const set = new Map([['a', Buffer.from('new')]]);
    expect(await store.commit('s1', { set, follows: 7 })).toMatchObject({ version: 8, previous: 7 });
    expect(textsOf(await store.read('s1'))).toEqual({ a: 'new 8', b: 'b 2' });
    expect(await store.delete('s1')).toBe(true);
    await store.close();
    expect(await countValues(path)).toBe(0);
  });

  test('a value may grow and shrink: it is an entry of its own while it is large, and leaves none behind', async () => {
    const path = await createFolder();
    const store = new LmdbStore({ path });
    const sizes = [1, 5_000, 256, 257, 0, 100_000];
    await store.create('s1', record());
    for (const size of sizes) {
      const values = ['a', 'b', 'ü\n"'].map(name => [name, Buffer.alloc(size, name)] as const);
      await store.commit('s1', { set: new Map(values) });
      const read = (await store.read('s1'))!.attributes;
      for (const [name, value] of values)
        expect(Buffer.compare(read.get(name)!.value, value), `${name} ${size}`).toBe(0);
    }
    // More small ones than one entry should hold.
    const many = Array.from({ length: 50 }, (_, index) => [`n${index}`, Buffer.alloc(100, `${index}`)] as const);
    await store.commit('s1', { set: new Map(many), deleted: new Set(['a']) });
    const all = (await store.read('s1'))!.attributes;
    expect(all.size).toBe(52);
    for (const [name, value] of many) expect(Buffer.compare(all.get(name)!.value, value), name).toBe(0);
    await store.commit('s1', { set: new Map([['b', Buffer.from('small')]]), deleted: new Set(all.keys()) });
    await store.close();
    expect(await countValues(path)).toBe(0);
  });

  test('a record of a version that has not said how long its larger values are is read without them all the same', async () => {
    const path = await createFolder();
    const before = new LmdbStore({ path });
    await before.create('s1', record());
    const set = new Map([
      ['report', Buffer.alloc(900_000, 'r')],
      ['photo', Buffer.alloc(300, 'p')],
    ]);
    await before.commit('s1', { set });
    await before.close();
    // As older versions write it: three lines.
    await alter(path, root => {
      const heads = root.openDB<Buffer, Buffer>({ name: 'heads', ...OPTIONS, useVersions: true });
      for (const { key, value, version } of heads.getRange({ versions: true })) {
        const bytes = Buffer.from(value);
        const end = 5 + bytes.readUInt32LE(1);
        const lines = bytes.toString('utf8', 5, end).split('\n');
        expect(lines).toHaveLength(4);
        const text = Buffer.from(lines.slice(0, 3).join('\n'));
        const head = Buffer.concat([bytes.subarray(0, 5), text, bytes.subarray(end)]);
        head.writeUInt32LE(text.length, 1);
        heads.putSync(Buffer.from(key), head, version!);
      }
    });
    const store = new LmdbStore({ path });
    const without = new Set(['report', 'photo', 'a']);
    const sizes = async () =>
      Object.fromEntries(Array.from((await store.read('s1', without))!.apart!, ([name, { bytes }]) => [name, bytes]));
    expect(await sizes()).toEqual({ a: 1, report: 900_000, photo: 300 });
    expect((await store.read('s1'))!.attributes.get('report')!.value).toHaveLength(900_000);
    await store.commit('s1', { set: new Map([['a', Buffer.from('2')]]) });
    // Each other value is looked at once for its length.
    const stored: (number | undefined)[] = [];
    await alter(path, root => {
      const heads = root.openDB<Buffer, Buffer>({ name: 'heads', ...OPTIONS, useVersions: true });
      for (const { value } of heads.getRange({}))
        for (const name of ['report', 'photo'])
          stored.push(Head.decode(Buffer.from(value)).attributes.get(name)?.bytes);
    });
    expect(stored).toEqual([900_000, 300]);
    await store.commit('s1', { set: new Map([['photo', Buffer.alloc(400, 'p')]]) });
    expect(await sizes()).toEqual({ a: 1, report: 900_000, photo: 400 });
    await store.close();
  });

  test('a folder of a newer layout is refused, and says what to do', async () => {
    const path = await createFolder();
    await new LmdbStore({ path }).close();
    await alter(path, root => {
      const meta = root.openDB({ name: 'meta', ...OPTIONS, useVersions: true });
      for (const key of Array.from(meta.getKeys() as Iterable<Buffer>, Buffer.from))
        meta.putSync(key, Buffer.alloc(0), 99);
    });
    for (const open of [() => new LmdbStore({ path }), () => new LmdbLedger({ path })]) {
      expect(open).toThrow(
        expect.objectContaining({
          code: 'ERR_SESSION_STORE_UNAVAILABLE',
          message: expect.stringMatching(/newer version \(layout 99; .* use another folder/),
        }),
      );
    }
  });

  test.each(['deleted', 'replaced'])(
    'a folder that is %s while it is open is noticed: nothing goes on in a file that is gone',
    async how => {
      const path = join(await createFolder(), 'sessions');
      const store = new LmdbStore({ path });
      await store.create('s1', record());
      await rm(path, { recursive: true });
      const other = how === 'replaced' ? new LmdbStore({ path }) : undefined;
      const unavailable = { code: 'ERR_SESSION_STORE_UNAVAILABLE', message: expect.stringContaining('restart') };
      await expect(store.expired(NOW, 10)).rejects.toMatchObject(unavailable);
      await expect(store.read('s1')).rejects.toMatchObject(unavailable);
      await expect(store.create('s2', record())).rejects.toMatchObject(unavailable);
      await expect(store.delete('s1')).rejects.toMatchObject(unavailable);
      expect(await other?.count()).toBe(other && 0);
      await store.close();
      await other?.close();
    },
  );

  test('without a look at what expired, a deleted folder is noticed within a second', async () => {
    const path = join(await createFolder(), 'sessions');
    const store = new LmdbStore({ path });
    await rm(path, { recursive: true });
    await expect.poll(() => store.count().catch(error => error.code)).toBe('ERR_SESSION_STORE_UNAVAILABLE');
    await store.close();
  });

  test('rejects what is called after it was closed', async () => {
    const store = new LmdbStore({ path: await createFolder() });
    const late = Promise.allSettled([store.commit('s1', {}), store.create('s1', record()), store.delete('s1')]);
    await store.close();
    await store.close();
    await late;
    for (const call of [() => store.read('s1'), () => store.create('s1', record()), () => store.commit('s1', {})])
      await expect(call()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
  });

  test('keeps the index entry of a session whose limit becomes shorter while its entry is corrected', async () => {
    const store = new LmdbStore({ path: await createFolder() });
    for (const isCommitFirst of [true, false]) {
      const sid = `s-${isCommitFirst}`;
      await store.create(sid, record());
      await store.touch(new Map([[sid, NOW + 500]])); // expires at 1,500; the entry says 1,000
      const calls = [() => store.commit(sid, { header: { idleTimeoutMs: 500 } }), () => store.expired(NOW + 1_200, 10)];
      await Promise.all((isCommitFirst ? calls : calls.reverse()).map(call => call()));
      expect(await store.expired(NOW + 1_000, 10)).toEqual([sid]);
      await store.delete(sid);
    }
    await store.close();
  });
});

describe('lmdb store shared by processes', () => {
  const importStore = `import { LmdbStore } from ${JSON.stringify(import.meta.resolve('../../../src/session/stores/lmdb.ts'))};`;
  const importLmdb = `import { open } from ${JSON.stringify(import.meta.resolve('lmdb'))};`;

  function run(program: string, path: string) {
    const args = ['-C', 'holdfast-source', '--input-type=module', '--eval', program, path];
    return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  }

  test('goes on when another process lets the file grow far beyond what was mapped', async () => {
    const path = await createFolder();
    const store = new LmdbStore({ path });
    await store.create('mine', record());
    const child = run(
      `${importStore}
      const store = new LmdbStore({ path: process.argv[1] });
      const value = Buffer.alloc(1024 * 1024, 7);
      for (let index = 0; index < 40; index++)
        await store.create('theirs-' + index, { header: ${JSON.stringify(HEADER)}, version: 1, lastAccessedAt: ${NOW}, attributes: new Map([['a', { value, version: 1 }]]) });
      await store.close();`,
      path,
    );
    const exit = once(child, 'exit');
    for (let round = 0; child.exitCode === null; round++) {
      await store.commit('mine', { set: new Map([['a', Buffer.from(String(round))]]) });
      await store.read(`theirs-${round % 40}`);
      await wait(5);
    }
    expect(await exit).toEqual([0, null]);
    for (let index = 0; index < 40; index++)
      expect((await store.read(`theirs-${index}`))!.attributes.get('a')!.value.at(-1)).toBe(7);
    expect(await store.create('after', record('x'.repeat(5_000_000)))).toBe(true);
    await store.close();
  });

  test('forgets what a process that was killed with -9 had open, at the next look at what expired', async () => {
    const path = await createFolder();
    const store = new LmdbStore({ path });
    await store.create('s1', record());
    const child = run(
      `${importLmdb}
      const root = open({ path: process.argv[1], noSubdir: false, overlappingSync: false, encoding: 'binary', keyEncoding: 'binary' });
      root.useReadTransaction();
      root.get(Buffer.from('x'));
      console.log('reading');
      setInterval(() => {}, 1_000);`,
      path,
    );
    await once(child.stdout, 'data');
    const root = open({ path, noSubdir: false, overlappingSync: false, encoding: 'binary', keyEncoding: 'binary' });
    expect(root.readerList()).toMatch(new RegExp(`\\b${child.pid}\\b`));
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(root.readerList()).toMatch(new RegExp(`\\b${child.pid}\\b`));
    await store.expired(NOW, 10);
    expect(root.readerList()).not.toMatch(new RegExp(`\\b${child.pid}\\b`));
    await root.close();
    await store.close();
  });

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
