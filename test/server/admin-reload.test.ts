import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import type { Config } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { AdminClient } from '../../src/cli/admin-client.ts';
import { closing } from '../services/closing.ts';
import { AdminServer } from './admin-server.ts';

const open = closing();

/** @param next What a reload changes. */
async function start(next: (server: AdminServer) => Config): Promise<AdminServer> {
  const before: Config = { routes: [{ path: '/*', fetch: () => new Response('served') }], session: false };
  const server: AdminServer = await AdminServer.start(before, {
    operations: {
      async reload() {
        try {
          await server.server.reload({
            ...{ ...before, listen: [{ port: 0, host: '127.0.0.1' }], log: { level: 'silent' } },
            ...{ dataFolder: `${server.folder}/data`, ...next(server) },
          });
          return { ok: true, changed: [] };
        } catch (error) {
          return { ok: false, errors: [(error as Error).message] };
        }
      },
    },
  });
  open.push(server);
  return server;
}

describe('a reload that changes the admin API', () => {
  test.each(['ask', 'askSocket'] as const)(
    'answers the request that asked for it (%s), and ends streams with a line that says why',
    async ask => {
      const server = await start(() => ({ admin: { port: 0, socket: true, host: '127.0.0.2' } }));
      const before = server.server.adminUrl;
      const lines: object[] = [];
      const followed = server.ask('/v1/logs');
      const client = new AdminClient(server.server.adminSocket!);
      const following = client.follow('/v1/logs', { level: 'debug' }, line => lines.push(line));
      await expect
        .poll(async () => {
          await server.ask('/v1/log/level', { method: 'POST', body: { level: 'silent' } });
          await server.ask('/v1/bans', { method: 'POST', body: { address: '192.0.2.9' } });
          return lines.length;
        })
        .toBeGreaterThan(0);
      const { status, json } = await server[ask]('/v1/reload', { method: 'POST', body: {} });
      expect([status, json]).toMatchObject([200, { ok: true }]);
      await following;
      expect(JSON.parse((await followed).text.trim().split('\n').at(-1)!)).toEqual({
        ended: 'a reload has changed the admin API; the server runs on, and can be followed again',
      });
      expect(server.server.adminUrl).not.toBe(before);
      const begun = performance.now();
      await server.server.stop({ drain: 0 });
      expect(performance.now() - begun).toBeLessThan(1_500);
    },
  );

  test('to one that cannot be opened is refused in the answer, and the one before is there again', async () => {
    const taken = createTcpServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    open.push({ close: () => taken.close() });
    const { port } = taken.address() as AddressInfo;
    const server = await start(() => ({ admin: { port, socket: true } }));
    const { json } = await server.askSocket('/v1/reload', { method: 'POST', body: {} });
    expect(json).toMatchObject({ ok: false, errors: [expect.stringContaining(String(port))] });
    expect((await server.ask('/v1/status')).status).toBe(200);
    expect((await server.askSocket('/v1/status')).status).toBe(200);
  });
});
