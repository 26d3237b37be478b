import { join } from 'node:path';
import { createServer } from 'holdfast';

const folder = import.meta.dirname;

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: false,
  routes: [
    {
      mount: '/websocket-helloworld-wls',
      application: { endpoints: [join(folder, 'endpoints/**/*.ts')], files: join(folder, 'public') },
    },
    { path: '/', redirect: '/websocket-helloworld-wls/' },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
