import { createHash, type Hash } from 'node:crypto';
import { createServer, defineEndpoint } from 'holdfast';

const digest = defineEndpoint<{ hash: Hash | undefined }>({
  path: '/digest',
  maxMessageSize: '4GiB',
  maxFragments: 1_000_000,
  accept: () => ({ data: { hash: undefined } }),
  // Piece by piece, as it arrives: a message never lies in memory as a whole.
  onFragment(connection, data, last) {
    connection.data.hash ??= createHash('sha256');
    connection.data.hash.update(data);
    if (!last) return;
    connection.send(connection.data.hash.digest('hex'));
    connection.data.hash = undefined;
  },
  // And the other way: a reply of any length, at the pace of the peer.
  async onMessage(connection, data) {
    for (let line = 1; line <= Number(data); line++) {
      if (!connection.stream(`line ${line}\n`, line === Number(data))) await connection.drained();
    }
  },
});

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [{ endpoint: digest }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/digest`);
