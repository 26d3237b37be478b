import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { systemClock } from '../base/clock.ts';
import { setDeadline } from '../base/deadlines.ts';
import { hasUnread } from './transport-reads.ts';

type Callback = (error?: Error | null) => void;
type Pieces = { chunk: Buffer; encoding: BufferEncoding }[];

const breakKey = Symbol('break');
const waitsKey = Symbol('waits');
/** After a failed write, a connection of which nothing is read for so long is cut. */
const LONGEST_PAUSE_MS = 30_000;

type Heard = Socket & { [breakKey]?: NodeJS.ErrnoException; [waitsKey]?: true };

/**
 * Lets what a peer sent before the connection broke be read to its end, whatever failed first. It is for TCP and TLS;
 * any other transport stays as it is.
 *
 * A peer that says why it does not want the rest, and closes without having read it, makes the kernel reset the
 * connection: the answer to an upload, the close frame to a message that is too big. Node destroys a socket at its first
 * failed write, with all that has arrived; and at a failed read, with what it had read and nobody has taken yet. From now
 * on a failed write ends the writing only, and what follows is dropped; a failed read comes after what was read before, as
 * an end. `breakOf` tells that end from a proper one.
 *
 * Nothing keeps such a socket for long: the connection is dead, and its reading ends with what the kernel holds. One
 * that is paused is cut when nothing of it has been read for 30 s.
 *
 * @param isWaitedFor Whoever pauses it has a time of its own for that.
 */
export function hearLastWords(transport: Duplex, isWaitedFor = false): void {
  if (!(transport instanceof Socket) || transport._write === write) return;
  if (isWaitedFor) (transport as Heard)[waitsKey] = true;
  transport._write = write;
  transport._writev = writev;
  transport.destroy = destroy;
}

/** Why the connection broke, if what came before it was or is still to be read. */
export function breakOf(transport: Duplex): NodeJS.ErrnoException | undefined {
  return (transport as Heard)[breakKey];
}

/** Is nobody there any more, whatever is still to be read? A stream of HTTP/2 is closed when its peer has reset it. */
export function hasLeft(transport: Duplex): boolean {
  return breakOf(transport) !== undefined || transport.closed;
}

/**
 * Had the peer ended its side before the connection broke? Linux says so by the error of the first write after it. Of
 * other systems it is not known.
 */
export function isEndedBefore({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPIPE' && process.platform === 'linux';
}

function write(this: Heard, chunk: unknown, encoding: BufferEncoding, callback: Callback): void {
  if (this[breakKey]) process.nextTick(callback);
  else Socket.prototype._write.call(this, chunk, encoding, error => settle(this, error, callback));
}

function writev(this: Heard, pieces: Pieces, callback: Callback): void {
  if (this[breakKey]) process.nextTick(callback);
  else Socket.prototype._writev!.call(this, pieces, error => settle(this, error, callback));
}

function settle(socket: Heard, error: NodeJS.ErrnoException | null | undefined, callback: Callback): void {
  if (!error || !isReset(error) || socket.destroyed || socket.readableEnded) return callback(error);
  socket[breakKey] = error;
  if (!socket[waitsKey]) cutWhenUnread(socket, error);
  callback();
}

/** A paused socket does not see its end, and what is written to it seems to arrive. */
function cutWhenUnread(socket: Socket, error: Error): void {
  let read = socket.bytesRead;
  const check = () => {
    if (socket.bytesRead === read) return void socket.destroy(error);
    read = socket.bytesRead;
    deadline = setDeadline(systemClock, LONGEST_PAUSE_MS, check);
  };
  let deadline = setDeadline(systemClock, LONGEST_PAUSE_MS, check);
  socket.once('close', () => deadline?.clear());
}

function destroy(this: Heard, error?: NodeJS.ErrnoException, ...rest: unknown[]): Heard {
  // Node has read it, and nobody has taken it yet.
  const isUnread = error?.syscall === 'read' && isReset(error) && !this.destroyed && hasUnread(this);
  if (!isUnread) return Reflect.apply(Socket.prototype.destroy, this, [error, ...rest]) as Heard;
  this[breakKey] ??= error;
  this.push(null);
  return this;
}

function isReset({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ECONNRESET' || code === 'EPIPE';
}
