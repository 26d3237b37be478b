import { type Clock, systemClock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';

/** Keeps the process alive: there may be no connection now that does. */
const clock: Clock = { ...systemClock, setTimeout: (callback, ms) => setTimeout(callback, ms) };

/** The promise's result, or after the milliseconds a rejection. What the promise does later is ignored. */
export function withDeadline<T>(promise: Promise<T>, ms: number, createError: () => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const deadline = setDeadline(clock, ms, () => reject(createError()));
    promise.then(
      value => {
        deadline?.clear();
        resolve(value);
      },
      error => {
        deadline?.clear();
        reject(error);
      },
    );
  });
}
