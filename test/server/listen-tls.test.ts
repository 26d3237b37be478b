import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { createAuthority, createCertificate, writeCertificate } from '../self-signed-certificate.ts';

const root = mkdtempSync(join(tmpdir(), 'listen-tls-'));
afterAll(() => rmSync(root, { recursive: true }));
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, 'test-'));
});

const authority = createAuthority('Test Authority');
const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

type Tls = NonNullable<NonNullable<Config['listen']>[number]['tls']>;

async function serve(tls: Tls, config: Config = {}) {
  const log: string[] = [];
  const note = (_: object, message: string) => void log.push(message);
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1', tls }],
      session: false,
      routes: [
        {
          endpoint: defineEndpoint({
            path: '/socket',
            accept: ({ clientCertificate }) => ({ headers: { 'X-Client': String(clientCertificate?.subject.CN) } }),
            onMessage: (connection, data) => void connection.send(data),
          }),
        },
        { path: '/own-hsts', fetch: () => new Response('', { headers: { 'Strict-Transport-Security': 'max-age=1' } }) },
        { path: '/*', fetch: () => new Response('served') },
      ],
      ...config,
    },
    { logger: { ...silentLogger, info: note, warn: note, error: note } },
  );
  await server.start();
  const port = Number(new URL(server.urls[0]!).port);
  return {
    server,
    log,
    port,
    async dial(options: ConnectionOptions = {}): Promise<TLSSocket> {
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
      socket.on('error', () => {});
      await once(socket, 'secureConnect');
      return socket;
    },
    /** The name in the certificate that a new connection gets. */
    async certificateName(options: ConnectionOptions = {}): Promise<string> {
      const socket = await this.dial(options);
      const { CN } = socket.getPeerCertificate().subject;
      socket.destroy();
      return String(CN);
    },
    [Symbol.asyncDispose]: () => server.stop({ drain: 0 }),
  };
}

function get(url: string, options: https.RequestOptions = {}): Promise<http.IncomingMessage> {
  const { get } = url.startsWith('https:') ? https : http;
  return new Promise((resolve, reject) => {
    get(url, { rejectUnauthorized: false, agent: false, ...options }, answer => resolve(answer.resume())).on(
      'error',
      reject,
    );
  });
}

describe('several certificates', () => {
  const write = () => ({
    ...writeCertificate(folder, { name: 'first.example', authority }),
    certificates: [
      writeCertificate(folder, { name: 'second.example', authority }),
      writeCertificate(folder, { name: 'third.example', hosts: ['*.third.example'], authority }),
    ],
  });

  test.each([
    ['the name in one of them', 'second.example', 'second.example'],
    ['a name under a wildcard', 'a.third.example', 'third.example'],
    ['a name in none of them', 'unknown.example', 'first.example'],
    ['no name', undefined, 'first.example'],
  ])('a client that asks for %s gets the right one', async (_, servername, expected) => {
    await using served = await serve(write());
    expect(await served.certificateName(servername === undefined ? {} : { servername })).toBe(expected);
  });
});

describe('a certificate that changes', () => {
  const replaceWith = (name: string, tls: { certificate: string; key: string }) => {
    const made = createCertificate({ name });
    writeFileSync(tls.certificate, made.certificate);
    writeFileSync(tls.key, made.key);
  };

  test('is used for new connections, and open sockets stay', async () => {
    const tls = writeCertificate(folder, { name: 'old.example' });
    await using served = await serve(tls);
    const socket = await served.dial();
    replaceWith('new.example', tls);
    await vi.waitFor(async () => expect(await served.certificateName()).toBe('new.example'), 15_000);
    expect(await served.certificateName({ servername: 'new.example' })).toBe('new.example');
    socket.write(GET);
    expect(await text(socket)).toMatch(/served$/);
  });

  test('is found behind symbolic links that lead elsewhere now, as certbot leaves them', async () => {
    const archive = join(folder, 'archive');
    const live = join(folder, 'live');
    for (const made of [archive, live]) mkdirSync(made);
    const issue = (name: string) => {
      const files = writeCertificate(archive, { name });
      for (const [link, target] of [
        ['fullchain.pem', files.certificate],
        ['privkey.pem', files.key],
      ] as const) {
        symlinkSync(target, join(live, `${link}.next`));
        renameSync(join(live, `${link}.next`), join(live, link));
      }
    };
    issue('one.example');
    await using served = await serve({ certificate: join(live, 'fullchain.pem'), key: join(live, 'privkey.pem') });
    expect(await served.certificateName()).toBe('one.example');
    issue('two.example');
    await vi.waitFor(async () => expect(await served.certificateName()).toBe('two.example'), 15_000);
    issue('three.example');
    await vi.waitFor(async () => expect(await served.certificateName()).toBe('three.example'), 15_000);
  });

  test('and does not fit its key leaves the one before in use, is logged once, and is used when it fits', async () => {
    const tls = writeCertificate(folder, { name: 'good.example' });
    await using served = await serve(tls);
    const next = createCertificate({ name: 'next.example' });
    writeFileSync(tls.certificate, next.certificate);
    await vi.waitFor(() => expect(served.log.join('\n')).toMatch(/the one before stays in use/), 15_000);
    expect(await served.certificateName()).toBe('good.example');
    writeFileSync(tls.key, next.key);
    await vi.waitFor(async () => expect(await served.certificateName()).toBe('next.example'), 15_000);
    expect(served.log.filter(line => line.includes('the one before stays in use'))).toHaveLength(1);
  });
});

