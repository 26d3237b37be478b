import { once } from 'node:events';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type Refusal, refuse } from '../../src/http/refusal.ts';
import { refusalResponse } from '../../src/http/write-refusal.ts';
import { closing } from '../services/closing.ts';

const open = closing();

describe('a refusal of an upgrade', () => {
  async function receive(refusal: Refusal): Promise<{ response: IncomingMessage; body: string }> {
    const server = createServer().on('upgrade', (_, socket) => void socket.end(refusalResponse(refusal)));
    open.push(server.listen(0, '127.0.0.1'));
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const outgoing = request({ port, host: '127.0.0.1', headers: { Connection: 'Upgrade', Upgrade: 'websocket' } });
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    let body = '';
    for await (const chunk of response.setEncoding('utf8')) body += chunk;
    return { response, body };
  }

  test('is a response that an HTTP client reads to its end', async () => {
    const { response, body } = await receive(
      refuse(403, 'ERR_POLICY_ORIGIN', 'only for the log', { headers: { 'X-A': 'b' }, body: 'nein, döner ✋' }),
    );
    expect(response.statusCode).toBe(403);
    expect(response.headers).toMatchObject({
      'x-a': 'b',
      connection: 'close',
      'content-type': 'text/plain; charset=utf-8',
      'content-length': String(Buffer.byteLength('nein, döner ✋')),
    });
    expect(body).toBe('nein, döner ✋');
  });

  test('says what the status means when the refusal has no body, and never the reason', async () => {
    const { body } = await receive(refuse(503, 'ERR_WS_CONNECTION_LIMIT', 'secret reason'));
    expect(body).toBe('Service Unavailable\n');
  });

  test('names Upgrade in Connection when it sends that header', async () => {
    const { response } = await receive(
      refuse(426, 'ERR_WS_BAD_VERSION', 'no', { headers: { Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' } }),
    );
    expect(response.statusCode).toBe(426);
    expect(response.headers).toMatchObject({
      upgrade: 'websocket',
      connection: 'close, Upgrade',
      'sec-websocket-version': '13',
    });
  });

  test('keeps the content type of the refusal and its own framing', async () => {
    const { response, body } = await receive(
      refuse(401, 'ERR_WS_ACCEPT_REFUSED', 'no', {
        headers: { 'content-type': 'application/json', 'Content-Length': '9999', connection: 'keep-alive' },
        body: '{}',
      }),
    );
    expect(response.headers['content-type']).toBe('application/json');
    expect(response.headers.connection).toBe('close');
    expect(body).toBe('{}');
  });
});
