import { createServer, defineEndpoint } from 'holdfast';
import { ready } from './control.ts';

const isPublishing = process.argv[2] === 'publish';
const endpoint = defineEndpoint({
  path: '/',
  onMessage(connection, data) {
    if (isPublishing) endpoint.broadcast(data);
    else connection.send(data);
  },
});
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [{ endpoint }],
  log: { level: 'warn', access: 'off' },
});
await server.start();
ready(Number(new URL(server.urls[0]!).port), () => globalThis.gc?.());
