import { describe, expect, test } from 'vitest';
import type { UpstreamConfig } from '../../src/config/config.ts';
import { closing } from '../services/closing.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();
const KIB = 1024;

/** A head of exactly so many bytes, with the empty line that ends it. */
function head(bytes: number, status = '200 OK'): string {
  const lines = [`HTTP/1.1 ${status}\r\n`, 'Content-Length: 2\r\n'];
  let left = bytes - lines.join('').length - 2;
  for (let i = 0; left > 0; i++) {
    const size = Math.min(left, 4_000);
    // No line of a few bytes is left over.
    const length = left - size < 20 ? left : size;
    lines.push(`X-${String(i).padStart(4, '0')}: ${'v'.repeat(length - 10)}\r\n`);
    left -= length;
  }
  const text = `${lines.join('')}\r\n`;
  expect(text.length).toBe(bytes);
  return text;
}

async function serve(upstream: Partial<UpstreamConfig> = {}, log?: Lines) {
  const backend = await RawBackend.listen();
  open.push(backend);
  const server = await WiredServer.start(
    {
      upstreams: { app: { servers: [backend.url], ...upstream } },
      routes: [{ path: '/*', upstream: 'app' }],
      exposeReason: true,
    },
    log,
  );
  open.push(server);
  return { backend, server };
}

describe.each(wires)('over %s', wire => {
  test('the head of an answer may have 64 KiB where nothing else is said', async () => {
    const log = new Lines();
    const { backend, server } = await serve({}, log);
    for (const asked of [ask, knock]) {
      // Clients have limits of their own: Node’s is 16 KiB over HTTP/1.
      backend.answer = () => `${head(15 * KIB, '403 No')}no`;
      expect((await asked(server, wire)).body).toBe('no');
      backend.answer = () => `${head(64 * KIB + 1)}ok`;
      const refused = await asked(server, wire);
      expect([refused.status, refused.headers['holdfast-reason']]).toEqual([502, 'invalid']);
    }
    const details = log.all.filter(({ message }) => message === 'upstream failed').map(({ fields }) => fields.detail);
    expect(details[0]).toBe(
      'ERR_HTTP_BAD_RESPONSE: the response cannot be read: its head is longer than 65536 bytes (maxHeaderSize)',
    );
  });

  test('a head of nearly as much as that reaches a client that takes it', async () => {
    const { backend, server } = await serve();
    backend.answer = () => `${head(60 * KIB, '403 No')}no`;
    // Node's client of HTTP/1 would need another setting.
    const { status, headers } = wire === 'http/2' ? await ask(server, wire) : await knock(server, wire);
    expect([status, headers['x-0014']?.length]).toEqual([403, 3_990]);
  });

  test('an upstream may have another limit, also above what its clients may send', async () => {
    const { backend, server } = await serve({ maxHeaderSize: '200KiB' });
    backend.answer = () => `${head(150 * KIB, '403 No')}no`;
    const { status, headers } = await knock(server, wire);
    expect([status, headers['x-0037']?.length]).toEqual([403, 3_990]);
    backend.answer = () => `${head(200 * KIB + 1)}no`;
    expect((await knock(server, wire)).status).toBe(502);
  });
});

test('a smaller limit counts for heads and trailers, and for active checks', async () => {
  const log = new Lines();
  const { backend, server } = await serve({ maxHeaderSize: '1KiB' }, log);
  backend.answer = () => `${head(KIB)}ok`;
  expect((await ask(server, 'http/1')).status).toBe(200);
  backend.answer = () => `${head(KIB + 1)}ok`;
  expect((await ask(server, 'http/1')).status).toBe(502);
  backend.answer = () =>
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: ${'v'.repeat(KIB)}\r\n\r\n`;
  await expect(ask(server, 'http/1')).rejects.toThrow();
  const checked = await serve({ maxHeaderSize: '1KiB', health: { interval: '50ms', unhealthyAfter: 1 } }, log);
  checked.backend.answer = backend.answer = () => `${head(KIB + 1)}ok`;
  await expect.poll(() => checked.server.server.upstreams.get('app')!.status.servers[0]!.state).toBe('unhealthy');
});