test('a certificate that does not fit its key is an error at the start that names the files', async () => {
  const { certificate } = writeCertificate(folder, { name: 'a.example' });
  const { key } = writeCertificate(folder, { name: 'b.example' });
  await expect(serve({ certificate, key })).rejects.toMatchObject({
    code: 'ERR_CONFIG_INVALID',
    message: expect.stringContaining(certificate),
  });
});

describe('client certificates', () => {
  const own = () => {
    writeFileSync(join(folder, 'ca.crt'), authority.certificate);
    return writeCertificate(folder, { name: 'server.example' });
  };
  const from = (issuer = authority) => {
    const { certificate, key } = createCertificate({ name: 'alice', authority: issuer });
    return { cert: certificate, key };
  };
  const handshake = async (socket: TLSSocket): Promise<string> => {
    socket.write(
      'GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    );
    const [head] = await once(socket, 'data');
    socket.destroy();
    return /X-Client: (.*)\r\n/.exec(String(head))![1]!;
  };

  test('that are required: without a good one there is no TLS', async () => {
    await using served = await serve({ ...own(), clientCertificates: { ca: join(folder, 'ca.crt') } });
    const without = await served.dial();
    without.write(GET);
    expect(await text(without).catch(() => '')).toBe('');
    const strange = await served.dial(from(createAuthority('Test Authority')));
    strange.write(GET);
    expect(await text(strange).catch(() => '')).toBe('');
    expect(await handshake(await served.dial(from()))).toBe('alice');
  });

  test('that are asked for: one that is missing or not good counts as none', async () => {
    await using served = await serve({
      ...own(),
      clientCertificates: { ca: join(folder, 'ca.crt'), mode: 'request' },
    });
    expect(await handshake(await served.dial())).toBe('undefined');
    expect(await handshake(await served.dial(from(createAuthority('Test Authority'))))).toBe('undefined');
    expect(await handshake(await served.dial(from()))).toBe('alice');
  });

  test('are asked for under every name', async () => {
    await using served = await serve({
      ...own(),
      certificates: [writeCertificate(folder, { name: 'other.example' })],
      clientCertificates: { ca: join(folder, 'ca.crt') },
    });
    expect(await handshake(await served.dial({ ...from(), servername: 'other.example' }))).toBe('alice');
    const strange = await served.dial({ ...from(createAuthority('X')), servername: 'other.example' });
    strange.write(GET);
    expect(await text(strange).catch(() => '')).toBe('');
  });

  test('are judged by new authorities when their file changes', async () => {
    const next = createAuthority('Next Authority');
    await using served = await serve({
      ...own(),
      clientCertificates: { ca: join(folder, 'ca.crt'), mode: 'request' },
    });
    writeFileSync(join(folder, 'ca.crt'), next.certificate);
    await vi.waitFor(async () => expect(await handshake(await served.dial(from(next)))).toBe('alice'), 15_000);
    expect(await handshake(await served.dial(from()))).toBe('undefined');
  });
});

describe('a self-signed certificate', () => {
  test('is made for localhost, readable by its owner only, and kept', async () => {
    const names: string[] = [];
    for (let start = 0; start < 2; start++) {
      await using served = await serve('self-signed', { dataFolder: folder });
      const ca = readFileSync(join(folder, 'development.crt'));
      const socket = await served.dial({ rejectUnauthorized: true, ca, servername: 'localhost' });
      names.push(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    }
    expect(names[0]).toBe(names[1]);
    expect(statSync(join(folder, 'development.key')).mode & 0o777).toBe(0o600);
  });
});

describe('TLS versions', () => {
  const tls = () => writeCertificate(folder, { name: 'localhost' });

  test('1.2 and 1.3 are spoken, 1.1 is not', async () => {
    await using served = await serve(tls());
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await served.dial({ minVersion: version, maxVersion: version });
      expect(socket.getProtocol()).toBe(version);
      socket.destroy();
    }
    await expect(
      served.dial({ minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
    ).rejects.toThrow();
  });

  test('1.2 is refused where 1.3 is the least', async () => {
    await using served = await serve({ ...tls(), minVersion: 'TLSv1.3' });
    await expect(served.dial({ maxVersion: 'TLSv1.2' })).rejects.toThrow();
  });
});

describe('Strict-Transport-Security', () => {
  const certificate = () => writeCertificate(folder, { name: 'localhost' });

  test('is not sent unless it is asked for', async () => {
    await using served = await serve(certificate());
    expect((await get(`${served.server.urls[0]}/`)).headers).not.toHaveProperty('strict-transport-security');
  });

  test.each([
    ['365d', 'max-age=31536000'],
    [{ maxAge: '2d', includeSubDomains: true, preload: true }, 'max-age=172800; includeSubDomains; preload'],
  ])('%j is sent as %s, with refusals too', async (hsts, expected) => {
    await using served = await serve({ ...certificate(), hsts }, {});
    expect((await get(`${served.server.urls[0]}/`)).headers).toMatchObject({ 'strict-transport-security': expected });
    const refused = await get(`${served.server.urls[0]}/socket`);
    expect(refused.statusCode).toBe(426);
    expect(refused.headers).toMatchObject({ 'strict-transport-security': expected });
  });

  test('is what the application says when it says something', async () => {
    await using served = await serve({ ...certificate(), hsts: '365d' });
    const { headers } = await get(`${served.server.urls[0]}/own-hsts`);
    expect(headers).toMatchObject({ 'strict-transport-security': 'max-age=1' });
  });

  test('is not sent by a listener without TLS', async () => {
    await using served = await serve(certificate(), {
      listen: [
        { port: 0, host: '127.0.0.1', tls: { ...certificate(), hsts: '365d' } },
        { port: 0, host: '127.0.0.1' },
      ],
    });
    expect((await get(`${served.server.urls[1]}/`)).headers).not.toHaveProperty('strict-transport-security');
  });
});

describe('the redirect to https', () => {
  const listeners = (more: object = {}, tls: object = {}): Config => ({
    listen: [
      { port: 0, host: '127.0.0.1', redirect: 'https', ...more },
      { port: 0, host: '127.0.0.1', tls: writeCertificate(folder, { name: 'localhost' }), ...tls },
    ],
  });
  const locationOf = async (url: string, options: https.RequestOptions = {}) => {
    const { statusCode, headers } = await get(url, options);
    return `${statusCode} ${headers.location}`;
  };

  test('leads to the same place on the port of TLS', async () => {
    await using served = await serve('self-signed', listeners());
    const [plain, secure] = served.server.urls;
    const { port } = new URL(secure!);
    expect(await locationOf(`${plain}/a/b?c=1&d`, { headers: { Host: 'example.com:8080' } })).toBe(
      `308 https://example.com:${port}/a/b?c=1&d`,
    );
    expect(await locationOf(`${plain}/`, { headers: { Host: '[::1]:8080' } })).toBe(`308 https://[::1]:${port}/`);
  });

  test.each([
    [443, 'https://example.com/'],
    [9443, 'https://example.com:9443/'],
  ])('leads to the public port %i', async (publicPort, location) => {
    await using served = await serve('self-signed', listeners({}, { publicPort }));
    expect(await locationOf(`${served.server.urls[0]}/`, { headers: { Host: 'example.com' } })).toBe(`308 ${location}`);
  });

  test('answers a WebSocket handshake so, too', async () => {
    await using served = await serve('self-signed', listeners());
    const headers = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13' };
    expect(await locationOf(`${served.server.urls[0]}/socket`, { headers })).toMatch(/^308 https:/);
  });

  test('serves the challenges of a certificate authority, and nothing else of that folder', async () => {
    const acmeChallenge = join(folder, 'webroot');
    mkdirSync(join(acmeChallenge, '.well-known', 'acme-challenge'), { recursive: true });
    writeFileSync(join(acmeChallenge, '.well-known', 'acme-challenge', 'token'), 'token.thumbprint');
    writeFileSync(join(acmeChallenge, 'index.html'), 'not this');
    await using served = await serve('self-signed', listeners({ acmeChallenge }));
    const [plain] = served.server.urls;
    const answer = await fetch(`${plain}/.well-known/acme-challenge/token`, { redirect: 'manual' });
    expect(await answer.text()).toBe('token.thumbprint');
    expect((await get(`${plain}/.well-known/acme-challenge/other`)).statusCode).toBe(404);
    expect((await get(`${plain}/.well-known/acme-challenge/../../index.html`)).statusCode).toBe(308);
    expect((await get(`${plain}/index.html`)).statusCode).toBe(308);
  });

  test('does not keep the session cookie from being one for TLS only', async () => {
    await using served = await serve('self-signed', {
      ...listeners(),
      session: { store: 'memory:' },
      routes: [{ path: '/*', session: 'create', fetch: () => new Response('') }],
    });
    const { headers } = await get(`${served.server.urls[1]}/`);
    expect(headers['set-cookie']).toEqual([expect.stringMatching(/^__Host-.*; Secure/)]);
    expect((await get(`${served.server.urls[0]}/`)).headers).not.toHaveProperty('set-cookie');
  });

  test('refuses a request without a good host', async () => {
    await using served = await serve('self-signed', listeners());
    const { port } = new URL(served.server.urls[0]!);
    const socket = connectTcp(Number(port), '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: a@b\r\nConnection: close\r\n\r\n');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('what is not TLS on a port of TLS, and the other way round', () => {
  test('a plain request on a port of TLS ends the connection', async () => {
    await using served = await serve(writeCertificate(folder, { name: 'localhost' }));
    const socket = connectTcp(served.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(GET);
    expect(await text(socket).catch(() => '')).not.toMatch(/HTTP/);
  });

  test('a TLS hello on a plain port is answered with 400', async () => {
    await using served = await serve('self-signed', { listen: [{ port: 0, host: '127.0.0.1' }] });
    const socket = connectTcp(served.port, '127.0.0.1');
    socket.write(Buffer.from('160301020001000200', 'hex'));
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('garbage and resets in every state end one connection and nothing else', async () => {
    await using served = await serve(writeCertificate(folder, { name: 'localhost' }));
    for (const bytes of ['', '\x16', '\x16\x03\x01\x02\x00\x01\x00', '\0\0\0\0', GET]) {
      const socket = connectTcp(served.port, '127.0.0.1');
      socket.on('error', () => {});
      await once(socket, 'connect');
      if (bytes !== '') socket.write(bytes, 'latin1');
      socket.resetAndDestroy();
    }
    for (const ALPNProtocols of [['h2'], ['http/1.1']]) {
      const raw = connectTcp(served.port, '127.0.0.1');
      const socket = connect({ socket: raw, rejectUnauthorized: false, ALPNProtocols });
      socket.on('error', () => {});
      await once(socket, 'secureConnect');
      socket.write('\0\x01\x02garbage\r\n\r\n');
      raw.resetAndDestroy();
    }
    expect((await get(served.server.urls[0]!)).statusCode).toBe(200);
  });
});

describe('a client that is slow behind its TLS handshake', () => {
  test.each([
    ['sends nothing', ['http/1.1'], ''],
    ['sends half a head', ['http/1.1'], 'GET / HTTP/1.1\r\nHo'],
    ['agrees on HTTP/2 and sends nothing', ['h2'], ''],
    ['sends half a preface of HTTP/2', ['h2'], 'PRI * HTTP/2.0\r\n'],
    ['sends the preface and no more', ['h2'], 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['sends settings and no request', ['h2'], 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
    [
      'begins the head of a request of HTTP/2',
      ['h2'],
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82',
    ],
  ])('and %s has the time of a request head', async (_, ALPNProtocols, bytes) => {
    await using served = await serve(writeCertificate(folder, { name: 'localhost' }), { headerTimeout: '50ms' });
    const socket = await served.dial({ ALPNProtocols });
    socket.write(bytes, 'latin1');
    await new Promise(resolve => socket.resume().on('close', resolve));
  });
});
