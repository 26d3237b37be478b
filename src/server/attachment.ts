import type { Server as HttpServer, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { setDeadline } from '../base/deadlines.ts';
import type { PublicIntake } from './intakes/public.ts';

/** How long others who listen for upgrades may leave a socket alone before it is nobody's. */
const UNTAKEN_MS = 30_000;

/** Our servers that are attached to an HTTP server, each with its listener. */
const ATTACHED = new WeakMap<HttpServer, Set<object>>();
/** Those of them that have left a socket to others. */
const DECLINED = new WeakMap<Duplex, Set<object>>();

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
    if (isReset(request.socket)) return void socket.destroy();
    const before = traffic(socket);
    const intake = await starting.catch(() => undefined);
    const answer = () => void (intake ? intake.takeUpgrade(request, socket, early) : socket.destroy());
    const isAlone = others() === 0 && [...ours].every(one => one === onUpgrade);
    if (isAlone) return answer();
    if (await intake?.takeUpgrade(request, socket, early, true)) return;
    const declined = (DECLINED.get(socket) ?? new Set()).add(onUpgrade);
    DECLINED.set(socket, declined);
    if (![...ours].every(one => declined.has(one))) return;
    if (others() === 0) return answer();
    const deadline = setDeadline(clock, UNTAKEN_MS, () => {
      if (!socket.destroyed && traffic(socket) === before && !isRead(socket)) answer();
    });
    socket.once('close', () => deadline?.clear());
  };
  // After a stop or a failed start we are not among ours.
  const others = () => server.listenerCount('upgrade') - ours.size;
  const ours = ATTACHED.get(server) ?? new Set();
  ATTACHED.set(server, ours.add(onUpgrade));
  server.on('upgrade', onUpgrade);
  return () => {
    ours.delete(onUpgrade);
    server.off('upgrade', onUpgrade);
  };
}

const ignore = () => {};

/** Then it has no address that lists, limits and bans could judge it by. On a Unix socket both sides have none. */
function isReset({ remoteAddress, localAddress, destroyed }: Socket): boolean {
  return remoteAddress === undefined && (destroyed || localAddress !== undefined);
}

function traffic(socket: Duplex & { readonly bytesWritten?: number }): number | undefined {
  return socket.bytesWritten;
}

/** Somebody has taken it, and has not answered yet. */
function isRead(socket: Duplex): boolean {
  return socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0;
}
