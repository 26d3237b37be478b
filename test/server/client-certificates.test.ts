import { type EventEmitter, once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { FakeClock } from 'holdfast/testing';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import WebSocket from 'ws';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { checkRevocationLists } from '../../src/config/check-revocation-lists.ts';
import { parseConfig } from '../../src/config/parse.ts';
import {
  createAuthority,
  createCertificate,
  createRevocationList,
  writeCertificate,
} from '../self-signed-certificate.ts';
import { Http2Client } from './http2-client.ts';
import { Lines } from './wires.ts';

const root = mkdtempSync(join(tmpdir(), 'client-certificates-'));
afterAll(() => rmSync(root, { recursive: true }));

const authority = createAuthority('Clients CA');
const client = (name: string, validTo?: number) => {
  const { certificate: cert, key } = createCertificate({ name, authority, ...(validTo && { validTo }) });
  return { cert, key };
};
const [alice, bob] = [client('alice'), client('bob')];
const DAY_MS = 86_400_000;
const GET = 'GET /who HTTP/1.1\r\nHost: a\r\n\r\n';

let folder: string;
let server: ReturnType<typeof createServer> | undefined;
let log: Lines;
const file = (name: string) => join(folder, name);
const revoke = (...revoked: readonly { cert: string }[]) =>
  writeFileSync(file('clients.crl'), createRevocationList({ authority, revoked: revoked.map(({ cert }) => cert) }));

beforeEach(() => {
  folder = mkdtempSync(join(root, 'test-'));
  log = new Lines();
  writeFileSync(file('ca.crt'), authority.certificate);
  revoke();
});
afterEach(() => server?.stop({ drain: 0 }));

async function serve(mode: 'require' | 'request', config: Config = {}, clock: Clock = systemClock) {
  server = createServer(
    {
      listen: [
        {
          port: 0,
          host: '127.0.0.1',
          tls: {
            ...writeCertificate(folder, { name: 'server.example' }),
            certificates: [writeCertificate(folder, { name: 'other.example' })],
            clientCertificates: { ca: file('ca.crt'), crl: file('clients.crl'), mode },
          },
        },
      ],
      session: false,
      auth: {
        certificate: {
          type: 'function',
          authenticate: ({ clientCertificate }) => ({ name: clientCertificate?.subject ?? 'nobody' }),
        },
      },
      routes: [
        { path: '/who', fetch: (_request, { user }) => new Response(user?.name), policy: { auth: 'certificate' } },
        { endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }) },
      ],
      ...config,
    },
    { logger: log, clock },
  );
  await server.start();
}

async function dial(options: ConnectionOptions = {}): Promise<TLSSocket> {
  const { port } = new URL(server!.urls[0]!);
  const socket = connect({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false, ...options });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}

/** Who the server takes a new client for; `cut` when it ends the connection, with TLS 1.2 before that is secure. */
const whoIs = (options?: ConnectionOptions) => dial(options).then(who, () => 'cut');

/** The same of a client that is there. */
async function who(socket: TLSSocket): Promise<string> {
  socket.write(GET);
  const answer = await new Promise<string>(resolve => {
    socket.once('data', data => resolve(String(data))).once('close', () => resolve('cut'));
  });
  socket.destroy();
  return /\r\n\r\n(.*)$/.exec(answer)?.[1] ?? answer;
}

/** Also after a reset. */
function gone(connection: EventEmitter): Promise<void> {
  return new Promise(resolve => connection.once('close', () => resolve()));
}

/** With a ticket of TLS 1.2 or 1.3, when the connection is over. */
async function sessionOf(options: ConnectionOptions): Promise<Buffer | undefined> {
  const { port } = new URL(server!.urls[0]!);
  const socket = connect({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false, ...options });
  let session: Buffer | undefined;
  socket
    .on('error', () => {})
    .on('session', ticket => {
      session = ticket;
    });
  await once(socket, 'secureConnect');
  await who(socket);
  return session;
}

