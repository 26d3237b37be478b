import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { productUrl, Served } from '../guard/served.ts';
import { Lines } from '../server/wires.ts';
import { PLACES, skipNote } from '../session/race-stores.ts';
import { HOSTILE_ERRORS } from '../websocket/hostile-thread-handlers.ts';
import { serve } from '../websocket/serve.ts';
import type { Seat } from '../websocket/thread-handlers.ts';
import { COMPUTING, CONFIG } from './computing-threads.ts';

const modules = new URL('../websocket/', import.meta.url);
const handlers = new URL('thread-handlers.ts', modules);

function computing(options: Partial<EndpointOptions<Seat>> = {}) {
  return defineEndpoint<Seat>({
    path: '/',
    dispatch: { threads: 1 },
    handlers,
    accept: () => ({ data: { room: 'lobby', visits: new Map([['lobby', 1]]) } }),
    ...options,
  });
}

const open = (at: string) => testClient(at);

/** A client that hears what handlers say of connections that they cannot send to any more. */
async function watch(at: string) {
  const client = await open(at);
  const watcher = {
    client,
    async hears(what: string | RegExp): Promise<void> {
      for (;;) {
        const text = String(await client.receive());
        if (typeof what === 'string' ? text === what : what.test(text)) return;
      }
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
  client.send('subscribe watch');
  client.send('echo ready');
  await watcher.hears('ready');
  return watcher;
}

describe('a handler in a thread that fails', () => {
  test('closes its connection with 1011, and its error has its name, code and stack in onError and the log', async () => {
    const logger = new Lines();
    await using alone = await serve(computing(), {}, { logger });
    await using watcher = await watch(alone.url);
    await using client = await open(alone.url);
    client.send('throw');
    expect(await client.closed).toMatchObject({ code: 1011 });
    await watcher.hears('error ERR_WS_HANDLER_FAILED RangeError ERR_OF_MINE');
    const { err, callback } = logger.all.find(({ level }) => level === 'error')!.fields as Record<string, Error>;
    expect(callback).toBe('message');
    expect(err).toBeInstanceOf(RangeError);
    expect(err).toMatchObject({ code: 'ERR_OF_MINE', message: 'the handler is broken' });
    expect(err!.stack).toContain('thread-handlers.ts');
    watcher.client.send('echo on');
    await watcher.hears('on');
  });

  test('may throw what is not an error', async () => {
    await using alone = await serve(computing());
    await using client = await open(alone.url);
    client.send('reject');
    expect(await client.closed).toMatchObject({ code: 1011 });
  });

  test.each([
    ['ends its thread', 'exit', /ended.*3/],
    ['lets its thread run out of memory', 'eat', /memory/],
  ])(
    'because it %s closes its connection alone, and another thread takes the next message',
    async (_, command, why) => {
      const logger = new Lines();
      await using alone = await serve(computing({ dispatch: { threads: 1, threadMemory: '24MiB' } }), {}, { logger });
      await using watcher = await watch(alone.url);
      await using client = await open(alone.url);
      client.send(command);
      expect(await client.closed).toMatchObject({ code: 1011 });
      await watcher.hears('error ERR_WS_HANDLER_FAILED HoldfastError ERR_WS_THREAD_LOST');
      watcher.client.send('where');
      await watcher.hears(/^thread/);
      const line = logger.all.find(({ fields }) => fields.event === 'thread-ended')!;
      expect(String((line.fields.err as Error).message)).toMatch(why);
    },
  );

  test('after its callback has ended costs the thread, and no connection', async () => {
    const logger = new Lines();
    await using alone = await serve(computing(), {}, { logger });
    await using client = await open(alone.url);
    client.send('stray');
    expect(await client.receive()).toBe('later');
    await expect.poll(() => logger.all.map(({ fields }) => fields.event)).toContain('thread-ended');
    client.send('where');
    expect(await client.receive()).toMatch(/^thread/);
  });
});

describe('a handler in a thread', () => {
  const hostile = (options: Partial<EndpointOptions> = {}) =>
    defineEndpoint({
      path: '/',
      dispatch: { threads: 1 },
      handlers: new URL('hostile-thread-handlers.ts', modules),
      onOpen: () => {},
      ...options,
    });

  test('may throw whatever it likes: its connection closes with 1011, and thread and process go on', async () => {
    const logger = new Lines();
    await using own = await serve(hostile(), {}, { logger });
    await using watcher = await testClient(own.url);
    for (const error of HOSTILE_ERRORS) {
      await using client = await testClient(own.url);
      client.send(error);
      expect(await client.closed, error).toMatchObject({ code: 1011 });
      watcher.send(error.toUpperCase());
      expect(await watcher.receive()).toBe(error.toUpperCase());
    }
    expect(logger.all.map(({ fields }) => fields.event)).not.toContain('thread-ended');
  });

  test('finds nothing of ours in its thread: no data of the worker, and nobody listens to its parent port', async () => {
    await using own = await serve(hostile());
    await using client = await testClient(own.url);
    for (const command of ['port', 'echo']) client.send(command);
    expect(await client.receive()).toBe('port undefined');
    expect(await client.receive()).toBe('echo');
  });

  test('is refused what cannot be copied to the main thread with a TypeError, and the session goes on', async () => {
    await using own = await serve(hostile(), {
      session: { store: 'memory:' },
      routes: [{ path: '/in', session: 'create', fetch: () => new Response('in') }],
    });
    const origin = own.url.replace('ws', 'http');
    const headers = { Cookie: (await fetch(`${origin}/in`)).headers.getSetCookie()[0]!.split(';')[0]! };
    await using client = await testClient(own.url, { origin, headers });
    for (const command of ['uncopied', 'echo']) client.send(command);
    expect(await client.receive()).toBe(
      'TypeError data,TypeError get,TypeError renew,TypeError invalidate,TypeError stream',
    );
    expect(await client.receive()).toBe('echo');
  });

  test('tells of every error that it stands for', async () => {
    const logger = new Lines();
    await using own = await serve(hostile(), {}, { logger });
    await using client = await testClient(own.url);
    client.send('stands for others');
    await client.closed;
    const { err } = logger.all.find(({ level }) => level === 'error')!.fields as { err: AggregateError };
    expect(err).toBeInstanceOf(AggregateError);
    expect(err.errors.map(one => `${one.name} ${one.message}`)).toEqual([
      'RangeError the first',
      'Error Symbol(second)',
      'AggregateError inner',
    ]);
  });

  test('has the bytes of a message for itself', async () => {
    await using own = await serve(hostile());
    await using client = await testClient(own.url);
    client.send(new Uint8Array([1, 2, 3]));
    expect(await client.receive()).toBe('0 3 true');
  });

  // The next callback is given to the thread before it is known that it ends.
  test('that ends its thread after its callback costs no connection, also when others wait', async () => {
    await using own = await serve(hostile());
    const clients = await Promise.all(Array.from({ length: 8 }, () => testClient(own.url)));
    const says = (i: number) => (i === 0 ? 'stray' : i % 2 === 0 ? `text ${i}` : new Uint8Array(60_000));
    const hears = (i: number) => (i % 2 === 0 ? says(i) : '0 60000 true');
    for (let round = 0; round < 5; round++) {
      for (const [i, client] of clients.entries()) client.send(says(i));
      for (const [i, client] of clients.entries()) expect(await client.receive()).toBe(hears(i));
    }
    for (const client of clients) await client[Symbol.asyncDispose]();
  });

  test('has its whole handlerTimeout, however long it has waited for a thread', async () => {
    const logger = new Lines();
    const heard: string[] = [];
    const endpoint = hostile({ handlerTimeout: '1s' });
    const watching = defineEndpoint({ path: '/watch', onOpen: connection => connection.subscribe('watch') });
    await using own = await serve([endpoint, watching], {}, { logger });
    await using watcher = await testClient(`${own.url}/watch`);
    const clients = await Promise.all(Array.from({ length: 8 }, (_, i) => testClient(`${own.url}/?slow=${i}`)));
    for (const client of clients) client.terminate();
    for (const _ of clients) heard.push(String(await watcher.receive()));
    expect(heard.sort()).toEqual(clients.map((_, i) => `closed ?slow=${i} true`));
    expect(logger.all.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([]);
  });
});

// In real time: what a thread does is not moved by a clock of the test.
describe('handlerTimeout of handlers in threads', () => {
  async function timed() {
    const logger = new Lines();
    const served = await serve(computing({ handlerTimeout: '1s' }), {}, { logger });
    const watcher = await watch(served.url);
    const client = await open(served.url);
    return {
      ...{ watcher, client },
      logged: () => logger.all.map(({ fields }) => fields.event),
      [Symbol.asyncDispose]: () => served[Symbol.asyncDispose](),
    };
  }

  test.each(['forever', 'never'])(
    'ends a handler that goes on %s: 1011, and after a second its thread',
    async command => {
      await using parts = await timed();
      const { client, watcher, logged } = parts;
      client.send(command);
      expect(await client.closed).toMatchObject({ code: 1011 });
      const givenUpAt = performance.now();
      await expect.poll(logged).toContain('thread-terminated');
      expect(performance.now() - givenUpAt).toBeGreaterThan(900);
      watcher.client.send('where');
      await watcher.hears(/^thread/);
      expect(logged()).not.toContain('thread-ended');
    },
  );

  test('leaves its thread to a handler that stops when its signal says so', async () => {
    await using parts = await timed();
    const { client, watcher, logged } = parts;
    client.send('untilAborted');
    expect(await client.receive()).toBe('computing');
    expect(await client.closed).toMatchObject({ code: 1011 });
    await watcher.hears('stopped false false');
    await pause(2_000);
    expect(logged()).not.toContain('thread-terminated');
  });
});

test('callbacks that hang are given up side by side: the server stops in the time of one', async () => {
  const hanging = new URL('thread-modules/hanging.ts', modules);
  const endpoint = defineEndpoint({ path: '/', dispatch: { threads: 1 }, handlers: hanging, handlerTimeout: '500ms' });
  const { server, url } = await serve(endpoint);
  await Promise.all(Array.from({ length: 30 }, () => open(url)));
  const stopsAt = performance.now();
  await server.stop({ drain: '100ms' });
  expect(performance.now() - stopsAt).toBeLessThan(5_000);
});

describe('a module of handlers', () => {
  test.each([
    ['is not there', 'missing.ts', /missing\.ts/],
    ['throws when it is loaded', 'broken.ts', /broken\.ts.*no table of prices/],
    ['exports no callback', 'empty.ts', /exports none/],
    ['exports a misspelled callback', 'misspelled.ts', /onMesage.*onMessage/],
    ['exports accept', 'accepting.ts', /accept.*definition/],
    ['exports a callback that is not a function', 'value.ts', /onMessage.*function/],
    ['has a callback that the definition has too', 'twice.ts', /onOpen/],
  ])('whose module %s does not start, and says why', async (_, file, message) => {
    const module = new URL(`thread-modules/${file}`, modules);
    const wrong = defineEndpoint({ path: '/', dispatch: { threads: 2 }, handlers: module, onOpen() {} });
    await expect(serve(wrong)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(message),
    });
  });
});

describe('a module of handlers that never loads', () => {
  test.each([
    ['waits', 'await new Promise(() => setInterval(() => {}, 1000));'],
    ['computes', 'for (;;);'],
  ])('because it %s is given up after 60 s: the server does not start', async (_, text) => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-threads-'));
    const module = join(folder, 'endless.mjs');
    await writeFile(module, `${text} export function onMessage() {}`);
    const clock = new FakeClock();
    const started = serve(defineEndpoint({ path: '/', dispatch: { threads: 2 }, handlers: module }), {}, { clock });
    const refused = expect(started).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: `endpoint /: the handlers of ${module} cannot be loaded: it has not been loaded after 60 s`,
    });
    await pause(500);
    await clock.advance(61_000);
    await refused;
    await rm(folder, { recursive: true });
  });
});

