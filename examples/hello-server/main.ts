import { createServer, defineEndpoint } from 'holdfast';

const hello = defineEndpoint({
  path: '/hello',
  async onMessage(connection, data) {
    const count = await connection.session?.update('count', count => Number(count ?? 0) + 1);
    connection.send(`hello ${data}, this is message ${count} of your session`);
  },
});

const page = `<!doctype html><title>Holdfast</title><input placeholder="your name, then Enter"><pre></pre><script>
  const socket = new WebSocket('/hello');
  socket.onmessage = event => document.querySelector('pre').append(event.data + '\\n');
  document.querySelector('input').onchange = event => socket.send(event.target.value);
</script>`;
const html = { 'content-type': 'text/html; charset=utf-8' };

const server = createServer({
  listen: [{ port: Number(process.env.PORT ?? 8080) }],
  session: { store: 'lmdb:./data' },
  routes: [{ endpoint: hello }, { path: '/', fetch: () => new Response(page, { headers: html }) }],
});
await server.start();
console.log(`open ${server.urls[0]}`);
