import { test } from 'vitest';
import { killOneOfTwo } from './killed-backend.ts';

test('kill -9 of one of two backends under 200 sockets: the others are unharmed, new ones go to the survivor', async () => {
  await killOneOfTwo(200);
});
