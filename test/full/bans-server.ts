/** One of several servers that share bans by their ledger. Prints its URL. */
import { createServer, defineEndpoint, type Server } from 'holdfast';

const [store, keyFile] = process.argv.slice(2) as [string, string];

const server: Server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  trustedProxies: ['127.0.0.1'],
  session: { store, keyFiles: [keyFile] },
  routes: [{ path: '/', fetch: () => new Response('hello') }, { endpoint: defineEndpoint({ path: '/socket' }) }],
  bans: { action: 'refuse', jails: { honeypot: { paths: ['/trap'] } } },
  log: { level: 'error', access: 'off' },
});
await server.start();
process.stdin.on('end', () => void server.stop({ drain: 0 }).then(() => process.exit())).resume();
process.stdout.write(
  `${JSON.stringify({ url: server.urls[0]!.replace('localhost', '127.0.0.1').replace(/\/$/, '') })}\n`,
);
