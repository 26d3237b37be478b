import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { Http2Wire, Setting } from '../guard/http2-wire.ts';
import { Served } from '../guard/served.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { until } from '../services/until.ts';

// A process that may have few descriptors, and clients that want more.

const DESCRIPTORS = 256;
const CONFIG = `
  const stream = pull => new Response(new ReadableStream({ pull }));
  export default defineConfig({
    listen, session: false,
    routes: [
      { path: '/go', redirect: '/elsewhere' },
      { path: '/files/*', files: 'public' },
      { path: '/silent', fetch: () => stream(() => new Promise(() => {})) },
    ],
  });`;
const files = { 'public/large': Buffer.alloc(8 * 1024 * 1024) };

const open: { destroy(): unknown }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.destroy();
});

/** Connections that send this and wait; those for which there is no room are closed by the other side. */
async function crowd(server: Served, count: number, request: string): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect({ host: '127.0.0.1', port: server.port('http/1') });
    socket.on('error', () => {});
    open.push(socket);
    sockets.push(socket);
    await once(socket, 'connect');
    socket.write(request);
    socket.resume();
  }
  return sockets;
}

/** What somebody gets who comes now: a status, or why there is none. */
function knock(server: Served, path = '/go'): Promise<number | string> {
  return new Promise(resolve => {
    http
      .get(`${server.url('http/1')}${path}`, { agent: false, timeout: 10_000 }, answer => {
        answer.resume();
        answer.on('end', () => resolve(answer.statusCode!));
      })
      .on('timeout', () => resolve('timeout'))
      .on('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message));
  });
}

/** In milliseconds, of the process. */
function cpuTime(server: Served): number {
  const fields = readFileSync(`/proc/${server.program.process.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

const heads = {
  'that are kept and idle': 'GET /go HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'that have brought no request': '',
};
test.each(Object.entries(heads))('connections %s make room for who comes', async (_, request) => {
  await using server = await Served.module(CONFIG, { maxDescriptors: DESCRIPTORS, files });
  for (let round = 0; round < 3; round++) {
    await crowd(server, 150, request);
    // One that was just opened may have its request on the way.
    await wait(1_200);
    expect(await knock(server)).toBe(308);
    expect(await knock(server, '/files/large')).toBe(200);
  }
  expect(server.isAlive).toBe(true);
});

test('TLS handshakes that do not come on make room for who comes', async () => {
  await using server = await Served.module(CONFIG, { maxDescriptors: DESCRIPTORS, files });
  for (let i = 0; i < 400; i++) {
    const socket = connect({ host: '127.0.0.1', port: server.port('tls') });
    socket.on('error', () => {});
    open.push(socket);
    await once(socket, 'connect');
    if (i % 150 === 149) await wait(1_200);
  }
  await wait(1_200);
  expect(await knock(server)).toBe(308);
});

test('four clients with a hundred answers each that they do not take shut out nobody', async () => {
  await using server = await Served.module(CONFIG, { maxDescriptors: DESCRIPTORS, files });
  for (let i = 0; i < 4; i++) {
    const wire = await Http2Wire.dial(server.port('http/2'), { [Setting.initialWindowSize]: 0 });
    open.push(wire.socket);
    for (let n = 0; n < 100; n++) wire.request('GET', '/files/large');
  }
  await wait(500);
  for (let i = 0; i < 20; i++) expect(await knock(server, '/files/large')).toBe(200);
  // None is open for those who take nothing.
  await until(() => !server.descriptors().some(path => path.endsWith('/large')), 15_000);
});

test('where every connection is in use, who comes is sent away at once, for little, and certificates are still read', async () => {
  await using server = await Served.module(CONFIG, { maxDescriptors: DESCRIPTORS, files });
  const sockets = await crowd(server, 400, 'GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await wait(1_000);
  const held = sockets.filter(socket => !socket.closed);
  expect(held.length).toBeGreaterThan(DESCRIPTORS / 2);
  expect(held.length).toBeLessThan(DESCRIPTORS);
  expect(await knock(server)).toBe('ECONNRESET');
  const before = cpuTime(server);
  await wait(3_000);
  expect(cpuTime(server) - before).toBeLessThan(600);
  expect(server.logged().filter(({ event }) => event === 'descriptors-short')).toMatchObject([{ limit: DESCRIPTORS }]);

  const { certificate } = writeSelfSignedCertificate(server.folder);
  const wanted = readFileSync(certificate, 'utf8');
  await until(() => server.logged().some(({ event }) => event === 'certificate-changed'), 15_000);
  for (const socket of held.slice(0, 20)) socket.destroy();
  await until(() => sockets.filter(socket => !socket.closed).length <= held.length - 20, 15_000);
  // Those that leave may have ended their side only: the server finds out within two seconds that they take nothing.
  await expect.poll(() => knock(server, '/files/large'), { interval: 200 }).toBe(200);
  const client = connectTls({ host: '127.0.0.1', port: server.port('tls'), rejectUnauthorized: false });
  open.push(client);
  client.on('error', () => {});
  await once(client, 'secureConnect');
  const seen = client.getPeerX509Certificate()!.toString();
  expect(seen.trim()).toBe(wanted.trim());
});

test('a limit that falls below what is in use stops nothing, and costs nothing', async () => {
  await using server = await Served.module(CONFIG, { files });
  const sockets = await crowd(server, 200, 'GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await until(() => sockets.every(socket => socket.bytesRead > 0), 15_000);
  execFileSync('prlimit', ['--pid', String(server.program.process.pid), '--nofile=100:100']);
  expect(await knock(server)).not.toBe('timeout');
  const before = cpuTime(server);
  for (let i = 0; i < 30; i++) {
    expect(await knock(server)).not.toBe('timeout');
    await wait(100);
  }
  expect(cpuTime(server) - before).toBeLessThan(1_500);
  expect(server.isAlive).toBe(true);
  expect(sockets.filter(socket => socket.closed).length).toBe(0);
  for (const socket of sockets) socket.destroy();
  let status: number | string = '';
  await until(() => {
    void knock(server).then(result => {
      status = result;
    });
    return status === 308;
  });
});

test('without a descriptor for a backend no backend is held for failed', async () => {
  const backend = http.createServer((_, response) => response.end('ok')).listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const { port } = backend.address() as { port: number };
  const config = CONFIG.replace(
    'routes: [',
    `upstreams: { app: { servers: ['http://127.0.0.1:${port}'] } }, routes: [{ path: '/app', upstream: 'app' },`,
  );
  await using server = await Served.module(config, { maxDescriptors: DESCRIPTORS, files });
  const kept = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (path: string) =>
    new Promise<number>((resolve, reject) => {
      http
        .get(`${server.url('http/1')}${path}`, { agent: kept }, answer => {
          answer.resume().on('end', () => resolve(answer.statusCode!));
        })
        .on('error', reject);
    });
  const sockets = await crowd(server, 60, 'GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const { pid } = server.program.process;
  // Its own connection is there, one to the backend cannot be.
  expect(await ask('/go')).toBe(308);
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=20:${DESCRIPTORS}`]);
  expect(await ask('/app')).toBe(503);
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${DESCRIPTORS}:${DESCRIPTORS}`]);
  expect(await ask('/app')).toBe(200);
  expect(server.logged().filter(({ msg }) => /out of service/.test(String(msg)))).toEqual([]);
  expect(sockets.every(socket => !socket.closed)).toBe(true);
  kept.destroy();
  backend.close();
  backend.closeAllConnections();
});