const events = (event: string) => log.all.filter(({ fields }) => fields.event === event).map(({ fields }) => fields);
const inForce = () => vi.waitFor(() => expect(events('file-changed')).toHaveLength(1), { timeout: 5_000, interval: 5 });

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('with %s a certificate that is revoked', version => {
  const by = (more: ConnectionOptions) => ({ minVersion: version, maxVersion: version, ...more });

  test.each([undefined, 'other.example'])('lets nobody in who asks for %s, and the log says why', async servername => {
    revoke(alice);
    await serve('require');
    expect(await whoIs(by({ ...alice, servername }))).toBe('cut');
    expect(await whoIs(by({ ...bob, servername }))).toBe('CN=bob');
    expect(events('client-certificate-refused')).toMatchObject([
      {
        address: '127.0.0.1',
        failure: 'CERT_REVOKED',
        subject: 'CN=alice',
        serialNumber: expect.stringMatching(/^\w+$/),
      },
    ]);
  });

  test('counts as none where a certificate is optional', async () => {
    revoke(alice);
    await serve('request');
    expect(await whoIs(by(alice))).toBe('nobody');
    expect(await whoIs(by(bob))).toBe('CN=bob');
    expect(await whoIs(by({}))).toBe('nobody');
    expect(events('client-certificate-refused')).toMatchObject([{ failure: 'CERT_REVOKED' }]);
  });

  test.each([undefined, 'other.example'])(
    'does not come in by a ticket of before, with the name %s',
    async servername => {
      await serve('require');
      const session = await sessionOf(by({ ...alice, servername }));
      const resumed = await dial(by({ ...alice, servername, session }));
      expect([resumed.isSessionReused(), await who(resumed)]).toEqual([true, 'CN=alice']);
      revoke(alice);
      await inForce();
      expect(await whoIs(by({ ...alice, servername, session }))).toBe('cut');
      expect(events('client-certificate-refused')).toMatchObject([{ failure: 'CERT_REVOKED' }]);
    },
  );

  test('of nobody is that of nobody when the connection is resumed', async () => {
    await serve('request');
    const session = await sessionOf(by({}));
    const resumed = await dial(by({ session }));
    expect([resumed.isSessionReused(), await who(resumed)]).toEqual([true, 'nobody']);
  });
});

test('who shows none, or one of a stranger, where one is required is cut, and the log says so', async () => {
  await serve('require');
  const stranger = createCertificate({ name: 'mallory', authority: createAuthority('Clients CA') });
  expect(await whoIs()).toBe('cut');
  expect(await whoIs({ cert: stranger.certificate, key: stranger.key })).toBe('cut');
  expect(events('client-certificate-refused')).toMatchObject([
    { failure: 'NO_CERTIFICATE' },
    {
      failure: expect.stringMatching(/^(CERT_SIGNATURE_FAILURE|CRL_SIGNATURE_FAILURE|UNABLE_TO_)/),
      subject: 'CN=mallory',
    },
  ]);
});

