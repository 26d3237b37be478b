import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer, defineEndpoint, type Endpoint, type Server } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ServerEnvironment, threadFilesOf } from '../../src/server/server.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import { Lines } from '../server/wires.ts';
import { until } from '../services/until.ts';
import { CONTINUATION, frame, PING, PONG, RawClient, TEXT } from './raw-client.ts';

let folder: string;
let server: Server | undefined;
const clients: WebSocketClient[] = [];
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-thread-reload-')));
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.terminate();
  await server?.stop({ drain: 0 });
  server = undefined;
  rmSync(folder, { recursive: true });
});

function write(name: string, text: string): void {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), text);
}

/** Answers with the version of the module, and its own; `slowly` says so and waits until the file `go` is there. */
const HANDLERS = (own: string) => `
  import { once } from 'node:events';
import { existsSync } from 'node:fs';
  import { setTimeout as pause } from 'node:timers/promises';
  import { threadId } from 'node:worker_threads';
  import { version } from './version.ts';
  export async function onMessage(connection, data) {
    if (data === 'thread') return connection.send('thread ' + threadId);
    if (data === 'slowly') {
      connection.send('begun');
      while (!existsSync(${JSON.stringify(join(folder, 'go'))}) && !connection.signal.aborted) await pause(10);
      if (connection.signal.aborted) return connection.publish('ends', 'aborted');
    }
    connection.send('${own} ' + version);
  }
`;
const VERSION = (version: string) => `export const version: string = '${version}';\n`;

function threaded(path: string, dispatch: string | { threads: number } = { threads: 1 }): Endpoint<unknown> {
  return defineEndpoint({ path, dispatch, handlers: join(folder, 'handlers.ts') });
}

const configOf = (endpoints: readonly Endpoint<unknown>[], more: Config = {}): Config => ({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  drain: { over: 0 },
  routes: endpoints.map(endpoint => ({ endpoint })),
  ...more,
});

async function start(config: Config, environment: ServerEnvironment = {}): Promise<Lines> {
  const lines = new Lines();
  server = createServer(config, { logger: lines, ...environment });
  await server.start();
  return lines;
}

const urlOf = (path: string) => server!.urls[0]!.replace('http', 'ws').replace('localhost', '127.0.0.1') + path;

async function open(path: string): Promise<WebSocketClient> {
  const client = await testClient(urlOf(path));
  clients.push(client);
  return client;
}

async function answerOf(client: WebSocketClient, message = 'hello'): Promise<string> {
  client.send(message);
  return String(await client.receive());
}

/** Threads of handlers that this process has. */
function threadCount(): number {
  const names = readdirSync('/proc/self/task').map(id => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim());
  return names.filter(name => name === 'holdfast').length;
}

const renewals = (lines: Lines) => lines.all.filter(({ fields }) => fields.event === 'threads-renewed');

