/**
 * One of two servers that share sessions: `/in` signs in, `/out` signs out, `/end` ends all sessions of a user. Prints
 * its URL, then every end.
 */
import { createServer, defineEndpoint, type Server } from 'holdfast';

const [store, keyFile] = process.argv.slice(2) as [string, string];
const print = (value: object) => void process.stdout.write(`${JSON.stringify(value)}\n`);

const server: Server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: { store, keyFiles: [keyFile], sweep: { every: '1s' } },
  routes: [
    { endpoint: defineEndpoint({ path: '/socket', onMessage: connection => void connection.send('held') }) },
    {
      path: '/:verb',
      fetch: async (request, { params }) => {
        const { searchParams } = new URL(request.url);
        const user = searchParams.get('user')!;
        if (params.verb === 'in') {
          const session = await server.sessions.signIn(request, { name: user, roles: [] });
          const idleMs = searchParams.get('idleMs');
          if (idleMs) session.idleTimeoutMs = Number(idleMs);
          return new Response(session.id);
        }
        if (params.verb === 'end') return new Response(String(await server.sessions.endAllOf(user)));
        await (await server.sessions.get(request))?.invalidate();
        return new Response();
      },
    },
  ],
  log: { level: 'warn', access: 'off' },
});
await server.start();
server.sessions.on('ended', ({ sid, reason }) =>
  print({ sid, reason, at: performance.timeOrigin + performance.now() }),
);
process.stdin.on('end', () => void server.stop().then(() => process.exit())).resume();
print({ url: server.urls[0]!.replace('localhost', '127.0.0.1').replace(/\/$/, '') });
