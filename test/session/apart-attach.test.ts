import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { attachSession, MemoryStore, SessionManager } from 'holdfast/session';
import { afterEach, expect, test } from 'vitest';
import { KEY } from './fixture.ts';

let server: Server | undefined;
afterEach(() => server?.close());

interface Some {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
}

test('attachSession loads what it is given with the session, and refuses what is not a list', async () => {
  const store = new MemoryStore();
  const sessions = new SessionManager({ store, keys: [KEY], attributes: { report: 'apart' } });
  server = createServer(async (request, response) => {
    try {
      const attributes = request.url === '/declared' ? { attributes: ['report'] } : {};
      attachSession(sessions, request, response, attributes);
      const session = (await sessions.open(request)) as unknown as Some;
      if (request.url === '/set') session.set('report', 'here');
      response.end(String(session.get('report')));
    } catch (error) {
      response.writeHead(500).end((error as { code: string }).code);
    }
    if (request.url === '/set')
      expect(() => attachSession(sessions, request, response, { attributes: 'report' as never })).toThrow(TypeError);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const set = await fetch(`${url}/set`);
  const cookie = set.headers.getSetCookie()[0]!.split(';')[0]!;
  const ask = async (path: string) => (await fetch(url + path, { headers: { cookie } })).text();
  expect(await set.text()).toBe('here');
  expect(await ask('/declared')).toBe('here');
  expect(await ask('/')).toBe('ERR_SESSION_NOT_LOADED');
  await sessions.close();
});
