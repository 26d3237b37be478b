import type { ThreadConnection } from 'holdfast';

/** How many primes there are up to the number in the message. */
export function onMessage(connection: ThreadConnection, data: string | Uint8Array): void {
  const limit = Number(data);
  let count = 0;
  for (let number = 2; number <= limit; number++) {
    // Nobody waits for the answer any more: the client has gone, or the handlerTimeout is over.
    if (number % 1024 === 0 && connection.signal.aborted) return;
    if (isPrime(number)) count++;
  }
  connection.send(`${count} primes up to ${limit}`);
}

function isPrime(number: number): boolean {
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}
