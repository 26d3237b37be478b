// The demo's backend: a program that knows nothing of Holdfast and could be in any language. It reads a header, that is all.
// Started by `backend-process.ts` with the port it had before as its argument; ends with the process that started it.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

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
    uptimeSeconds: Math.floor(process.uptime()),
  };
  if (request.url?.endsWith('/facts')) send(response, 'application/json', JSON.stringify(facts));
  else send(response, 'text/html; charset=utf-8', page(facts));
});

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});

// Also when the parent was killed with -9: its end of the channel is closed by the operating system.
process.on('disconnect', () => process.exit(0));
// Ctrl+C in a terminal reaches the whole group: the parent drains first and then lets this process go.
process.on('SIGINT', () => {});

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
    ([name, value]) => `<dt>${name}</dt><dd>${escapeHtml(String(value ?? '-'))}</dd>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>The backend</title><h1>The backend</h1><dl>${rows.join('')}</dl></html>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
