import { fileURLToPath } from 'node:url';
import { createServer, type FetchContext, type Server } from '../../index.ts';
import type { BackendProcess } from './backend-process.ts';
import { createChat } from './chat.ts';

const LONGEST_NAME = 32;

export interface DemoOptions {
  readonly port: number;
  /** With a self-signed certificate. */
  readonly isTls: boolean;
  /** Folder of the sessions and the generated keys. */
  readonly dataFolder: string;
  readonly backend: BackendProcess;
}

/**
 * The whole demo: a page, a session that opens at sign-in, a chat over an endpoint, and a backend behind the gateway.
 */
export function createDemo({ port, isTls, dataFolder, backend }: DemoOptions): Server {
  const chat = createChat((topic, text) => server.publish(topic, text));

  async function signIn(request: Request): Promise<Response> {
    const name = readName(await request.json().catch(() => undefined));
    if (name === undefined) return new Response(`choose a name of 1 to ${LONGEST_NAME} characters`, { status: 400 });
    // A session with a login is not taken over by another one: the cookie may be planted, and sockets may be
    // open on it.
    const found = await server.sessions.get(request);
    if (found?.has('name')) await found.invalidate('logout');
    // A thief who knew the cookie before the login has nothing afterwards.
    const session = await server.sessions.signIn(request, { name, roles: [] });
    session.set('name', name);
    return Response.json({ name, session: session.id.slice(0, 8) });
  }

  async function signOut(_request: Request, { session }: FetchContext): Promise<Response> {
    await session?.invalidate('logout');
    return new Response(null, { status: 204 });
  }

  function cut(_request: Request, { session }: FetchContext): Response {
    const mine = [...chat.connections].filter(connection => session && connection.session?.id === session.id);
    for (const connection of mine) connection.terminate();
    return Response.json({ cut: mine.length });
  }

  const server = createServer({
    // Loopback only: a name is all that the demo wants for a login.
    listen: [{ port, host: '127.0.0.1', ...(isTls && { tls: 'self-signed' }) }],
    dataFolder,
    session: { store: `lmdb:${dataFolder}/sessions`, cookie: { name: 'holdfast_demo' } },
    upstreams: { backend: { servers: [backend.url] } },
    routes: [
      { endpoint: chat },
      { path: '/me', methods: ['GET'], session: 'existing', fetch: whoAmI },
      { path: '/signin', methods: ['POST'], session: 'existing', fetch: sameOrigin(signIn) },
      { path: '/signout', methods: ['POST'], session: 'existing', fetch: sameOrigin(signOut) },
      { path: '/cut', methods: ['POST'], session: 'existing', fetch: sameOrigin(cut) },
      { path: '/kill-backend', methods: ['POST'], session: 'none', fetch: sameOrigin(killBackend) },
      { path: '/backend/*', session: 'existing', upstream: 'backend' },
      { path: '/*', session: 'none', files: fileURLToPath(new URL('./public', import.meta.url)) },
    ],
    // The page shows what happens, and so do the notes of `BackendProcess`.
    log: { level: 'error', access: 'off' },
  });

  function killBackend(): Response {
    backend.crash();
    return new Response(null, { status: 204 });
  }

  return server;
}

type Handler = (request: Request, context: FetchContext) => Response | Promise<Response>;

/**
 * A form on another web page could post to us with the visitor's cookie: a browser says in `Origin` where it comes
 * from.
 */
function sameOrigin(handler: Handler): Handler {
  return (request, context) =>
    request.headers.get('Origin') === new URL(request.url).origin
      ? handler(request, context)
      : new Response('only from this page', { status: 403 });
}

function whoAmI(_request: Request, { session }: FetchContext): Response {
  const body = session?.has('name') ? { name: session.get('name'), session: session.id.slice(0, 8) } : { name: null };
  return Response.json(body, { headers: { 'Cache-Control': 'no-store' } });
}

function readName(body: unknown): string | undefined {
  const name = typeof body === 'object' && body !== null && 'name' in body ? body.name : undefined;
  if (typeof name !== 'string') return undefined;
  const trimmed = name.trim();
  return trimmed.length > 0 && trimmed.length <= LONGEST_NAME && !/\p{C}/u.test(trimmed) ? trimmed : undefined;
}
