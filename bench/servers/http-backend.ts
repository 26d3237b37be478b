// The backend of suite `forward`: answers `/INDEX/SIZE` with that body, and takes a body only when it is the one
// announced in `X-Body`.
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { bodyOf } from './bodies.ts';
import { ready } from './control.ts';

const server = createServer({ keepAliveTimeout: 60_000 }, async (request, response) => {
  const [, index, size] = request.url!.split('/').map(Number);
  const wanted = request.headers['x-body'];
  if (wanted !== undefined && !(await takesBody(request, wanted as string))) response.statusCode = 400;
  // A session is opened by the first request, and known from then on.
  if (request.headers['x-wants-session'] !== undefined && request.headers['x-session-id'] === undefined)
    response.statusCode = 401;
  const body = bodyOf(index!, size!);
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('Content-Length', body.length);
  response.end(body);
});
server.listen(0, '127.0.0.1', () => ready((server.address() as AddressInfo).port, () => globalThis.gc?.()));

async function takesBody(request: IncomingMessage, wanted: string): Promise<boolean> {
  const [index, size] = wanted.split('/').map(Number);
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).equals(bodyOf(index!, size!));
}