describe('a reload after a file has changed that threads have imported', () => {
  test('lets new threads run it, also for open WebSockets, and ends those of before', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const config = configOf([threaded('/a', { threads: 2 })]);
    const lines = await start(config);
    const client = await open('/a');
    expect(await answerOf(client)).toBe('first one');
    const threads = process.platform === 'linux' ? threadCount() : undefined;

    write('version.ts', VERSION('two'));
    const report = await server!.reload(config);
    expect(report.needsRestart).toEqual([]);
    expect(await answerOf(client)).toBe('first two');
    expect(renewals(lines)).toMatchObject([{ level: 'info', fields: { files: [join(folder, 'version.ts')] } }]);

    write('handlers.ts', HANDLERS('second'));
    await server!.reload(config);
    expect(await answerOf(client)).toBe('second two');
    expect(await answerOf(await open('/a'))).toBe('second two');
    if (threads !== undefined) await until(() => threadCount() === threads);
    expect(lines.all.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  test('keeps the threads where nothing has changed', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const config = configOf([threaded('/a')]);
    const lines = await start(config);
    const client = await open('/a');
    const thread = await answerOf(client, 'thread');
    write('version.ts', VERSION('one'));
    await server!.reload(config);
    expect(await answerOf(client, 'thread')).toBe(thread);
    expect(renewals(lines)).toEqual([]);
  });

  test('lets callbacks that run finish as they began, and their connections go on with the new code', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const config = configOf([threaded('/a')]);
    await start(config);
    const [slow, waiting, other] = [await open('/a'), await open('/a'), await open('/a')];
    expect(await answerOf(slow, 'slowly')).toBe('begun');
    // The one thread is busy.
    waiting.send('hello');
    await waiting.ping();

    write('version.ts', VERSION('two'));
    write('handlers.ts', HANDLERS('second'));
    await server!.reload(config);
    write('go', '');
    expect(String(await slow.receive())).toBe('first one');
    expect(await answerOf(slow)).toBe('second two');
    // It had not begun.
    expect(String(await waiting.receive())).toBe('second two');
    expect(await answerOf(other)).toBe('second two');
  });

  test('still aborts a callback that runs in a thread of before when its client goes away', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const watching = defineEndpoint({ path: '/ends', onOpen: connection => connection.subscribe('ends') });
    const config = configOf([threaded('/a'), watching]);
    await start(config);
    const ends = await open('/ends');
    const slow = await open('/a');
    expect(await answerOf(slow, 'slowly')).toBe('begun');
    write('version.ts', VERSION('two'));
    await server!.reload(config);
    slow.terminate();
    expect(String(await ends.receive())).toBe('aborted');
  });

  test('is refused when the handlers cannot be loaded now, and those of before go on', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const config = configOf([threaded('/a', 'computing'), threaded('/b', 'computing')], {
      dispatch: { computing: { threads: 1 } },
    });
    const lines = await start(config);
    const client = await open('/a');
    write('version.ts', 'throw new Error("no version");\nexport const version = 0;\n');
    await expect(server!.reload(config)).rejects.toThrow(/handlers of .*cannot be loaded: no version/);
    expect(await answerOf(client)).toBe('first one');
    expect(await answerOf(await open('/b'))).toBe('first one');
    expect(renewals(lines)).toEqual([]);

    write('version.ts', VERSION('three'));
    await server!.reload(config);
    expect(await answerOf(client)).toBe('first three');
  });

  test.each([
    ['an endpoint', { threads: 1 }, {}],
    ['a policy', 'computing', { dispatch: { computing: { threads: 1 } } }],
  ])('is refused when a later step of it fails, and the new threads of %s end', async (_, dispatch, more) => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const config = configOf([threaded('/a', dispatch)], more);
    const lines = await start(config);
    const client = await open('/a');
    const thread = await answerOf(client, 'thread');
    const threads = process.platform === 'linux' ? threadCount() : undefined;
    await using taken = createTcpServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    const { port } = taken.address() as AddressInfo;

    write('version.ts', VERSION('two'));
    const listen = [...config.listen!, { port, host: '127.0.0.1' }];
    await expect(server!.reload({ ...config, listen })).rejects.toMatchObject({ code: 'ERR_SERVER_LISTEN' });
    if (threads !== undefined) await until(() => threadCount() === threads);
    expect(await answerOf(client)).toBe('first one');
    expect(renewals(lines)).toEqual([]);

    // Nothing of the refused one is left for the next.
    write('version.ts', VERSION('one'));
    await server!.reload(config);
    expect(await answerOf(client, 'thread')).toBe(thread);
    if (threads !== undefined) await until(() => threadCount() === threads);
    expect(renewals(lines)).toEqual([]);
  });

  test('renews the threads of a policy for all of its endpoints, those that are new among them', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const [a, b] = [threaded('/a', 'computing'), threaded('/b', 'computing')];
    const dispatch = { computing: { threads: 1 } };
    const lines = await start(configOf([a], { dispatch }));
    const client = await open('/a');
    write('version.ts', VERSION('two'));
    await server!.reload(configOf([a, b], { dispatch }));
    const other = await open('/b');
    expect(await answerOf(other)).toBe('first two');
    expect(await answerOf(client, 'thread')).toBe(await answerOf(other, 'thread'));
    expect(renewals(lines)).toHaveLength(1);
  });

  test('changes which callbacks there are, also between messages in fragments', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', "export function onMessage(connection, data) { connection.send('whole ' + data); }\n");
    const config = configOf([threaded('/a')]);
    await start(config);
    using client = await RawClient.connect(urlOf('/a'));
    const answer = () => client.text();
    client.send(frame(TEXT, 'begun ', { fin: false }), frame(PING));
    expect((await client.next())?.opcode).toBe(PONG);
    write('handlers.ts', "export function onFragment(connection, data) { connection.send('piece ' + data); }\n");
    await server!.reload(config);
    client.send(frame(CONTINUATION, 'before'));
    expect(await answer()).toBe('piece begun before');
    client.send(frame(TEXT, 'one', { fin: false }));
    expect(await answer()).toBe('piece one');
    client.send(frame(CONTINUATION, 'two'));
    expect(await answer()).toBe('piece two');
    write('handlers.ts', "export function onMessage(connection, data) { connection.send('whole ' + data); }\n");
    await server!.reload(config);
    client.send(frame(TEXT, 'one ', { fin: false }), frame(CONTINUATION, 'two'));
    expect(await answer()).toBe('whole one two');
  });

  /** A callback that waits until the file `go` is there, when the message begins with `slowly`. */
  const TAKING = (callback: string) => `
    import { existsSync } from 'node:fs';
    import { setTimeout as pause } from 'node:timers/promises';
    export async function ${callback}(connection, data) {
      if (data.startsWith('slowly')) {
        connection.send('begun');
        while (!existsSync(${JSON.stringify(join(folder, 'go'))})) await pause(10);
      }
      connection.send('${callback} ' + data);
    }
  `;

  test('gives a message in fragments that has waited to new code that takes pieces alone', async () => {
    write('handlers.ts', TAKING('onMessage'));
    const config = configOf([threaded('/a')]);
    await start(config);
    using client = await RawClient.connect(urlOf('/a'));
    client.send(frame(TEXT, 'slowly'), frame(TEXT, 'one ', { fin: false }), frame(CONTINUATION, 'two'), frame(PING));
    const heard = [await client.next(), await client.next()].map(one => one?.opcode);
    expect(heard.sort()).toEqual([TEXT, PONG]);
    write('handlers.ts', TAKING('onFragment'));
    await server!.reload(config);
    write('go', '');
    expect(await client.text()).toBe('onMessage slowly');
    expect(await client.text()).toBe('onFragment one two');
  });

  test('closes with 1011 and says so where pieces of a message have waited, and the new code takes whole ones', async () => {
    write('handlers.ts', TAKING('onFragment'));
    const config = configOf([threaded('/a')]);
    const lines = await start(config);
    using client = await RawClient.connect(urlOf('/a'));
    client.send(frame(TEXT, 'slowly', { fin: false }), frame(CONTINUATION, ' and rest'), frame(PING));
    const heard = [await client.next(), await client.next()].map(one => one?.opcode);
    expect(heard.sort()).toEqual([TEXT, PONG]);
    write('handlers.ts', TAKING('onMessage'));
    await server!.reload(config);
    write('go', '');
    expect(await client.text()).toBe('onFragment slowly');
    expect(await client.closeCode()).toBe(1011);
    const errors = lines.all.filter(({ level }) => level === 'error').map(({ fields }) => `${fields.err}`);
    expect(errors).toEqual([
      'Error: the handlers of before took this message in pieces, and those of now take whole ones',
    ]);
  });

  test('leaves endpoints that are served no more where they are until their connections have gone', async () => {
    write('version.ts', VERSION('one'));
    write('handlers.ts', HANDLERS('first'));
    const [a, b] = [threaded('/a', 'computing'), threaded('/b', 'computing')];
    const dispatch = { computing: { threads: 1 } };
    // By this clock no connection is ever told to go.
    await start(configOf([a, b], { dispatch, drain: { over: '60s' } }), { clock: new FakeClock(Date.now()) });
    const [left, stays] = [await open('/a'), await open('/b')];
    await server!.reload(configOf([b], { dispatch, drain: { over: '60s' } }));
    write('version.ts', VERSION('two'));
    await server!.reload(configOf([b], { dispatch, drain: { over: '60s' } }));
    expect(await answerOf(left)).toBe('first one');
    expect(await answerOf(stays)).toBe('first two');
  });
});

