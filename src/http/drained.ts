import type { Writable } from 'node:stream';

/** Resolves when a stream whose `write` was false takes more again, or will never take any. */
export function drained(stream: Writable): Promise<void> {
  return new Promise((resolve: () => void) => {
    if (stream.destroyed) return resolve();
    const settle = () => {
      stream.off('drain', settle);
      stream.off('close', settle);
      resolve();
    };
    stream.on('drain', settle);
    stream.on('close', settle);
  });
}
