import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import type { Config, ListenConfig } from '../../src/config/config.ts';
import { InheritedSockets } from '../../src/server/listen/inherited.ts';
import { Port } from '../../src/server/listen/port.ts';
import { freePort } from '../services/free-port.ts';

let folder: string;
let path: string;
const servers: Server[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'places-'));
  path = join(folder, 'holdfast.sock');
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop({ drain: 0 })));
  rmSync(folder, { recursive: true });
});

async function start(listen: ListenConfig[], more: Config = {}): Promise<Server> {
  const server = createServer({
    listen,
    session: false,
    dataFolder: folder,
    routes: [{ path: '/a', fetch: () => new Response('ok') }],
    log: { level: 'silent' },
    ...more,
  });
  await server.start();
  servers.push(server);
  return server;
}

const client = defineEndpoint({
  path: '/address',
  onOpen: connection => void connection.send(connection.remoteAddress),
});

/** What an endpoint sees as the address of a client that comes through the socket file. */
async function addressSeen(headers: Record<string, string> = {}, isTls = false): Promise<string> {
  const createConnection = () => (isTls ? connectTls({ path, rejectUnauthorized: false }) : connect({ path }));
  const socket = new WebSocket('ws://localhost/address', { headers, createConnection });
  const address = await new Promise<string>((resolve, reject) => {
    socket.once('message', data => resolve(String(data)));
    socket.once('error', reject);
  });
  socket.terminate();
  return address;
}

function statusOf(options: object, isTls = false): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    (isTls ? tlsRequest : request)(
      { path: '/a', socketPath: path, agent: false, rejectUnauthorized: false, ...options },
      response => {
        response.resume();
        resolve(response.statusCode);
      },
    )
      .once('error', reject)
      .end();
  });
}

describe('a listener on a socket file', () => {
  test('serves requests and WebSockets, whose client has the address 127.0.0.1', async () => {
    const server = await start([{ socket: path }], { routes: [{ path: '/a', redirect: '/b' }, { endpoint: client }] });
    expect(server.urls).toEqual([`unix:${path}`]);
    expect(await statusOf({})).toBe(308);
    expect(await addressSeen()).toBe('127.0.0.1');
  });

  test('takes the address that a trusted proxy in front reports', async () => {
    await start([{ socket: path }], { trustedProxies: ['127.0.0.1'], routes: [{ endpoint: client }] });
    expect(await addressSeen({ 'X-Forwarded-For': '192.0.2.7' })).toBe('192.0.2.7');
  });

  test('believes nothing of a proxy that is not trusted', async () => {
    await start([{ socket: path }], { routes: [{ endpoint: client }] });
    expect(await addressSeen({ 'X-Forwarded-For': '192.0.2.7' })).toBe('127.0.0.1');
  });

  test('speaks TLS', async () => {
    await start([{ socket: path, tls: 'self-signed' }], {
      trustedProxies: ['127.0.0.1'],
      routes: [{ path: '/a', redirect: '/b' }, { endpoint: client }],
    });
    expect(await statusOf({}, true)).toBe(308);
    expect(await addressSeen({ 'X-Forwarded-For': '192.0.2.8' }, true)).toBe('192.0.2.8');
  });

  test.each([
    [undefined, 0o660],
    ['0600', 0o600],
    ['666', 0o666],
  ])('has the mode %s, whatever the umask is', async (mode, bits) => {
    await start([{ socket: path, ...(mode !== undefined && { mode }) }]);
    expect(statSync(path).mode & 0o777).toBe(bits);
  });

  test('removes its file when it stops', async () => {
    const server = await start([{ socket: path }]);
    expect(existsSync(path)).toBe(true);
    await server.stop({ drain: 0 });
    expect(existsSync(path)).toBe(false);
  });

  test('takes the place of a file that a killed server has left', async () => {
    const { execFileSync } = await import('node:child_process');
    const leave = 'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
    try {
      execFileSync(process.execPath, ['-e', leave, path], { stdio: 'ignore' });
    } catch {}
    expect(existsSync(path)).toBe(true);
    await start([{ socket: path }]);
    expect(await statusOf({})).toBe(200);
  });

  test('does not take the place of one on which another server listens', async () => {
    await start([{ socket: path }]);
    await expect(start([{ socket: path }])).rejects.toThrow(
      /cannot listen on the socket file .*another program listens/,
    );
    expect(await statusOf({})).toBe(200);
  });

  test('keeps a file that is not a socket', async () => {
    writeFileSync(path, 'mine');
    await expect(start([{ socket: path }])).rejects.toThrow(/is not a socket; move it away, or take another path/);
    expect(statSync(path).size).toBe(4);
  });

  test.runIf(process.geteuid?.() === 0)('belongs to the group of its setting, by name or number', async () => {
    await start([{ socket: path, group: 'daemon' }]);
    const [, , gid] = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find(line => line.startsWith('daemon:'))!
      .split(':');
    expect(statSync(path).gid).toBe(Number(gid));
    const other = join(folder, 'other.sock');
    await start([{ socket: other, group: 4242 }]);
    expect(statSync(other).gid).toBe(4242);
  });

  test('of a group that is not there says how to name it', async () => {
    await expect(start([{ socket: path, group: 'no-such-group' }])).rejects.toThrow(
      /cannot listen on the socket file .*: \/etc\/group has no group "no-such-group"; correct it, or write its number/,
    );
  });

  test('names the folder that is not there', async () => {
    const missing = join(folder, 'none/a.sock');
    await expect(start([{ socket: missing }])).rejects.toThrow(/there is no folder .*none; make it/);
  });
});

