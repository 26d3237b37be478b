import fastify from 'fastify';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbStore } from 'holdfast/session/lmdb';

const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});
await sessions.start(); // looks for sessions whose time is over

const app = fastify();

app.addHook('onRequest', async (request, reply) => {
  attachSession(sessions, request, reply, { isSecure: request.protocol === 'https' });
});
app.addHook('onClose', () => sessions.close());

app.addContentTypeParser(
  'application/x-www-form-urlencoded',
  { parseAs: 'string' },
  async (_request: unknown, body: string) => {
    return Object.fromEntries(new URLSearchParams(body));
  },
);

app.get('/', async request => {
  const session = await sessions.open(request);
  const visits = Number(session.get('visits') ?? 0) + 1;
  session.set('visits', visits);
  return `visit ${visits} of ${session.owner?.name ?? 'a stranger'}\n`;
});

app.post<{ Body: { name?: string } | undefined }>('/sign-in', async (request, reply) => {
  const name = request.body?.name || 'nobody';
  await sessions.signIn(request, { name, roles: [] }); // the cookie from before the login is dead from here on
  return reply.redirect('/', 303); // leaves when the login is in the store
});

app.post('/sign-out', async (request, reply) => {
  const session = await sessions.get(request);
  await session?.invalidate();
  return reply.redirect('/', 303);
});

await app.listen({ port: Number(process.env.PORT ?? 8080) });
console.log(`open http://localhost:${(app.server.address() as { port: number }).port}/`);
process.once('SIGTERM', () => app.close());
