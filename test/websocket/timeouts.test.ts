import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { gate, Journal } from './journal.ts';
import { closeFrame, frame, PING, PONG, RawClient, TEXT } from './raw-client.ts';
import { type Served, serve, serveAttached } from './serve.ts';

/** The wheel may be this much late. */
const LATE = 200;

async function started(more: Partial<EndpointOptions> = {}): Promise<{
  served: Served;
  clock: FakeClock;
  journal: Journal;
  limits: ReturnType<typeof defineEndpoint>['limits'];
}> {
  const clock = new FakeClock();
  const journal = new Journal();
  const endpoint = defineEndpoint({
    path: '/',
    onOpen: () => journal.add('open'),
    onMessage: (_, data) => journal.add(`message ${data}`),
    onTimeout: () => journal.add('timeout'),
    onPong: () => journal.add('pong'),
    onClose: (_, { code, reason }) => journal.add(`close ${code} ${reason}`),
    ...more,
  });
  return { served: await serve(endpoint, {}, { clock }), clock, journal, limits: endpoint.limits };
}

/** Says something and waits until the server has read it. */
async function speak(client: RawClient): Promise<void> {
  client.send(frame(PING, 'hello'));
  for (let next = await client.next(); next?.payload.toString() !== 'hello'; next = await client.next())
    expect(next).toBeDefined();
}

describe('without heartbeat, the letter of the WebLogic document', () => {
  const letter = { idleTimeout: '15s', heartbeat: false } as const;

  test('closes with 1001 after the idle timeout, onTimeout first', async () => {
    const { served, clock, journal } = await started(letter);
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await journal.until('open');
    await clock.advance(14_900);
    expect(journal.entries).toEqual(['open']);
    await clock.advance(LATE + 100);
    expect(await client.closeCode()).toBe(1001);
    client.socket.end();
    await journal.until('close 1001 idle timeout');
    expect(journal.entries).toEqual(['open', 'timeout', 'close 1001 idle timeout']);
  });

  test('never pings', async () => {
    const { served, clock } = await started(letter);
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await clock.advance(16_000);
    expect(await client.closeCode()).toBe(1001);
  });

  test.each([
    ['a message of the peer', (client: RawClient) => client.send(frame(TEXT, 'x'))],
    ['a ping of the peer', (client: RawClient) => client.send(frame(PING))],
    ['a pong of the peer', (client: RawClient) => client.send(frame(PONG))],
    ['a part of a frame', (client: RawClient) => client.send(frame(TEXT, 'xyz').subarray(0, 3))],
  ])('counts %s as a sign of life', async (_, live) => {
    const { served, clock, journal } = await started(letter);
    await using _served = served;
    using client = await RawClient.connect(served.url);
    const socket = client.socket;
    await journal.until('open');
    await clock.advance(10_000);
    live(client);
    await new Promise<void>(resolve => socket.write('', () => resolve()));
    await clock.advance(10_000);
    expect(journal.entries).not.toContain('timeout');
    await clock.advance(5_000 + LATE);
    expect(journal.entries).toContain('timeout');
  });

  test('counts what is sent to the peer as a sign of life: a message, a ping, a publication, a fragment', async () => {
    const { served, clock, journal } = await started({ ...letter, onOpen: connection => connection.subscribe('t') });
    await using _ = served;
    using _client = await RawClient.connect(served.url);
    const endpoint = served.server;
    await expect.poll(() => endpoint.publish('t', 'x').sent).toBe(1);
    for (let i = 0; i < 5; i++) {
      await clock.advance(10_000);
      expect(endpoint.publish('t', 'x').sent).toBe(1);
    }
    expect(journal.entries).toEqual([]);
  });

  test.each(['send', 'ping', 'pong', 'stream'] as const)('counts our %s as a sign of life', async how => {
    let act = (): unknown => undefined;
    const { served, clock, journal } = await started({
      ...letter,
      onOpen(connection) {
        act = () => (how === 'stream' ? connection.stream('x', false) : connection[how]('x'));
        journal.add('open');
      },
    });
    await using _ = served;
    using _client = await RawClient.connect(served.url);
    await journal.until('open');
    for (let i = 0; i < 4; i++) {
      await clock.advance(10_000);
      expect(act()).toBe(true);
    }
    expect(journal.entries).toEqual(['open']);
  });
});

