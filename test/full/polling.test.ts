import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { connectWebSocket, type WebSocketClient } from '../../src/websocket/protocol/client.ts';
import { ask } from '../guard/ask.ts';
import { Served, type Wire, wires } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';
import { PLACES, skipNote } from '../session/race-stores.ts';

// In real time: what a page sends again and again by routes with "touch: false" keeps no session alive.

const IDLE_S = 3;
/** The request that opens it is use until its response has closed, which its client does not see. */
const SLACK_S = 1;
const application = `
const show = (_request, { session }) => new Response(session ? 'here' : 'gone');
const echo = (path) => defineEndpoint({ path, origins: 'accept', accept: () => true, onMessage: (connection, data) => void connection.send(data) });
export default defineConfig({
  listen,
  session: { store: process.env.STORE, keyFiles: ['key'], idleTimeout: '${IDLE_S}s', cookie: { name: 'sid' } },
  upstreams: { app: { servers: [process.env.BACKEND] } },
  routes: [
    { path: '/open', session: 'create', fetch: () => new Response('opened') },
    { path: '/poll', touch: false, fetch: (_request, context) => {
      context.session?.set('polls', (context.session.get('polls') ?? 0) + 1);
      return show(_request, context);
    } },
    { path: '/relayed', touch: false, upstream: 'app', policy: { origins: 'any' } },
    { endpoint: echo('/socket'), touch: false },
  ],
  log: { access: 'off' },
});`;

let backend: http.Server;
beforeAll(async () => {
  backend = http.createServer((request, response) =>
    response.end(request.headers['x-session-id'] === undefined ? 'gone' : 'here'),
  );
  new WebSocketServer({ server: backend }).on('connection', socket =>
    socket.on('message', data => socket.send(String(data))),
  );
  await once(backend.listen(0, '127.0.0.1'), 'listening');
});
afterAll(() => {
  backend.closeAllConnections();
  backend.close();
});

async function open(served: Served, wire: Wire): Promise<string> {
  const { setCookies } = await ask(served, wire, { path: '/open' });
  return setCookies.find(line => line.startsWith('sid='))!.split(';')[0]!;
}

const secondsSince = (moment: number) => (performance.now() - moment) / 1_000;

/** Asks for a session at this path each half second, until it ends or should have. */
async function polled(served: Served, wire: Wire, path: string): Promise<'on time' | 'too early' | 'never'> {
  const before = performance.now();
  const cookie = await open(served, wire);
  const opened = performance.now();
  for (;;) {
    await sleep(500);
    const asked = secondsSince(opened);
    const { body } = await ask(served, wire, { path, headers: ['Cookie', cookie] });
    // However slow the machine is: it was answered before the session's time was over, or asked after that.
    if (body === 'gone') return secondsSince(before) < IDLE_S ? 'too early' : 'on time';
    if (asked > IDLE_S + SLACK_S) return 'never';
  }
}

/** Sends a message each half second over a WebSocket, until it is closed. @returns the code; undefined: it was not. */
async function chatted(served: Served, wire: Wire, path: string): Promise<number | undefined> {
  const cookie = await open(served, wire);
  const opened = performance.now();
  using client = wire === 'http/2' ? await Http2Client.connect(served.url(wire)) : undefined;
  const socket: WebSocketClient = client
    ? await client.webSocket(path, { cookie })
    : await connectWebSocket(served.url(wire) + path, { headers: { cookie }, tls: { rejectUnauthorized: false } });
  let code: number | undefined;
  void socket.closed.then(event => {
    code = event.code;
  });
  while (secondsSince(opened) < 5 * IDLE_S && code === undefined) {
    socket.send('tick');
    await Promise.race([sleep(500), socket.closed]);
  }
  socket.terminate();
  return code;
}

describe.each(PLACES.map(place => ({ place, title: `${place.name}${skipNote(place)}` })))('on $title', ({ place }) => {
  test.skipIf(place.missing)(`polling ends with its session after ${IDLE_S} s without use`, async () => {
    const { address, close } = await place.open();
    const { port } = backend.address() as AddressInfo;
    const served = await Served.module(application, {
      files: { key: randomBytes(32).toString('base64') },
      env: { STORE: address, BACKEND: `http://127.0.0.1:${port}` },
    });
    try {
      const [polls, sockets] = await Promise.all([
        Promise.all(wires.flatMap(wire => ['/poll', '/relayed'].map(path => polled(served, wire, path)))),
        Promise.all(wires.flatMap(wire => ['/socket', '/relayed'].map(path => chatted(served, wire, path)))),
      ]);
      expect(polls).toEqual(polls.map(() => 'on time'));
      expect(sockets).toEqual(sockets.map(() => 1008));
    } finally {
      await served[Symbol.asyncDispose]();
      await close();
    }
  });
});
