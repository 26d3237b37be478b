import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { attachSession, MemoryStore, SessionManager } from 'holdfast/session';
import { expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { KEY } from './fixture.ts';

test('a request that is attached with "touch: false" keeps no session alive, and stores what it sets', async () => {
  const clock = new FakeClock();
  const sessions = new SessionManager({ store: new MemoryStore(), keys: [KEY], clock, idleTimeoutMs: 3_000 });
  const server = http.createServer(async (request, response) => {
    const touch = request.url !== '/poll';
    attachSession(sessions, request, response, { touch });
    // Middleware that attaches again changes nothing.
    attachSession(sessions, request, response);
    const session = touch ? await sessions.open(request) : await sessions.get(request);
    const polls = Number(session?.get('polls' as never) ?? 0);
    if (!touch) session?.set('polls' as never, (polls + 1) as never);
    response.end(session ? String(polls) : 'gone');
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const first = await fetch(url);
  const headers = { cookie: first.headers.getSetCookie()[0]!.split(';')[0]! };
  const seen = [];
  for (let second = 0; second < 4; second++) {
    const answer = await fetch(`${url}/poll`, { headers });
    seen.push(await answer.text());
    await clock.advance(1_000);
  }
  expect(seen).toEqual(['0', '1', '2', 'gone']);
  expect(() => attachSession(sessions, {} as never, {} as never, { touch: 'no' } as never)).toThrow(TypeError);
  server.closeAllConnections();
  server.close();
  await sessions.close();
});
