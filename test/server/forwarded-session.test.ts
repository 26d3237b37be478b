import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { closing } from '../services/closing.ts';

// A session is committed before the headers leave. What a backend sends must pass through that as it passes without.

const dataFolder = mkdtempSync(join(tmpdir(), 'holdfast-forwarded-'));
const open = closing();
let server: Server;
let handler: http.RequestListener;

beforeEach(async () => {
  const backend = http.createServer((request, response) => handler(request, response));
  backend.on('checkContinue', (request, response) => handler(request, response));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  open.push({
    close: () => {
      backend.closeAllConnections();
      return new Promise(resolve => backend.close(resolve));
    },
  });
  server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder,
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [{ path: '/*', upstream: 'app', session: 'create' }],
    },
    { logger: silentLogger },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
});
afterAll(() => rmSync(dataFolder, { recursive: true }));

async function ask(options: http.RequestOptions = {}): Promise<http.IncomingMessage> {
  const request = http.request(server.urls[0]!, { agent: false, ...options }).end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return response;
}

const CACHEABLE = {
  'Cache-Control': 'public, max-age=3600',
  'CDN-Cache-Control': 'max-age=3600',
  'Surrogate-Control': 'max-age=3600',
  'X-Accel-Expires': '3600',
};

describe('an answer that a backend lets shared caches keep', () => {
  test('is private when it carries our cookie, and as it was when it does not', async () => {
    handler = (_, response) => response.writeHead(200, CACHEABLE).end();
    const first = await ask();
    const [cookie] = first.headers['set-cookie']!;
    expect(first.headers['cache-control']).toBe('private, no-cache');
    expect(Object.keys(first.headers).filter(name => /cdn|surrogate|accel/.test(name))).toEqual([]);
    const second = await ask({ headers: { Cookie: cookie!.split(';')[0] } });
    expect(second.headers['set-cookie']).toBeUndefined();
    expect(second.headers).toMatchObject(
      Object.fromEntries(Object.entries(CACHEABLE).map(([name, value]) => [name.toLowerCase(), value])),
    );
  });

  test('keeps its no-store', async () => {
    handler = (_, response) => response.writeHead(200, { ...CACHEABLE, 'Cache-Control': 'no-store' }).end();
    const { headers } = await ask();
    expect([headers['cache-control'], headers['cdn-cache-control']]).toEqual(['no-store', undefined]);
  });
});

test('interim answers pass while the session is not written yet, and trailers after it', async () => {
  handler = (_, response) => {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    response.writeHead(200, { Trailer: 'X-Sum' });
    response.write('a');
    response.addTrailers({ 'X-Sum': '1' });
    response.end();
  };
  const request = http.get(server.urls[0]!, { agent: false });
  const [[{ statusCode }], [response]] = await Promise.all([once(request, 'information'), once(request, 'response')]);
  expect([statusCode, await text(response), response.trailers]).toEqual([103, 'a', { 'x-sum': '1' }]);
  expect(response.headers['set-cookie']).toHaveLength(1);
});

test('a client that waits for the 100 of the backend gets it', async () => {
  handler = (request, response) => {
    response.writeContinue();
    request.pipe(response);
  };
  const request = http.request(server.urls[0]!, { agent: false, method: 'POST', headers: { Expect: '100-continue' } });
  request.flushHeaders();
  await once(request, 'continue');
  request.end('body');
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  expect([await text(response), response.headers['set-cookie']?.length]).toEqual(['body', 1]);
});

test('server-sent events pass one by one, the head before the first of them', async () => {
  const answered = Promise.withResolvers<http.ServerResponse>();
  handler = (_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders();
    answered.resolve(response);
  };
  const response = await ask({ headers: { Accept: 'text/event-stream' } });
  const backend = await answered.promise;
  for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
    backend.write(event);
    expect(String((await once(response, 'data'))[0])).toBe(event);
  }
  response.socket.resetAndDestroy();
  await once(backend, 'close');
});