describe('onTimeout', () => {
  test('may still send, at once and later: the connection closes with 1001 when it has settled', async () => {
    const working = gate();
    const { served, clock, journal } = await started({
      idleTimeout: '15s',
      heartbeat: false,
      async onTimeout(connection) {
        connection.send('soon');
        await working.promise;
        connection.send('goodbye');
      },
    });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await clock.advance(15_000 + LATE);
    expect(await client.text()).toBe('soon');
    await clock.advance(20_000);
    expect(client.frames).toEqual([]);
    working.resolve();
    expect(await client.text()).toBe('goodbye');
    expect(await client.closeCode()).toBe(1001);
    client.socket.end();
    await journal.until('close 1001 idle timeout');
  });

  test('waits for a handler that is running', async () => {
    const working = gate();
    const { served, clock, journal } = await started({
      idleTimeout: '15s',
      heartbeat: false,
      async onMessage() {
        journal.add('begin');
        await working.promise;
        journal.add('end');
      },
    });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    await journal.until('begin');
    await clock.advance(20_000);
    expect(journal.entries).toEqual(['open', 'begin']);
    working.resolve();
    expect(await client.closeCode()).toBe(1001);
    expect(journal.entries).toEqual(['open', 'begin', 'end', 'timeout']);
  });
});

describe('the heartbeat', () => {
  test('pings a silent peer after 20 seconds, and closes with 1001 after 30 when nothing comes', async () => {
    const { served, clock, journal } = await started();
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await journal.until('open');
    await clock.advance(19_900);
    expect(client.frames).toEqual([]);
    await clock.advance(LATE + 100);
    expect(await client.next()).toMatchObject({ opcode: PING });
    await clock.advance(9_500);
    expect(client.frames).toEqual([]);
    await clock.advance(LATE + 500);
    expect(await client.closeCode()).toBe(1001);
    expect(journal.entries).toEqual(['open', 'timeout']);
  });

  test('keeps a quiet peer that lives, for as long as it answers, and the application sees no pongs it never asked for', async () => {
    const { served, clock, journal } = await started();
    await using _ = served;
    await using client = await testClient(served.url);
    await clock.advance(300_000);
    expect(client.isOpen).toBe(true);
    expect(journal.entries).toEqual(['open']);
  });

  test('pings again and again: once in each silence', async () => {
    const { served, clock } = await started();
    await using _ = served;
    using client = await RawClient.connect(served.url);
    let pings = 0;
    for (let second = 0; second < 100; second++) {
      await clock.advance(1_000);
      for (const { opcode, payload } of client.frames.splice(0)) {
        expect(opcode).toBe(PING);
        pings++;
        client.send(frame(PONG, payload));
      }
    }
    expect(pings).toBe(4);
  });

  test('goes on also when the pong comes in the same tick of the wheel as the ping', async () => {
    const clock = new FakeClock();
    await using served = await serveAttached(defineEndpoint({ path: '/' }), {}, { clock });
    using client = await RawClient.connect(served.url);
    for (let round = 0; round < 3; round++) {
      const { bytesWritten } = served.lastSocket();
      while (served.lastSocket().bytesWritten === bytesWritten) await clock.advance(100);
      expect(await client.next()).toMatchObject({ opcode: PING });
      // The clock stands still until the server has read it.
      await speak(client);
    }
    expect(clock.monotonic()).toBeLessThanOrEqual(3 * (20_000 + LATE));
  });

  test('finds a dead peer although the server goes on sending to it', async () => {
    const { served, clock, journal } = await started({ onOpen: connection => connection.subscribe('t') });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await expect.poll(() => served.server.publish('t', 'x').sent).toBe(1);
    for (let second = 0; second < 31; second++) {
      await clock.advance(1_000);
      served.server.publish('t', 'x');
    }
    expect(await client.eventualCloseCode()).toBe(1001);
    expect(journal.entries).toEqual(['timeout']);
  });

  test('does not ping a peer that speaks', async () => {
    const { served, clock } = await started();
    await using _ = served;
    using client = await RawClient.connect(served.url);
    for (let i = 0; i < 6; i++) {
      await clock.advance(15_000);
      await speak(client);
      expect(client.frames).toEqual([]);
    }
  });

  test('does not take our own pause in reading for silence of the peer', async () => {
    const working = gate();
    const { served, clock, journal } = await started({
      handlerTimeout: -1,
      async onMessage() {
        await working.promise;
        journal.add('handled');
      },
    });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    client.send(...Array.from({ length: 100 }, () => frame(TEXT)));
    await journal.until('open');
    await new Promise<void>(resolve => client.socket.write('', () => resolve()));
    await clock.advance(600_000);
    working.resolve();
    await journal.until('handled', 100);
    expect(journal.entries).not.toContain('timeout');
    await speak(client);
  });
});

