import { test } from 'vitest';
import { killOneOfTwo } from '../gateway/killed-backend.ts';

test('kill -9 of one of two backends under 1,000 sockets: the others are unharmed, new ones go to the survivor', async () => {
  await killOneOfTwo(1_000);
}, 60_000);
