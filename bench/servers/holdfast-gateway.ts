import { createServer } from 'holdfast';
import { ready } from './control.ts';

const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  upstreams: { app: { servers: [`http://127.0.0.1:${process.argv[2]}`] } },
  routes: [{ path: '/*', upstream: 'app' }],
  log: { level: 'warn', access: 'off' },
});
await server.start();
ready(Number(new URL(server.urls[0]!).port), () => globalThis.gc?.());
