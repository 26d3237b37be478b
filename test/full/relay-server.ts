import { createServer } from 'holdfast';

/** A gateway in a process of its own: `relay-server.ts BACKEND_URL`. Prints its port; ends with standard input. */
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  upstreams: {
    app: {
      servers: [process.argv[2]!],
      handshakeTimeout: '1s',
      connectTimeout: '1s',
      // Every fault is to be met, none to be avoided.
      ejection: false,
    },
  },
  routes: [{ path: '/*', upstream: 'app', websocket: { maxMessageSize: '1MiB' } }],
  log: { level: 'silent' },
});
await server.start();
console.log(new URL(server.urls[0]!).port);
process.stdin.on('end', () => process.exit()).on('data', () => globalThis.gc?.());
