// A server with metrics in a process of its own: says its URL, and its metrics when it is asked.
import { createServer } from '../../src/index.ts';

const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  metrics: true,
  routes: [{ path: '/*', name: 'all', fetch: () => new Response('hello') }],
  log: { access: 'off', level: 'error' },
});
await server.start();
process.on('message', async () => process.send!(await server.metricsOfProcess()));
process.on('disconnect', () => process.exit());
process.send!(server.urls[0]!);
