import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { createServer } from '../../src/index.ts';

test('gives a relayed WebSocket a session where the route creates one: the backend sees its sid, the 101 sets its cookie', async () => {
  const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(backend, 'listening');
  const seen: unknown[] = [];
  backend.on('connection', (_, request) => seen.push(request.headers['x-session-id']));
  await using server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
    routes: [{ path: '/*', upstream: 'app', session: 'create' }],
    log: { level: 'silent' },
  });
  await server.start();

  const open = async (headers: Record<string, string> = {}) => {
    const client = new WebSocket(server.urls[0]!.replace('http', 'ws'), { headers });
    const [response] = await Promise.all([once(client, 'upgrade'), once(client, 'open')]);
    return { client, cookies: response[0].headers['set-cookie'] as string[] | undefined };
  };
  const first = await open();
  expect(first.cookies).toHaveLength(1);
  const cookie = first.cookies![0]!.split(';')[0]!;
  const second = await open({ cookie, origin: server.urls[0]! });
  expect(second.cookies).toBeUndefined();
  expect(seen[0]).toMatch(/^[\w-]{22}$/);
  expect(seen[1]).toBe(seen[0]);

  // Both end with the session.
  const closed = Promise.all([once(first.client, 'close'), once(second.client, 'close')]);
  await server.sessions.access(seen[0] as string, session => session.invalidate());
  expect((await closed).map(([code]) => code)).toEqual([1008, 1008]);
  backend.close();
});
