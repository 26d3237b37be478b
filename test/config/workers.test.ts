import { describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { createServer } from '../../src/index.ts';
import { MemoryStore, SessionManager } from '../../src/session/index.ts';

const problemsOf = (config: Config): string => {
  try {
    parseConfig(config);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
};
const routes = [{ path: '/a', redirect: '/b' }];
const lmdb = { store: 'lmdb:sessions' };
const memory = /session\.store: sessions in memory are of one worker/;

describe('workers', () => {
  test.each([1, 2, 256, 'auto'] as const)('may be %s', workers => {
    expect(problemsOf({ workers, routes, session: lmdb })).toBe('');
  });

  test.each([0, -1, 1.5, 257, '2', 'many', true, null])('may not be %s', workers => {
    expect(problemsOf({ workers: workers as never, routes, session: lmdb })).toMatch(
      /workers: expected a whole number/,
    );
  });

  test.each([
    ['by its name', { store: 'memory:' }],
    ['by its name without the colon', { store: 'memory' }],
    ['because nothing else is said', undefined],
    ['by its options', { store: { url: 'memory:' } }],
    ['as an object', { store: new MemoryStore() }],
  ])('refuse a session store in memory, %s', (_, session) => {
    expect(problemsOf({ workers: 2, routes, ...(session && { session }) })).toMatch(memory);
    expect(problemsOf({ workers: 'auto', routes, ...(session && { session }) })).toMatch(memory);
    expect(problemsOf({ workers: 1, routes, ...(session && { session }) })).toBe('');
  });

  test('refuse a manager whose store is in memory', () => {
    const session = new SessionManager({ store: new MemoryStore(), keys: ['k'.repeat(43)] });
    expect(problemsOf({ workers: 2, routes, session })).toMatch(/session: sessions in memory are of one worker/);
  });

  test('refuse it in an application that is mounted, too', () => {
    const application = { routes, session: { store: 'memory:', cookie: { name: 'other' } } };
    const config = { workers: 2, session: lmdb, routes: [{ mount: '/shop', application }] };
    expect(problemsOf(config)).toMatch(/routes\[0\]\.application\.session\.store: sessions in memory/);
  });

  test('may do without sessions', () => {
    expect(problemsOf({ workers: 2, routes, session: false })).toBe('');
  });

  test('are for the program: a server within another one is one process, and says so at a reload', async () => {
    const several = { listen: [{ host: '127.0.0.1', port: 0 }], workers: 2, routes, session: false } as const;
    expect(() => createServer(several)).toThrow(/workers: "2" is for the program: run "holdfast serve"/);
    const server = createServer({ ...several, workers: 1 });
    await server.start();
    expect((await server.reload(several)).needsRestart).toEqual(['workers']);
    await server.stop();
  });
});
