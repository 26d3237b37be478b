import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testClient } from '../../src/testing/test-client.ts';
import { frame, PING, RawClient, TEXT } from './raw-client.ts';
import { type Served, serve } from './serve.ts';
import type { Seat } from './thread-handlers.ts';

const handlers = new URL('./thread-handlers.ts', import.meta.url);

function computing(options: Partial<EndpointOptions<Seat>> = {}) {
  return defineEndpoint<Seat>({
    path: '/',
    dispatch: { threads: 1 },
    handlers,
    accept: () => ({ data: { room: 'lobby', visits: new Map([['lobby', 1]]) } }),
    ...options,
  });
}

let served: Served;
let url: string;
const endpoint = computing({ path: '/room/:name', subprotocols: ['v1'], dispatch: { threads: 2 } });
beforeAll(async () => {
  served = await serve(endpoint);
  url = `${served.url}/room/blue?x=1`;
});
afterAll(() => served.server.stop({ drain: 0 }));

const open = (at = url, options = {}) => testClient(at, options);

async function said(command: string): Promise<unknown> {
  await using client = await open();
  client.send(command);
  return await client.receive();
}

/** A client that hears what handlers say of connections that they cannot send to any more. */
async function watch(at = url) {
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

describe('handlers in threads', () => {
  test('run in a thread that is not the main one', async () => {
    expect(await said('where')).toMatch(/^thread [1-9]/);
  });

  test('see what a connection knows', async () => {
    await using client = await open(url, { subprotocols: ['v1'] });
    client.send('facts');
    const facts = JSON.parse((await client.receive()) as string);
    const [connection] = endpoint.connections;
    expect(facts).toEqual({
      id: connection!.id,
      isOpen: true,
      isSecure: false,
      remoteAddress: '127.0.0.1',
      port: connection!.remotePort,
      url,
      params: { name: 'blue' },
      subprotocol: 'v1',
      patterns: ['/room/:name'],
      subprotocols: ['v1'],
      supportedVersions: [13],
    });
  });

  test('get text and binary messages whole, and send both', async () => {
    await using client = await open();
    client.send('echo héllo');
    expect(await client.receive()).toBe('héllo');
    client.send(new Uint8Array([1, 2, 3]));
    expect(await client.receive()).toEqual(Buffer.from([2, 3]));
  });

  test('keep the order of a connection, whichever thread is free', async () => {
    await using client = await open();
    const names = Array.from({ length: 12 }, (_, i) => `m${i}`);
    for (const name of names) client.send(`${name === 'm0' || name === 'm5' ? 'first' : 'echo'} ${name}`);
    for (const name of names) expect(await client.receive()).toBe(name);
  });

  test('of several connections run at once, as many as there are threads', async () => {
    const clients = await Promise.all([1, 2, 3].map(() => open()));
    for (const [i, client] of clients.entries()) {
      client.send(`slowly ${i}`);
      if (i < 2) expect(await client.receive()).toBe(`begin ${i}`);
    }
    const third = clients[2]!.receive();
    expect(await clients[0]!.receive()).toBe('end 0');
    expect(await third).toBe('begin 2');
    for (const client of clients) await client[Symbol.asyncDispose]();
  });

  test('stream fragments, wait for them to leave, and keep whole messages behind', async () => {
    await using client = await open();
    client.send('stream');
    expect([await client.receive(), await client.receive(), await client.receive()]).toEqual([
      'half and half',
      'behind',
      'drained 0 0',
    ]);
  });

  test('get pings and pongs, and send their own', async () => {
    using client = await RawClient.connect(url);
    client.send(frame(PING, 'hi'), frame(TEXT, 'ping'));
    const frames = [await client.next(), await client.next(), await client.next()].map(one => one!.payload.toString());
    expect(frames).toEqual(['hi', 'ping hi', 'are you there']);
    client.send(frame(TEXT, 'pong'));
    expect((await client.next())!.payload).toEqual(Buffer.from([1, 2]));
  });

  test('refuse a wrong value with the error of the main thread, and the connection lives', async () => {
    expect(await said('wrong')).toBe('TypeError RangeError RangeError TypeError TypeError TypeError TypeError');
  });

  test('close with a code, and know at once that the connection is not open any more', async () => {
    await using watcher = await watch();
    await using client = await open();
    client.send('results');
    expect(await client.receive()).toBe('one');
    expect(await client.closed).toMatchObject({ code: 4001, reason: 'enough' });
    await watcher.hears('closed 4001 enough true false');
  });

  test('cut the connection', async () => {
    await using client = await open();
    client.send('terminate');
    expect(await client.closed).toMatchObject({ code: 1006 });
  });

  test('subscribe, publish and broadcast', async () => {
    await using a = await open();
    await using b = await open();
    for (const client of [a, b]) {
      client.send('subscribe news');
      client.send('echo ready');
      expect(await client.receive()).toBe('ready');
    }
    a.send('publish news');
    expect(JSON.parse((await a.receive()) as string)).toEqual({ sent: 1, skipped: 1, failed: 0 });
    expect(await b.receive()).toBe('published');
    b.send('unsubscribe news');
    b.send('echo done');
    expect(await b.receive()).toBe('done');
    expect(served.server.publish('news', 'x')).toEqual({ sent: 1, skipped: 0, failed: 0 });
    expect(await a.receive()).toBe('x');
    b.send('broadcast');
    expect(await b.receive()).toEqual(Buffer.from([7]));
    expect(JSON.parse((await b.receive()) as string).sent).toBeGreaterThanOrEqual(2);
    expect(await a.receive()).toEqual(Buffer.from([7]));
    b.send('others');
    expect(await a.receive()).toBe('to the others');
  });

  test('read a copy of the data of their connection, and give it new data', async () => {
    await using client = await open();
    client.send('seat');
    expect(await client.receive()).toBe('lobby lobby,1');
    client.send('move garden');
    expect(await client.receive()).toBe('garden');
    client.send('seat');
    expect(await client.receive()).toBe('garden lobby,1,garden,1');
    expect([...endpoint.connections].map(({ data }) => data.room)).toContain('garden');
  });

  test('cannot change the data in place, where the change would be lost, and give it nothing that cannot be copied', async () => {
    expect(await said('scribble')).toBe('TypeError TypeError TypeError');
  });

  test('cannot use the connection when the callback has ended', async () => {
    // With one thread: what it keeps is kept by thread.
    await using alone = await serve(computing());
    await using client = await open(alone.url);
    client.send('late');
    expect(await client.receive()).toBe('kept');
    await expect
      .poll(async () => {
        client.send('lateError');
        return client.receive();
      })
      .toBe('ERR_WS_OUTSIDE_CALLBACK');
  });

  test('are told by their signal that the connection has begun to close, also in the middle of a computation', async () => {
    await using watcher = await watch();
    await using client = await open();
    client.send('untilAborted');
    expect(await client.receive()).toBe('computing');
    client.close();
    await watcher.hears('stopped false false');
  });

  test('are told by the event of their signal that the connection has begun to close', async () => {
    await using watcher = await watch();
    await using client = await open();
    client.send('event');
    expect(await client.receive()).toBe('waiting');
    client.close();
    await watcher.hears('event true');
  });

  test('that are in the definition run in the main thread, beside those of the module', async () => {
    const journal: string[] = [];
    await using mixed = await serve(
      computing({
        onOpen: connection => {
          journal.push(`open ${connection.data.room}`);
          connection.send('opened');
        },
        init: () => void journal.push('init'),
        destroy: () => void journal.push('destroy'),
      }),
    );
    await using client = await open(mixed.url);
    expect(await client.receive()).toBe('opened');
    client.send('where');
    expect(await client.receive()).toMatch(/^thread/);
    await mixed.server.stop({ drain: 0 });
    expect(journal).toEqual(['init', 'open lobby', 'destroy']);
  });

  test('share the threads of a policy, and each endpoint has the callbacks of its own module', async () => {
    const other = new URL('./thread-module-state.ts', import.meta.url);
    await using both = await serve(
      [
        computing({ path: '/a', dispatch: 'computing' }),
        defineEndpoint({ path: '/b', dispatch: 'computing', handlers: other }),
      ],
      { dispatch: { computing: { threads: 1 } } },
    );
    await using a = await open(`${both.url}/a`);
    await using b = await open(`${both.url}/b`);
    a.send('where');
    b.send('where');
    const where = await a.receive();
    expect(where).toMatch(/^thread/);
    expect(await b.receive()).toBe(`${where} 1`);
    b.send('again');
    expect(await b.receive()).toBe(`${where} 2`);
  });
});

describe('the session of a handler in a thread', () => {
  let own: Served;
  let cookie: string;
  beforeAll(async () => {
    own = await serve(computing(), {
      session: { store: 'memory:', maxAttributeSize: '1MiB', attributes: { report: 'apart' } },
      routes: [{ path: '/in', session: 'create', fetch: () => new Response('in') }],
    });
    const answer = await fetch(`${own.url.replace('ws', 'http')}/in`);
    cookie = answer.headers.getSetCookie()[0]!.split(';')[0]!;
  });
  afterAll(() => own.server.stop({ drain: 0 }));

  async function asked(command: string, shown = cookie): Promise<unknown> {
    await using client = await open(own.url, { headers: { Cookie: shown }, origin: own.url.replace('ws', 'http') });
    client.send(command);
    return await client.receive();
  }

  test('gets, sets, updates and names its attributes, with the classes that the thread has declared', async () => {
    const facts = JSON.parse((await asked('session')) as string);
    expect(facts).toEqual({
      cart: ['pen'],
      isSame: true,
      visits: 1,
      has: [true, false],
      keys: ['cart', 'shop:price', 'visits'],
      price: 250,
      isNew: false,
      idle: 1_800_000,
      age: true,
    });
    expect(await asked('price')).toBe('250');
  });

  test('counts updates that are not awaited one by one', async () => {
    expect(await asked('add')).toBe('n is 3');
    expect(await asked('add')).toBe('n is 6');
  });

  test('has what an update wrote that the callback did not await', async () => {
    await using client = await open(own.url, { headers: { Cookie: cookie }, origin: own.url.replace('ws', 'http') });
    client.send('unawaited');
    client.send('get later');
    expect(await client.receive()).toBe('"written"');
  });

  test('refuses with the errors of the main thread, and throws what the function of an update threw', async () => {
    expect(await asked('wrongs')).toBe(
      'ERR_SESSION_NOT_SERIALIZABLEf.on TypeError ERR_SESSION_TOO_LARGE TypeError RangeErrormine ERR_SESSION_HEADERS_SENT TypeError TypeError',
    );
  });

  test('loads an attribute that lies apart, and gets it only then', async () => {
    const sid = cookie.split('.')[1]!;
    await own.server.sessions.access(sid, session => session.set('report' as never, 'long' as never));
    expect(await asked('report')).toBe('ERR_SESSION_NOT_LOADED long long long,');
    await own.server.sessions.access(sid, session => session.delete('report' as never));
  });

  test('has what the route of its endpoint declares, also of a class that only the thread knows', async () => {
    await using declared = await serve([], {
      session: { store: 'memory:', attributes: { 'shop:price': 'apart' } },
      routes: [
        { path: '/in', session: 'create', fetch: () => new Response('in') },
        { endpoint: computing(), attributes: ['shop:price'] },
      ],
    });
    const origin = declared.url.replace('ws', 'http');
    const answer = await fetch(`${origin}/in`);
    const headers = { Cookie: answer.headers.getSetCookie()[0]!.split(';')[0]! };
    for (const [command, said] of [
      ['session', expect.stringContaining('"price":250')],
      ['price', '250'],
    ] as const) {
      await using client = await open(declared.url, { headers, origin });
      client.send(command);
      expect(await client.receive()).toEqual(said);
    }
  });

  test('has an idle time that can be set', async () => {
    expect(await asked('idle 60000')).toBe('60000');
  });

  test('ends, and is not used afterwards', async () => {
    const answer = await fetch(`${own.url.replace('ws', 'http')}/in`);
    const other = answer.headers.getSetCookie()[0]!.split(';')[0]!;
    await using watcher = await watch(own.url);
    await using client = await open(own.url, { headers: { Cookie: other }, origin: own.url.replace('ws', 'http') });
    client.send('logout');
    await watcher.hears('ERR_SESSION_ENDED 22');
    expect(await client.closed).toMatchObject({ code: 1008 });
  });
});

describe('a definition with threads', () => {
  test.each([
    ['threads of 0', { dispatch: { threads: 0 } }, /threads/],
    ['threads of 1.5', { dispatch: { threads: 1.5 } }, /threads/],
    ['more threads than 128', { dispatch: { threads: 129 } }, /128/],
    ['neither threads nor concurrency', { dispatch: {} }, /concurrency.*threads/],
    ['threads and concurrency', { dispatch: { threads: 2, concurrency: 2 } }, /concurrency/],
    ['memory without threads', { dispatch: { concurrency: 2, threadMemory: '1MiB' } }, /threadMemory/],
    ['less memory than a thread needs', { dispatch: { threads: 2, threadMemory: '1KiB' } }, /threadMemory/],
    ['a path that is relative', { handlers: './handlers.ts' }, /new URL/],
    ['a URL that is not a file', { handlers: new URL('https://example.com/x.js') }, /file:/],
    ['a module in the place of its path', { handlers: { onMessage() {} } }, /handlers/],
    ['threads without handlers', { handlers: undefined }, /handlers/],
    ['handlers without threads', { dispatch: { concurrency: 3 } }, /threads/],
    ['handlers without dispatch', { dispatch: undefined }, /threads/],
  ] as [string, object, RegExp][])('with %s is a TypeError', (_, wrong, message) => {
    const options = { path: '/', dispatch: { threads: 1 }, handlers, ...wrong } as EndpointOptions;
    expect(() => defineEndpoint(options)).toThrow(TypeError);
    expect(() => defineEndpoint(options)).toThrow(message);
  });

  test('takes the path of its module as a file URL, a text of one, or an absolute path', async () => {
    const texts = [handlers.href, decodeURI(handlers.pathname)].map((path, i) =>
      computing({ path: `/${i}`, handlers: path, dispatch: 'p' }),
    );
    await using both = await serve(texts, { dispatch: { p: { threads: 1 } } });
    for (const i of [0, 1]) {
      await using client = await open(`${both.url}/${i}`);
      client.send('echo here');
      expect(await client.receive()).toBe('here');
    }
  });

  test.each([
    ['a policy that has no threads', { concurrency: 2 }, { handlers }, /"p".*threads/],
    ['a policy with threads and no module', { threads: 1 }, {}, /"p".*handlers/],
  ])('with %s does not start, and says why', async (_, policy, options, message) => {
    const wrong = defineEndpoint({ path: '/', dispatch: 'p', ...options });
    await expect(serve(wrong, { dispatch: { p: policy } })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(message),
    });
  });
});
