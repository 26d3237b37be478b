import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { open } from 'lmdb';
import { afterAll, describe, expect, test } from 'vitest';
import { LmdbLedger } from '../../../src/session/ledgers/lmdb.ts';
import { LmdbStore } from '../../../src/session/stores/lmdb.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { ledgerConformance } from '../../../src/testing/ledger-conformance.ts';
import type { PeerCommand, PeerReport } from './lmdb-peer.ts';

const folders: string[] = [];
const peers: ChildProcess[] = [];
async function createFolder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-lmdb-ledger-'));
  folders.push(path);
  return path;
}
afterAll(async () => {
  for (const peer of peers) peer.kill('SIGKILL');
  await Promise.all(folders.map(path => rm(path, { recursive: true, force: true })));
});

ledgerConformance(
  'lmdb',
  async () => {
    const clock = new FakeClock();
    const path = await createFolder();
    const [ledger, second] = [new LmdbLedger({ path, clock }), new LmdbLedger({ path, clock })];
    return { ledger, second, advance: ms => clock.advance(ms) };
  },
  { describe, test },
);

/** How many entries a sub-database has. */
async function countEntries(path: string, name: string): Promise<number> {
  const root = open({ path, noSubdir: false, overlappingSync: false, encoding: 'binary', keyEncoding: 'binary' });
  const database = root.openDB({ name, encoding: 'binary', keyEncoding: 'binary', useVersions: name === 'facts' });
  const { entryCount } = database.getStats() as { entryCount: number };
  await root.close();
  return entryCount;
}

describe('lmdb ledger', () => {
  test('finds its facts again after it was closed, with the time they had left', async () => {
    const clock = new FakeClock();
    const path = await createFolder();
    const before = new LmdbLedger({ path, clock });
    await before.putIfAbsent('k', 'value', 5_000);
    await before.increment('n', 3, 5_000);
    await before.close();
    await clock.advance(4_000);
    const after = new LmdbLedger({ path, clock });
    expect(await after.get('k')).toBe('value');
    expect(await after.increment('n', 1, 5_000)).toBe(4);
    await clock.advance(1_000);
    expect(await after.get('k')).toBeUndefined();
    expect(await after.increment('n', 1, 5_000)).toBe(1);
    await after.close();
  });

  test('removes facts whose time is over from the disk', async () => {
    const clock = new FakeClock();
    const path = await createFolder();
    const ledger = new LmdbLedger({ path, clock });
    await Promise.all(Array.from({ length: 1_000 }, (_, index) => ledger.putIfAbsent(`k${index}`, 'v', 500)));
    await Promise.all(Array.from({ length: 20 }, (_, index) => ledger.increment(`n${index}`, 1, 500)));
    expect(await countEntries(path, 'facts')).toBe(1_020);
    await clock.advance(2_000);
    await ledger.putIfAbsent('other', 'v', 500);
    await expect.poll(() => countEntries(path, 'facts')).toBe(1);
    await expect.poll(() => countEntries(path, 'fact-expiries')).toBe(1);
    await ledger.take('other');
    expect(await countEntries(path, 'facts')).toBe(0);
    expect(await countEntries(path, 'fact-expiries')).toBe(0);
    await ledger.close();
  });

  test('removes events that are older than a minute, some with each new one', async () => {
    const clock = new FakeClock();
    const path = await createFolder();
    const ledger = new LmdbLedger({ path, clock });
    await Promise.all(Array.from({ length: 500 }, (_, index) => ledger.publish('c', String(index))));
    await clock.advance(59_000);
    await ledger.publish('c', 'young');
    expect(await countEntries(path, 'events')).toBe(501);
    await clock.advance(2_000);
    for (let index = 0; index < 100; index++) await ledger.publish('c', String(index));
    expect(await countEntries(path, 'events')).toBe(101);
    await ledger.close();
  });

  test('shares a folder with a store; each goes on when the other is closed', async () => {
    const path = await createFolder();
    const [store, ledger] = [new LmdbStore({ path }), new LmdbLedger({ path })];
    const record = { header: { secretHash: 'x', createdAt: 0 }, version: 1, lastAccessedAt: 0, attributes: new Map() };
    const [isCreated, isPut] = await Promise.all([store.create('s', record), ledger.putIfAbsent('s', 'v', 60_000)]);
    expect([isCreated, isPut]).toEqual([true, true]);
    await store.close();
    expect(await ledger.take('s')).toBe('v');
    const again = new LmdbStore({ path });
    await ledger.close();
    expect(await again.count()).toBe(1);
    await again.close();
  });

  test('rejects what is called after it was closed', async () => {
    const ledger = new LmdbLedger({ path: await createFolder() });
    const late = ledger.increment('n', 1, 60_000).catch(error => error.code);
    await ledger.close();
    await ledger.close();
    const calls = [
      () => ledger.putIfAbsent('k', 'v', 60_000),
      () => ledger.get('k'),
      () => ledger.take('k'),
      () => ledger.increment('n', 1, 60_000),
      () => ledger.publish('c', 'm'),
      () => ledger.subscribe('c', () => {}),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    expect(await late).toBe('ERR_SESSION_STORE_UNAVAILABLE');
  });

  test('looks for events from time to time, and soon often, when no ring of the doorbell arrives', async () => {
    const clock = new FakeClock();
    const path = await createFolder();
    const listening = new LmdbLedger({ path, clock });
    const heard: string[] = [];
    await listening.subscribe('c', message => heard.push(message));
    expect((await stat(join(path, 'doorbell'))).mode & 0o077).toBe(0);
    await rm(join(path, 'doorbell')); // what rings now is another file
    const publishing = new LmdbLedger({ path, clock });
    await wait(20);
    for (const message of ['1', '2', '3']) {
      await publishing.publish('c', message);
      // Nothing arrives meanwhile.
      await wait(20);
      expect(heard).not.toContain(message);
      await clock.advance(1_000);
      expect(heard).toContain(message);
    }
    await publishing.publish('c', '4');
    await clock.advance(50);
    expect(heard).toEqual(['1', '2', '3', '4']);
    await listening.close();
    await publishing.close();
    expect(clock.pending).toBe(0);
  });

  test('looks often when there can be no doorbell', async () => {
    const clock = new FakeClock();
    const path = await createFolder();
    await mkdir(join(path, 'doorbell')); // no file, so nothing can be written or watched
    const [listening, publishing] = [new LmdbLedger({ path, clock }), new LmdbLedger({ path, clock })];
    const heard: string[] = [];
    await listening.subscribe('c', message => heard.push(message));
    await publishing.publish('c', 'one');
    expect(heard).toEqual([]);
    await clock.advance(50);
    expect(heard).toEqual(['one']);
    await Promise.all([listening.close(), publishing.close()]);
  });

  test('goes on telling the other listeners when one throws', async () => {
    const ledger = new LmdbLedger({ path: await createFolder() });
    const thrown: unknown[] = [];
    const before = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', error => thrown.push(error));
    const heard: string[] = [];
    try {
      await ledger.subscribe('c', () => {
        throw new Error('not me');
      });
      await ledger.subscribe('c', message => heard.push(message));
      await ledger.publish('c', 'one');
      await ledger.publish('c', 'two');
      await expect.poll(() => heard).toEqual(['one', 'two']);
      expect(thrown).toEqual([new Error('not me'), new Error('not me')]);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of before) process.on('uncaughtException', listener);
      await ledger.close();
    }
  });
});

