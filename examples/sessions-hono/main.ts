import { serve } from '@hono/node-server';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbStore } from 'holdfast/session/lmdb';
import { Hono } from 'hono';

const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});
await sessions.start(); // looks for sessions whose time is over

const app = new Hono();

app.use(async (c, next) => {
  attachSession(sessions, c);
  await next();
});

app.get('/', async c => {
  const session = await sessions.open(c);
  const visits = Number(session.get('visits') ?? 0) + 1;
  session.set('visits', visits);
  return c.text(`visit ${visits} of ${session.owner?.name ?? 'a stranger'}\n`);
});

app.post('/sign-in', async c => {
  const name = String((await c.req.parseBody()).name || 'nobody');
  await sessions.signIn(c, { name, roles: [] }); // the cookie from before the login is dead from here on
  return c.redirect('/', 303); // leaves when the login is in the store
});

app.post('/sign-out', async c => {
  const session = await sessions.get(c);
  await session?.invalidate();
  return c.redirect('/', 303);
});

// Hono knows 500 only: this passes on that the store cannot be reached (503).
app.onError((error, c) => {
  console.error(error);
  return c.body(null, ((error as { status?: number }).status ?? 500) as 500);
});

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8080) }, ({ port }) => {
  console.log(`open http://localhost:${port}/`);
});
process.once('SIGTERM', () => server.close(() => sessions.close()));
