import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** A port that nobody listens on, and, for the bus of a cluster, the one 10,000 above. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listening = Promise.race([once(server, 'listening'), once(server, 'error').then(() => undefined)]);
  server.listen(port, '127.0.0.1');
  const isListening = (await listening.catch(() => undefined)) !== undefined;
  server.close();
  return isListening;
}

/** Does somebody listen there? */
export function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return new Promise(resolve => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
