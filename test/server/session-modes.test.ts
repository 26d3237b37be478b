import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { ask, WiredServer, wires } from './wires.ts';

const modes = ['none', 'existing', 'auto', 'create'] as const;
const store = new MemoryStore();
let server: WiredServer;

beforeAll(async () => {
  server = await WiredServer.start({
    session: { store },
    routes: modes.map(session => ({
      path: `/${session}`,
      session,
      fetch: (_, { session: own }) => new Response(own ? own.id : 'no session'),
    })),
  });
});
afterAll(() => server.close());

describe.each(wires)('over %s', wire => {
  const page = { 'sec-fetch-dest': 'document', accept: 'text/html' };
  const image = { 'sec-fetch-dest': 'image', accept: 'image/*' };
  const cookiesOf = (set: string | undefined) => /(?:__Host-)?holdfast=[^;]*/.exec(set ?? '')?.[0];
  /** Has it a session, was one made, and was the client told? */
  async function visit(mode: string, headers: Record<string, string>) {
    const before = await store.count();
    const answer = await ask(server, wire, { path: `/${mode}`, headers });
    const cookie = cookiesOf(answer.headers['set-cookie']);
    return { sid: answer.body, made: (await store.count()) - before, cookie };
  }

  test.each([
    ['none', page, false],
    ['none', image, false],
    ['existing', page, false],
    ['existing', image, false],
    ['auto', page, true],
    ['auto', image, false],
    ['create', page, true],
    ['create', image, true],
  ] as const)(
    'a route with session: %s, asked for %j without a cookie, makes one: %s',
    async (mode, headers, isMade) => {
      const { sid, made, cookie } = await visit(mode, headers);
      expect([sid !== 'no session', made, cookie !== undefined]).toEqual([isMade, isMade ? 1 : 0, isMade]);
    },
  );

  test.each([
    ['none', false],
    ['existing', true],
    ['auto', true],
    ['create', true],
  ] as const)('a route with session: %s finds the one whose cookie comes: %s', async (mode, isFound) => {
    const first = await visit('create', page);
    for (const headers of [page, image]) {
      const { sid, made, cookie } = await visit(mode, { ...headers, cookie: first.cookie! });
      expect([sid, made, cookie]).toEqual([isFound ? first.sid : 'no session', 0, undefined]);
    }
  });
});