// In real time: what a thread does is not moved by a clock of the test.
describe('a callback that was given up', () => {
  /** `cleanly` ends some time after its signal, `never` does not. */
  const PATIENT = () => `
    import { writeFileSync } from 'node:fs';
    import { once } from 'node:events';
    import { setTimeout as pause } from 'node:timers/promises';
    export async function onMessage(connection, data) {
      connection.send('begun');
      await once(connection.signal, 'abort');
      await (data === 'never' ? new Promise(() => {}) : pause(300));
      writeFileSync(${JSON.stringify(cleaned())}, '');
    }
  `;
  const cleaned = () => join(folder, 'cleaned');
  const events = (lines: Lines) => lines.all.map(({ fields }) => fields.event);

  async function begun(data: string) {
    write('handlers.ts', PATIENT());
    const path = '/a';
    const handlers = join(folder, 'handlers.ts');
    const config = configOf([defineEndpoint({ path, dispatch: { threads: 1 }, handlers, handlerTimeout: '500ms' })]);
    const lines = await start(config);
    const client = await open(path);
    expect(await answerOf(client, data)).toBe('begun');
    return { config, lines, client };
  }

  test('has its second to clean up also where a reload has replaced its thread', async () => {
    const { config, lines, client } = await begun('cleanly');
    write('handlers.ts', `${PATIENT()}// changed`);
    await server!.reload(config);
    expect(await client.closed).toMatchObject({ code: 1011 });
    await until(() => existsSync(cleaned()));
    expect(events(lines)).toContain('threads-renewed');
    expect(events(lines)).not.toContain('thread-terminated');
  });

  test('is said to have lost its thread where it does not end in this second, and a reload has replaced it', async () => {
    const { config, lines, client } = await begun('never');
    const threads = process.platform === 'linux' ? threadCount() : undefined;
    write('handlers.ts', `${PATIENT()}// changed`);
    await server!.reload(config);
    expect(await client.closed).toMatchObject({ code: 1011 });
    await until(() => events(lines).includes('thread-terminated'));
    if (threads !== undefined) await until(() => threadCount() === threads);
    expect(events(lines)).not.toContain('thread-ended');
  });

  test('has its second also where the server stops', async () => {
    const { client } = await begun('cleanly');
    expect(await client.closed).toMatchObject({ code: 1011 });
    await server!.stop({ drain: 0 });
    expect(existsSync(cleaned())).toBe(true);
  });
});