describe('connections of a certificate that is revoked while they are open', () => {
  const open = async (path: string, options: { cert: string; key: string }) => {
    const socket = new WebSocket(`${server!.urls[0]!.replace('https', 'wss')}${path}`, {
      rejectUnauthorized: false,
      ...options,
    });
    const closed = new Promise<[number, string]>(resolve =>
      socket.on('close', (code, reason) => resolve([code, reason.toString()])),
    );
    await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
    return { socket, closed };
  };

  test.each(['require', 'request'] as const)(
    '%s: end within a second, WebSockets of endpoints and relays with 1008',
    async mode => {
      const backend = createServer(
        {
          listen: [{ port: 0, host: '127.0.0.1' }],
          session: false,
          routes: [{ endpoint: defineEndpoint({ path: '/relayed', origins: 'accept', accept: () => true }) }],
        },
        { logger: log },
      );
      await backend.start();
      await serve(mode, {
        upstreams: { app: { servers: [backend.urls[0]!] } },
        routes: [
          { path: '/who', fetch: () => new Response('somebody') },
          { path: '/relayed', upstream: 'app', policy: { origins: 'any' } },
          { endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }) },
        ],
      });
      const [endpoint, relay, other] = [
        await open('/socket', alice),
        await open('/relayed', alice),
        await open('/socket', bob),
      ];
      const kept = await dial(alice);
      const keptAnswer = once(kept, 'data');
      kept.write(GET);
      await keptAnswer;
      const http2 = await Http2Client.connect(server!.urls[0]!, await dial({ ...alice, ALPNProtocols: ['h2'] }));
      expect((await http2.get('/who')).status).toBe(200);
      await http2.webSocket('/socket');
      const http2Closed = gone(http2.session);
      revoke(alice);
      const revokedAt = performance.now();
      expect(await endpoint.closed).toEqual([1008, 'client certificate was revoked']);
      expect(await relay.closed).toEqual([1008, 'client certificate was revoked']);
      expect(performance.now() - revokedAt).toBeLessThan(1_000);
      await Promise.all([gone(kept), http2Closed]);
      expect(other.socket.readyState).toBe(WebSocket.OPEN);
      expect(
        events('client-certificate-ended').every(
          ({ failure, subject }) => failure === 'CERT_REVOKED' && subject === 'CN=alice',
        ),
      ).toBe(true);
      expect(events('client-certificate-ended')).toHaveLength(4);
      other.socket.terminate();
      await backend.stop({ drain: 0 });
    },
  );

  test('and of one that is over end, too', async () => {
    const clock = new FakeClock(Date.now());
    const short = client('carol', Math.ceil((Date.now() + 60_000) / 1_000) * 1_000);
    await serve('require', {}, clock);
    const [socket, kept, other] = [await open('/socket', short), await dial(short), await dial(alice)];
    await clock.advance(59_000);
    expect([socket.socket.readyState, kept.destroyed]).toEqual([WebSocket.OPEN, false]);
    await clock.advance(3_000);
    expect(await socket.closed).toEqual([1008, 'client certificate has expired']);
    if (!kept.destroyed) await gone(kept);
    expect(await who(other)).toBe('CN=alice');
    expect(events('client-certificate-ended')).toMatchObject([
      { failure: 'CERT_HAS_EXPIRED', subject: 'CN=carol' },
      { failure: 'CERT_HAS_EXPIRED', subject: 'CN=carol' },
    ]);
  });
});

