import { createServer, defineEndpoint } from 'holdfast';

const live = defineEndpoint({
  path: '/live',
  accept: handshake => handshake.user !== undefined,
  onOpen(connection) {
    connection.send(`hello ${connection.user!.name}`);
  },
});

const page = (isSignedIn: boolean) => `<!doctype html><title>Sign in</title>
  <form method="post" action="/${isSignedIn ? 'sign-out' : 'sign-in'}">
    ${isSignedIn ? 'You are signed in.' : '<input name="name" required>'} <button>Sign ${isSignedIn ? 'out' : 'in'}</button>
  </form><pre></pre><script>
    const socket = new WebSocket('/live');
    socket.onmessage = event => document.querySelector('pre').append(event.data);
    socket.onclose = event => event.code === 1008 && location.reload();
  </script>`;

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: { store: 'lmdb:./data' },
  routes: [
    { endpoint: live },
    {
      path: '/',
      fetch: (_request, { user }) =>
        new Response(page(user !== undefined), { headers: { 'content-type': 'text/html; charset=utf-8' } }),
    },
    {
      path: '/sign-in',
      methods: ['POST'],
      async fetch(request) {
        const name = String((await request.formData()).get('name')).slice(0, 100) || 'nobody';
        await server.sessions.signIn(request, { name, roles: [] }); // the cookie from before the login is dead from here on
        return new Response(null, { status: 303, headers: { location: '/' } });
      },
    },
    {
      path: '/sign-out',
      methods: ['POST'],
      async fetch(_request, { session }) {
        await session?.invalidate('logout'); // every socket of it closes with 1008
        return new Response(null, { status: 303, headers: { location: '/' } });
      },
    },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
