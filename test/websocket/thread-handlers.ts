import { setTimeout as pause } from 'node:timers/promises';
import { isMainThread, threadId } from 'node:worker_threads';
import type { CloseEvent, ThreadConnection } from 'holdfast';
import { defineType } from 'holdfast/session';

export interface Seat {
  readonly room: string;
  readonly visits: Map<string, number>;
}

/** Declared in the threads alone. */
class Money {
  readonly cents: number;
  constructor(cents: number) {
    this.cents = cents;
  }
}
defineType('test.thread-money', Money, { keep: ['cents'] });

type Here = ThreadConnection<Seat>;

/** Computes, and looks at nothing. */
function compute(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

let kept: Here | undefined;
let turns = 0;

const COMMANDS: Readonly<Record<string, (connection: Here, argument: string) => unknown>> = {
  where: connection => connection.send(`${isMainThread ? 'main' : 'thread'} ${threadId}`),
  facts(connection) {
    const { id, isOpen, isSecure, user, remoteAddress, url, params, subprotocol, endpoint } = connection;
    const { patterns, subprotocols, supportedVersions } = endpoint;
    const port = connection.remotePort;
    const facts = { id, isOpen, isSecure, user, remoteAddress, port, url: url.href, params, subprotocol };
    connection.send(JSON.stringify({ ...facts, patterns, subprotocols, supportedVersions }));
  },
  async compute(connection, ms) {
    compute(Number(ms));
    connection.send(`computed ${ms}`);
  },
  async first(connection, name) {
    await pause(20);
    connection.send(name);
  },
  async slowly(connection, name) {
    connection.send(`begin ${name}`);
    await pause(150);
    connection.send(`end ${name}`);
  },
  echo: (connection, text) => connection.send(text),
  results(connection) {
    const open = connection.send('one');
    connection.close(4001, 'enough');
    kept = connection;
    turns = [open, connection.isOpen, connection.send('two'), connection.signal.aborted].filter(Boolean).length;
  },
  wrong(connection) {
    const said: string[] = [];
    const attempts = [
      () => connection.send(5 as never),
      () => connection.ping('x'.repeat(126)),
      () => connection.close(99),
      () => connection.subscribe(7 as never),
      () => connection.endpoint.broadcast([] as never),
      () => connection.publish('news', 'x', { exept: connection } as never),
      () => connection.publish('news', 'x', { except: {} as never }),
    ];
    for (const attempt of attempts)
      try {
        attempt();
        said.push('nothing');
      } catch (error) {
        said.push((error as Error).name);
      }
    connection.send(said.join(' '));
  },
  async stream(connection) {
    connection.stream('half ', false);
    connection.send('behind');
    connection.stream('and half', true);
    await connection.drained();
    connection.send(`drained ${connection.bufferedAmount} ${connection.droppedMessages}`);
  },
  ping: connection => connection.ping('are you there'),
  pong: connection => connection.pong(new Uint8Array([1, 2])),
  terminate: connection => connection.terminate(),
  subscribe: (connection, topic) => connection.subscribe(topic),
  unsubscribe: (connection, topic) => connection.unsubscribe(topic),
  publish: (connection, topic) =>
    connection.send(JSON.stringify(connection.publish(topic, 'published', { except: connection }))),
  broadcast: connection => connection.send(JSON.stringify(connection.endpoint.broadcast(new Uint8Array([7])))),
  others: connection => connection.endpoint.broadcast('to the others', { except: connection }),
  seat: connection => connection.send(`${connection.data.room} ${[...connection.data.visits]}`),
  move(connection, room) {
    connection.data = { room, visits: new Map([...connection.data.visits, [room, 1]]) };
    connection.send(connection.data.room);
  },
  scribble(connection) {
    const tries = [
      () => ((connection.data as { room: string }).room = 'changed in place'),
      () => (connection.data.visits as Map<string, number>).set('x', 1),
      () => (connection.data = { room: () => {} } as never),
    ];
    const outcomes = tries.map(attempt => {
      try {
        attempt();
        return 'done';
      } catch (error) {
        return (error as Error).name;
      }
    });
    connection.send(outcomes.join(' '));
  },
  throw() {
    throw Object.assign(new RangeError('the handler is broken'), { code: 'ERR_OF_MINE', detail: { n: 1 } });
  },
  reject: async () => {
    await pause(1);
    throw 'a text';
  },
  exit: () => process.exit(3),
  stray: connection => {
    setTimeout(() => {
      throw new Error('a stray error');
    });
    connection.send('later');
  },
  forever: () => {
    for (;;);
  },
  async never(connection) {
    connection.send('waiting');
    await new Promise(() => {});
  },
  untilAborted(connection) {
    connection.send('computing');
    while (!connection.signal.aborted);
    connection.publish('watch', `stopped ${connection.isOpen} ${connection.send('x')}`);
  },
  async event(connection) {
    connection.send('waiting');
    await new Promise(resolve => connection.signal.addEventListener('abort', resolve));
    connection.publish('watch', `event ${connection.signal.aborted}`);
  },
  async late(connection) {
    kept = connection;
    setTimeout(() => {
      try {
        kept!.send('late');
      } catch (error) {
        lateError = error as Error & { code?: string };
      }
    }, 1);
    connection.send('kept');
  },
  lateError: connection => connection.send(`${lateError?.code}`),
  eat(connection) {
    const kept: unknown[] = [];
    connection.send('eating');
    for (;;) kept.push(new Array(1000).fill(kept.length));
  },
  count: connection => connection.send(`${threadId} ${++turns}`),

  // sessions
  async session(connection) {
    const session = connection.session!;
    session.set('cart', ['pen']);
    const visits = await session.update('visits', before => Number(before ?? 0) + 1);
    session.delete('gone');
    session.scope('shop').set('price', new Money(250));
    const price = session.get('shop:price') as Money;
    const facts = {
      cart: session.get('cart'),
      isSame: Object.is(session.get('cart'), session.get('cart')),
      visits,
      has: [session.has('cart'), session.has('nothing')],
      keys: session.keys().sort(),
      price: price instanceof Money && price.cents,
      isNew: session.isNew,
      owner: session.owner,
      idle: session.idleTimeoutMs,
      age: session.createdAt <= session.lastAccessedAt,
    };
    await session.sync();
    connection.send(JSON.stringify(facts));
  },
  get: (connection, key) => connection.send(JSON.stringify(connection.session!.get(key)) ?? 'undefined'),
  price: connection => connection.send(`${(connection.session!.get('shop:price') as Money).cents}`),
  async add(connection) {
    await Promise.all([1, 2, 3].map(() => connection.session!.update('n', n => Number(n ?? 0) + 1)));
    connection.send(`n is ${connection.session!.get('n')}`);
  },
  unawaited(connection) {
    void connection.session!.update('later', () => 'written');
  },
  async wrongs(connection) {
    const session = connection.session!;
    const said: string[] = [];
    const attempts: (() => unknown)[] = [
      () => session.set('f', { on: () => {} } as never),
      () => session.set('', 1 as never),
      () => session.set('big', 'x'.repeat(3_000_000)),
      () => session.update('n', 5 as never),
      () =>
        session.update('n', () => {
          throw new RangeError('mine');
        }),
      () => session.renew(),
      () => Object.assign(session, { cart: 1 }),
      () => {
        (session as { idleTimeoutMs: number }).idleTimeoutMs = -5;
      },
    ];
    for (const attempt of attempts)
      try {
        await attempt();
        said.push('nothing');
      } catch (error) {
        const { code, name, message } = error as Error & { code?: string };
        said.push(`${code ?? name}${/f\.on|mine/.exec(message) ?? ''}`);
      }
    connection.send(said.join(' '));
  },
  idle(connection, ms) {
    connection.session!.idleTimeoutMs = Number(ms);
    connection.send(`${connection.session!.idleTimeoutMs}`);
  },
  async report(connection) {
    const session = connection.session!;
    let refused: unknown;
    try {
      session.get('report');
    } catch (error) {
      refused = (error as { code?: string }).code;
    }
    const loaded = await session.load('report');
    connection.send(`${refused} ${loaded} ${session.get('report')} ${await session.load(['report', 'none'])}`);
  },
  async logout(connection) {
    await connection.session!.invalidate();
    try {
      connection.session!.get('cart');
    } catch (error) {
      connection.publish('watch', `${(error as { code?: string }).code} ${connection.session!.id.length}`);
    }
  },
};

let lateError: (Error & { code?: string }) | undefined;

export async function onMessage(connection: Here, data: string | Uint8Array): Promise<void> {
  if (typeof data !== 'string') {
    connection.send(data.subarray(1));
    return;
  }
  const [command = '', ...rest] = data.split(' ');
  const run = COMMANDS[command];
  if (!run) throw new Error(`no command ${command}`);
  await run(connection, rest.join(' '));
}

export function onPong(connection: Here, data: Uint8Array): void {
  connection.send(`pong ${data.length}`);
}

export function onPing(connection: Here, data: Uint8Array): void {
  connection.send(`ping ${Buffer.from(data)}`);
}

export function onError(connection: Here, error: Error & { code?: string }): void {
  const cause = error.cause as (Error & { code?: string }) | undefined;
  connection.publish('watch', `error ${error.code} ${cause?.name} ${cause?.code}`);
}

export function onClose(connection: Here, { code, reason, clean }: CloseEvent): void {
  connection.publish('watch', `closed ${code} ${reason} ${clean} ${connection.send('x')}`);
}
