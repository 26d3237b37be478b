import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint } from 'holdfast';
import { SessionManager } from 'holdfast/session';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectWebSocket } from '../../src/websocket/protocol/client.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { FaultyStore, KEY } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';
import { ask, Lines, WiredServer, wires } from './wires.ts';

// Of a server, and of an application mounted in it: the one has the rule, the other not.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-owner-rule-'));
const KEY_FILE = join(folder, 'key');
writeFileSync(KEY_FILE, KEY);
afterAll(() => rmSync(folder, { recursive: true }));

describe.each(wires)('over %s', wire => {
  let server: WiredServer;
  let backend: http.Server;
  let log: Lines;
  let stores: { ruled: FaultyStore; open: FaultyStore };

  beforeEach(async () => {
    backend = http.createServer((request, response) => {
      const control = request.headers['x-control'];
      response.writeHead(200, control === undefined ? {} : { 'Holdfast-Session': control });
      response.end(told(request));
    });
    backend.on('upgrade', (request, socket) => {
      socket.on('error', () => {});
      const text = told(request);
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(request.headers['sec-websocket-key']!)}\r\n\r\n`,
      );
      socket.write(Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]));
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    const servers = [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`];
    log = new Lines();
    stores = { ruled: new FaultyStore(), open: new FaultyStore() };
    const routes = (upstream: string) => [
      {
        path: '/in/:name',
        methods: ['POST'],
        fetch: async (request: Request, { params }: { params: Readonly<Record<string, string>> }) => {
          const { sessions } = upstream === 'open' ? { sessions: server.server.sessionsOf('/open') } : server.server;
          const session = await sessions.signIn(request, { name: params.name!, roles: [] });
          return new Response(session.id);
        },
      },
      {
        path: '/set',
        session: 'create' as const,
        fetch: (_request: Request, { session }: { session?: { set(name: never, value: never): void } | undefined }) => {
          session!.set('cart' as never, 3 as never);
          return new Response('set');
        },
      },
      {
        path: '/show',
        fetch: (_request: Request, { session }: { session?: Shown | undefined }) => new Response(shown(session)),
      },
      {
        endpoint: defineEndpoint({
          path: '/socket',
          origins: 'accept',
          accept: () => true,
          onOpen: connection => void connection.send(shown(connection.session as Shown | undefined)),
        }),
      },
      { path: '/backend', upstream, policy: { origins: 'any' as const } },
    ];
    server = await WiredServer.start(
      {
        session: { store: stores.ruled, cookie: { name: 'sid', path: '/' }, keyFiles: [KEY_FILE] },
        upstreams: { ruled: { servers, controlsSession: true }, open: { servers, controlsSession: true } },
        routes: [
          ...routes('ruled'),
          {
            mount: '/open',
            application: {
              session: {
                store: stores.open,
                cookie: { name: 'open', path: '/' },
                keyFiles: [KEY_FILE],
                ownerRule: false,
              },
              routes: routes('open'),
            },
          },
        ],
        log: { access: 'off' },
      } as never,
      log,
    );
  });
  afterEach(async () => {
    await server.close();
    backend.closeAllConnections();
    backend.close();
  });

  const cookieIn = (headers: Readonly<Record<string, string>>) =>
    /(?:sid|open)=v1[^;]*/.exec(headers['set-cookie'] ?? '')?.[0];
  const visit = async (
    path: string,
    cookie?: string,
    more: { method?: string; headers?: Record<string, string> } = {},
  ) => {
    const { headers = {} } = more;
    const answer = await ask(server, wire, { path, ...more, headers: { ...headers, ...(cookie && { cookie }) } });
    return { ...answer, cookie: cookieIn(answer.headers) ?? cookie };
  };
  const signIn = (name: string, at: string, cookie?: string) => visit(`${at}/in/${name}`, cookie, { method: 'POST' });
  const byBackend = (name: string, at: string, cookie?: string) =>
    visit(`${at}/backend`, cookie, { headers: { 'x-control': `renew; user=${name}` } });
  /** The first message of a socket. */
  const firstOf = async (path: string, cookie: string): Promise<string> => {
    using client = wire === 'http/2' ? await Http2Client.connect(server.url(wire)) : undefined;
    const socket = client
      ? await client.webSocket(path, { cookie })
      : await connectWebSocket(server.url(wire) + path, { headers: { cookie }, tls: { rejectUnauthorized: false } });
    const message = await socket.receive();
    socket.terminate();
    return String(message);
  };

  test.each([
    ['a handler', signIn],
    ['a backend', byBackend],
  ])('a sign-in by another user, by %s, takes a session without the rule over', async (_who, login) => {
    const { cookie: first } = await visit('/open/set');
    const { cookie: anns } = await login('ann', '/open', first);
    expect((await visit('/open/show', anns)).body).toMatch(/ ann 3$/);
    const { cookie: bobs } = await login('bob', '/open', anns);
    expect((await visit('/open/show', bobs)).body).toMatch(/ bob 3$/);
    expect((await visit('/open/show', anns)).body).toBe('none');
    expect((await visit('/open/backend', bobs)).body).toBe('bob');
    expect(await firstOf('/open/socket', bobs!)).toMatch(/ bob 3$/);
    expect(await firstOf('/open/backend', bobs!)).toBe('bob');
    expect(log.all.map(({ fields }) => fields)).toContainEqual(
      expect.objectContaining({ event: 'session-taken-over', owner: 'ann', user: 'bob' }),
    );
  });

  test.each([
    ['a handler', signIn],
    ['a backend', byBackend],
  ])('a sign-in by another user, by %s, ends a session with the rule, and the log says whose', async (_who, login) => {
    const { cookie: first } = await visit('/set');
    const { cookie: anns } = await login('ann', '', first);
    const { cookie: bobs } = await login('bob', '', anns);
    expect((await visit('/show', bobs)).body).toMatch(/ bob undefined$/);
    expect((await visit('/show', anns)).body).toBe('none');
    expect(log.all.map(({ fields }) => fields)).toContainEqual(
      expect.objectContaining({ event: 'session-replaced', owner: 'ann', user: 'bob', address: '127.0.0.1' }),
    );
  });

  test('no backend or socket is told the owner of a session who shows credentials with each request', async () => {
    for (const [store, name, at, cart] of [
      [stores.ruled, 'sid', '', 'undefined'],
      [stores.open, 'open', '/open', '3'],
    ] as const) {
      const manager = new SessionManager({ store, keys: [KEY], cookie: { name } });
      const binding = manager.bind({
        ...{ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false },
        user: { name: 'ann', roles: ['admin'] },
      });
      const session = await binding.open();
      session.set('cart' as never, 3 as never);
      await binding.commit();
      const cookie = binding.responseHeaders()[0]!.value.split(';')[0]!;
      binding.release();
      expect((await visit(`${at}/show`, cookie)).body).toBe(`${session.id} undefined ${cart}`);
      expect((await visit(`${at}/backend`, cookie)).body).toBe('nobody');
      expect(await firstOf(`${at}/socket`, cookie)).toBe(`${session.id} undefined ${cart}`);
      expect(await firstOf(`${at}/backend`, cookie)).toBe('nobody');
    }
  });
});

interface Shown {
  readonly id: string;
  readonly owner: { readonly name: string } | undefined;
  get(name: never): unknown;
}

const shown = (session: Shown | undefined) =>
  session ? `${session.id} ${session.owner?.name} ${session.get('cart' as never)}` : 'none';

/** Who the backend is told that the request is from. */
function told({ headers }: http.IncomingMessage): string {
  return String(headers['x-forwarded-user'] ?? headers['x-forwarded-groups'] ?? 'nobody');
}
