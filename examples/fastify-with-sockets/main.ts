import fastify from 'fastify';
import { createServer, defineEndpoint } from 'holdfast';
import { attachSession, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';

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

const app = fastify();

app.addHook('onRequest', async (request, reply) => {
  attachSession(sessions, request, reply, { isSecure: request.protocol === 'https' });
});
app.addHook('preClose', () => server.stop()); // its sockets would keep Fastify open
app.addHook('onClose', () => sessions.close());

app.get('/', async request => `you are ${(await sessions.open(request)).owner?.name ?? 'a stranger'}\n`);

app.post<{ Body: { name: string } }>('/sign-in', async (request, reply) => {
  await sessions.signIn(request, { name: request.body.name, roles: [] });
  return reply.code(204).send();
});

app.post('/sign-out', async (request, reply) => {
  await (await sessions.get(request))?.invalidate();
  return reply.code(204).send();
});

await server.attach(app.server);
await app.listen({ port: Number(process.env.PORT ?? 8080) });
console.log(`open http://localhost:${(app.server.address() as { port: number }).port}/`);
process.once('SIGTERM', () => app.close());