describe('a list', () => {
  const write = (nextUpdate: number | undefined, name = 'clients.crl') =>
    writeFileSync(file(name), createRevocationList({ authority, nextUpdate }));

  test('that is over refuses everybody, and the log says so at start and at each refusal', async () => {
    write(Date.now() - 1_000);
    await serve('require');
    expect(await whoIs(alice)).toBe('cut');
    expect(events('client-certificate-refused')).toMatchObject([{ failure: 'CRL_HAS_EXPIRED', subject: 'CN=alice' }]);
    expect(events('revocation-list-over')).toHaveLength(1);
  });

  test('that is over lets nobody in by a ticket of before', async () => {
    const clock = new FakeClock(Date.now());
    write(Date.now() + 3_600_000);
    await serve('require', {}, clock);
    const session = await sessionOf(alice);
    await clock.advance(3_601_000);
    expect(await whoIs({ ...alice, session })).toBe('cut');
    expect(events('client-certificate-refused')).toMatchObject([{ failure: 'CRL_HAS_EXPIRED' }]);
  });

  test('is warned of a week before, each day', async () => {
    const clock = new FakeClock(Date.now());
    write(Date.now() + 8 * DAY_MS);
    await serve('require', {}, clock);
    expect(events('revocation-list-ends-soon')).toEqual([]);
    await clock.advance(2 * DAY_MS);
    expect(events('revocation-list-ends-soon')).toHaveLength(2);
    await clock.advance(6 * DAY_MS + 1_000);
    expect(events('revocation-list-over')).toHaveLength(1);
  });

  test('without an end never ends, and one that is over stands beside a fresh one', async () => {
    write(undefined);
    await serve('require');
    expect(await whoIs(alice)).toBe('CN=alice');
    await server!.stop({ drain: 0 });
    const [old, fresh] = [Date.now() - 2 * DAY_MS, Date.now() - DAY_MS];
    const over = createRevocationList({ authority, revoked: [alice.cert], thisUpdate: old, nextUpdate: fresh });
    writeFileSync(
      file('clients.crl'),
      over + createRevocationList({ authority, revoked: [bob.cert], thisUpdate: fresh }),
    );
    await serve('require');
    expect(await whoIs(alice)).toBe('CN=alice');
    expect(await whoIs(bob)).toBe('cut');
  });

  test('that is missing for an authority is warned of, and refuses its clients', async () => {
    const second = createAuthority('Second CA');
    writeFileSync(file('ca.crt'), authority.certificate + second.certificate);
    await serve('require');
    expect(log.all.filter(({ fields }) => fields.event === 'revocation-list-missing')).toMatchObject([
      { level: 'warn', message: expect.stringContaining('there is no list of "CN=Second CA"') },
    ]);
    const { certificate: cert, key } = createCertificate({ name: 'dave', authority: second });
    expect(await whoIs({ cert, key })).toBe('cut');
    expect(events('client-certificate-refused')).toMatchObject([{ failure: 'UNABLE_TO_GET_CRL', subject: 'CN=dave' }]);
  });

  test('that cannot be read stops the start, and in its place the one before stays in force', async () => {
    writeFileSync(file('clients.crl'), Buffer.from([0x30, 0x82, 0x01]));
    await expect(serve('require')).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(/clients\.crl: no "-----BEGIN X509 CRL-----" in it; .*openssl crl -inform DER/),
    });
    revoke(alice);
    await serve('require');
    writeFileSync(file('clients.crl'), '-----BEGIN X509 CRL-----\nMII=\n-----END X509 CRL-----\n');
    await vi.waitFor(() => expect(events('certificate-refused').length).toBeGreaterThan(0), 5_000);
    expect(await whoIs(alice)).toBe('cut');
    expect(await whoIs(bob)).toBe('CN=bob');
  });

  const stranger = { ...createAuthority('Clients CA'), certificate: authority.certificate };
  const SHA_256 = '2a8648ce3d040302';
  const UNKNOWN = '2a8648ce3d04030f';
  const good = createRevocationList({ authority, revoked: [bob.cert] });
  const hex = Buffer.from(good.replace(/-----.*-----/g, ''), 'base64').toString('hex');
  const listOf = (der: string) =>
    `-----BEGIN X509 CRL-----\n${Buffer.from(der, 'hex').toString('base64')}\n-----END X509 CRL-----\n`;
  // The bit string at its end says before its bytes how many bits of the last one do not count.
  const bits = hex.lastIndexOf(SHA_256) + SHA_256.length + 4;

  const SIGNED_BY_NONE = /the list of "CN=Clients CA" is not signed by the authority of this name/;
  const DAMAGED = /clients\.crl: not a list of revoked certificates: its signature/;
  test.each([
    [
      'a stranger of the same name has signed',
      createRevocationList({ authority: stranger, revoked: [bob.cert] }),
      SIGNED_BY_NONE,
    ],
    ['was changed behind its signature', listOf(hex.replace(/.$/, last => (last === '0' ? '1' : '0'))), SIGNED_BY_NONE],
    ['says that it is signed by an unknown algorithm', listOf(hex.replaceAll(SHA_256, UNKNOWN)), SIGNED_BY_NONE],
    [
      'has another algorithm beside its signature',
      listOf(hex.replace(new RegExp(`${SHA_256}(?!.*${SHA_256})`), UNKNOWN)),
      DAMAGED,
    ],
    ['has a signature of half a byte', listOf(`${hex.slice(0, bits)}04${hex.slice(bits + 2)}`), DAMAGED],
  ])('that %s changes nothing, whomever it names, and stops a start', async (_, forged, message) => {
    writeFileSync(file('clients.crl'), forged);
    await expect(serve('require')).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(message),
    });
    const tls = { certificate: 'a', key: 'b', clientCertificates: { ca: file('ca.crt'), crl: file('clients.crl') } };
    const found = await checkRevocationLists(parseConfig({ listen: [{ port: 8443, tls }], routes: [] }), Date.now());
    expect(found.errors).toMatchObject([{ message: expect.stringMatching(message) }]);
    revoke(alice);
    await serve('require');
    const kept = await dial(bob);
    const keptAnswer = once(kept, 'data');
    kept.write(GET);
    await keptAnswer;
    writeFileSync(file('clients.crl'), forged);
    await vi.waitFor(() => expect(events('certificate-refused').length).toBeGreaterThan(0), 5_000);
    expect([await whoIs(alice), await whoIs(bob), kept.destroyed]).toEqual(['cut', 'CN=bob', false]);
    kept.destroy();
  });

  test('is looked at by check: what cannot be read is an error, what is over, ends soon or is missing a warning', async () => {
    const now = Date.now();
    const check = () =>
      checkRevocationLists(
        parseConfig({
          listen: [
            {
              port: 8443,
              tls: {
                certificate: 'a',
                key: 'b',
                clientCertificates: { ca: file('ca.crt'), crl: [file('clients.crl')] },
              },
            },
          ],
          routes: [],
        }),
        now,
      );
    expect(await check()).toEqual({ errors: [], warnings: [] });
    const at = ['listen', 0, 'tls', 'clientCertificates', 'crl'];
    for (const [code, nextUpdate, message] of [
      ['revocation-list-over', now - 1_000, /has ended at .*Z, and its clients are refused/],
      ['revocation-list-ends-soon', now + 6 * DAY_MS, /"CN=Clients CA" ends at .*Z: its clients are refused then/],
    ] as const) {
      write(nextUpdate);
      expect(await check()).toEqual({
        errors: [],
        warnings: [{ code, path: at, message: expect.stringMatching(message) }],
      });
    }
    writeFileSync(file('clients.crl'), 'nothing');
    expect(await check()).toMatchObject({ errors: [{ path: [...at, 0] }], warnings: [] });
    rmSync(file('clients.crl'));
    expect(await check()).toEqual({ errors: [], warnings: [] });
    writeFileSync(file('clients.crl'), createRevocationList({ authority: createAuthority('Other CA') }));
    expect(await check()).toMatchObject({ warnings: [{ message: expect.stringContaining('there is no list of') }] });
  });
});