describe('a port', () => {
  test('that is taken names the process that has it', async () => {
    const server = await start([{ port: 0, host: '127.0.0.1' }]);
    const port = Number(new URL(server.urls[0]!).port);
    await expect(start([{ port, host: '127.0.0.1' }])).rejects.toThrow(
      new RegExp(`cannot listen on 127\\.0\\.0\\.1 port ${port}: process ${process.pid} \\(.+\\) listens there`),
    );
  });

  test('of an address of another machine says so', async () => {
    await expect(start([{ port: 0, host: '192.0.2.1' }])).rejects.toThrow(
      /cannot listen on 192\.0\.2\.1 port 0: 192\.0\.2\.1 is not an address of this machine/,
    );
  });

  test('can be shared by servers that both say reusePort', async () => {
    const port = await freePort();
    const listen = [{ port, host: '127.0.0.1', reusePort: true }];
    const one = await start(listen);
    await start(listen);
    await one.stop({ drain: 0 });
    expect((await fetch(`http://127.0.0.1:${port}/a`)).status).toBe(200);
    await expect(start([{ port, host: '127.0.0.1' }])).rejects.toThrow(/listens there/);
  });
});

describe('a client that connects before somebody takes its connection', () => {
  async function connectEarly(): Promise<[Port, Socket]> {
    const port = new Port({ port: 0, host: '127.0.0.1' }, silentLogger);
    await port.open();
    const socket = connect(port.number, '127.0.0.1').on('error', () => {});
    await expect.poll(() => port.connections()).toBe(1);
    return [port, socket];
  }

  test('waits, and loses nothing of what it has sent', async () => {
    const [port, socket] = await connectEarly();
    socket.write('hello');
    await new Promise(resolve => setImmediate(resolve));
    const { promise, resolve } = Promise.withResolvers<string>();
    port.giveTo({ allowsHalfOpen: false, take: taken => void taken.on('data', data => resolve(String(data))) });
    expect(await promise).toBe('hello');
    socket.destroy();
    await port.close();
  });

  test('may go again', async () => {
    const [port, socket] = await connectEarly();
    socket.resetAndDestroy();
    await expect.poll(() => port.connections()).toBe(0);
    let taken = 0;
    port.giveTo({ allowsHalfOpen: true, take: () => taken++ });
    expect(taken).toBe(0);
    await port.close();
  });
});

describe('sockets that were handed over', () => {
  const environment = { LISTEN_FDS: '3', LISTEN_PID: '7', LISTEN_FDNAMES: 'web:web:tls', PATH: '/bin' };

  test('are taken by name, all of one name together, and each once', () => {
    const sockets = new InheritedSockets({ ...environment }, 7);
    expect(sockets.take('web')).toEqual([
      { fd: 3, name: 'web' },
      { fd: 4, name: 'web' },
    ]);
    expect(sockets.untaken).toEqual([{ fd: 5, name: 'tls' }]);
    expect(() => sockets.take('web')).toThrow('another listener has it');
  });

  test('are taken by number', () => {
    const sockets = new InheritedSockets({ ...environment }, 7);
    sockets.takeDescriptor(4);
    expect(sockets.untaken.map(({ fd }) => fd)).toEqual([3, 5]);
  });

  test('disappear from the environment', () => {
    const own: Record<string, string> = { ...environment };
    new InheritedSockets(own, 7);
    expect(own).toEqual({ PATH: '/bin' });
  });

  test('that are not there are said with the names of those that are', () => {
    const sockets = new InheritedSockets({ ...environment }, 7);
    expect(() => sockets.take('wed')).toThrow(
      /cannot listen on the socket "wed": .*"web", "tls"; did you mean "web"\?/,
    );
  });

  test('are not taken when they are meant for another process', () => {
    const sockets = new InheritedSockets({ ...environment }, 8);
    expect(sockets.untaken).toEqual([]);
    expect(() => sockets.take('web')).toThrow(/meant for process 7, and this is 8.*not npm, npx or a shell/);
  });

  test('that were never given say how they would be', async () => {
    await expect(start([{ activation: 'web' }])).rejects.toThrow(/given no sockets; start it by its socket unit/);
  });

  test('that are files are refused', async () => {
    const { openSync, closeSync } = await import('node:fs');
    const fd = openSync(join(folder, 'file'), 'w');
    try {
      await expect(start([{ fd }])).rejects.toThrow(
        /cannot listen on descriptor \d+: it is not a socket that can listen/,
      );
    } finally {
      closeSync(fd);
    }
  });
});