describe('the session of a handler in a thread', () => {
  test.each(PLACES.map(place => [`${place.name}${skipNote(place)}`, place] as const))(
    'is kept in %s as one of the main thread',
    async (_, { missing, open: openPlace }) => {
      if (missing) return;
      const place = await openPlace();
      const dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-threads-'));
      await writeFile(join(dataFolder, 'key'), 'k'.repeat(64));
      const own = await serve(computing(), {
        session: { store: place.address, keyFiles: [join(dataFolder, 'key')] },
        dataFolder,
        routes: [{ path: '/in', session: 'create', fetch: () => new Response('in') }],
      });
      const origin = own.url.replace('ws', 'http');
      const answer = await fetch(`${origin}/in`);
      const cookie = answer.headers.getSetCookie()[0]!.split(';')[0]!;
      const sockets = await Promise.all(
        [1, 2, 3].map(() => testClient(own.url, { origin, headers: { Cookie: cookie } })),
      );
      // Three updates of each socket, all at once; other processes and requests change it too.
      for (const socket of sockets) socket.send('add');
      const sid = cookie.split('.')[1]!;
      await own.server.sessions.access(sid, session =>
        session.update('n' as never, (n: unknown) => (Number(n ?? 0) + 1) as never),
      );
      for (const socket of sockets) expect(await socket.receive()).toMatch(/^n is \d+$/);
      expect(await own.server.sessions.access(sid, session => session.get('n' as never))).toBe(10);
      sockets[0]!.send('session');
      expect(JSON.parse((await sockets[0]!.receive()) as string)).toMatchObject({ cart: ['pen'], price: 250 });
      sockets[1]!.send('price');
      expect(await sockets[1]!.receive()).toBe('250');
      for (const socket of sockets) await socket[Symbol.asyncDispose]();
      await own.server.stop({ drain: 0 });
      await place.close();
      await rm(dataFolder, { recursive: true });
    },
  );
});