test.each([
  ['more threads', { threads: 2 }],
  ['other memory for each', { threads: 1, threadMemory: '64MiB' }],
] as const)('a reload with %s in a dispatch policy starts them, and those of before end', async (_, policy) => {
  write('version.ts', VERSION('one'));
  write('handlers.ts', HANDLERS('first'));
  const a = threaded('/a', 'computing');
  await start(configOf([a], { dispatch: { computing: { threads: 1 } } }));
  const client = await open('/a');
  const thread = await answerOf(client, 'thread');
  const before = process.platform === 'linux' ? threadCount() : undefined;
  const report = await server!.reload(configOf([a], { dispatch: { computing: policy } }));
  expect(report.needsRestart).toEqual([]);
  expect(await answerOf(client, 'thread')).not.toBe(thread);
  if (before !== undefined) await until(() => threadCount() === before - 1 + policy.threads);
});

test('files that handlers import in threads are known, also one that is imported later; a package is not', async () => {
  write('package.json', '{ "type": "module" }');
  write('node_modules/other/package.json', '{ "type": "module", "exports": "./index.js" }');
  write('node_modules/other/index.js', 'export const other = 1;\n');
  write('typescript.ts', 'export const one: number = 1;\n');
  write('script.js', "import data from './data.json' with { type: 'json' };\nexport const two = data.two;\n");
  write('data.json', '{ "two": 2 }');
  write('module.mjs', "import common from './common.cjs';\nexport const three = common.three;\n");
  write('common.cjs', "exports.three = require('./required.cjs');\n");
  write('required.cjs', 'module.exports = 3;\n');
  write('later.ts', 'export const later = 4;\n');
  write(
    'handlers.ts',
    `import { CloseCode } from ${JSON.stringify(new URL('../../src/wire/close-codes.ts', import.meta.url).href)};
     import { other } from 'other';
     import { one } from './typescript.ts';
     import { two } from './script.js';
     import { three } from './module.mjs';
     export async function onMessage(connection, data) {
       const { later } = await import('./later.ts');
       connection.send([CloseCode.normal, other, one, two, three, later].join());
     }`,
  );
  await start(configOf([threaded('/a', { threads: 2 })]));
  const names = ['common.cjs', 'data.json', 'handlers.ts', 'module.mjs', 'required.cjs', 'script.js', 'typescript.ts'];
  const paths = (all: readonly string[]) => all.map(name => join(folder, name)).sort();
  expect([...threadFilesOf(server!).keys()].sort()).toEqual(paths(names));
  expect(await answerOf(await open('/a'))).toBe('1000,1,1,2,3,4');
  await until(() => threadFilesOf(server!).has(join(folder, 'later.ts')));
  expect([...threadFilesOf(server!).keys()].sort()).toEqual(paths([...names, 'later.ts']));
});
