import type { Server as HttpServer, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { setDeadline } from '../base/deadlines.ts';
import type { PublicIntake } from './intakes/public.ts';

/** How long others who listen for upgrades may leave a socket alone before it is nobody's. */
const UNTAKEN_MS = 30_000;

/** Our servers that are attached to an HTTP server, each with its listener. */
const ATTACHED = new WeakMap<HttpServer, Set<object>>();
/** How many of them have left a socket to others. */
const DECLINED = new WeakMap<Duplex, number>();

/**
 * Listens for the upgrades of an HTTP server that is not ours. What has no route is left to others who listen too;
 * without any, or when none of them does anything, it is answered all the same.
 *
 * @param starting Resolves when handshakes can be served. They wait for it.
 * @returns lets go of the server.
 */
export function attachTo(server: HttpServer, starting: Promise<PublicIntake>, clock: Clock): () => void {
  const onUpgrade = async (request: IncomingMessage, socket: Duplex, early: Buffer) => {
    // Node has taken its own listener off, and an error without one ends the process. It stays where others have the
    // socket: they may never look at it.
    socket.on('error', ignore);
    const intake = await starting.catch(() => void socket.destroy());
    if (!intake) return;
    if (server.listenerCount('upgrade') === 1) return void (await intake.takeUpgrade(request, socket, early));
    if (await intake.takeUpgrade(request, socket, early, true)) return;
    const declined = (DECLINED.get(socket) ?? 0) + 1;
    DECLINED.set(socket, declined);
    if (declined < ours.size) return;
    const refuse = () => void intake.takeUpgrade(request, socket, early);
    if (server.listenerCount('upgrade') <= ours.size) return refuse();
    const before = traffic(socket);
    const deadline = setDeadline(clock, UNTAKEN_MS, () => {
      if (!socket.destroyed && traffic(socket) === before && !isRead(socket)) refuse();
    });
    socket.once('close', () => deadline?.clear());
  };
  const ours = ATTACHED.get(server) ?? new Set();
  ATTACHED.set(server, ours.add(onUpgrade));
  server.on('upgrade', onUpgrade);
  return () => {
    ours.delete(onUpgrade);
    server.off('upgrade', onUpgrade);
  };
}

const ignore = () => {};

function traffic(socket: Duplex & { readonly bytesWritten?: number }): number | undefined {
  return socket.bytesWritten;
}

/** Somebody has taken it, and has not answered yet. */
function isRead(socket: Duplex): boolean {
  return socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0;
}
