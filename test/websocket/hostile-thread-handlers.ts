import { setTimeout as pause } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { ThreadConnection } from 'holdfast';

/** Errors that cannot be looked at, or would be taken for something else. */
const ERRORS: Readonly<Record<string, () => unknown>> = {
  'is named like a method of objects': () => Object.assign(new Error('named'), { name: 'toString' }),
  'is named like the prototype': () => Object.assign(new Error('named'), { name: '__proto__' }),
  'is named like a constructor': () => Object.assign(new Error('named'), { name: 'constructor' }),
  'is a proxy that throws': () =>
    new Proxy(new Error('x'), {
      ownKeys() {
        throw new Error('not to be looked at');
      },
    }),
  'has a message that changes': () => {
    let reads = 0;
    return Object.defineProperty(new Error('x'), 'message', { get: () => (reads++ === 0 ? 'text' : () => {}) });
  },
  'has a getter that throws': () =>
    Object.defineProperty(new Error('x'), 'stack', {
      get() {
        throw new Error('no stack');
      },
    }),
  'is its own cause': () => {
    const error = new Error('around');
    error.cause = error;
    return error;
  },
  'stands for others': () =>
    new AggregateError([new RangeError('the first'), Symbol('second'), new AggregateError([], 'inner')]),
  'has no prototype': () => Object.create(null),
  'is a symbol': () => Symbol('x'),
};

export const HOSTILE_ERRORS: readonly string[] = Object.keys(ERRORS);

export async function onMessage(connection: ThreadConnection, data: string | Uint8Array): Promise<void> {
  if (typeof data !== 'string') {
    // It is the handler's own: it may be given away, and what it is made of is not shared.
    const bytes = structuredClone(data, { transfer: [data.buffer as ArrayBuffer] });
    connection.send(`${data.length} ${bytes.length} ${bytes.buffer instanceof ArrayBuffer}`);
    return;
  }
  const throws = ERRORS[data];
  if (throws) throw throws();
  if (data === 'uncopied') {
    const none = (() => {}) as never;
    const attempts = [
      () => (connection.data = none),
      () => connection.session!.get(Symbol('x') as never),
      () => connection.session!.renew({ owner: none }),
      () => connection.session!.invalidate(none),
      () => connection.stream('x', none),
    ];
    const said: string[] = [];
    for (const attempt of attempts)
      try {
        await attempt();
      } catch (error) {
        said.push(`${(error as Error).name} ${(error as Error).message.split(':')[0]}`);
      }
    connection.send(said.join());
  } else if (data === 'stray') {
    connection.send('stray');
    setImmediate(() => {
      throw new Error('after the callback');
    });
  } else if (data === 'later') {
    await pause(100);
    connection.send('done');
  } else if (data === 'port') {
    parentPort!.postMessage(null);
    parentPort!.postMessage({ kind: 'done', id: 1 });
    connection.send(`port ${workerData}`);
  } else {
    connection.send(data);
  }
}

export async function onClose(connection: ThreadConnection): Promise<void> {
  if (connection.url.searchParams.has('slow')) await pause(400);
  connection.publish('watch', `closed ${connection.url.search} ${connection.signal.aborted}`);
}
