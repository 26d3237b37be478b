/**
 * The promise's result, or after the milliseconds a rejection. What the promise does later is ignored.
 *
 * A process that was busy for so long first reads what has arrived meanwhile: that it has no time is not the server's
 * silence.
 */
export function withDeadline<T>(promise: Promise<T>, ms: number, createError: () => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => setImmediate(() => reject(createError())), ms);
    promise.then(
      value => {
        clearTimeout(timer);
        resolve(value);
      },
      error => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}
