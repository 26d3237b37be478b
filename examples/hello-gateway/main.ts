import { once } from 'node:events';
import { createServer as createBackend } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer } from 'holdfast';

// Stands for your application, in whatever language: it keeps no sessions and trusts the header that the gateway sets.
const backend = createBackend((request, response) => {
  response.end(`you are session ${request.headers['x-session-id'] ?? '(none)'}\n`);
}).listen(0, '127.0.0.1');
await once(backend, 'listening');

const gateway = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: { store: 'lmdb:./data' },
  upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
  routes: [{ path: '/*', upstream: 'app' }],
});
await gateway.start();
console.log(`open ${gateway.urls[0]}`);
