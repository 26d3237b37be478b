import { createServer, defineEndpoint } from 'holdfast';

const demo = defineEndpoint({
  path: '/demo',
  onOpen: connection =>
    void connection.send(connection.isSecure ? 'nobody else reads this' : 'everybody may read this'),
});

const server = createServer({
  listen: [
    {
      port: Number(process.env.PORT ?? 8443),
      tls: {
        certificate: process.env.CERTIFICATE ?? 'data/localhost.crt',
        key: process.env.KEY ?? 'data/localhost.key',
      },
    },
    { port: Number(process.env.PLAIN_PORT ?? 8080) },
  ],
  session: false,
  routes: [{ endpoint: demo, policy: { transport: 'confidential' } }],
});
await server.start();
console.log(`connect to ${server.urls[0]}/demo, and not to ${server.urls[1]}/demo`);
