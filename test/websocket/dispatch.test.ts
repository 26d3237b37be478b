import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { checkHandlers } from '../../src/server/assembly/check-handlers.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { gate, Journal } from './journal.ts';
import { CLOSE, frame, PING, PONG, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

/** Handlers that begin, and end when their own gate is opened. Messages that begin with "sync" are handled at once. */
function working(path: string, dispatch: EndpointOptions['dispatch'], more: Partial<EndpointOptions> = {}) {
  const journal = new Journal();
  const gates = new Map<string, ReturnType<typeof gate>>();
  const endpoint = defineEndpoint({
    path,
    dispatch,
    onMessage(_, data) {
      const name = data as string;
      journal.add(`begin ${name}`);
      if (name.startsWith('sync')) return undefined;
      const own = gate();
      gates.set(name, own);
      return own.promise.then(() => journal.add(`end ${name}`));
    },
    ...more,
  });
  return {
    endpoint,
    journal,
    open: (name: string) => gates.get(name)!.resolve(),
    fail: (name: string) => gates.get(name)!.reject(new Error('boom')),
  };
}

/** Waits until the server has read all that the client has sent. */
async function read(client: RawClient): Promise<void> {
  client.send(frame(PING));
  expect(await client.next()).toMatchObject({ opcode: PONG });
}

async function say(client: RawClient, text: string): Promise<void> {
  client.send(frame(TEXT, text));
  await read(client);
}

describe('dispatch', () => {
  test('is no limit by default: the handler of each connection runs at once', async () => {
    const { endpoint, journal, open } = working('/', undefined);
    await using served = await serve(endpoint);
    const clients = await Promise.all(Array.from({ length: 20 }, () => RawClient.connect(served.url)));
    for (const [i, client] of clients.entries()) await say(client, `${i}`);
    expect(journal.entries).toEqual(clients.map((_, i) => `begin ${i}`));
    for (const [i, client] of clients.entries()) {
      open(`${i}`);
      client[Symbol.dispose]();
    }
  });

  test('lets as many asynchronous handlers run at once as its concurrency says, and serves who waits in order', async () => {
    const { endpoint, journal, open } = working('/', { concurrency: 2 });
    await using served = await serve(endpoint);
    const clients = await Promise.all([1, 2, 3, 4].map(() => RawClient.connect(served.url)));
    for (const [i, client] of clients.entries()) await say(client, `${i}`);
    expect(journal.entries).toEqual(['begin 0', 'begin 1']);
    open('1');
    await journal.until('begin 2');
    open('0');
    await journal.until('begin 3');
    expect(journal.entries).toEqual(['begin 0', 'begin 1', 'end 1', 'begin 2', 'end 0', 'begin 3']);
    for (const name of ['2', '3']) open(name);
    for (const client of clients) client[Symbol.dispose]();
  });

  test('does not let a connection with many messages push back one with a single one', async () => {
    const { endpoint, journal, open } = working('/', { concurrency: 1 });
    await using served = await serve(endpoint);
    using busy = await RawClient.connect(served.url);
    using other = await RawClient.connect(served.url);
    for (const name of ['a1', 'a2', 'a3']) await say(busy, name);
    await say(other, 'b1');
    for (const name of ['a1', 'b1', 'a2']) {
      await journal.until(`begin ${name}`);
      open(name);
    }
    await journal.until('begin a3');
    open('a3');
    expect(journal.entries.filter(entry => entry.startsWith('begin'))).toEqual([
      'begin a1',
      'begin b1',
      'begin a2',
      'begin a3',
    ]);
  });

  test('gives synchronous handlers no slot, so that they run on as long as one is free', async () => {
    const { endpoint, journal, open } = working('/', { concurrency: 1 });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    for (let i = 0; i < 3; i++) await say(first, `sync ${i}`);
    await say(second, 'sync 3');
    expect(journal.entries).toEqual(['begin sync 0', 'begin sync 1', 'begin sync 2', 'begin sync 3']);
    await say(first, 'slow');
    await say(second, 'sync 4');
    expect(journal.entries).not.toContain('begin sync 4');
    open('slow');
    await journal.until('begin sync 4');
  });

  test('keeps the order of a connection that waits for a slot', async () => {
    const { endpoint, journal, open } = working('/', { concurrency: 1 });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    await say(first, 'slow');
    for (let i = 0; i < 5; i++) await say(second, `sync ${i}`);
    open('slow');
    await journal.until('begin sync 4');
    expect(journal.entries.slice(2)).toEqual([0, 1, 2, 3, 4].map(i => `begin sync ${i}`));
  });

  test('is shared by the endpoints that name it, and not by others', async () => {
    const a = working('/a', 'shared');
    const b = working('/b', 'shared');
    const c = working('/c', 'other');
    await using served = await serve([a.endpoint, b.endpoint, c.endpoint], {
      dispatch: { shared: { concurrency: 1 }, other: { concurrency: 1 } },
    });
    using first = await RawClient.connect(`${served.url}/a`);
    using second = await RawClient.connect(`${served.url}/b`);
    using third = await RawClient.connect(`${served.url}/c`);
    await say(first, '1');
    await say(second, '2');
    await say(third, '3');
    expect([a.journal.entries, b.journal.entries, c.journal.entries]).toEqual([['begin 1'], [], ['begin 3']]);
    a.open('1');
    await b.journal.until('begin 2');
    b.open('2');
    c.open('3');
  });

  test('that is not defined keeps the server from starting, and the message names it', async () => {
    const { endpoint } = working('/a', 'workers');
    await expect(serve(endpoint, { dispatch: { worker: { concurrency: 1 } } })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(/\/a.*"workers".*not defined/),
    });
  });

  test.each([
    ['a handler that fails', async ({ fail }: ReturnType<typeof working>) => fail('1')],
    ['a handler that takes too long', async (_: unknown, clock: FakeClock) => clock.advance(61_000)],
  ])('gives the slot of %s to the next', async (_, end) => {
    const clock = new FakeClock();
    const parts = working('/', { concurrency: 1 });
    await using served = await serve(parts.endpoint, {}, { clock });
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    await say(first, '1');
    await say(second, '2');
    await end(parts, clock);
    expect(await first.eventualCloseCode()).toBe(1011);
    await parts.journal.until('begin 2');
    parts.open('2');
    await parts.journal.until('end 2');
  });

  test('gives the slot of a connection that is gone to the next when its handler has ended', async () => {
    const { endpoint, journal, open } = working('/', { concurrency: 1 });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    await say(first, '1');
    await say(second, '2');
    first.reset();
    await expect.poll(() => endpoint.connections.size).toBe(1);
    expect(journal.entries).toEqual(['begin 1']);
    open('1');
    await journal.until('begin 2');
    open('2');
  });

  test('does not hold up the end of a connection that has nothing waiting', async () => {
    const journal = new Journal();
    const {
      endpoint,
      open,
      journal: handlers,
    } = working('/', { concurrency: 1 }, { onClose: () => journal.add('close') });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    await read(second);
    await say(first, '1');
    second.reset();
    await journal.until('close');
    expect(handlers.entries).toEqual(['begin 1']);
    open('1');
  });
});

