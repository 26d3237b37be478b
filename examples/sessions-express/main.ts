import express from 'express';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbStore } from 'holdfast/session/lmdb';

const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});
await sessions.start(); // looks for sessions whose time is over

const app = express();

app.use((req, res, next) => {
  attachSession(sessions, req, res, { isSecure: req.secure });
  next();
});

app.get('/', async (req, res) => {
  const session = await sessions.open(req);
  const visits = Number(session.get('visits') ?? 0) + 1;
  session.set('visits', visits);
  res.type('text').send(`visit ${visits} of ${session.owner?.name ?? 'a stranger'}\n`);
});

app.post('/sign-in', express.urlencoded(), async (req, res) => {
  const name = String(req.body?.name || 'nobody');
  await sessions.signIn(req, { name, roles: [] }); // the cookie from before the login is dead from here on
  res.redirect(303, '/'); // leaves when the login is in the store
});

app.post('/sign-out', async (req, res) => {
  const session = await sessions.get(req);
  await session?.invalidate();
  res.redirect(303, '/');
});

const server = app.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`open http://localhost:${(server.address() as { port: number }).port}/`);
});
process.once('SIGTERM', () => server.close(() => sessions.close()));
