import { join } from 'node:path';
import { open as openLmdb } from 'lmdb';
import { expect, test } from 'vitest';
import { connect, refusedWith, start } from '../examples/example-client.ts';
import { type Tab, Visitor } from '../examples/visitor.ts';

const PATH = '/positions/tune.wav';
const lastKept = (tab: Tab) => Number(tab.received.at(-1)!.position);

test('media-position: another tab goes on where the first was, also after a cut connection and kill -9', async () => {
  const example = await start('media-position');
  const visitor = new Visitor(example);
  expect(await visitor.navigate()).toContain('<title>Media position</title>');
  const first = await visitor.tab(PATH);
  expect(await first.next()).toEqual({ position: 0 });
  expect(await first.ask('12.5')).toEqual({ position: 12.5 });
  const second = await visitor.tab(PATH);
  expect(await second.next()).toEqual({ position: 12.5 });
  first.send('13');
  expect(await second.next()).toEqual({ position: 13 });
  await first.cut();

  // In the middle of playing: what was told to be kept is a lower limit.
  expect(await second.ask('14')).toEqual({ position: 14 });
  for (let quarter = 1; quarter <= 2_000; quarter++) second.send(String(14 + quarter / 4));
  await second.next({ position: 15 });
  await example.kill();
  expect(await second.closed).toBe(1006);
  await example.start();
  const third = await visitor.tab(PATH);
  const { position } = await third.next<{ position: number }>();
  expect(position).toBeGreaterThanOrEqual(lastKept(second));
  expect(position).toBeLessThanOrEqual(514);
  expect(await third.ask(String(position + 1))).toEqual({ position: position + 1 });

  const other = new Visitor(example);
  await other.navigate();
  expect(await (await other.tab(PATH)).next()).toEqual({ position: 0 });
});

test('media-position: many positions are few writes, and the last one is kept', async () => {
  const example = await start('media-position');
  const visitor = new Visitor(example);
  await visitor.navigate();
  const tab = await visitor.tab(PATH);
  await tab.next();
  const database = openLmdb({ path: join(example.folder, 'data/sessions'), readOnly: true, noSubdir: false });
  const writes = () => (database.getStats() as { lastTxnId: number }).lastTxnId;
  const before = writes();
  for (let second = 1; second <= 1_000; second++) tab.send(String(second));
  expect(await tab.next({ position: 1_000 })).toEqual({ position: 1_000 });
  const after = writes();
  await database.close();
  expect(after).toBeGreaterThan(before);
  expect(after - before).toBeLessThan(100);
  await example.kill();
  await example.start();
  expect(await (await visitor.tab(PATH)).next()).toEqual({ position: 1_000 });
});

test('media-position: the sound is there in pieces, what is no position closes, what is no medium is not found', async () => {
  const example = await start('media-position');
  const piece = await fetch(example.url('/media/tune.wav'), { headers: { range: 'bytes=0-3' } });
  expect([piece.status, await piece.text()]).toEqual([206, 'RIFF']);
  expect(piece.headers.getSetCookie()).toEqual([]);

  const visitor = new Visitor(example);
  await visitor.navigate();
  for (const nonsense of ['-1', 'here', '1e9']) {
    const tab = await visitor.tab(PATH);
    tab.send(nonsense);
    expect([nonsense, await tab.closed]).toEqual([nonsense, 1008]);
  }
  expect(await refusedWith(connect(example, '/positions/film.mp4'))).toBe(404);
  expect(await (await new Visitor(example).tab(PATH)).closed).toBe(1008);
});
