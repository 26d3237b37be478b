import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { Served } from '../guard/served.ts';

let server: Served;
beforeAll(async () => {
  server = await Served.module(`
    const echo = defineEndpoint({ path: '/echo', onMessage: (connection, data) => connection.send(data) });
    const slow = async () => { await new Promise(resolve => setTimeout(resolve, 1_000)); return new Response('slow'); };
    export default defineConfig({ listen, session: false, routes: [{ endpoint: echo }, { path: '/*', fetch: slow }] });
  `);
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

test('SIGHUP ends neither the process nor a socket nor an answer, however often it comes and whoever reads the log', async () => {
  const socket = new WebSocket(`${server.url('http/1').replace('http', 'ws')}/echo`);
  await new Promise(resolve => socket.once('open', resolve));
  const answer = fetch(`${server.url('http/1')}/`);
  for (let i = 0; i < 3; i++) {
    server.program.kill('SIGHUP');
    await pause(50);
  }
  await server.program.printed(/reloaded \(SIGHUP\)/);
  // As when its terminal is closed.
  server.program.process.stdout!.destroy();
  server.program.process.stderr!.destroy();
  server.program.kill('SIGHUP');
  await pause(50);
  server.program.kill('SIGHUP');
  expect(await (await answer).text()).toBe('slow');
  const echoed = new Promise(resolve => socket.once('message', data => resolve(String(data))));
  socket.send('still here');
  expect(await echoed).toBe('still here');
  expect(server.isAlive).toBe(true);

  // Nor is it the second signal that ends a server that drains.
  const last = fetch(`${server.url('http/1')}/`);
  await pause(100);
  server.program.kill('SIGTERM');
  await pause(50);
  server.program.kill('SIGHUP');
  expect(await (await last).text()).toBe('slow');
  socket.terminate();
  expect(await server.program.ended).toBe(0);
}, 30_000);
