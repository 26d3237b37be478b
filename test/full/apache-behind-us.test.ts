import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createServer, type Server } from '../../src/index.ts';
import { Opcode } from '../../src/websocket/protocol/opcodes.ts';
import { missing, type RunningProxy, startProxy } from '../services/proxies.ts';
import { APACHE_MODULES } from './apache/comparison.ts';
import { exchange, handshakeBytes, requestBytes } from './apache/exchange.ts';
import { type Recorded, RecordingBackend } from './apache/recording-backend.ts';

const guide = readFileSync(new URL('../../docs/guides/behind-the-gateway.md', import.meta.url), 'utf8');

/** What the guide says, with our ports. */
function snippet(port: number, application: number): string {
  const text = /^```apache\n([\s\S]*?)^```$/m.exec(guide)![1]!;
  return text.replace(':8081', `:${port}`).replace(':3000', `:${application}`);
}

const reason = missing('apache');
describe.skipIf(reason)(
  reason ?? 'in front of Apache, as the guide says it, which is in front of an application',
  () => {
    const backend = new RecordingBackend('application');
    const dataFolder = mkdtempSync(join(tmpdir(), 'holdfast-before-apache-'));
    let apache: RunningProxy;
    let server: Server;
    let port: number;
    beforeAll(async () => {
      await backend.listen();
      apache = await startProxy('apache', listen => snippet(listen, backend.port), APACHE_MODULES);
      server = createServer({
        listen: [{ port: 0, host: '127.0.0.1' }],
        upstreams: { apache: { servers: [`http://127.0.0.1:${apache.port}`] } },
        routes: [
          { path: '/sid', session: 'create', fetch: (_, { session }) => new Response(session!.id) },
          { path: '/*', upstream: 'apache' },
        ],
        dataFolder,
        log: { level: 'silent' },
      });
      await server.start();
      port = Number(new URL(server.urls[0]!).port);
    });
    afterAll(async () => {
      await server?.stop();
      await apache?.[Symbol.asyncDispose]();
      await backend[Symbol.asyncDispose]();
      rmSync(dataFolder, { recursive: true });
    });

    async function openSession(): Promise<{ cookie: string; sid: string }> {
      const response = await fetch(new URL('/sid', server.urls[0]));
      return { cookie: response.headers.getSetCookie()[0]!.split(';')[0]!, sid: await response.text() };
    }

    const LIES = [
      'X-Session-ID: stolen',
      'X-Forwarded-For: 6.6.6.6',
      'X-Forwarded-Proto: https',
      'Forwarded: for=6.6.6.6',
    ];

    /** The headers that the application believes. */
    function believed({ rawHeaders }: Recorded): Record<string, string> {
      const headers: Record<string, string> = {};
      for (let i = 0; i < rawHeaders.length; i += 2) {
        const name = rawHeaders[i]!.toLowerCase();
        // Twice the same name would be two values, one of them perhaps not ours.
        headers[name] = name in headers ? `${headers[name]}, ${rawHeaders[i + 1]}` : rawHeaders[i + 1]!;
      }
      return headers;
    }

    const truth = (sid: string) => ({
      host: 'example.com',
      'x-session-id': sid,
      'x-forwarded-for': '127.0.0.2',
      'x-forwarded-proto': 'http',
      forwarded: 'for=127.0.0.2;host=example.com;proto=http',
    });

    test('a request: who asks, for what and in which session reaches the application, and what it says of that itself does not', async () => {
      const { cookie, sid } = await openSession();
      backend.take();
      const lines = [...LIES, `Cookie: ${cookie}; own=1`, 'Content-Length: 4'];
      const answer = await exchange(
        port,
        requestBytes('POST', '/a?header=Set-Cookie:%20b=2&status=201', lines, 'body'),
        '127.0.0.2',
      );
      answer.peer.socket.destroy();
      expect(answer.status).toBe(201);
      expect(answer.body).toContain('application\n');
      expect(answer.headers).toContainEqual(['set-cookie', 'b=2']);
      const [request] = backend.take();
      expect(request).toMatchObject({ method: 'POST', body: 'body' });
      expect(believed(request!)).toMatchObject({ ...truth(sid), cookie: 'own=1' });
    });

    test('a WebSocket: the same, and messages, compression and the close code pass both hops', async () => {
      const { cookie, sid } = await openSession();
      backend.take();
      const lines = [...LIES, `Cookie: ${cookie}`, 'Sec-WebSocket-Extensions: permessage-deflate'];
      const { status, peer } = await exchange(port, handshakeBytes('/socket', lines), '127.0.0.2');
      expect(status).toBe(101);
      expect(believed(backend.take()[0]!)).toMatchObject(truth(sid));
      peer.send(Opcode.binary, Buffer.from([1, 2, 3]));
      const echo = await peer.frame(0);
      expect([echo.opcode, echo.rsv1]).toEqual([Opcode.binary, true]);
      peer.sendClose(4001, 'bye');
      expect((await peer.frame(1)).payload.readUInt16BE()).toBe(4001);
      await peer.closed();
      await expect.poll(() => backend.closes.get('/socket')).toBe(4001);
    });

    test('Apache stops: 503 at once, and 200 when it is back', async () => {
      const get = async () => {
        const answer = await exchange(port, requestBytes('GET', '/a'));
        answer.peer.socket.destroy();
        return answer.status;
      };
      expect(await get()).toBe(200);
      const before = apache.port;
      await apache[Symbol.asyncDispose]();
      await expect.poll(get).toBe(503);
      apache = await startProxy(
        'apache',
        () => snippet(before, backend.port).replace(/^/, `Listen 127.0.0.1:${before}\n`),
        APACHE_MODULES,
      );
      await expect.poll(get, { timeout: 15_000 }).toBe(200);
    });
  },
);
