import { createServer } from 'holdfast';
import { demo } from './demo.ts';

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [{ endpoint: demo }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/demo`);
