import { createServer, defineEndpoint } from 'holdfast';

const rooms = defineEndpoint<{ name: string }>({
  path: '/rooms/:room',
  maxMessageSize: '4KiB',
  maxConnections: 10_000,
  slowReader: 'drop', // somebody on a bad line misses lines; nobody waits for them
  accept(handshake) {
    const name = handshake.query.get('name');
    return name ? { data: { name } } : { status: 400, body: 'add ?name=…' };
  },
  onOpen(connection) {
    connection.subscribe(`room:${connection.params.room}`);
  },
  onMessage(connection, data) {
    server.publish(`room:${connection.params.room}`, `${connection.data.name}: ${data}`);
  },
});

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [{ endpoint: rooms }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/rooms/tea?name=ann`);
