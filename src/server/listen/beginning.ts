import type { Socket } from 'node:net';

export interface BeginningReader<T> {
  /** Called with all bytes so far each time that more have come. Undefined: it is not enough yet. */
  read(bytes: Buffer): T | undefined;
  /** It was enough. All bytes are off the socket: what is for others has to be put back. */
  onRead(read: T, bytes: Buffer): void;
  /** The client has ended or closed the connection before. */
  onGone(): void;
}

/** Reads what a client sends first. @returns what gives it up. */
export function readBeginning<T>(socket: Socket, { read, onRead, onGone }: BeginningReader<T>): () => void {
  let bytes: Buffer = Buffer.alloc(0);
  const stop = () => void socket.off('readable', onReadable).off('end', onEnd).off('close', onEnd);
  const onEnd = () => {
    stop();
    onGone();
  };
  const onReadable = () => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const found = read(bytes);
    if (found === undefined) return;
    stop();
    onRead(found, bytes);
  };
  socket.on('readable', onReadable).on('end', onEnd).on('close', onEnd);
  return stop;
}
