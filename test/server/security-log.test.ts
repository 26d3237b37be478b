import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createServer, defineEndpoint } from '../../src/index.ts';
import { LogFile } from '../../src/server/log/log-file.ts';
import { securityLogger } from '../../src/server/log/security-log.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { connectWebSocket } from '../../src/websocket/protocol/client.ts';
import { closing } from '../services/closing.ts';
import { Lines, WiredServer } from './wires.ts';

const open = closing();

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-security-'));
  open.push({ close: () => rmSync(path, { recursive: true, force: true }) });
  return path;
}

type Line = Record<string, unknown>;
const linesOf = (file: string): Line[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line));

async function say(port: number, text: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  let answer = '';
  socket.on('data', bytes => {
    answer += bytes.toString('latin1');
  });
  socket.write(text);
  await once(socket, 'close');
  return answer;
}

const HANDSHAKE =
  'Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';

async function serve(file: string, log = new Lines()): Promise<WiredServer> {
  const server = await WiredServer.start(
    {
      routes: [
        { endpoint: defineEndpoint({ path: '/echo', onMessage: (connection, data) => void connection.send(data) }) },
        { path: '/lan', fetch: () => new Response('in'), policy: { addresses: { deny: ['127.0.0.0/8'] } } },
      ],
      log: { level: 'warn', security: { file } },
    },
    log,
  );
  open.push(server);
  return server;
}

describe('a log of security events of its own', () => {
  test('has every attempt of a client with its address, whatever the level, and the other log has none', async () => {
    const file = join(folder(), 'security.log');
    const log = new Lines();
    const server = await serve(file, log);
    const port = server.port('http/1');
    await say(
      port,
      'GET /wp-login.php;jsessionid=4711?token=hush HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    await say(port, 'GET /lan HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await say(port, 'GARBAGE\r\n\r\n');
    await say(port, 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n');
    await say(port, `GET /echo HTTP/1.1\r\n${HANDSHAKE.replace('AAAAAAAAAAAAAAAAAAAAAA==', 'short')}\r\n`);
    const socket = net.connect(port, '127.0.0.1');
    socket.write(`GET /echo HTTP/1.1\r\n${HANDSHAKE}\r\n`);
    await once(socket, 'data');
    socket.write(Buffer.from([0x81, 1, 0x61])); // not masked
    await once(socket.resume(), 'close');
    await expect.poll(() => linesOf(file).length).toBe(6);
    const lines = linesOf(file);
    expect(lines).toMatchObject([
      { event: 'not-found', status: 404, path: '/wp-login.php', method: 'GET' },
      { event: 'refused', status: 403, code: 'ERR_POLICY_ADDRESS' },
      { event: 'bad-request', status: 400 },
      { event: 'bad-request', status: 400, code: 'ERR_HTTP_BAD_REQUEST' },
      { event: 'bad-handshake', status: 400, code: 'ERR_WS_BAD_HANDSHAKE' },
      { event: 'client-violation', closeCode: 1002, code: 'ERR_WS_PROTOCOL' },
    ]);
    for (const line of lines) {
      expect(Object.keys(line).slice(0, 4)).toEqual(['time', 'level', 'event', 'address']);
      expect(line.address).toBe('127.0.0.1');
      expect(line.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    }
    expect(readFileSync(file, 'utf8')).not.toMatch(/hush|4711/);
    expect(log.all.filter(({ fields }) => fields.event === 'client-violation')).toEqual([]);
    expect(statSync(file).mode & 0o777 & ~0o640).toBe(0);
  });

  test('of a relay has the address of the client', async () => {
    const file = join(folder(), 'security.log');
    const backend = createServer({
      session: false,
      listen: [{ port: 0, host: '127.0.0.1' }],
      routes: [{ endpoint: defineEndpoint({ path: '/echo' }) }],
      log: { level: 'silent' },
    });
    await backend.start();
    open.push({ close: () => backend.stop({ drain: 0 }) });
    const server = await WiredServer.start({
      upstreams: { app: { servers: [backend.urls[0]!] } },
      routes: [{ path: '/*', upstream: 'app', websocket: { maxMessageSize: 10 } }],
      log: { level: 'silent', security: { file } },
    });
    open.push(server);
    const client = await connectWebSocket(`${server.url('http/1')}/echo`);
    client.send('x'.repeat(11));
    await client.receive().catch(() => {});
    await expect
      .poll(() => linesOf(file))
      .toMatchObject([{ event: 'client-violation', address: '127.0.0.1', closeCode: 1009 }]);
  });

  test('that cannot be written keeps the server from starting', async () => {
    const file = join(folder(), 'missing', 'security.log');
    await expect(serve(file)).rejects.toThrow(/log\.security: cannot write .*missing/);
  });
});

describe('the file of a log', () => {
  test('is begun anew when it was moved away, and no line is lost', async () => {
    const file = join(folder(), 'security.log');
    const clock = new FakeClock();
    const sink = new LogFile(file, 'test', clock);
    open.push(sink);
    const write = (text: string) => new Promise<void>(resolve => sink.write(Buffer.from(text), () => resolve()));
    await write('one\n');
    renameSync(file, `${file}.1`);
    await write('two\n');
    await clock.advance(1_000);
    await write('three\n');
    expect(readFileSync(`${file}.1`, 'utf8')).toBe('one\ntwo\n');
    expect(readFileSync(file, 'utf8')).toBe('three\n');
  });

  test('is gone on with when its folder is gone, and what comes after its end is an error', async () => {
    const path = folder();
    const clock = new FakeClock();
    const sink = new LogFile(join(path, 'security.log'), 'test', clock);
    rmSync(path, { recursive: true });
    await clock.advance(1_000);
    const write = () => new Promise<unknown>(resolve => sink.write(Buffer.from('x\n'), resolve));
    expect(await write()).toBeNull();
    expect(existsSync(path)).toBe(false);
    sink.close();
    sink.close();
    expect(await write()).toMatchObject({ code: 'EBADF' });
  });
});

test('a line of the security log is one line, whatever a client has put into it', () => {
  const written: string[] = [];
  const logger = securityLogger({ write: line => written.push(line) }, new FakeClock());
  const user = '"\n\r\u2028\u0085\u007f\u001b[31m","address":"192.0.2.9';
  logger.warn({ user, event: 'login-failed', address: '192.0.2.1' }, 'x');
  expect(written).toHaveLength(1);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  expect(written[0]).toMatch(/^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*\n$/);
  expect(written[0]!.split('"address":"')).toHaveLength(2);
  expect(JSON.parse(written[0]!)).toMatchObject({ user, address: '192.0.2.1' });
});
