import { createServer as createBackend } from 'node:http';
import { createServer } from 'holdfast';

// Stands for your application, in whatever language: it keeps no sessions and trusts the header that the gateway sets.
const backend = createBackend((request, response) => {
  response.end(`you are session ${request.headers['x-session-id'] ?? '(none)'}\n`);
});
backend.listen(Number(process.env.BACKEND_PORT ?? 3000), 'localhost');

const gateway = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: { store: 'lmdb:./data' },
  upstreams: { app: { servers: [`http://localhost:${process.env.BACKEND_PORT ?? 3000}`] } },
  routes: [{ path: '/*', upstream: 'app' }],
});
await gateway.start();
console.log(`open ${gateway.urls[0]}`);
