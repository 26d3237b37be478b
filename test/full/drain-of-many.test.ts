import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { Served, wires } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';

const SOCKETS = 5_000;
const OVER_MS = 5_000;
/** An HTTP/2 connection takes 100 streams. */
const STREAMS = 90;
const PARTS = 5;

interface End {
  readonly path: string;
  readonly code: number;
  readonly atMs: number;
}

test('a drain of 5,000 WebSockets closes each with its code, in time and spread evenly, none without a close frame', async () => {
  const backend = http.createServer();
  new WebSocketServer({ server: backend }).on('connection', socket => socket.resume());
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  await using server = await Served.module(`
    const quiet = defineEndpoint({ path: '/endpoint', origins: 'any' });
    export default defineConfig({
      listen,
      upstreams: { app: { servers: ['http://127.0.0.1:${(backend.address() as AddressInfo).port}'] } },
      routes: [{ endpoint: quiet }, { path: '/relay', upstream: 'app' }],
      policy: { limits: { connectionsPerAddress: -1 } },
      drain: { timeout: ${2 * OVER_MS}, over: ${OVER_MS} },
    });
  `);
  const ends: Promise<End>[] = [];
  const clients: Http2Client[] = [];
  let begunAt = 0;
  const open = async (i: number) => {
    const wire = wires[i % 3]!;
    const path = i % 2 === 0 ? '/endpoint' : '/relay';
    const ended = (code: number) => ({ path, code, atMs: performance.now() - begunAt });
    if (wire === 'http/2') {
      const socket = await clients[Math.floor(i / 3 / STREAMS)]!.webSocket(path);
      return void ends.push(socket.closed.then(({ code }) => ended(code)));
    }
    const socket = new WebSocket(server.url(wire).replace('http', 'ws') + path, { rejectUnauthorized: false });
    await once(socket, 'open');
    ends.push(once(socket, 'close').then(([code]) => ended(code as number)));
  };
  for (let i = 0; i < SOCKETS / 3 / STREAMS; i++) clients.push(await Http2Client.connect(server.url('http/2')));
  for (let i = 0; i < SOCKETS; i += 20) await Promise.all(Array.from({ length: 20 }, (_, at) => open(i + at)));
  expect(ends).toHaveLength(SOCKETS);

  begunAt = performance.now();
  server.program.kill('SIGTERM');
  const all = await Promise.all(ends);
  expect(await server.program.ended).toBe(0);
  expect(performance.now() - begunAt).toBeLessThan(2 * OVER_MS);
  const codes = Map.groupBy(all, ({ path, code }) => `${path} ${code}`);
  expect([...codes.keys()].sort()).toEqual(['/endpoint 1001', '/relay 1012']);
  // Each fifth of the time has a fifth of them, give or take a third of that.
  const fifths = Array.from({ length: PARTS }, (_, part) => {
    const [from, to] = [(part * OVER_MS) / PARTS, ((part + 1) * OVER_MS) / PARTS];
    return all.filter(({ atMs }) => atMs >= from && (atMs < to || part === PARTS - 1)).length;
  });
  console.log(
    `closed in each fifth of ${OVER_MS} ms: ${fifths.join(', ')}; last after ${Math.round(Math.max(...all.map(({ atMs }) => atMs)))} ms`,
  );
  for (const count of fifths) expect(Math.abs(count - SOCKETS / PARTS)).toBeLessThan(SOCKETS / PARTS / 3);
  // Those that were opened one after the other do not leave so.
  const early = all.slice(0, SOCKETS / 2).filter(({ atMs }) => atMs < OVER_MS / 2).length;
  expect(Math.abs(early - SOCKETS / 4)).toBeLessThan(SOCKETS / 4 / 5);
  for (const client of clients) client[Symbol.dispose]();
  backend.closeAllConnections();
  backend.close();
}, 180_000);
