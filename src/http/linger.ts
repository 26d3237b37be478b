import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { setDeadline } from '../base/deadlines.ts';

/**
 * How long a connection whose last answer is written is read on, so that the client can take that answer: until nothing
 * has come for the first time, and at most for the second. Some clients read nothing before they have sent all.
 */
const LINGER_MS = 2_000;
const LONGEST_LINGER_MS = 30_000;

/**
 * Cuts a connection that has been ended on our side, once its client has fallen silent. What arrives after a connection
 * is closed makes the kernel reset it, and a reset takes from the client what it has not read yet. Until then the caller
 * MUST read on, whatever comes. A stream of HTTP/2 is cut as soon as all has left, or after the first time.
 *
 * @see RFC 9112 §9.6
 */
export function linger(socket: Duplex, clock: Clock): void {
  const isConnection = socket instanceof Socket;
  if (!isConnection && socket.writableFinished) return void socket.destroy();
  const endsAt = clock.monotonic() + LONGEST_LINGER_MS;
  let read = -1;
  const check = () => {
    if (!isConnection || socket.bytesRead === read || clock.monotonic() >= endsAt) return void socket.destroy();
    read = socket.bytesRead;
    deadline = setDeadline(clock, LINGER_MS, check);
  };
  let deadline: ReturnType<typeof setDeadline>;
  if (isConnection) check();
  else {
    deadline = setDeadline(clock, LINGER_MS, check);
    socket.once('finish', () => socket.destroy());
  }
  socket.once('close', () => deadline?.clear());
}
