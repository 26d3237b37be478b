import { once } from 'node:events';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
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
