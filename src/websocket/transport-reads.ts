import { Socket } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import { ByteQueue } from './byte-queue.ts';
import { type OnRead, shareReads } from './shared-reads.ts';

const PIECE_BYTES = 64 * 1024;
const readsOf = Symbol('reads');
const listenerOf = Symbol('listener');

/** A transport whose bytes do not go through its readable half. */
type Direct = Duplex & { [readsOf]?: Reads; [listenerOf]?: (chunk: Buffer) => void };

interface Reads {
  onRead: OnRead<Duplex>;
  isPaused: boolean;
  /** What arrived although it is not read. */
  held: ByteQueue | undefined;
  hasEnded: boolean;
}

/**
 * Hands to `onRead` what arrives, from now on, in the place of the stream's `data` event and of an earlier `onRead`.
 * `end` and `close` come as before.
 *
 * A stream of Node's that is paused keeps what still arrives as it came, which is some hundred bytes for each: of what
 * is encrypted or comes in streams of HTTP/2, that may be one byte in each of 65,535 pieces, for each of a hundred
 * streams. Here they are gathered.
 *
 * @returns true when the bytes stand in memory that the next read of any connection overwrites.
 */
export function startReads<T extends Duplex>(transport: T, onRead: OnRead<T>): boolean {
  const direct = transport as Direct;
  const reads = direct[readsOf];
  if (reads !== undefined) {
    reads.onRead = onRead as OnRead<Duplex>;
    resumeReads(transport);
    return false;
  }
  if (shareReads(transport, onRead)) return true;
  if (!isOfNode(transport)) {
    if (direct[listenerOf]) direct.off('data', direct[listenerOf]);
    direct[listenerOf] = chunk => onRead.call(transport, chunk.length, chunk);
    direct.on('data', direct[listenerOf]);
    transport.resume();
    return false;
  }
  const early: Buffer | null = transport.readableLength > 0 ? transport.read() : null;
  direct[readsOf] = { onRead: onRead as OnRead<Duplex>, isPaused: true, held: undefined, hasEnded: false };
  direct.push = pushDirectly;
  if (early !== null) hold(direct[readsOf], early);
  transport.resume();
  resumeReads(transport);
  return false;
}

/** Until `resumeReads`, nothing is handed over, and the peer is held up as soon as what is on its way has arrived. */
export function pauseReads(transport: Duplex): void {
  const reads = (transport as Direct)[readsOf];
  if (reads === undefined) transport.pause();
  else reads.isPaused = true;
}

export function resumeReads(transport: Duplex): void {
  const reads = (transport as Direct)[readsOf];
  if (reads === undefined) {
    transport.resume();
  } else if (reads.isPaused && !transport.destroyed) {
    reads.isPaused = false;
    // Not at once: it may be called by what is being handed over.
    if (reads.held === undefined && !reads.hasEnded) transport._read(PIECE_BYTES);
    else process.nextTick(handOver, transport, reads);
  }
}

export function areReadsPaused(transport: Duplex): boolean {
  return (transport as Direct)[readsOf]?.isPaused ?? transport.isPaused();
}

/** Has something arrived in this process that nobody was handed yet? */
export function hasUnread(transport: Duplex): boolean {
  return transport.readableLength > 0 || (transport as Direct)[readsOf]?.held !== undefined;
}

/**
 * Sockets and streams of HTTP/2 stop reading when `push` answers false, and go on with `_read`; of others less is
 * known.
 */
function isOfNode(transport: Duplex): boolean {
  return transport instanceof Socket || (transport as { session?: object }).session !== undefined;
}

function pushDirectly(this: Direct, chunk: Buffer | null): boolean {
  const reads = this[readsOf]!;
  if (chunk === null) {
    if (reads.held === undefined && !reads.isPaused) return Readable.prototype.push.call(this, null);
    reads.hasEnded = true;
    return false;
  }
  if (reads.isPaused || reads.held !== undefined) {
    hold(reads, chunk);
    return false;
  }
  reads.onRead.call(this, chunk.length, chunk);
  return !reads.isPaused;
}

function hold(reads: Reads, chunk: Buffer): void {
  reads.held ??= new ByteQueue();
  reads.held.append(chunk, false);
}

function handOver(transport: Direct, reads: Reads): void {
  const { held } = reads;
  while (held !== undefined && !reads.isPaused) {
    if (transport.destroyed) return;
    const piece = held.shift(PIECE_BYTES);
    if (held.bytes === 0) reads.held = undefined;
    reads.onRead.call(transport, piece.length, piece);
    if (reads.held === undefined) break;
  }
  if (reads.held !== undefined || reads.isPaused || transport.destroyed) return;
  if (!reads.hasEnded) {
    transport._read(PIECE_BYTES);
    return;
  }
  Readable.prototype.push.call(transport, null);
  transport.read(0);
}
