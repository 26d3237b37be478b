import { expect, test } from 'vitest';
import { Served, wires } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';

test.each(wires)('a served configuration answers over %s', async wire => {
  await using server = await Served.yaml('routes: [{ path: /a, redirect: /b }]\n');
  if (wire === 'http/2') {
    using client = new Http2Client(server.url(wire));
    expect((await client.get('/a')).status).toBe(308);
    return;
  }
  const socket = await server.dial(wire);
  socket.write('GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  let answer = '';
  for await (const chunk of socket) answer += chunk;
  expect(answer).toMatch(/^HTTP\/1\.1 308 /);
  expect(server.residentBytes()).toBeGreaterThan(1_000_000);
  socket.destroy();
});

test('a served module has endpoints and handlers', async () => {
  await using server = await Served.module(
    `export default defineConfig({ listen, session: false, routes: [{ path: '/*', fetch: () => new Response('served') }] });`,
  );
  expect(await (await fetch(`${server.url('http/1')}/`)).text()).toBe('served');
  expect(server.isAlive).toBe(true);
});
