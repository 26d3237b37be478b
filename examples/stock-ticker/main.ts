import { join } from 'node:path';
import { CloseCode, createServer, defineEndpoint } from 'holdfast';
import { Exchange } from './exchange.ts';

declare module 'holdfast' {
  interface SessionData {
    watchlist: readonly string[];
  }
}

const exchange = new Exchange(Number(process.env.SHARES ?? 24));

/**
 * The prices: the same for everybody, so each board is encoded once. Who reads slowly skips some and delays nobody.
 *
 * `conflate` keeps one waiting message of a connection, whatever it says: so each has all prices, and nothing else goes this way.
 */
const prices = defineEndpoint({
  path: '/prices',
  slowReader: 'conflate',
  maxBufferedAmount: '64KiB',
  maxMessageSize: '1KiB',
  onOpen(connection) {
    connection.send(JSON.stringify(exchange.board));
  },
});

/** What a visitor watches: in the session, for all tabs. Here every message counts, so none is conflated. */
const watchlist = defineEndpoint({
  path: '/watchlist',
  maxMessageSize: '1KiB',
  onOpen(connection) {
    const { session } = connection;
    // A refused handshake would be 1006 to the page, as a lost connection is. This code tells it not to try again.
    if (!session) return connection.close(CloseCode.policyViolation, 'no session');
    connection.subscribe(`watchlist:${session.id}`);
    connection.send(JSON.stringify(session.get('watchlist') ?? []));
  },
  async onMessage(connection, data) {
    const session = connection.session!;
    const { share, isWatched } = parse(data);
    if (!exchange.has(share)) return connection.close(CloseCode.policyViolation, 'send {"share","isWatched"}');
    const watched = await session.update('watchlist', (list = []) => {
      const others = list.filter(other => other !== share);
      return isWatched ? [...others, share].sort() : others;
    });
    // It is kept: `update` waits for the store.
    server.publish(`watchlist:${session.id}`, JSON.stringify(watched));
  },
});

function parse(data: string | Uint8Array): Record<string, unknown> {
  try {
    return Object(JSON.parse(String(data)));
  } catch {
    return {};
  }
}

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  // Who only watches says nothing: the pongs of the open page keep the session alive.
  session: { store: 'lmdb:./data/sessions', touchOnTraffic: 'any', absoluteTimeout: '7d' },
  routes: [
    { endpoint: prices },
    { endpoint: watchlist },
    { path: '/*', session: 'auto', files: join(import.meta.dirname, 'public') },
  ],
});
await server.start();
setInterval(() => prices.broadcast(JSON.stringify(exchange.tick())), Number(process.env.TICK_MS ?? 250));
console.log(`open ${server.urls[0]}`);
