// The demo's backend: it could be in any language, and reads one header. Pages and facts are plain HTTP; its WebSocket,
// which the gateway relays, tells its uptime every second. Started by `backend-process.ts` with the port it had before
// as its argument; ends with the process that started it.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Connection, createServer as createHoldfast, defineEndpoint } from '../../index.ts';

const TICK_MS = 1_000;

const requestsOf = new Map<string, number>();
let requests = 0;

const server = createServer((request, response) => {
  requests++;
  const session = header(request, 'x-session-id');
  if (session) requestsOf.set(session, (requestsOf.get(session) ?? 0) + 1);
  const facts = {
    session,
    pid: process.pid,
    requests,
    requestsOfSession: session ? requestsOf.get(session)! : 0,
    uptimeSeconds: uptime(),
  };
  if (request.url?.endsWith('/facts')) send(response, 'application/json', JSON.stringify(facts));
  else send(response, 'text/html; charset=utf-8', page(facts));
});

const live = defineEndpoint<{ session: string | undefined }>({
  path: '/backend/live',
  // The gateway has judged the origin; nobody else reaches this port.
  origins: 'any',
  accept: ({ headers }) => ({ data: { session: headers['x-session-id']?.toString() } }),
  onOpen: connection => tick(connection),
});

function tick(connection: Connection<{ session: string | undefined }>): void {
  connection.send(JSON.stringify({ session: connection.data.session, pid: process.pid, uptimeSeconds: uptime() }));
}

setInterval(() => live.connections.forEach(tick), TICK_MS);
await createHoldfast({ session: false, routes: [{ endpoint: live }], log: { access: 'off' } }).attach(server);

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});

// Also when the parent was killed with -9: its end of the channel is closed by the operating system.
process.on('disconnect', () => process.exit(0));
// Ctrl+C in a terminal reaches the whole group: the parent drains first and then lets this process go.
process.on('SIGINT', () => {});

function uptime(): number {
  return Math.floor(process.uptime());
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

function send(response: ServerResponse, type: string, body: string): void {
  response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' });
  response.end(body);
}

function page(facts: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(facts).map(
    ([name, value]) => `<tr><th>${name}</th><td>${escapeHtml(String(value ?? 'none'))}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>The backend</title>
<style>body { font: 16px/1.6 system-ui, sans-serif; margin: 3rem } th { text-align: left; padding-right: 2rem }</style>
<h1>The backend</h1>
<p>This page comes from another process. Of you it knows what the gateway tells it:</p>
<table>${rows.join('')}</table>
</html>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
