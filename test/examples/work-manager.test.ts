import { expect, test } from 'vitest';
import { ask, open, start } from './example-client.ts';

test('work-manager: primes are counted in threads, and the clock beside them answers meanwhile', async () => {
  const example = await start('work-manager');
  const computing = await Promise.all([1, 2].map(() => open(example, '/primes')));
  const clock = await open(example, '/clock');
  let done = 0;
  const answers = computing.map(async socket => {
    const answer = await ask(socket, '1000000');
    done++;
    return answer;
  });
  expect(await ask(clock, 'what time is it?')).toMatch(/^\d{4}-/);
  expect(done).toBe(0);
  expect(await Promise.all(answers)).toEqual(Array(2).fill('78498 primes up to 1000000'));
});