describe('the scheme client-certificate', () => {
  test('lets in the owner of a certificate by its name and role, on requests, endpoints and relays', async () => {
    const backend = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: false,
        routes: [
          { path: '/app', fetch: request => new Response(request.headers.get('x-forwarded-user')) },
          { endpoint: defineEndpoint({ path: '/relayed', origins: 'accept', accept: () => true }) },
        ],
      },
      { logger: log },
    );
    await backend.start();
    let name: string | undefined;
    await serve('request', {
      auth: { certificate: { type: 'client-certificate', roles: { admin: ['alice'], user: ['*'] } } },
      upstreams: { app: { servers: [backend.urls[0]!] } },
      routes: [
        {
          path: '/who',
          fetch: (_, { user }) => new Response(`${user?.name} ${user?.roles}`),
          policy: { auth: 'certificate' },
        },
        { path: '/app', upstream: 'app', policy: { auth: 'certificate' } },
        { path: '/relayed', upstream: 'app', policy: { auth: 'certificate', roles: ['admin'], origins: 'any' } },
        {
          endpoint: defineEndpoint({
            path: '/socket',
            origins: 'accept',
            accept: ({ user }) => {
              name = user?.name;
              return true;
            },
          }),
          policy: { auth: 'certificate', roles: ['admin'] },
        },
      ],
    });
    expect(await whoIs(alice)).toBe('alice admin,user');
    expect(await whoIs(bob)).toBe('bob user');
    const http2 = await Http2Client.connect(server!.urls[0]!, await dial({ ...bob, ALPNProtocols: ['h2'] }));
    const spoofed = { 'x-forwarded-user': 'root', 'client-cert': ':AAAA:', 'x-ssl-client-cert': 'x' };
    expect((await http2.get('/app', spoofed)).body).toBe('bob');
    expect((await http2.knock('/socket')).status).toBe(403);
    http2.session.destroy();
    const nobody = await Http2Client.connect(server!.urls[0]!);
    const { status, headers } = await nobody.get('/who', spoofed);
    expect([status, headers['www-authenticate']]).toEqual([401, 'Client-Certificate realm="certificate"']);
    expect((await nobody.knock('/relayed')).status).toBe(401);
    nobody.session.destroy();
    const sockets = ['/socket', '/relayed'].map(path => {
      const socket = new WebSocket(`${server!.urls[0]!.replace('https', 'wss')}${path}`, {
        rejectUnauthorized: false,
        ...alice,
      });
      return { opened: once(socket, 'open'), closed: new Promise(resolve => socket.on('close', resolve)) };
    });
    await Promise.all(sockets.map(({ opened }) => opened));
    expect(name).toBe('alice');
    revoke(alice);
    expect(await Promise.all(sockets.map(({ closed }) => closed))).toEqual([1008, 1008]);
    await backend.stop({ drain: 0 });
  });
});
