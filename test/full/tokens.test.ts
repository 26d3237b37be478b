import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket as Client, WebSocketServer } from 'ws';
import { isBrowserMissing, launchBrowser } from '../services/browser.ts';
import { OidcIssuer } from '../services/oidc-issuer.ts';

const run = promisify(execFile);
const SIGNED = 'https://jwt.example';

let folder: string;
let issuer: OidcIssuer;
let server: Server;
const stack = new AsyncDisposableStack();
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-tokens-'));
  issuer = await OidcIssuer.start();
  stack.defer(() => issuer.close());
  writeFileSync(join(folder, 'secret'), `${issuer.gatewaySecret}\n`);
  writeFileSync(join(folder, 'revoked'), '');
  const backend = new WebSocketServer({
    ...{ port: 0, host: '127.0.0.1' },
    handleProtocols: names => names.has('chat') && 'chat',
  });
  backend.on('connection', (socket, { headers }) =>
    socket.send(`${headers['x-forwarded-user']} ${headers['sec-websocket-protocol'] ?? ''}`),
  );
  await once(backend, 'listening');
  stack.defer(() => {
    for (const client of backend.clients) client.terminate();
    backend.close();
  });
  const greeting = (path: string, subprotocols: string[]) =>
    defineEndpoint({
      ...{ path, subprotocols, origins: 'any', accept: () => true },
      onOpen: connection => void connection.send(`${connection.user?.name} ${connection.subprotocol}`),
    });
  server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    dataFolder: folder,
    session: false,
    log: { level: 'silent' },
    auth: {
      signed: {
        ...{ type: 'jwt', issuer: issuer.url, audience: SIGNED, jwksUri: `${issuer.url}/jwks`, rolesClaim: 'scope' },
        revokedFile: join(folder, 'revoked'),
        clockSkew: 0,
      },
      opaque: {
        ...{ type: 'introspection', endpoint: `${issuer.url}/token/introspection`, clientId: 'gateway' },
        ...{ clientSecretFile: join(folder, 'secret'), userClaim: 'client_id', rolesClaim: 'scope', recheck: '500ms' },
      },
    },
    upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
    policy: { auth: ['signed', 'opaque'], roles: ['read'] },
    routes: [
      { path: '/who', fetch: (_request, { user }) => new Response(`${user?.name} ${user?.roles}`) },
      { path: '/admin', fetch: () => new Response('admin'), policy: { roles: ['write'] } },
      { path: '/relay', upstream: 'app', policy: { origins: 'any' } },
      { endpoint: greeting('/endpoint', ['chat']) },
      { endpoint: greeting('/bare', []) },
    ],
  });
  await server.start();
  stack.defer(() => server.stop({ drain: 0 }));
});
afterAll(async () => {
  await stack.disposeAsync();
  rmSync(folder, { recursive: true, force: true });
});

/** Status and body, as curl sees them. */
async function curl(path: string, token?: string): Promise<string> {
  const shown = token === undefined ? [] : ['--oauth2-bearer', token];
  const { stdout } = await run('curl', ['-s', '-w', ' %{http_code}', ...shown, server.urls[0]! + path]);
  return stdout;
}

const wsUrl = (path: string) => server.urls[0]!.replace('http', 'ws') + path;

async function open(path: string, token: string) {
  const socket = new Client(wsUrl(path), ['chat', `bearer.${token}`]);
  const closed = new Promise<number>(resolve => socket.on('close', resolve));
  const [first] = await once(socket, 'message');
  return { socket, closed, first: String(first) };
}

describe('tokens of oidc-provider', () => {
  test('let curl in, signed or opaque, with the roles of their scope', async () => {
    for (const resource of [SIGNED, 'https://opaque.example']) {
      const token = await issuer.token(resource);
      expect(await curl('/who', token)).toBe('robot read 200');
      expect(await curl('/admin', token)).toMatch(/ 403$/);
    }
    expect(await curl('/who')).toMatch(/ 401$/);
    expect(await curl('/who', 'nonsense')).toMatch(/ 401$/);
  });

  test('for another service, and refresh tokens, let nobody in', async () => {
    expect(await curl('/who', await issuer.token('https://other.jwt.example'))).toMatch(/ 401$/);
    expect(await curl('/who', await issuer.refreshToken())).toMatch(/ 401$/);
  });

  test('signed with a new key let in at once after a rotation, and those of the old key go on', async () => {
    const old = await issuer.token(SIGNED);
    expect(await curl('/who', old)).toBe('robot read 200');
    for (let i = 0; i < 3; i++) {
      await issuer.rotate();
      expect(await curl('/who', await issuer.token(SIGNED))).toBe('robot read 200');
    }
    expect(await curl('/who', old)).toBe('robot read 200');
  });

  test.each(['/endpoint', '/relay'])('open sockets of %s, which close when they are revoked or over', async path => {
    const signed = await issuer.token(SIGNED);
    const { jti } = JSON.parse(Buffer.from(signed.split('.')[1]!, 'base64url').toString()) as { jti: string };
    const opaque = await issuer.token('https://opaque.example');
    const [one, two, three] = [
      await open(path, signed),
      await open(path, opaque),
      await open(path, await issuer.token('https://jwt.example')),
    ];
    expect([one.first, two.first, three.first]).toEqual(Array(3).fill('robot chat'));
    writeFileSync(join(folder, 'revoked'), `${jti}\n`);
    expect(await one.closed).toBe(1008);
    await issuer.revoke(opaque);
    expect(await two.closed).toBe(1008);
    expect(three.socket.readyState).toBe(Client.OPEN);
    three.socket.terminate();
    expect(await curl('/who', signed)).toMatch(/ 401$/);
    expect(await curl('/who', opaque)).toMatch(/ 401$/);
  });
});

describe.skipIf(isBrowserMissing)('a page with a token, in a real browser', () => {
  let browser: Browser;
  let page: Page;
  beforeAll(async () => {
    const site = http.createServer((_, response) => {
      response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>page</title>');
    });
    await once(site.listen(0, '127.0.0.1'), 'listening');
    stack.defer(() => void site.close());
    browser = await launchBrowser();
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}`);
  });
  afterAll(() => browser?.close());

  const dial = (path: string, subprotocols: string[]) =>
    page.evaluate(
      ([url, names]) =>
        new Promise<string>(resolve => {
          const socket = new WebSocket(url, names);
          socket.onmessage = ({ data }) => {
            resolve(`${socket.protocol}: ${data}`);
            socket.close();
          };
          socket.onerror = () => resolve('error');
        }),
      [wsUrl(path), subprotocols] as const,
    );

  test.each([
    ['/endpoint', 'chat', 'chat: robot chat'],
    ['/relay', 'chat', 'chat: robot chat'],
    ['/bare', 'holdfast.bearer', 'holdfast.bearer: robot '],
    ['/relay', 'holdfast.bearer', 'holdfast.bearer: robot '],
  ])('opens a socket of %s by a subprotocol beside "%s"', async (path, real, answer) => {
    for (const resource of [SIGNED, 'https://opaque.example']) {
      const token = await issuer.token(resource);
      expect(await dial(path, [`bearer.${token}`, real])).toBe(answer);
      expect(await dial(path, [real, `bearer.${token}`])).toBe(answer);
    }
  });

  test('opens none with the token alone, without one, or with a wrong one', async () => {
    const token = await issuer.token(SIGNED);
    for (const path of ['/endpoint', '/relay'])
      for (const subprotocols of [[`bearer.${token}`], ['chat'], ['chat', 'bearer.nonsense']])
        expect(await dial(path, subprotocols)).toBe('error');
  });
});
