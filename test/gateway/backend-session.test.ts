import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { HoldfastError } from '../../src/base/errors.ts';
import { createCertificate } from '../self-signed-certificate.ts';
import { closing } from '../services/closing.ts';
import { type GatewayOptions, TestGateway } from './gateway-server.ts';
import { rawClient } from './raw-peer.ts';

const open = closing();

/** A backend that takes WebSockets unless it is asked to decline, and answers everything else. */
async function backend(): Promise<{ url: string; seen: http.IncomingMessage[] }> {
  const seen: http.IncomingMessage[] = [];
  const sockets = new WebSocketServer({ noServer: true });
  sockets.on('headers', lines => lines.push('Holdfast-Session: end'));
  const server = http.createServer((request, response) => {
    seen.push(request);
    response
      .writeHead(200, {
        'X-Answer': 'from the backend',
        'Holdfast-Session': 'end',
        'Cache-Control': 'public, max-age=60',
      })
      .end('body');
  });
  server.on('upgrade', (request, socket, head) => {
    seen.push(request);
    if (request.headers['x-decline'] === undefined)
      sockets.handleUpgrade(request, socket, head, one => one.send('hello'));
    else
      socket.end(
        'HTTP/1.1 401 Unauthorized\r\nHoldfast-Session: end\r\nCache-Control: public\r\nContent-Length: 2\r\n\r\nno',
      );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({
    close() {
      server.closeAllConnections();
      server.close();
    },
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

async function gateway(url: string, options: GatewayOptions): Promise<number> {
  const gateway = await new TestGateway([url], { sid: 'the-sid', ...options }).listen();
  open.push(gateway);
  return gateway.port;
}

const COOKIE = [{ name: 'Set-Cookie', value: 'a=b' }];
const SPOOFED = ['X_Told: by the client', 'Connection: X-Told'];

test('the session tells the backend what it says and no client can, and adds to the answer, which becomes private', async () => {
  const { url, seen } = await backend();
  const port = await gateway(url, {
    userHeader: 'X-Told',
    session: { owner: { name: 'us', roles: [] } },
    news: COOKIE,
  });
  const plain = await fetch(`http://127.0.0.1:${port}/`, { headers: { X_Told: 'by the client' } });
  expect([plain.headers.get('set-cookie'), plain.headers.get('cache-control')]).toEqual(['a=b', 'private, no-cache']);
  expect(await plain.text()).toBe('body');
  const declined = await rawClient(port, [...SPOOFED, 'X-Decline: yes']);
  await declined.closed();
  expect(declined.head).toMatch(/^HTTP\/1\.1 401 [\s\S]*\r\nCache-Control: private, no-cache\r\nSet-Cookie: a=b\r\n/);
  expect(declined.head).not.toContain('public');
  const socket = await rawClient(port, SPOOFED);
  expect((await socket.frame(0)).payload.toString()).toBe('hello');
  expect(socket.head).toMatch(/^HTTP\/1\.1 101 [\s\S]*\r\nSet-Cookie: a=b$/);
  for (const { headers } of seen) {
    expect(headers['x-told']).toBe('us');
    expect(headers.x_told).toBeUndefined();
  }
  expect(seen).toHaveLength(3);
});

test('a refusal takes the place of the answer, whatever it was', async () => {
  const { url, seen } = await backend();
  const invalidate = async () => {
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', 'the store is away', { status: 503 });
  };
  const port = await gateway(url, { controlsSession: true, session: { invalidate } });
  const plain = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'much' });
  expect([plain.status, plain.headers.get('x-answer')]).toEqual([503, null]);
  for (const headers of [{}, { 'X-Decline': 'yes' }]) {
    const client = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
    const [, answer] = await once(client, 'unexpected-response');
    expect(answer.statusCode).toBe(503);
    answer.resume();
  }
  expect(seen).toHaveLength(3);
});

test.each([
  ['its own end', 'X-Framing: none\r\n\r\nwhole body'],
  ['a length', 'Connection: close\r\nContent-Length: 10\r\n\r\nwhole body'],
  ['chunks', 'Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n5\r\n body\r\n0\r\n\r\n'],
])(
  'an answer over TLS that ends by %s is passed on as a whole when the backend has left before the session is stored',
  async (_, rest) => {
    const { certificate, key } = createCertificate({ name: 'localhost' });
    const left = Promise.withResolvers<undefined>();
    const server = tls.createServer({ cert: certificate, key }, socket => {
      socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\nHoldfast-Session: end\r\n${rest}`));
      socket.on('close', () => left.resolve(undefined)).on('error', () => {});
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    open.push(server);
    const to = new TestGateway([`https://127.0.0.1:${(server.address() as AddressInfo).port}`], {
      tls: { verify: false },
      ...{ sid: 'the-sid', controlsSession: true, session: { invalidate: () => left.promise } },
    });
    open.push(await to.listen());
    const answer = await fetch(`http://127.0.0.1:${to.port}/`);
    expect([answer.status, await answer.text()]).toEqual([200, 'whole body']);
    expect(await to.outcome()).toMatchObject({ complete: true });
  },
);
