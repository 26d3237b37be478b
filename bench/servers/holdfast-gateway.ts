// A gateway to the port given. With `session`, every client has a session, which the backend is told of.
import { createServer } from 'holdfast';
import { ready } from './control.ts';

const [, , backendPort, session] = process.argv;
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  ...(session === undefined && { session: false }),
  upstreams: { app: { servers: [`http://127.0.0.1:${backendPort}`] } },
  routes: [{ path: '/*', upstream: 'app', ...(session !== undefined && { session: 'create' as const }) }],
  log: { level: 'warn', access: 'off' },
});
await server.start();
ready(Number(new URL(server.urls[0]!).port), () => globalThis.gc?.());
