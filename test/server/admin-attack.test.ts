import { once } from 'node:events';
import { createServer, get, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Administered } from '../../src/admin/administered.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { AdminIntake } from '../../src/server/admin/admin-intake.ts';
import { closing } from '../services/closing.ts';
import { until } from '../services/until.ts';
import { AdminServer } from './admin-server.ts';
import { Lines } from './wires.ts';

const open = closing();

/** The API of a server that can be followed and nothing else. */
class Followed {
  readonly port: number;
  onLine: ((line: object) => void)[] = [];
  readonly #server: ReturnType<typeof createServer>;

  private constructor(server: ReturnType<typeof createServer>) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  static async start(): Promise<Followed> {
    const follow: Administered['follow'] = async (_kind, _query, onLine) => {
      followed.onLine.push(onLine);
      return () => {
        followed.onLine = followed.onLine.filter(one => one !== onLine);
      };
    };
    const administered = { follow } as Partial<Administered> as Administered;
    const intake = new AdminIntake({ administered, gate: { admit: () => true }, logger: silentLogger });
    const server = createServer(intake.onRequest);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const followed = new Followed(server);
    open.push(followed);
    return followed;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

describe('a stream of the admin API', () => {
  test('comes line by line, and ends with its client', async () => {
    const followed = await Followed.start();
    const asked = get({ port: followed.port, path: '/v1/trace?path=/a', agent: false }).on('error', () => {});
    const [response] = await once(asked, 'response');
    expect(response.headers['content-type']).toBe('application/x-ndjson');
    followed.onLine[0]!({ step: 'route' });
    expect(String((await once(response, 'data'))[0])).toBe('{"step":"route"}\n');
    asked.destroy();
    await until(() => followed.onLine.length === 0);
  });

  test('takes bounded memory for a client that does not read, and tells it what it has missed', async () => {
    const followed = await Followed.start();
    const socket = connect(followed.port, '127.0.0.1').on('error', () => {});
    socket.write('GET /v1/logs HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await until(() => followed.onLine.length === 1);
    socket.pause();
    const line = { msg: 'x'.repeat(10_000) };
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 20_000; i++) followed.onLine[0]!(line);
    expect(process.memoryUsage().rss - before).toBeLessThan(100_000_000);
    let text = '';
    socket.on('data', chunk => {
      text = (text + chunk).slice(-200_000);
    });
    socket.resume();
    await until(() => /\{"lost":\d{4,5}\}/.test(text));
    socket.destroy();
  });

  test('is for so many clients at a time, and HEAD follows nothing', async () => {
    const followed = await Followed.start();
    const all = Array.from({ length: 16 }, () =>
      get({ port: followed.port, path: '/v1/logs', agent: false }).on('error', () => {}),
    );
    await until(() => followed.onLine.length === 16);
    const more = get({ port: followed.port, path: '/v1/logs', agent: false });
    expect((await once(more, 'response'))[0].statusCode).toBe(503);
    for (const one of all) one.destroy();
    await until(() => followed.onLine.length === 0);
    const head = request({ port: followed.port, path: '/v1/logs', method: 'HEAD', agent: false }).end();
    expect((await once(head, 'response'))[0].statusCode).toBe(200);
    await until(() => followed.onLine.length === 0);
  });
});

describe('an attack on the admin port', () => {
  async function start(logger?: Lines): Promise<AdminServer> {
    const server = await AdminServer.start({}, logger ? { logger } : {});
    open.push(server);
    return server;
  }

  test('by a WebSocket of another site is refused', async () => {
    const server = await start();
    const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' };
    const key = { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' };
    const ofSite = { ...headers, ...key, Origin: 'https://attacker.example' };
    expect((await server.ask('/v1/trace', { headers: ofSite })).status).toBe(403);
    expect((await server.askPlainly('/v1/trace', { headers: { ...headers, ...key } })).status).toBe(401);
  });

  test('by a form of another site changes nothing, whatever it sends', async () => {
    const server = await start();
    const form = { 'Content-Type': 'application/x-www-form-urlencoded', Origin: 'null' };
    const body = '{"address":"192.0.2.7"}';
    expect((await server.ask('/v1/bans', { method: 'POST', headers: form, body })).status).toBe(403);
    expect((await server.ask('/v1/bans')).json.total).toBe(0);
  });

  test('by a preflight gets no CORS header', async () => {
    const server = await start();
    const { status, headers } = await server.askPlainly('/v1/status', {
      method: 'OPTIONS',
      headers: { Origin: 'http://localhost:3000', 'Access-Control-Request-Method': 'GET' },
    });
    expect(status).toBe(403);
    expect(Object.keys(headers).filter(name => name.startsWith('access-control'))).toEqual([]);
  });

  test('by a second Host is refused, whichever of them is ours', async () => {
    const server = await start();
    for (const hosts of ['Host: localhost\r\nHost: attacker.example', 'Host: attacker.example\r\nHost: localhost']) {
      const socket = connect(Number(new URL(server.server.adminUrl!).port), '127.0.0.1').setEncoding('latin1');
      socket.write(`GET /v1/status HTTP/1.1\r\n${hosts}\r\nAuthorization: Bearer ${server.token}\r\n\r\n`);
      expect((await once(socket, 'data'))[0]).toMatch(/^HTTP\/1\.1 400 /);
      await once(socket, 'close');
    }
  });

  test('by clients that leave within their bodies is no error of the server', async () => {
    const logger = new Lines();
    const server = await start(logger);
    const socket = connect(Number(new URL(server.server.adminUrl!).port), '127.0.0.1').setEncoding('latin1');
    const head = `POST /v1/bans HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.token}\r\nExpect: 100-continue\r\n`;
    socket.write(`${head}Content-Length: 20\r\n\r\n`);
    expect((await once(socket, 'data'))[0]).toMatch(/^HTTP\/1\.1 100 /);
    socket.resetAndDestroy();
    expect((await server.ask('/v1/status')).status).toBe(200);
    await until(async () => (await server.ask('/v1/status')).status === 200);
    await new Promise(resolve => setTimeout(resolve, 100));
    expect(logger.all.filter(({ level }) => level === 'error')).toEqual([]);
  });

  test('by a body that is too large is told how large it may be', async () => {
    const server = await start();
    const { status, json } = await server.ask('/v1/bans', { method: 'POST', body: { reason: 'x'.repeat(70_000) } });
    expect([status, json.message]).toEqual([413, 'the body has more than 65536 bytes, which is the most here']);
  });

  test('by wrong tokens without end is answered, and fills no log', async () => {
    const logger = new Lines();
    const server = await start(logger);
    const headers = { Authorization: `Bearer ${'y'.repeat(43)}` };
    for (let i = 0; i < 400; i += 20) {
      const answers = Array.from({ length: 20 }, () => server.askPlainly('/v1/status', { headers }));
      for (const { status } of await Promise.all(answers)) expect(status).toBe(401);
    }
    expect(logger.all.filter(({ fields }) => fields.event === 'login-failed').length).toBeLessThan(50);
    expect((await server.ask('/v1/status')).status).toBe(200);
  });

  test('by somebody without a token holds no connection with a body that never comes', async () => {
    const server = await start();
    const socket = connect(Number(new URL(server.server.adminUrl!).port), '127.0.0.1').on('error', () => {});
    socket.resume();
    socket.write('POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{');
    await once(socket, 'close');
  });

  test.each([
    '/v1/sessions/__proto__',
    '/v1/sessions/%00%00%00%00',
    '/v1/sessions/..%2f..%2fetc',
    '/v1/sessions?prefix=..%2f..%2f',
    '/v1/sessions?user=%00',
    '/v1/sessions?__proto__=1',
    '/v1/sessions?limit=-1',
    '/v1/sessions?limit=1e9',
    '/v1/sessions?limit=NaN',
    '/v1/sessions?context=__proto__',
    `/v1/sessions?user=${'x'.repeat(2_000)}`,
    '/v1/connections?address=1.2.3.4%2F99',
    '/v1/connections?address=%27%3Bdrop',
    '/v1/connections?session=%2e%2e%2e%2e',
    '/v1/bans?limit=',
    '/v1/upstreams/constructor/drain',
    '//v1/status',
    '/v1/status/',
    'http://attacker.example/v1/status',
    '*',
  ])('by %s is never an error of the server', async path => {
    const server = await start();
    const { status } = await server.ask(path);
    expect([200, 400, 404, 405]).toContain(status);
    const { status: posted } = await server.ask(path, { method: 'POST', body: { __proto__: { a: 1 }, server: '\0' } });
    expect([200, 400, 404, 405]).toContain(posted);
  });
});
