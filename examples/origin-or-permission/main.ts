import { createServer, defineEndpoint, type User } from 'holdfast';

const ORIGIN = 'http://www.example.com:7001';
// Stands for your directory of users, and asks for no password.
const ROLES: Record<string, string[]> = { ann: ['user'], bob: [] };

const demo = defineEndpoint({
  path: '/demo',
  origins: 'accept', // a foreign origin gets as far as `accept`
  accept: handshake => handshake.origin === ORIGIN || hasPermission(handshake.user),
  onOpen: connection => void connection.send(`welcome, ${connection.user?.name ?? 'page of a friend'}`),
});

function hasPermission(user: User | undefined): boolean {
  return user?.hasRole('user') ?? false;
}

const page = `<!doctype html><title>Permission</title>
  <form method="post" action="/sign-in">
    <button name="name" value="ann">Sign in as ann</button> <button name="name" value="bob">as bob</button>
  </form><pre></pre><script>
    const socket = new WebSocket('/demo');
    socket.onmessage = event => document.querySelector('pre').append(event.data);
    socket.onerror = () => document.querySelector('pre').append('refused');
  </script>`;
const html = { 'content-type': 'text/html; charset=utf-8' };

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  routes: [
    { endpoint: demo },
    { path: '/', fetch: () => new Response(page, { headers: html }) },
    {
      path: '/sign-in',
      methods: ['POST'],
      async fetch(request) {
        const name = String((await request.formData()).get('name'));
        const roles = Object.hasOwn(ROLES, name) ? ROLES[name] : undefined;
        if (!roles) return new Response('nobody of that name\n', { status: 403 });
        await server.sessions.signIn(request, { name, roles });
        return new Response(null, { status: 303, headers: { location: '/' } });
      },
    },
  ],
});
await server.start();
console.log(`open ${server.urls[0]}`);
