import type { ServerResponse } from 'node:http';
import type { Refusal } from './refusal.ts';

const refusals = new WeakMap<object, Refusal>();

/**
 * The listener answers in the place of this response: the rest of its request cannot be read as one, and nothing of the
 * response has left.
 */
export function answerBelow(response: ServerResponse, refusal: Refusal): void {
  refusals.set(response, refusal);
}

/** What the listener has answered; undefined: it has not. */
export function refusalBelow(response: ServerResponse): Refusal | undefined {
  return refusals.get(response);
}