describe('a process with handlers in threads', () => {
  test('stops on SIGTERM in the middle of a computation, when that has ended', async () => {
    await using server = await Served.module(CONFIG, { files: { 'computing.mjs': COMPUTING } });
    const client = await testClient(`${server.url('http/1').replace('http', 'ws')}/threads`);
    client.send('compute');
    expect(await client.ping()).toBe(true);
    server.program.kill('SIGTERM');
    await client.closed;
    expect(await server.program.ended).toBe(0);
  });

  test('starts also as text on the command line', async () => {
    const text = `
      import { createServer, defineEndpoint } from '${productUrl}';
      const endpoint = defineEndpoint({ path: '/', dispatch: { threads: 1 }, handlers: '${fileURLToPath(handlers)}' });
      const server = createServer({ listen: [{ port: 0 }], session: false, routes: [{ endpoint }] });
      await server.start();
      await server.stop();
      console.log('stopped');
    `;
    const args = ['-C', 'holdfast-source', '--input-type=module', '--eval', text];
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: fileURLToPath(modules) });
    expect(stdout).toBe('stopped\n');
  });

  test.each([
    ['fails', 'throw new Error("no prices")', /no prices/],
    ['is missing', undefined, /computing\.mjs/],
  ])('does not start with a module that %s, and says so', async (_, text, message) => {
    const config = CONFIG.replace("import { compute } from './computing.mjs';", 'const compute = () => {};');
    const started = Served.module(config, { files: text === undefined ? {} : { 'computing.mjs': text } });
    await expect(started).rejects.toThrow(message);
  });

  test('takes handlers in TypeScript, with imports of the product', async () => {
    const text = `import { CloseCode, type ThreadConnection } from '${productUrl}';
export function onMessage(connection: ThreadConnection, data: string | Uint8Array): void {
  connection.close(CloseCode.normal, String(data));
}`;
    const config = CONFIG.replaceAll("new URL('./computing.mjs'", "new URL('./computing.ts'");
    await using server = await Served.module(config, {
      files: { 'computing.mjs': COMPUTING, 'computing.ts': text },
    });
    const client = await testClient(`${server.url('http/1').replace('http', 'ws')}/threads`);
    client.send('good bye');
    expect(await client.closed).toMatchObject({ code: 1000, reason: 'good bye' });
  });
});
