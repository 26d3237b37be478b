import { expect, test } from 'vitest';
import { callListener } from '../../src/base/call-listener.ts';

test('what a listener throws or rejects with goes to onError, and not to the caller', async () => {
  const errors: unknown[] = [];
  const note = (error: unknown) => errors.push(error);
  callListener(() => {
    throw new Error('thrown');
  }, note);
  callListener(async () => {
    throw new Error('rejected');
  }, note);
  callListener(() => 'fine', note);
  await Promise.resolve();
  expect(errors).toEqual([new Error('thrown'), new Error('rejected')]);
});
