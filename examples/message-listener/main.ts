import { createServer } from 'holdfast';
import { messageListener } from './message-listener.ts';

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [{ endpoint: messageListener }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/ws/anything`);
