import { join } from 'node:path';
import { CloseCode, createServer, defineEndpoint } from 'holdfast';
import { type Game, isDirection, newGame, step } from './game.ts';

declare module 'holdfast' {
  interface SessionData {
    game: Game;
  }
}

const play = defineEndpoint({
  path: '/play',
  maxMessageSize: '1KiB',
  onOpen(connection) {
    const { session } = connection;
    // A refused handshake would be 1006 to the page, as a lost connection is. This code tells it not to try again.
    if (!session) return connection.close(CloseCode.policyViolation, 'no session');
    connection.subscribe(`game:${session.id}`);
    connection.send(JSON.stringify(session.get('game') ?? newGame()));
  },
  async onMessage(connection, data) {
    const session = connection.session!;
    if (data !== 'restart' && !isDirection(data))
      return connection.close(CloseCode.policyViolation, 'send left, right, up, down or restart');
    // Each step starts from what is stored, also when two tabs play at the same time. It has been stored when `update` resolves.
    const game = await session.update('game', (game = newGame()) =>
      data === 'restart' ? newGame() : step(game, data),
    );
    // Only now does the player see it: a step that was seen cannot be lost.
    server.publish(`game:${session.id}`, JSON.stringify(game));
  },
});

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  // Progress is kept for a month after the last step.
  session: { store: 'lmdb:./data/sessions', idleTimeout: '30d', absoluteTimeout: -1 },
  routes: [{ endpoint: play }, { path: '/*', session: 'auto', files: join(import.meta.dirname, 'public') }],
});
await server.start();
console.log(`open ${server.urls[0]}`);