describe('when the dispatch queue is full', () => {
  test('wait: a connection that finds it full is not read until there is room', async () => {
    const { endpoint, journal, open } = working('/', { concurrency: 1, queue: 1 });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    using third = await RawClient.connect(served.url);
    for (const client of [second, third]) await read(client);
    await say(first, '1');
    await say(second, '2');
    // The queue holds the second; the third is still served, but what it sends now stays where it is.
    third.send(frame(TEXT, '3'), frame(PING, 'not read'));
    for (let turns = 0; turns < 50; turns++) await new Promise(resolve => setImmediate(resolve));
    expect(third.frames).toEqual([]);
    open('1');
    await journal.until('begin 2');
    open('2');
    await journal.until('begin 3');
    open('3');
    expect(await third.next()).toMatchObject({ opcode: PONG, payload: Buffer.from('not read') });
  });

  test('close: a connection that finds it full is closed with 1013, and is told of it', async () => {
    const ends = new Journal();
    const { endpoint, journal, open } = working(
      '/',
      { concurrency: 1, queue: 1, whenFull: 'close' },
      {
        onError: (_, error) => ends.add(`error ${(error as Error & { code: string }).code}`),
        onClose: (_, { code }) => ends.add(`close ${code}`),
      },
    );
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using second = await RawClient.connect(served.url);
    using third = await RawClient.connect(served.url);
    for (const client of [second, third]) await read(client);
    await say(first, '1');
    await say(second, '2');
    third.send(frame(TEXT, '3'), frame(TEXT, 'never handled'));
    expect(await third.closeCode()).toBe(1013);
    third.socket.end();
    await ends.until('close 1013');
    expect(ends.entries).toEqual(['error ERR_WS_DISPATCH_FULL', 'close 1013']);
    open('1');
    await journal.until('begin 2');
    open('2');
    await journal.until('end 2');
    expect(journal.entries).not.toContain('begin 3');
  });

  test('close: the application hears nothing of a connection whose onOpen found no place', async () => {
    const ends = new Journal();
    const { endpoint, open } = working(
      '/',
      { concurrency: 1, queue: 0, whenFull: 'close' },
      {
        onOpen: () => ends.add('open'),
        onError: () => ends.add('error'),
        onClose: () => ends.add('close'),
        destroy: () => ends.add('destroy'),
      },
    );
    const served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    await say(first, '1');
    using second = await RawClient.connect(served.url);
    expect(await second.next()).toMatchObject({ opcode: CLOSE });
    second.socket.end();
    await expect.poll(() => endpoint.connections.size).toBe(1);
    open('1');
    await served.server.stop({ drain: 0 });
    expect(ends.entries).toEqual(['open', 'close', 'destroy']);
  });
});

test('a configuration that is checked for a reload leaves endpoints that run their policy, with what it counts', async () => {
  const { endpoint, journal, open } = working('/', 'few');
  const dispatch = { few: { concurrency: 1 } };
  await using served = await serve(endpoint, { dispatch });
  using first = await RawClient.connect(served.url);
  await say(first, '1');
  expect(await checkHandlers({ dispatch, routes: [{ endpoint }] })).toEqual([]);
  using second = await RawClient.connect(served.url);
  await say(second, '2');
  open('1');
  await journal.until('begin 2');
  open('2');
  await journal.until('end 2');
  expect(journal.entries).toEqual(['begin 1', 'end 1', 'begin 2', 'end 2']);
});
