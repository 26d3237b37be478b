import assert from 'node:assert/strict';
import { setTimeout as wait } from 'node:timers/promises';

/** Calls at the same time, where one of them has to win. */
export const PARALLEL = 20;

export function parallel<T>(call: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: PARALLEL }, (_, index) => call(index)));
}

export async function within(ms: number, isTrue: () => boolean, otherwise: string): Promise<void> {
  const end = performance.now() + ms;
  while (!isTrue()) {
    assert.ok(performance.now() < end, `${otherwise} within ${ms} ms`);
    await wait(2);
  }
}
