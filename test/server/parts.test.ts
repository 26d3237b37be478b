import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Parts } from '../../src/server/assembly/parts.ts';

async function retired() {
  const events: string[] = [];
  const socket = Promise.withResolvers<void>();
  const [judged, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const before = new Parts();
  const close = (name: string, until?: Promise<void>) => async () => {
    await until;
    events.push(name);
  };
  await before.keep('store', '', { from: 1, make: () => ({}), close: close('store'), isFoundation: true });
  await before.keep('scheme', '', { from: 1, make: () => ({}), close: close('scheme') });
  await before.keep('bans', '', { from: 1, make: () => ({}), retire: close('bans') });
  await before.keep('endpoint', '', { from: 1, make: () => ({}), close: close('endpoint', socket.promise) });
  before.commit();
  const done = new Parts(before).commit()({ judged: judged.promise, over: over.promise }, error =>
    events.push(`${error}`),
  );
  await turn();
  return { events, socket, judged, over, done };
}

test('parts that a reload replaces go each in its own time, and none waits for an endpoint with sockets', async () => {
  const { events, judged } = await retired();
  expect(events).toEqual(['bans']);
  judged.resolve();
  await turn();
  expect(events).toEqual(['bans', 'scheme']);
});

test('a store that a reload replaces stays open while a request of before runs, or an endpoint of before', async () => {
  const { events, socket, judged, over, done } = await retired();
  judged.resolve();
  socket.resolve();
  await turn();
  expect(events).toEqual(['bans', 'scheme', 'endpoint']);
  over.resolve();
  await done;
  expect(events).toEqual(['bans', 'scheme', 'endpoint', 'store']);
});

test('an undoing that fails leaves nothing else open when a configuration is given up', async () => {
  const events: string[] = [];
  const parts = new Parts();
  await parts.keep('store', '', { from: 1, make: () => ({}), close: () => events.push('store') });
  parts.onAbandon(() => {
    throw new Error('at once');
  });
  parts.onAbandon(() => Promise.reject(new Error('later')));
  parts.onAbandon(() => events.push('other'));
  await parts.abandon();
  expect(events).toEqual(['other', 'store']);
});
