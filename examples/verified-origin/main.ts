import { createServer, defineEndpoint } from 'holdfast';

const ORIGIN = 'http://www.example.com:7001';

// A list is enough where the origin alone decides. A browser always sends it and no script can change it.
const listed = defineEndpoint({
  path: '/listed',
  origins: [ORIGIN],
  onMessage: (connection, data) => void connection.send(data),
});

// The same as a decision of the application: `accept` sees the whole handshake.
const demo = defineEndpoint({
  path: '/demo',
  origins: 'accept',
  accept: handshake => handshake.origin === ORIGIN,
  onMessage: (connection, data) => void connection.send(data),
});

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [{ endpoint: listed }, { endpoint: demo }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/demo from a page of ${ORIGIN}`);
