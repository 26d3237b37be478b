import { createServer, defineEndpoint } from 'holdfast';

// A server in a process of its own, so that its memory can be measured. Started by `start-victim.ts`.
const echo = defineEndpoint({
  path: '/echo',
  compression: true,
  maxMessageSize: '2MiB',
  maxInflatedSize: '2MiB',
  closeTimeout: '300ms',
  onMessage(connection, data) {
    if (data === 'close') connection.close(4000, 'as you wish');
    else connection.send(data);
  },
});

const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  headerTimeout: process.argv[2]!,
  routes: [{ endpoint: echo }],
  log: { level: 'silent', access: 'off' },
});
await server.start();

process.on('message', () => {
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  process.send!({
    connections: echo.connections.size,
    isEmpty: echo.isEmpty,
    held: heapUsed + external,
    rss,
    peak: process.resourceUsage().maxRSS * 1024,
  });
});
process.on('error', () => process.exit());
process.on('disconnect', () => process.exit());
process.send!({ url: server.urls[0]!.replace('http', 'ws').replace('localhost', '127.0.0.1') });
