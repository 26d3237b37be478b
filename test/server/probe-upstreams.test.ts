import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { UpstreamConfig } from '../../src/config/config.ts';
import { probeUpstreams } from '../../src/server/assembly/probe-upstreams.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';

const authority = createAuthority('Backends');
const inDays = (days: number) => Math.floor(Date.now() / 1000) * 1000 + days * 86_400_000;

let folder: string;
let ca: string;
const servers: Server[] = [];
const sockets = new Set<Socket>();
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-probe-'));
  ca = join(folder, 'ca.pem');
  writeFileSync(ca, authority.certificate);
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) await new Promise(resolve => server.close(resolve));
  rmSync(folder, { recursive: true });
});

async function listening(server: Server): Promise<number> {
  servers.push(server);
  server.on('connection', socket => sockets.add(socket));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const http = (status = 404) => listening(createServer((_, response) => void response.writeHead(status).end()));

function https(validTo = inDays(30), hosts = ['localhost']): Promise<number> {
  const { certificate: cert, key } = createCertificate({
    name: hosts[0]!,
    hosts,
    authority,
    validFrom: inDays(-60),
    validTo,
  });
  return listening(createTlsServer({ cert, key }, (_, response) => void response.end()));
}

/** What is said of one server. */
async function saidOf(url: string, upstream: Omit<UpstreamConfig, 'servers'> = {}): Promise<string | undefined> {
  const found = await probeUpstreams({ upstreams: { app: { servers: [url], connectTimeout: '1s', ...upstream } } });
  expect(found.every(({ path }) => path.join('.') === 'upstreams.app.servers.0')).toBe(true);
  return found[0]?.message;
}

describe('nothing is said of a server that answers', () => {
  test('whatever that is, where it has no health check', async () => {
    expect(await saidOf(`http://127.0.0.1:${await http(404)}`)).toBeUndefined();
    expect(await saidOf(`http://127.0.0.1:${await http(500)}`)).toBeUndefined();
  });

  test('by TLS, with a certificate that is good', async () => {
    expect(await saidOf(`https://localhost:${await https()}`, { tls: { ca } })).toBeUndefined();
  });

  test('by a socket of this machine', async () => {
    const server = createServer((_, response) => void response.end());
    servers.push(server);
    await new Promise<void>(resolve => server.listen(join(folder, 'app.sock'), resolve));
    expect(await saidOf(`unix:${join(folder, 'app.sock')}`)).toBeUndefined();
  });
});

describe('what is wrong is said with its remedy', () => {
  test('nothing listens', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    expect(await saidOf(url)).toBe(
      `${url}: ECONNREFUSED: nothing listens there; start the backend, or correct host and port`,
    );
  });

  test('a socket is not there', async () => {
    expect(await saidOf(`unix:${folder}/none.sock`)).toMatch(/ENOENT: there is no such socket; start the backend/);
  });

  test('a name is not known', async () => {
    expect(await saidOf('http://no-such-host.invalid:1')).toMatch(/(?:ENOTFOUND|EAI_AGAIN): the (?:name|DNS)/);
  });

  test('the health check is answered with another status', async () => {
    const url = `http://127.0.0.1:${await http(503)}`;
    expect(await saidOf(url, { health: { path: '/up' } })).toBe(
      `${url}: answered 503 to its health check; correct "health", or the backend`,
    );
  });

  test('a server of TLS is spoken to without, and the other way round', async () => {
    expect(await saidOf(`http://127.0.0.1:${await https()}`)).toMatch(/if it speaks TLS there, write "https:\/\/"$/);
    expect(await saidOf(`https://localhost:${await http()}`)).toMatch(
      /it does not speak TLS there; write "http:\/\/"$/,
    );
  });

  test('something else than HTTP answers', async () => {
    const port = await listening(createTcpServer(socket => void socket.end('220 mail.example ESMTP\r\n')));
    expect(await saidOf(`http://127.0.0.1:${port}`)).toMatch(/what it answers is not HTTP/);
  });

  test('nothing is ever answered', async () => {
    const port = await listening(createTcpServer(socket => void socket.on('error', () => {})));
    const said = saidOf(`http://127.0.0.1:${port}`, { health: { timeout: '300ms' } });
    expect(await said).toMatch(/no answer in time: a firewall may drop what is sent, or the backend hangs$/);
  });

  test('the authority of a certificate is not known, or its name is another', async () => {
    const port = await https();
    expect(await saidOf(`https://localhost:${port}`)).toMatch(/nobody who is believed here has signed.*"tls\.ca"$/);
    const other = await https(inDays(30), ['other.example']);
    expect(await saidOf(`https://localhost:${other}`, { tls: { ca } })).toMatch(
      /its certificate is for another name; write that in the URL, or as "tls\.serverName"$/,
    );
  });

  test('a certificate is over, or soon will be', async () => {
    expect(await saidOf(`https://localhost:${await https(inDays(-1))}`, { tls: { ca } })).toMatch(
      /CERT_HAS_EXPIRED: its certificate is over; renew it$/,
    );
    expect(await saidOf(`https://localhost:${await https(inDays(3))}`, { tls: { ca } })).toMatch(
      /its certificate ends on .* UTC, within two weeks; renew it$/,
    );
  });
});

test('each server has its place', async () => {
  const [good, bad] = [`http://127.0.0.1:${await http()}`, `http://127.0.0.1:${await freePort()}`];
  const upstreams = { a: { servers: [bad, good] }, b: { servers: [good, { url: bad, weight: 2 }] } };
  const found = await probeUpstreams({ upstreams });
  expect(found.map(({ path }) => path)).toEqual([
    ['upstreams', 'a', 'servers', 0],
    ['upstreams', 'b', 'servers', 1],
  ]);
});
