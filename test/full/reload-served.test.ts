import { once } from 'node:events';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { productUrl, Served } from '../guard/served.ts';
import { until } from '../services/until.ts';

let server: Served | undefined;
afterEach(async () => {
  await server?.[Symbol.asyncDispose]();
  server = undefined;
});

/** Lines of the server's log with this event. */
function lines(event: string): Record<string, unknown>[] {
  const all = server!.program.stderr.split('\n').filter(line => line.startsWith('{'));
  return all.map(line => JSON.parse(line) as Record<string, unknown>).filter(line => line.event === event);
}

/** How often the configuration was taken anew. */
async function reloads(): Promise<number> {
  const asked = request({ socketPath: join(server!.folder, '.holdfast/admin.sock'), path: '/metrics' }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const body = Buffer.concat(await response.toArray()).toString();
  return Number(/^holdfast_reloads_total\{result="ok"\} (\d+)/m.exec(body)![1]);
}

/** The same, after a time in which no file has changed. */
async function reloadsInPeace(): Promise<number> {
  await pause(1_500);
  return reloads();
}

const redirect = (to: string) => `routes: [{ path: /a, redirect: ${to} }]\n`;
const locationOf = async () =>
  (await fetch(`${server!.url('http/1')}/a`, { redirect: 'manual' })).headers.get('location');

/** Puts another text in the place of one in the configuration file. */
function rewrite(from: string, to: string, name = 'holdfast.yaml'): void {
  const path = join(server!.folder, name);
  const text = readFileSync(path, 'utf8');
  expect(text).toContain(from);
  writeFileSync(path, text.replace(from, to));
}

async function open(path: string): Promise<WebSocket> {
  const socket = new WebSocket(server!.url('http/1').replace('http', 'ws') + path);
  await once(socket, 'open');
  return socket;
}

async function answerOf(socket: WebSocket, message = 'hello'): Promise<string> {
  const answer = once(socket, 'message');
  socket.send(message);
  return String((await answer)[0]);
}

describe('a configuration file that has changed', () => {
  test('counts within seconds with a line for each time, and one that cannot be used is refused with its lines', async () => {
    server = await Served.yaml(redirect('/one'));
    rewrite('/one', '/two');
    await until(async () => (await locationOf()) === '/two');
    rewrite('/a', '/b');
    await until(() => lines('reloaded').length > 1);
    expect(lines('reloaded')).toMatchObject([
      { why: 'a file has changed', changed: ['/a'], added: [], removed: [] },
      { why: 'a file has changed', changed: [], added: ['/b'], removed: ['/a'] },
    ]);
    rewrite('/b', '/a');
    await until(() => lines('reloaded').length > 2);
    rewrite('redirect:', 'redirekt:');
    await until(() => lines('reload-refused').length > 0);
    expect(lines('reload-refused')[0]).toMatchObject({ line: 4, level: 'error', why: 'a file has changed' });
    expect(await locationOf()).toBe('/two');
    rewrite('redirekt: /two', 'redirect: /three');
    await until(async () => (await locationOf()) === '/three');
  });

  test('counts with the files that it includes, and those that appear where a glob looks', async () => {
    server = await Served.yaml('include: "conf.d/*.yaml"\n', { files: { 'conf.d/a.yaml': redirect('/one') } });
    writeFileSync(join(server.folder, 'conf.d/a.yaml'), redirect('/two'));
    await until(async () => (await locationOf()) === '/two');
    writeFileSync(join(server.folder, 'conf.d/b.yaml'), 'routes: [{ path: /b, redirect: /more }]\n');
    await until(async () => (await fetch(`${server!.url('http/1')}/b`, { redirect: 'manual' })).status === 308);
  });
});

test('SIGHUP reads the configuration again, and what was asked for meanwhile is done once more', async () => {
  server = await Served.yaml(redirect('/one'));
  rewrite('/one', '/two');
  for (let i = 0; i < 5; i++) server.program.kill('SIGHUP');
  await until(async () => (await locationOf()) === '/two');
  expect(lines('reloaded').length).toBeGreaterThanOrEqual(1);
  expect(lines('reload-refused')).toEqual([]);
});

describe('modules', () => {
  const endpoint = (answer: string) => `
    import { defineEndpoint } from '${productUrl}';
    import { loud } from '../loud.ts';
    export const chat = defineEndpoint({ path: '/chat', onMessage: (connection, data) => connection.send(loud('${answer} ' + data)) });
  `;
  const loud = (mark: string) => `export const loud = (text: string) => text + '${mark}';\n`;

  test('of endpoints are loaded again when they have changed; open WebSockets keep the code that they have', async () => {
    server = await Served.yaml('metrics: true\nendpoints: ["endpoints/*.ts"]\n', {
      files: { 'endpoints/chat.ts': endpoint('one'), 'loud.ts': loud('!') },
    });
    const before = await open('/chat');
    expect(await answerOf(before)).toBe('one hello!');
    writeFileSync(join(server.folder, 'endpoints/chat.ts'), endpoint('two'));
    await until(() => lines('reloaded').length > 0);
    const after = await open('/chat');
    expect(await answerOf(after)).toBe('two hello!');
    expect(await answerOf(before)).toBe('one hello!');
    expect(lines('reload-needs-restart')).toEqual([]);

    writeFileSync(join(server.folder, 'loud.ts'), loud('?'));
    await until(() => lines('reload-needs-restart').length > 0);
    expect(lines('reload-needs-restart')[0]).toMatchObject({ files: [join(server.folder, 'loud.ts')], level: 'warn' });
    expect(await reloadsInPeace()).toBe(2);
    before.terminate();
    after.terminate();
  });

  /** `more` is imported when a client asks for it. */
  const handlers = (answer: string) => `
    import { loud } from './loud.ts';
    import { data } from './data.js';
    export async function onMessage(connection, message) {
      const { more } = String(message) === 'more' ? await import('./more.mjs') : { more: '' };
      connection.send(loud('${answer} ' + message + data.mark + more));
    }
  `;
  const computing = `
    export default defineConfig({
      listen,
      metrics: true,
      dispatch: { computing: { threads: 2 } },
      routes: [{ endpoint: defineEndpoint({ path: '/chat', dispatch: 'computing', handlers: new URL('./handlers/chat.ts', import.meta.url) }) }],
    });
  `;

  test('of threads run in new threads when one of their files has changed, also for WebSockets that are open', async () => {
    server = await Served.module(computing, {
      files: {
        'package.json': '{ "type": "module" }',
        'handlers/chat.ts': handlers('one'),
        'handlers/loud.ts': loud('!'),
        'handlers/data.js': "import data from './data.json' with { type: 'json' };\nexport { data };\n",
        'handlers/data.json': '{ "mark": "" }',
        'handlers/more.mjs': "export const more = ' and more';\n",
      },
    });
    const socket = await open('/chat');
    const changes: [name: string, text: string, answer: string][] = [
      ['handlers/chat.ts', handlers('two'), 'two hello!'],
      ['handlers/loud.ts', loud('?'), 'two hello?'],
      ['handlers/data.json', '{ "mark": "," }', 'two hello,?'],
    ];
    expect(await answerOf(socket)).toBe('one hello!');
    for (const [name, text, answer] of changes) {
      writeFileSync(join(server.folder, name), text);
      await until(async () => (await answerOf(socket)) === answer);
    }
    await until(() => lines('threads-renewed').length === changes.length);
    const files = changes.map(([name]) => [join(server!.folder, name)]);
    expect(lines('threads-renewed').map(line => line.files)).toEqual(files);
    // What is imported later is not a change, and changes are seen from then on.
    expect(await answerOf(socket, 'more')).toBe('two more, and more?');
    expect(await reloadsInPeace()).toBe(3);
    writeFileSync(join(server.folder, 'handlers/more.mjs'), "export const more = ' and less';\n");
    await until(async () => (await answerOf(socket, 'more')) === 'two more, and less?');
    expect(lines('reload-needs-restart')).toEqual([]);
    socket.terminate();
  });

  test('of threads that cannot be loaded refuse the reload, and the threads go on', async () => {
    server = await Served.module(computing, {
      files: {
        'handlers/chat.ts': handlers('one'),
        'handlers/loud.ts': loud('!'),
        'handlers/data.js': "export const data = { mark: '' };\n",
      },
    });
    const socket = await open('/chat');
    writeFileSync(join(server.folder, 'handlers/loud.ts'), "throw new Error('not loud');\nexport const loud = '';\n");
    await until(() => lines('reload-refused').length > 0);
    expect(lines('reload-refused')[0]!.msg).toMatch(/cannot be loaded: not loud/);
    expect(await answerOf(socket)).toBe('one hello!');
    for (const [index, mark] of ['?', '.'].entries()) {
      writeFileSync(join(server.folder, 'handlers/loud.ts'), loud(mark));
      await until(async () => (await answerOf(socket)) === `one hello${mark}`);
      rmSync(join(server.folder, 'handlers/loud.ts'));
      await until(() => lines('reload-refused').length === index + 2);
      expect(await answerOf(socket)).toBe(`one hello${mark}`);
    }
    socket.terminate();
  });

  test('that the application imports while it runs are not a change', async () => {
    const lazy = `
      export default defineConfig({ listen, session: false, metrics: true, routes: [{ path: '/a', fetch: async () => new Response((await import('./later.mjs')).later) }] });
    `;
    server = await Served.module(lazy, { files: { 'later.mjs': "export const later = 'later';\n" } });
    expect(await (await fetch(`${server.url('http/1')}/a`)).text()).toBe('later');
    // Something happens in the folder: it is looked at again.
    writeFileSync(join(server.folder, 'unrelated.txt'), '');
    expect(await reloadsInPeace()).toBe(0);
  });

  test('that are as they were before are taken back, once', async () => {
    server = await Served.yaml('metrics: true\nendpoints: ["endpoints/*.ts"]\n', {
      files: { 'endpoints/chat.ts': endpoint('one'), 'loud.ts': loud('!') },
    });
    for (const [index, answer] of ['two', 'one'].entries()) {
      writeFileSync(join(server.folder, 'endpoints/chat.ts'), endpoint(answer));
      await until(async () => (await reloads()) > index);
    }
    expect(await reloadsInPeace()).toBe(2);
    const socket = await open('/chat');
    expect(await answerOf(socket)).toBe('one hello!');
    socket.terminate();
  });

  test('that were not touched are not loaded again by a SIGHUP: nothing of them has changed', async () => {
    server = await Served.module(`
      const echo = defineEndpoint({ path: '/echo', onMessage: (connection, data) => connection.send(data) });
      export default defineConfig({ listen, routes: [{ endpoint: echo }, { path: '/a', fetch: () => new Response('a') }] });
    `);
    const socket = await open('/echo');
    server.program.kill('SIGHUP');
    await until(() => lines('reloaded').length > 0);
    expect(lines('reloaded')).toMatchObject([{ added: [], changed: [], removed: [], sockets: 0 }]);
    appendFileSync(join(server.folder, 'holdfast.config.ts'), '// another version\n');
    await until(() => lines('reloaded').length > 1);
    expect(lines('reloaded')[1]).toMatchObject({ changed: ['/echo', '/a'] });
    expect(await answerOf(socket)).toBe('hello');
    socket.terminate();
  });
});

describe('a drain', () => {
  const slow = `
    const slow = async () => { await new Promise(resolve => setTimeout(resolve, 60_000)); return new Response('slow'); };
    export default defineConfig({ listen, session: false, routes: [{ path: '/*', fetch: slow }], drain: { timeout: '30s' } });
  `;

  test('hurries at the second signal, and ends with 0', async () => {
    server = await Served.module(slow);
    const asked = fetch(`${server.url('http/1')}/`).catch(() => 'cut');
    await pause(200);
    server.program.kill('SIGTERM');
    await server.program.printed(/SIGTERM: draining for at most 30 s/);
    const begun = performance.now();
    server.program.kill('SIGTERM');
    expect(await server.program.ended).toBe(0);
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(await asked).toBe('cut');
  });

  test('ends the process with 1 at the third signal', async () => {
    server = await Served.module(slow);
    const asked = fetch(`${server.url('http/1')}/`).catch(() => 'cut');
    await pause(200);
    for (let i = 0; i < 3; i++) {
      server.program.kill('SIGTERM');
      await pause(100);
    }
    expect(await server.program.ended).toBe(1);
    expect(await asked).toBe('cut');
  });

  test('goes on as before for its delay, and then takes nothing new', async () => {
    server = await Served.yaml(`${redirect('/one')}drain: { delay: 1s }\n`);
    server.program.kill('SIGTERM');
    await server.program.printed(/SIGTERM: draining after 1 s/);
    expect(await locationOf()).toBe('/one');
    expect(await server.program.ended).toBe(0);
    await expect(locationOf()).rejects.toThrow();
  });
});
