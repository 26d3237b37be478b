import { createServer } from 'holdfast';
import { clock, primes } from './primes.ts';

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [{ endpoint: primes }, { endpoint: clock }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/primes`);
