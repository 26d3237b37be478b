import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CloseCode, createServer, defineEndpoint } from 'holdfast';
import { makeTune } from './tune.ts';

declare module 'holdfast' {
  interface SessionData {
    /** Seconds. One attribute for each medium: tabs that play different ones do not get into each other's way. */
    [position: `position:${string}`]: number;
  }
}

const MEDIA: ReadonlySet<string> = new Set(['tune.wav']);
mkdirSync('./data/media', { recursive: true });
writeFileSync('./data/media/tune.wav', makeTune());

const positions = defineEndpoint({
  path: '/positions/:medium',
  maxMessageSize: '1KiB',
  accept: ({ params }) => (MEDIA.has(params.medium!) ? true : { status: 404 }),
  onOpen(connection) {
    const { session } = connection;
    const medium = connection.params.medium!;
    // A refused handshake would be 1006 to the page, as a lost connection is. This code tells it not to try again.
    if (!session) return connection.close(CloseCode.policyViolation, 'no session');
    connection.subscribe(`${medium} ${session.id}`);
    connection.send(JSON.stringify({ position: session.get(`position:${medium}`) ?? 0 }));
  },
  onMessage(connection, data) {
    const session = connection.session!;
    const medium = connection.params.medium!;
    const position = Number(data);
    if (!(position >= 0 && position < 1e6)) return connection.close(CloseCode.policyViolation, 'send seconds');
    // Every socket of the session reads it from here on; the disk comes behind.
    session.set(`position:${medium}`, position);
    // Not awaited: positions that come while one is being written go together with the next write, however many they are.
    session.sync().then(
      () => server.publish(`${medium} ${session.id}`, JSON.stringify({ position })),
      () => connection.close(CloseCode.tryAgainLater, 'not kept'),
    );
  },
});

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  // Half a film tonight, the rest next week.
  session: { store: 'lmdb:./data/sessions', idleTimeout: '30d', absoluteTimeout: -1 },
  routes: [
    { endpoint: positions },
    { path: '/media/*', files: './data/media' },
    { path: '/*', session: 'auto', files: join(import.meta.dirname, 'public') },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
