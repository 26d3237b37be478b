import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbStore } from 'holdfast/session/lmdb';

const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});
await sessions.start(); // looks for sessions whose time is over

async function page(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const session = await sessions.open(req);
  const visits = Number(session.get('visits') ?? 0) + 1;
  session.set('visits', visits);
  res.setHeader('content-type', 'text/plain; charset=utf-8');
  res.end(`visit ${visits} of ${session.owner?.name ?? 'a stranger'}\n`);
}

async function signIn(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const name = new URLSearchParams(await text(req)).get('name') || 'nobody';
  await sessions.signIn(req, { name, roles: [] }); // the cookie from before the login is dead from here on
  res.writeHead(303, { location: '/' }).end(); // leaves when the login is in the store
}

async function signOut(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const session = await sessions.get(req);
  await session?.invalidate();
  res.writeHead(303, { location: '/' }).end();
}

const routes: Record<string, typeof page> = { 'GET /': page, 'POST /sign-in': signIn, 'POST /sign-out': signOut };

const server = createServer(async (req, res) => {
  try {
    attachSession(sessions, req, res);
    const route = routes[`${req.method} ${req.url}`];
    if (route) await route(req, res);
    else res.writeHead(404).end();
  } catch (error) {
    console.error(error);
    if (res.headersSent) res.destroy();
    else res.writeHead((error as { status?: number }).status ?? 500).end(); // 503 while the store cannot be reached
  }
});

server.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`open http://localhost:${(server.address() as { port: number }).port}/`);
});
process.once('SIGTERM', () => server.close(() => sessions.close()));
