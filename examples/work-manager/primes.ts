import { defineEndpoint } from 'holdfast';

// What computes runs in two threads: see primes-handlers.ts.
export const primes = defineEndpoint({
  path: '/primes',
  dispatch: { threads: 2 },
  handlers: new URL('./primes-handlers.ts', import.meta.url),
  handlerTimeout: '10s',
});

// What does not runs in the main thread, which is always free.
export const clock = defineEndpoint({
  path: '/clock',
  onMessage: connection => void connection.send(new Date().toISOString()),
});
