import type { Awaitable } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';

/** What a function of the program answers. Rejects with what it throws, and when it takes longer than it may. */
export function inTime<T>(clock: Clock, timeoutMs: number, ask: () => Awaitable<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const deadline = setDeadline(clock, timeoutMs, () => reject(new Error(`no answer within ${timeoutMs} ms`)));
    const run = async () => ask();
    run()
      .finally(() => deadline?.clear())
      .then(resolve, reject);
  });
}
