import { createServer as createHttpServer } from 'node:http';
import express from 'express';
import { createServer, defineEndpoint } from 'holdfast';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';

// One manager for the application and its sockets: one login, one cookie.
const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  ledger: new LmdbLedger({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});

const app = express();

app.use((req, res, next) => {
  attachSession(sessions, req, res, { isSecure: req.secure });
  next();
});

app.get('/', async (req, res) => {
  const { owner } = await sessions.open(req);
  res.type('html').send(`<!doctype html><title>Sockets</title>
    <form method="post" action="/${owner ? 'sign-out' : 'sign-in'}">
      ${owner ? 'You are signed in.' : '<input name="name" required>'} <button>Sign ${owner ? 'out' : 'in'}</button>
    </form><pre></pre><script>
      const socket = new WebSocket('/live');
      socket.onmessage = event => document.querySelector('pre').append(event.data + '\\n');
      socket.onclose = event => event.code === 1008 && location.reload();
    </script>`);
});

app.post('/sign-in', express.urlencoded(), async (req, res) => {
  const name = String(req.body?.name || 'nobody').slice(0, 100);
  await sessions.signIn(req, { name, roles: [] }); // check a password before this
  res.redirect(303, '/');
});

app.post('/sign-out', async (req, res) => {
  await (await sessions.get(req))?.invalidate(); // every socket of the session closes with 1008
  res.redirect(303, '/');
});

const live = defineEndpoint({
  path: '/live',
  accept: ({ user }) => user !== undefined, // else 403
  onOpen(connection) {
    connection.send(`hello ${connection.user!.name}`);
  },
  async onMessage(connection) {
    const count = await connection.session!.update('messages', count => Number(count ?? 0) + 1);
    connection.send(`message ${count} of your session`);
  },
});

const http = createHttpServer(app);
const server = createServer({ session: sessions, routes: [{ endpoint: live }] });
await server.attach(http); // starts the manager, too

http.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`open http://localhost:${(http.address() as { port: number }).port}/`);
});

process.once('SIGTERM', async () => {
  await server.stop(); // the sockets close with 1001
  http.close(() => sessions.close()); // the manager last, by the program that made it
});
