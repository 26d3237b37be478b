import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import type { HandedConnection } from '../../../src/server/workers/handed-connection.ts';
import { Handover, type Taker, type TakersOf } from '../../../src/server/workers/handover.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';

/** A worker that says of a connection what a test says. */
class TestWorker implements Taker {
  /** What has come, and has not been answered. */
  readonly come: number[] = [];
  /** What the supervisor has heard nothing of. */
  readonly asked: number[] = [];
  /** How many have come. */
  count = 0;

  hand({ id }: HandedConnection): void {
    this.count++;
    this.come.push(id);
  }

  ask(id: number): void {
    this.asked.push(id);
  }

  answer(isTaken: boolean): void {
    handover.receive(this, this.come.shift()!, isTaken);
  }

  /** As a process that has no descriptor left: it knows nothing of what has come until it is asked. */
  refuseWhatIsAsked(): void {
    for (const id of this.asked.splice(0)) {
      this.come.splice(this.come.indexOf(id), 1);
      handover.receive(this, id, false);
    }
  }
}

let clock: FakeClock;
let handover: Handover;
let errors: { fields: object; message: string }[];
let server: Server;
const clients: Socket[] = [];
beforeEach(async () => {
  clock = new FakeClock();
  errors = [];
  const logger = { ...silentLogger, error: (fields: object, message: string) => errors.push({ fields, message }) };
  handover = new Handover(clock, logger);
  server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  handover.close();
  for (const client of clients.splice(0)) client.destroy();
  server.close();
});

function portOf(...takers: Taker[]): TakersOf {
  return { key: 'web', takers: new Set(takers) };
}

/** @returns resolves when the client sees its connection end. */
async function connectTo(port: TakersOf): Promise<{ closed: Promise<unknown> }> {
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
  clients.push(client);
  const closed = new Promise(resolve => client.resume().once('close', resolve));
  handover.accept((await accepted)[0], port);
  return { closed };
}

describe('a connection on its way to a worker', () => {
  test('is closed after 10 s when every worker has run out of descriptors', async () => {
    const workers = [new TestWorker(), new TestWorker()];
    const { closed } = await connectTo(portOf(...workers));
    for (let ms = 0; ms < 11_000; ms += 100) {
      await clock.advance(100);
      for (const worker of workers) worker.refuseWhatIsAsked();
    }
    await closed;
    expect(errors).toMatchObject([{ fields: { event: 'connections-not-taken', connections: 1 } }]);
  });

  test('is offered at most twice a second to workers that refuse it at once', async () => {
    const workers = [new TestWorker(), new TestWorker()];
    await connectTo(portOf(...workers));
    for (let ms = 0; ms < 5_000; ms += 100) {
      for (let i = 0; i < 10; i++) for (const worker of workers) if (worker.come.length > 0) worker.answer(false);
      await clock.advance(100);
    }
    for (const { count } of workers) expect(count).toBeLessThanOrEqual(11);
  });

  test('is offered again to the only worker half a second after it was refused', async () => {
    const worker = new TestWorker();
    await connectTo(portOf(worker));
    worker.answer(false);
    expect(worker.come).toEqual([]);
    await clock.advance(500);
    expect(worker.come).toHaveLength(1);
    worker.answer(true);
    await clock.advance(20_000);
    expect(errors).toEqual([]);
  });

  test('goes back to a worker that has refused it when the other one stands still', async () => {
    const [first, second] = [new TestWorker(), new TestWorker()];
    const port = portOf(first, second);
    await connectTo(port);
    await connectTo(port);
    // It waits behind the one that has not been answered.
    first.answer(false);
    expect([first.come, second.come]).toEqual([[], [2]]);
    await clock.advance(1_000);
    expect([first.come, second.come]).toEqual([[1], [2]]);
  });

  test('is closed at once when the port has been closed and the worker refuses it, without an error', async () => {
    const worker = new TestWorker();
    const port = portOf(worker);
    const { closed } = await connectTo(port);
    handover.drop(port);
    worker.answer(false);
    await closed;
    await clock.advance(20_000);
    expect(errors).toEqual([]);
  });

  test('is closed at once when the port has been closed and the worker ends', async () => {
    const worker = new TestWorker();
    const takers = new Set<Taker>([worker]);
    const port = { key: 'web', takers };
    const { closed } = await connectTo(port);
    handover.drop(port);
    takers.clear();
    handover.lose(worker);
    await closed;
    await clock.advance(20_000);
    expect(errors).toEqual([]);
  });

  test('is no error when the port has been closed and the worker refuses it after more than 10 s', async () => {
    const worker = new TestWorker();
    const port = portOf(worker);
    const { closed } = await connectTo(port);
    handover.drop(port);
    await clock.advance(20_000);
    worker.answer(false);
    await closed;
    await clock.advance(20_000);
    expect(errors).toEqual([]);
  });

  test('belongs to its worker when the port has been closed and the worker takes it', async () => {
    const worker = new TestWorker();
    const port = portOf(worker);
    await connectTo(port);
    handover.drop(port);
    await clock.advance(20_000);
    worker.answer(true);
    await clock.advance(20_000);
    expect(errors).toEqual([]);
  });
});
