import { expect, test } from 'vitest';
import { start } from '../examples/example-client.ts';
import { Visitor } from '../examples/visitor.ts';

interface Game {
  level: number;
  x: number;
  y: number;
  gold: number[];
  score: number;
  moves: number;
}

test('game: progress survives a cut connection, a reload and kill -9, and the game goes on', async () => {
  const example = await start('game');
  const player = new Visitor(example);
  expect(await player.navigate()).toContain('<title>Gold</title>');

  const first = await player.tab('/play');
  expect(await first.next<Game>()).toMatchObject({ level: 1, x: 0, y: 0, moves: 0 });
  expect(await first.ask<Game>('right')).toMatchObject({ x: 1, y: 0, moves: 1 });
  const seen = await first.ask<Game>('down');
  expect(seen).toMatchObject({ x: 1, y: 1, moves: 2 });
  await first.cut();

  await player.navigate();
  const second = await player.tab('/play');
  expect(await second.next<Game>()).toEqual(seen);

  // In the middle of a run: what was seen is a lower limit, what was sent an upper one.
  for (let step = 0; step < 200; step++) second.send(step % 2 === 0 ? 'right' : 'left');
  await second.next({ moves: 20 });
  await example.kill();
  expect(await second.closed).toBe(1006);
  await example.start();
  const lastSeen = second.received.at(-1) as unknown as Game;

  const third = await player.tab('/play');
  const kept = await third.next<Game>();
  expect(kept.moves).toBeGreaterThanOrEqual(lastSeen.moves);
  expect(kept.moves).toBeLessThanOrEqual(202);
  expect(kept.x).toBe(kept.moves % 2 === 0 ? 1 : 2);
  expect(await third.ask<Game>('down')).toMatchObject({ y: 2, moves: kept.moves + 1 });
});

test('game: two tabs of a player are in one game and lose no step; another player is in another', async () => {
  const example = await start('game');
  const player = new Visitor(example);
  await player.navigate();
  const [left, right] = [await player.tab('/play'), await player.tab('/play')];
  for (let step = 0; step < 50; step++) {
    left.send('left');
    right.send('up');
  }
  const [seenLeft, seenRight] = await Promise.all([left.next<Game>({ moves: 100 }), right.next<Game>({ moves: 100 })]);
  expect(seenLeft).toEqual(seenRight);

  const other = new Visitor(example);
  await other.navigate();
  expect(await (await other.tab('/play')).next<Game>()).toMatchObject({ moves: 0 });
});

test('game: gold is counted, the last of it opens the next level, and restart begins again', async () => {
  const example = await start('game');
  const player = new Visitor(example);
  await player.navigate();
  const tab = await player.tab('/play');
  let game = await tab.next<Game>();
  const lying = game.gold.length;
  while (game.level === 1) {
    const [x, y] = [game.gold[0]! % 8, Math.floor(game.gold[0]! / 8)];
    const direction = game.x < x ? 'right' : game.x > x ? 'left' : game.y < y ? 'down' : 'up';
    game = await tab.ask<Game>(direction);
  }
  expect(game).toMatchObject({ level: 2, score: lying });
  expect(game.gold).toHaveLength(lying);
  expect(await tab.ask<Game>('restart')).toMatchObject({ level: 1, score: 0, moves: 0 });
  tab.send('fly');
  expect(await tab.closed).toBe(1008);
});

test('game: without a session there is no game', async () => {
  const example = await start('game');
  const stranger = await new Visitor(example).tab('/play');
  expect(await stranger.closed).toBe(1008);
});
