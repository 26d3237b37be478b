import { createServer, defineEndpoint } from 'holdfast';

const demo = defineEndpoint({
  path: '/demo',
  slowReader: 'conflate', // prices: who reads slowly skips some and gets the latest
  onMessage: (_connection, data) => broadcast(data),
});

// Encoded once and in the queue of every connection when it returns: one order for all, no locks, and nobody waits for a slow reader.
function broadcast(message: string | Uint8Array): void {
  const { sent, skipped, failed } = demo.broadcast(message);
  console.log(`to ${sent} connections, not to ${skipped + failed}`);
}

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  log: { access: 'off' },
  routes: [{ endpoint: demo }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/demo`);
