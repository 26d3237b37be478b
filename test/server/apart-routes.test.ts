import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint } from 'holdfast';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectWebSocket } from '../../src/websocket/protocol/client.ts';
import { FaultyStore, KEY } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';
import { ask, Lines, WiredServer, wires } from './wires.ts';

const LARGE = 'x'.repeat(900_000);
const folder = mkdtempSync(join(tmpdir(), 'holdfast-apart-routes-'));
const KEY_FILE = join(folder, 'key');
writeFileSync(KEY_FILE, KEY);
afterAll(() => rmSync(folder, { recursive: true }));

interface Some {
  get(name: never): unknown;
  set(name: never, value: unknown): void;
  load(name: never): Promise<unknown>;
}

const get = (session: unknown, name: string) => (session as Some).get(name as never);
/** What `get` gives: the length of a text, else the value; or the code of its error. */
function seen(session: unknown, name = 'report'): string {
  if (!session) return 'no session';
  try {
    const value = get(session, name);
    return typeof value === 'string' && value.length > 100 ? `${value.length}` : String(value);
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe.each(wires)('over %s', wire => {
  let server: WiredServer;
  let store: FaultyStore;
  let log: Lines;

  beforeEach(async () => {
    store = new FaultyStore();
    log = new Lines();
    const show = (_request: Request, { session }: { session?: unknown }) => new Response(seen(session));
    const socket = (path: string) =>
      defineEndpoint({
        path,
        origins: 'accept',
        accept: handshake => ({ data: seen(handshake.session) }),
        onOpen: connection => void connection.send(`${connection.data} ${seen(connection.session)}`),
        onMessage: async (connection, message) => {
          const session = connection.session as unknown as Some;
          if (message === 'load') connection.send(String(await session.load('report' as never)).slice(0, 20));
          else session.set('report' as never, message);
        },
      });
    server = await WiredServer.start(
      {
        session: {
          ...{ store, cookie: { name: 'sid' }, keyFiles: [KEY_FILE] },
          attributes: { report: 'apart', 'shop:photo': 'apart' },
        },
        routes: [
          {
            path: '/set',
            session: 'create',
            fetch: (_request, { session }) => {
              (session as unknown as Some).set('report' as never, LARGE);
              (session as unknown as Some).set('counter' as never, 1);
              return new Response('set');
            },
          },
          {
            path: '/without',
            fetch: (_request, { session }) => new Response(`${seen(session)} ${seen(session, 'counter')}`),
          },
          {
            path: '/load',
            fetch: async (_request, { session }) => {
              await (session as unknown as Some).load('report' as never);
              return new Response(seen(session));
            },
          },
          { path: '/forgets', fetch: (_request, { session }) => new Response(String(get(session, 'report'))) },
          { path: '/declared', attributes: ['report'], fetch: show },
          {
            path: '/opened',
            attributes: ['report'],
            methods: ['POST'],
            fetch: async request => new Response(seen(await server.server.sessions.open(request))),
          },
          {
            path: '/in',
            attributes: ['report'],
            methods: ['POST'],
            fetch: async request =>
              new Response(seen(await server.server.sessions.signIn(request, { name: 'ann', roles: [] }))),
          },
          { mount: '/app', attributes: ['report'], application: { routes: [{ path: '/declared', fetch: show }] } },
          {
            mount: '/both',
            attributes: ['shop:photo'],
            application: {
              fetch: show,
              endpoints: [],
              routes: [{ path: '/declared', attributes: ['report'], fetch: show }],
            },
          },
          { endpoint: socket('/socket') },
          { endpoint: socket('/declared-socket'), attributes: ['report'] },
        ],
        log: { access: 'off' },
      },
      log,
    );
  });
  afterEach(() => server.close());

  async function visit(path: string, cookie?: string, method = 'GET') {
    const answer = await ask(server, wire, { path, method, ...(cookie && { headers: { cookie } }) });
    return { ...answer, cookie: /sid=v1[^;]*/.exec(answer.headers['set-cookie'] ?? '')?.[0] ?? cookie };
  }

  async function openSocket(path: string, cookie: string) {
    const client = wire === 'http/2' ? await Http2Client.connect(server.url(wire)) : undefined;
    const socket = client
      ? await client.webSocket(path, { cookie })
      : await connectWebSocket(server.url(wire) + path, { headers: { cookie }, tls: { rejectUnauthorized: false } });
    return {
      socket,
      [Symbol.dispose]() {
        socket.terminate();
        client?.[Symbol.dispose]();
      },
    };
  }

  test('a route that declares an attribute has it at once, one that does not has to load it', async () => {
    const { cookie } = await visit('/set');
    store.calls.length = 0;
    expect((await visit('/without', cookie)).body).toBe('ERR_SESSION_NOT_LOADED 1');
    expect(store.calls).not.toContain('readAttributes');
    expect((await visit('/load', cookie)).body).toBe('900000');
    expect((await visit('/declared', cookie)).body).toBe('900000');
    expect(store.calls.filter(call => call === 'readAttributes')).toHaveLength(2);
    expect((await visit('/declared')).body).toBe('no session');
  });

  test('also a session that the handler opens, or signs in, has what its route declares', async () => {
    expect((await visit('/opened', undefined, 'POST')).body).toBe('undefined');
    const { cookie } = await visit('/set');
    expect((await visit('/opened', cookie, 'POST')).body).toBe('900000');
    const signedIn = await visit('/in', cookie, 'POST');
    expect(signedIn.body).toBe('900000');
    expect((await visit('/declared', signedIn.cookie)).body).toBe('900000');
    expect((await visit('/in', undefined, 'POST')).body).toBe('undefined');
  });

  test('what a mount declares is there in all its routes, beside what they declare', async () => {
    const { cookie } = await visit('/set');
    expect((await visit('/app/declared', cookie)).body).toBe('900000');
    expect((await visit('/both/declared', cookie)).body).toBe('900000');
    expect((await visit('/both/other', cookie)).body).toBe('ERR_SESSION_NOT_LOADED');
  });

  test('an endpoint that declares an attribute has it in accept and on its socket, and fetches it once', async () => {
    const { cookie } = await visit('/set');
    store.calls.length = 0;
    using declared = await openSocket('/declared-socket', cookie!);
    expect(String(await declared.socket.receive())).toBe('900000 900000');
    expect(store.calls.filter(call => call === 'readAttributes')).toHaveLength(1);
    using plain = await openSocket('/socket', cookie!);
    expect(String(await plain.socket.receive())).toBe('ERR_SESSION_NOT_LOADED ERR_SESSION_NOT_LOADED');
    declared.socket.send('by another socket');
    await expect.poll(async () => (await visit('/declared', cookie)).body).toBe('by another socket');
    plain.socket.send('load');
    expect(String(await plain.socket.receive())).toBe('by another socket');
  });

  test('a store that cannot give what a route declares is a 503, and nobody is signed out', async () => {
    const { cookie } = await visit('/set');
    store.failing.add('readAttributes');
    const answer = await visit('/declared', cookie);
    expect([answer.status, answer.headers['retry-after'], answer.headers['set-cookie']]).toEqual([503, '5', undefined]);
    await expect(openSocket('/declared-socket', cookie!)).rejects.toThrow();
    expect((await visit('/without', cookie)).body).toBe('ERR_SESSION_NOT_LOADED 1');
    store.failing.clear();
    expect((await visit('/declared', cookie)).body).toBe('900000');
  });

  test('a handler that forgets to load is answered with 500, and the log names the attribute', async () => {
    const { cookie } = await visit('/set');
    expect((await visit('/forgets', cookie)).status).toBe(500);
    const errors = log.all.map(({ fields }) => String(fields.err));
    expect(errors.filter(error => error.includes('"report" lies apart and was not loaded'))).toHaveLength(1);
  });
});