describe('lmdb ledger shared by processes', () => {
  const program = fileURLToPath(new URL('lmdb-peer.ts', import.meta.url));

  async function start(path: string) {
    const child = fork(program, [path], { execArgv: ['-C', 'holdfast-source'], serialization: 'advanced' });
    peers.push(child);
    const reports: PeerReport[] = [];
    child.on('message', report => reports.push(report as PeerReport));
    await once(child, 'message');
    return {
      reports,
      tell: (command: PeerCommand) => void child.send(command),
      async kill() {
        child.kill('SIGKILL');
        await once(child, 'exit');
      },
    };
  }

  function numbers(count: number, name: string): string[] {
    return Array.from({ length: count }, (_, index) => `${name} ${index}`);
  }

  test('two processes hear 10,000 events of each other and of themselves, those of each in order', async () => {
    const path = await createFolder();
    const ledger = new LmdbLedger({ path });
    const heard: string[] = [];
    await ledger.subscribe('c', message => heard.push(message));
    const peer = await start(path);
    peer.tell({ do: 'listen' });
    await expect.poll(() => peer.reports.some(({ is }) => is === 'done')).toBe(true);
    peer.tell({ do: 'publish', name: 'there', count: 5_000 });
    await Promise.all(numbers(5_000, 'here').map(message => ledger.publish('c', message)));
    const heardThere = () => peer.reports.flatMap(report => (report.is === 'heard' ? [report.message] : []));
    await expect.poll(() => Math.min(heard.length, heardThere().length), { timeout: 10_000 }).toBe(10_000);
    for (const all of [heard, heardThere()]) {
      for (const name of ['here', 'there'])
        expect(all.filter(message => message.startsWith(name))).toEqual(numbers(5_000, name));
    }
    await peer.kill();
    await ledger.close();
  });

  test('hears everything that a process has published before it was killed with -9, and goes on', async () => {
    const path = await createFolder();
    const ledger = new LmdbLedger({ path });
    const heard: string[] = [];
    await ledger.subscribe('c', message => heard.push(message));
    for (const name of ['first', 'second']) {
      const [publisher, bystander] = [await start(path), await start(path)];
      bystander.tell({ do: 'listen' });
      publisher.tell({ do: 'publish for ever', name });
      await expect.poll(() => publisher.reports.length, { timeout: 10_000 }).toBeGreaterThan(50);
      await Promise.all([publisher.kill(), bystander.kill()]);
      await ledger.publish('c', `after ${name}`);
      await expect.poll(() => heard).toContain(`after ${name}`);
      const acknowledged = publisher.reports.filter(({ is }) => is === 'acknowledged').length;
      const told = heard.filter(message => message.startsWith(name));
      expect(told).toEqual(numbers(told.length, name));
      expect(told.length).toBeGreaterThanOrEqual(acknowledged);
    }
    await ledger.close();
  });

  test('has every fact that was acknowledged before its writer was killed with -9', async () => {
    const path = await createFolder();
    const ledger = new LmdbLedger({ path });
    const writers = await Promise.all([start(path), start(path)]);
    for (const [index, writer] of writers.entries()) writer.tell({ do: 'put for ever', name: `writer-${index}` });
    await expect.poll(() => Math.min(...writers.map(({ reports }) => reports.length))).toBeGreaterThan(30);
    await Promise.all(writers.map(writer => writer.kill()));
    for (const [index, { reports }] of writers.entries()) {
      const acknowledged = reports.flatMap(report => (report.is === 'acknowledged' ? [report.text] : []));
      for (const text of acknowledged) expect(await ledger.get(text)).toBe(text);
      const sum = await ledger.increment(`writer-${index}`, 0, 60_000);
      expect(sum).toBeGreaterThanOrEqual(acknowledged.length - 1);
    }
    expect(await ledger.putIfAbsent('after', 'v', 60_000)).toBe(true);
    await ledger.close();
  });
});
