import { afterReading } from '../base/deadlines.ts';
import { CLIENT_GONE } from '../gateway/relay/declined-answer.ts';
import { CloseCode } from '../wire/close-codes.ts';
import type { Assembly } from './assembly/build.ts';
import type { Listener } from './listen/listener.ts';

/** What clients and the log are told. */
export const STOPPING = 'server is stopping';

const STEPS = 50;
const CHECK_INTERVAL_MS = 20;
/** Many more than it takes: what never says that it is closed must not keep the server. */
const MAX_TURNS = 100;

/**
 * Empties the server: no new connections, then every socket is told to go (1001), spread evenly over half of the time,
 * so that the clients do not all come back at the same moment. What is still open at the end of the time is cut,
 * handshakes included.
 *
 * Resolves when every listener is closed. New handshakes, and those that come through meanwhile, are the intake's part.
 */
export async function drain(assembly: Assembly, listeners: readonly Listener[], limitMs: number): Promise<void> {
  const { clock } = assembly;
  const closed = Promise.all(listeners.map(listener => listener.port.close()));
  for (const listener of listeners) listener.close();
  for (const listener of listeners) listener.closeIdle();
  const end = clock.monotonic() + limitMs;
  const isOver = () =>
    assembly.sockets.size === 0 &&
    assembly.handshakes.size === 0 &&
    assembly.endpoints.every(endpoint => endpoint.isEmpty);

  const all = [...assembly.sockets];
  const batch = Math.ceil(all.length / STEPS);
  for (let i = 0; limitMs > 0 && i < all.length; i += batch) {
    for (const socket of all.slice(i, i + batch)) socket.close(CloseCode.goingAway, STOPPING);
    if (i + batch < all.length) await wait(assembly, Math.min(limitMs / 2 / STEPS, 100));
  }
  while (!isOver() && clock.monotonic() < end) await wait(assembly, Math.min(CHECK_INTERVAL_MS, limitMs));
  // Those whose goodbye has arrived are not cut.
  await new Promise<void>(afterReading);
  for (const endpoint of assembly.endpoints) endpoint.terminateAll();
  for (const socket of assembly.sockets) socket.terminate();
  // Those that were waiting for `accept` have an answer now; the others wait for a store or a backend.
  await new Promise(resolve => setImmediate(resolve));
  for (const [socket, record] of assembly.handshakes) {
    socket.destroy();
    // Not when it is found out by what it waits for, which may answer after the process has ended.
    record.end(CLIENT_GONE);
  }

  let areClosed = false;
  const closing = closed.then(() => {
    areClosed = true;
  });
  while (!areClosed && clock.monotonic() < end) {
    await Promise.race([closing, wait(assembly, Math.min(CHECK_INTERVAL_MS, Math.max(0, end - clock.monotonic())))]);
    // A connection whose answer was under way is idle then, and nobody else would end it.
    for (const listener of listeners) listener.closeIdle();
  }
  for (const listener of listeners) listener.closeAll();
  for (const socket of assembly.lingering) socket.destroy();
  await closing;
  // Cut sockets say so in a later turn, and then their requests have their lines in the access log.
  for (let turn = 0; assembly.unlogged.size > 0 && turn < MAX_TURNS; turn++)
    await new Promise(resolve => setImmediate(resolve));
}

function wait({ clock }: Assembly, ms: number): Promise<void> {
  return new Promise(resolve => {
    clock.setTimeout(resolve, ms);
  });
}
