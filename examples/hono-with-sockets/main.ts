import type { Server } from 'node:http';
import { serve } from '@hono/node-server';
import { createServer, defineEndpoint } from 'holdfast';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';
import { Hono } from 'hono';

const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  ledger: new LmdbLedger({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});

const live = defineEndpoint({
  path: '/live',
  accept: ({ user }) => user !== undefined,
  onOpen(connection) {
    connection.send(`hello ${connection.user!.name}`);
  },
});
const server = createServer({ session: sessions, routes: [{ endpoint: live }] });

const app = new Hono();

app.use(async (c, next) => {
  attachSession(sessions, c);
  await next();
});

app.get('/', async c => c.text(`you are ${(await sessions.open(c)).owner?.name ?? 'a stranger'}\n`));

app.post('/sign-in', async c => {
  const { name } = await c.req.json<{ name: string }>();
  await sessions.signIn(c, { name, roles: [] });
  return c.body(null, 204);
});

app.post('/sign-out', async c => {
  await (await sessions.get(c))?.invalidate();
  return c.body(null, 204);
});

// Hono knows 500 only: this passes on that the store cannot be reached (503).
app.onError((error, c) => {
  console.error(error);
  return c.body(null, ((error as { status?: number }).status ?? 500) as 500);
});

const http = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8080) }, ({ port }) => {
  console.log(`open http://localhost:${port}/`);
}) as Server;
await server.attach(http); // handshakes that come earlier wait

process.once('SIGTERM', async () => {
  await server.stop();
  http.close(() => sessions.close());
});