describe('limits of time', () => {
  test('idleTimeout -1 never closes', async () => {
    const { served, clock, journal } = await started({ idleTimeout: -1, heartbeat: false });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await clock.advance(3_600_000);
    await speak(client);
    expect(journal.entries).toEqual(['open']);
  });

  test.each([
    ['from a longer one', '10m'],
    ['from never', -1],
  ])('can be changed while connections are open: the idle timeout %s', async (_, idleTimeout) => {
    const { served, clock, journal, limits } = await started({ idleTimeout, heartbeat: false });
    await using _served = served;
    using client = await RawClient.connect(served.url);
    await clock.advance(60_000);
    expect(journal.entries).toEqual(['open']);
    limits.idleTimeoutMs = 5_000;
    await clock.advance(10_000 + LATE);
    expect(await client.closeCode()).toBe(1001);
  });

  test('can be changed while connections are open: the heartbeat', async () => {
    const { served, clock, limits } = await started({ idleTimeout: '10m', heartbeat: false });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    await clock.advance(60_000);
    expect(client.frames).toEqual([]);
    limits.heartbeatMs = 5_000;
    await clock.advance(10_000 + LATE);
    expect(await client.next()).toMatchObject({ opcode: PING });
  });

  test('the peer has two seconds to answer our close, then the connection is cut', async () => {
    const { served, clock, journal } = await started({ onMessage: connection => connection.close(4000, 'enough') });
    await using _ = served;
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    expect(await client.closeCode()).toBe(4000);
    await clock.advance(1_900);
    expect(journal.entries).toEqual(['open']);
    await clock.advance(LATE + 100);
    await journal.until('close 4000 enough');
    await client.ended();
  });

  test('the same holds for a peer that has said close and never ends its side', async () => {
    const { served, clock, journal } = await started();
    await using _ = served;
    using client = await RawClient.connect(served.url);
    client.send(closeFrame(1000));
    expect(await client.closeCode()).toBe(1000);
    await client.ended();
    expect(journal.entries).toEqual(['open']);
    await clock.advance(2_000 + LATE);
    await journal.until('close 1000 ');
  });

  test('a connection that has ended leaves no timer behind', async () => {
    const { served, clock, journal } = await started();
    await using _ = served;
    const before = clock.pending;
    using client = await RawClient.connect(served.url);
    await journal.until('open');
    expect(clock.pending).toBe(before + 1);
    client.reset();
    await journal.until('close 1006 ');
    // The log counts for so long what says the same as its line.
    await clock.advance(10_000);
    expect(clock.pending).toBe(before);
  });
});
