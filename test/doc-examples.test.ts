import { afterAll, expect, test } from 'vitest';
import * as main from '../src/index.ts';
import * as session from '../src/session/index.ts';
import * as lmdb from '../src/session/stores/lmdb.ts';
import * as postgres from '../src/session/stores/postgres.ts';
import * as redis from '../src/session/stores/redis.ts';
import * as testing from '../src/testing/index.ts';
import { allExamples, examplesIn, functionsOf, runExample, stopServices } from './doc-examples.ts';
import { postgresMissing } from './services/postgres-server.ts';
import { redisIsMissing } from './services/redis-server.ts';

const examples = allExamples();

afterAll(stopServices);

/** What cannot run here, and why. */
function missing(name: string): string | undefined {
  if (/redis/i.test(name)) return redisIsMissing;
  return /^Postgres|^openPostgres$/.test(name) ? postgresMissing : undefined;
}

for (const example of examples) {
  const why = missing(example.name);
  test.skipIf(why)(
    `the example of ${example.name} runs, and prints what it says${why ? ` (${why})` : ''}`,
    async () => {
      const { printed, announced } = await runExample(example);
      expect(printed).toEqual(announced);
    },
  );
}

test.each([
  ['src/websocket/connection.ts', 'Connection'],
  ['src/websocket/connection.ts', 'Endpoint'],
  ['src/server/server.ts', 'Server'],
  ['src/session/session.ts', 'Session'],
  ['src/session/manager.ts', 'SessionManager'],
  ['src/session/store.ts', 'SessionStore'],
  ['src/session/ledger.ts', 'Ledger'],
])('each function in %s of %s has an example', (file, type) => {
  const functions = functionsOf(file, type);
  expect(functions.length).toBeGreaterThan(0);
  const named = new Set(examples.filter(example => example.file === file).map(({ name }) => name));
  expect(functions.filter(name => !named.has(`${type}.${name}`))).toEqual([]);
});

test('each function and class that the package exports has an example', () => {
  const exported = Object.entries({ ...main, ...session, ...lmdb, ...postgres, ...redis, ...testing });
  const functions = exported.filter(([, value]) => typeof value === 'function').map(([name]) => name);
  expect(functions).toContain('defineEndpoint');
  // Applications get them from functions that have examples.
  const made = ['SessionBinding', 'commitBeforeHeaders'];
  const named = new Set(examples.map(({ name }) => name));
  expect(functions.filter(name => !named.has(name) && !made.includes(name))).toEqual([]);
});

test('an example that prints something else than it says, or throws, is noticed', async () => {
  const source = `/**
 * Adds.
 *
 * @example
 * console.log(1 + 1); // 3
 */
export function add(): void {}

export class Sum {
  /**
   * @example
   * throw new Error('no sum');
   */
  of(): void {}
}
`;
  const [wrong, broken] = examplesIn('sum.ts', source);
  expect([wrong!.name, broken!.name]).toEqual(['add', 'Sum.of']);
  expect(await runExample(wrong!)).toEqual({ printed: ['2'], announced: ['3'] });
  await expect(runExample(broken!)).rejects.toThrow('no sum');
});
