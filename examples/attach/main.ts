import { createServer as createHttpServer } from 'node:http';
import { createServer, defineEndpoint } from 'holdfast';

// An application that exists: Express, Fastify, Hono or plain node:http. It keeps its port and its requests.
const existing = createHttpServer((_request, response) => response.end('still the same application\n'));

const clock = defineEndpoint({
  path: '/clock',
  onOpen(connection) {
    const timer = setInterval(() => connection.send(new Date().toISOString()), 1000);
    connection.signal.addEventListener('abort', () => clearInterval(timer));
  },
});

// Takes the upgrades that match a route, and leaves everything else alone.
await createServer({ session: false, routes: [{ endpoint: clock }] }).attach(existing);

existing.listen(Number(process.env.PORT ?? 8080), () => {
  const { port } = existing.address() as { port: number };
  console.log(`open http://localhost:${port}/ and connect to ws://localhost:${port}/clock`);
});
