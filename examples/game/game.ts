export const WIDTH = 8;
export const HEIGHT = 6;

/** All that is known of a player's game: it is kept in the session. */
export interface Game {
  readonly level: number;
  readonly x: number;
  readonly y: number;
  /** Cells, counted row by row, where gold still lies. */
  readonly gold: readonly number[];
  readonly score: number;
  readonly moves: number;
}

const STEPS = new Map([
  ['left', [-1, 0]],
  ['right', [1, 0]],
  ['up', [0, -1]],
  ['down', [0, 1]],
] as const);

export type Direction = typeof STEPS extends Map<infer Key, unknown> ? Key : never;

export function isDirection(value: unknown): value is Direction {
  return STEPS.has(value as Direction);
}

export function newGame(): Game {
  return { level: 1, x: 0, y: 0, gold: goldOf(1), score: 0, moves: 0 };
}

/** The game after one step. Gold that is stepped on is taken; with the last of it the next level begins. */
export function step(game: Game, direction: Direction): Game {
  const [dx, dy] = STEPS.get(direction)!;
  const x = Math.min(Math.max(game.x + dx, 0), WIDTH - 1);
  const y = Math.min(Math.max(game.y + dy, 0), HEIGHT - 1);
  const gold = game.gold.filter(cell => cell !== y * WIDTH + x);
  const moved = { ...game, x, y, gold, score: game.score + game.gold.length - gold.length, moves: game.moves + 1 };
  return gold.length > 0 ? moved : { ...moved, level: game.level + 1, gold: goldOf(game.level + 1) };
}

/** Some cells, different on each level and never the corner where the game begins. */
function goldOf(level: number): number[] {
  const cells = Array.from({ length: 4 }, (_, index) => 1 + ((level * 17 + index * 11) % (WIDTH * HEIGHT - 1)));
  return cells.sort((a, b) => a - b);
}
