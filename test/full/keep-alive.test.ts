import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';
import { until } from '../services/until.ts';

const CONFIG = (more: string) => `${more}session: false\nroutes: [{ path: /a, redirect: /b }]\n`;

let byDefault: Served;
let brief: Served;
beforeAll(async () => {
  [byDefault, brief] = await Promise.all([Served.yaml(CONFIG('')), Served.yaml(CONFIG('keepAliveTimeout: 2s\n'))]);
}, 30_000);
afterAll(() => Promise.all([byDefault, brief].map(server => server[Symbol.asyncDispose]())));

const POST = 'POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody';

test.concurrent.each(['http/1', 'tls'] as const)(
  'a POST on a connection that was idle for a minute is answered, over %s',
  async wire => {
    const socket = await byDefault.dial(wire);
    let answers = 0;
    socket.on('data', () => answers++);
    socket.write(POST);
    await wait(61_000);
    expect([answers, socket.readableEnded]).toEqual([1, false]);
    socket.write(POST);
    await until(() => answers === 2);
    socket.destroy();
  },
  90_000,
);

test.concurrent.each(['http/1', 'tls'] as const)(
  'a connection is kept for as long as is set, and then closed, over %s',
  async wire => {
    const socket = await brief.dial(wire);
    let answers = 0;
    socket.on('data', () => answers++).on('end', () => socket.end());
    socket.write(POST);
    await wait(1_800);
    socket.write(POST);
    await until(() => answers === 2);
    const start = performance.now();
    await once(socket, 'close');
    expect(performance.now() - start).toBeGreaterThan(1_500);
    expect(performance.now() - start).toBeLessThan(8_000);
  },
  20_000,
);

test.concurrent('the same over HTTP/2', async () => {
  using kept = await Http2Client.connect(byDefault.url('http/2'));
  using closed = await Http2Client.connect(brief.url('http/2'));
  for (const client of [kept, closed]) expect((await client.get('/a')).status).toBe(308);
  await once(closed.session, 'close');
  await wait(61_000);
  expect((await kept.get('/a')).status).toBe(308);
}, 90_000);
