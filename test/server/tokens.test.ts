import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint, type Handshake } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import type { Config, RouteConfig } from '../../src/config/config.ts';
import { checkSchemeFiles } from '../../src/server/assembly/check-scheme-files.ts';
import { AUDIENCE, claimsAt, ISSUER, IssuerServer, jwks, sign, signingKey } from '../policy/auth/issuer.ts';
import { ask, knock, Lines, WiredServer, wires } from './wires.ts';

const KEY = signingKey('ES256');
const SAFE = { origins: 'any' } as const;

let server: WiredServer;
let backend: WebSocketServer;
/** What the backend was asked with. */
let relayed: IncomingMessage[];
/** What the endpoint was asked with. */
let seen: Handshake[];
let log: Lines;
let folder: string;
let issuer: IssuerServer;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  issuer = new IssuerServer();
  await issuer.open();
  issuer.serves(await jwks(KEY));
  writeFileSync(join(folder, 'revoked'), '');
  writeFileSync(join(folder, 'secret'), 'our secret');
  [relayed, seen, log] = [[], [], new Lines()];
  backend = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: names => names.has('chat') && 'chat' });
  backend.on('connection', (_, request) => relayed.push(request));
  await new Promise(resolve => backend.on('listening', resolve));
});
afterEach(async () => {
  await server?.close();
  for (const client of backend.clients) client.terminate();
  backend.close();
  await issuer.close();
  rmSync(folder, { recursive: true });
});

async function start(auth: NonNullable<Config['auth']>, ...routes: RouteConfig[]): Promise<void> {
  const names = Object.keys(auth);
  const endpoint = (path: string, subprotocols: string[]) =>
    defineEndpoint({
      path,
      subprotocols,
      origins: 'any',
      accept(handshake) {
        seen.push(handshake);
        return true;
      },
    });
  server = await WiredServer.start(
    {
      auth,
      session: 'login' in auth ? {} : false,
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [
        { path: '/who', fetch: (_request, { user }) => Response.json(user ?? null), policy: { auth: names } },
        { endpoint: endpoint('/endpoint', ['chat']), policy: { auth: names } },
        { endpoint: endpoint('/bare', []), policy: { auth: names } },
        { path: '/relay', upstream: 'app', policy: { ...SAFE, auth: names } },
        { endpoint: endpoint('/open', ['bearer.x', 'chat']) },
        ...routes,
      ],
    },
    log,
  );
}

const jwt = (changes = {}): NonNullable<Config['auth']> => ({
  api: { type: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwksUri: issuer.url, rolesClaim: 'roles', ...changes },
});
const token = (changes = {}) => sign(KEY, claimsAt(Date.now(), { roles: ['user'], ...changes }));

interface Opened {
  readonly socket: WebSocket;
  readonly closed: Promise<[number, string]>;
}

/** Rejects with the status of a refusal. */
function open(path: string, subprotocols: string[], headers: Record<string, string> = {}): Promise<Opened> {
  const socket = new WebSocket(`${server.url('http/1').replace('http', 'ws')}${path}`, subprotocols, { headers });
  const closed = new Promise<[number, string]>(resolve =>
    socket.on('close', (code, reason) => resolve([code, reason.toString()])),
  );
  return new Promise((resolve, reject) => {
    socket.on('open', () => resolve({ socket, closed })).on('error', reject);
    socket.on('unexpected-response', (_, answer) => {
      let body = '';
      answer.on('data', chunk => (body += chunk)).on('end', () => reject(`${answer.statusCode} ${body}`));
    });
  });
}

test.each(wires)('over %s a token gives its user, and the challenge says what is wrong with one', async wire => {
  await start(jwt({ realm: 'The API' }));
  const get = (text?: string) => ask(server, wire, { path: '/who', headers: text ? { Authorization: text } : {} });
  expect(JSON.parse((await get(`Bearer ${await token()}`)).body)).toMatchObject({ name: 'alice', roles: ['user'] });
  const nothing = await get();
  expect([nothing.status, nothing.headers['www-authenticate']]).toEqual([401, 'Bearer realm="The API"']);
  const expired = await get(`Bearer ${await token({ exp: 1 })}`);
  expect([expired.status, expired.headers['www-authenticate']]).toEqual([
    401,
    'Bearer realm="The API", error="invalid_token", error_description="The token cannot be used: it has expired"',
  ]);
  const twice = await get('Bearer a b');
  expect([twice.status, twice.headers['www-authenticate']]).toMatchObject([400, /error="invalid_request"/]);
});

test('an issuer whose keys cannot be fetched is 503 with Retry-After, also beside a login that sessions keep', async () => {
  issuer.answer = (_, response) => response.destroy();
  await start({ ...jwt(), login: { type: 'session' } });
  const { status, headers } = await ask(server, 'http/1', {
    path: '/who',
    headers: { Authorization: `Bearer ${await token()}` },
  });
  expect([status, headers['retry-after']]).toEqual([503, '5']);
});

describe.each(wires)('over %s, beside a login that sessions keep', wire => {
  const signIn: RouteConfig = {
    path: '/in',
    methods: ['POST'],
    fetch: async request => {
      await server.server.sessions.signIn(request, { name: 'bob', roles: [] });
      return new Response('in');
    },
  };
  const get = async (headers: Record<string, string>) => {
    const { status, headers: answer, body } = await ask(server, wire, { path: '/who', headers });
    return { status, challenge: answer['www-authenticate'], location: answer.location, body };
  };
  const EXPIRED = /^Bearer realm="api", error="invalid_token", .*it has expired/;

  test('an expired token without a session is told to be expired, by requests and by handshakes', async () => {
    await start({ ...jwt(), login: { type: 'session' } }, signIn);
    const Authorization = `Bearer ${await token({ exp: 1 })}`;
    expect(await get({ Authorization })).toMatchObject({ status: 401, challenge: expect.stringMatching(EXPIRED) });
    expect(await get({})).toMatchObject({ status: 401, challenge: 'Bearer realm="api", Session realm="login"' });
    const { status, headers } = await knock(server, wire, { path: '/endpoint', headers: { Authorization } });
    expect([status, headers['www-authenticate']]).toEqual([401, expect.stringMatching(EXPIRED)]);
    // A session that nobody has signed in to knows as little.
    const Cookie = 'holdfast=x';
    expect(await get({ Authorization, Cookie })).toMatchObject({
      status: 401,
      challenge: expect.stringMatching(EXPIRED),
    });
  });

  test('with a session its user counts, and a person without one is led to the page to sign in on', async () => {
    await start({ ...jwt({ cookie: 'token' }), login: { type: 'session', loginPage: '/sign-in' } }, signIn);
    const { headers } = await ask(server, wire, { method: 'POST', path: '/in' });
    const session = headers['set-cookie']!.split(';')[0]!;
    const expired = `token=${await token({ exp: 1 })}`;
    expect(JSON.parse((await get({ Cookie: `${session}; ${expired}` })).body)).toMatchObject({ name: 'bob' });
    const person = { 'Sec-Fetch-Dest': 'document', 'Sec-Fetch-Mode': 'navigate' };
    expect(await get({ ...person, Cookie: expired })).toMatchObject({ status: 302, location: '/sign-in' });
  });
});

test('a token that a later scheme knows is no failed login, and one that none knows is one for each', async () => {
  const other = jwt({ issuer: 'https://other.example' }).api!;
  await start({ other, ...jwt() });
  const get = async (text: string) =>
    (await ask(server, 'http/1', { path: '/who', headers: { Authorization: `Bearer ${text}` } })).status;
  const failed = () => log.all.filter(({ fields }) => fields.event === 'login-failed').length;
  expect([await get(await token()), failed()]).toEqual([200, 0]);
  expect([await get(await token({ iss: 'https://third.example' })), failed()]).toEqual([401, 2]);
});

describe.each(['/endpoint', '/relay'])('a WebSocket of %s', path => {
  test('with a token as a subprotocol gets the real one that it offers, and the target sees no token', async () => {
    await start(jwt());
    const text = await token();
    const { socket } = await open(path, [`bearer.${text}`, 'chat']);
    expect(socket.protocol).toBe('chat');
    const headers = path === '/relay' ? relayed[0]!.headers : seen[0]!.headers;
    expect(headers['sec-websocket-protocol']).toBe('chat');
    expect(JSON.stringify(headers)).not.toContain(text.slice(0, 20));
    if (path === '/relay') expect(headers['x-forwarded-user']).toBe('alice');
    else expect([seen[0]!.user?.name, seen[0]!.subprotocols]).toEqual(['alice', ['chat']]);
    expect(JSON.stringify(log.all)).not.toContain(text.slice(0, 20));
    socket.terminate();
  });

  test('with a token in Authorization gets in, and the target sees no token', async () => {
    await start(jwt());
    const { socket } = await open(path, [], { Authorization: `Bearer ${await token()}` });
    const headers = path === '/relay' ? relayed[0]!.headers : seen[0]!.headers;
    expect([headers.authorization, socket.protocol]).toEqual([undefined, '']);
    socket.terminate();
  });

  test('with nothing but a token as a subprotocol gets 400, and is told what to offer', async () => {
    await start(jwt());
    await expect(open(path, [`bearer.${await token()}`])).rejects.toMatch(/^400 .*offer .*"holdfast.bearer"/);
    await expect(open(path, ['bearer.', 'chat'])).rejects.toMatch(/^400 /);
    await expect(open(path, ['bearer.abc', 'chat'])).rejects.toMatch(/^401 /);
    await expect(open(path, ['chat'])).rejects.toMatch(/^401 /);
    expect([relayed, seen]).toEqual([[], []]);
  });

  test('closes within a second of its token being revoked, and no other', async () => {
    await start(jwt({ revokedFile: join(folder, 'revoked') }));
    const one = await open(path, ['chat', `bearer.${await token()}`]);
    const two = await open(path, ['chat', `bearer.${await token({ jti: 'token-2' })}`]);
    const startedAt = performance.now();
    writeFileSync(join(folder, 'revoked'), 'token-1\n');
    expect((await one.closed)[0]).toBe(1008);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    expect(two.socket.readyState).toBe(WebSocket.OPEN);
    two.socket.terminate();
  });

  test('closes when its token and the skew are over', async () => {
    await start(jwt({ clockSkew: 0 }));
    // At least a second from now, whatever the machine does besides.
    const exp = Math.floor(Date.now() / 1_000) + 2;
    const { closed } = await open(path, ['chat', `bearer.${await token({ exp })}`]);
    expect((await closed)[0]).toBe(1008);
    expect(Date.now()).toBeGreaterThanOrEqual(exp * 1_000);
  });

  test('closes at the next check when its issuer says that the token is not active any more', async () => {
    issuer.serves({ active: true, token_type: 'Bearer', sub: 'alice' });
    const clientSecretFile = join(folder, 'secret');
    await start({
      opaque: { type: 'introspection', endpoint: issuer.url, clientId: 'us', clientSecretFile, recheck: '200ms' },
    });
    const { closed } = await open(path, ['chat', 'bearer.opaque-token']);
    issuer.serves({ active: false });
    expect((await closed)[0]).toBe(1008);
    await expect(open(path, ['chat', 'bearer.opaque-token'])).rejects.toMatch(/^401 /);
  });
});

test.each(['/bare', '/relay'])('where %s has no subprotocol, holdfast.bearer is selected by us', async path => {
  await start(jwt());
  const { socket } = await open(path, [`bearer.${await token()}`, 'holdfast.bearer']);
  expect(socket.protocol).toBe('holdfast.bearer');
  const headers = path === '/relay' ? relayed[0]!.headers : seen[0]!.headers;
  expect(headers['sec-websocket-protocol']).toBeUndefined();
  socket.terminate();
});

test('beside a real subprotocol that the target selects, holdfast.bearer is not selected', async () => {
  await start(jwt());
  for (const path of ['/endpoint', '/relay']) {
    const { socket } = await open(path, ['holdfast.bearer', `bearer.${await token()}`, 'chat']);
    expect(socket.protocol).toBe('chat');
    socket.terminate();
  }
});

test('where no scheme looks for tokens, subprotocols are those of the application', async () => {
  await start(jwt());
  const { socket } = await open('/open', ['bearer.x']);
  expect([socket.protocol, seen[0]!.subprotocols]).toEqual(['bearer.x', ['bearer.x']]);
  socket.terminate();
});

test('passCredentials gives the backend the header, and never a subprotocol', async () => {
  await start(jwt({ passCredentials: true }));
  const text = await token();
  const one = await open('/relay', [], { Authorization: `Bearer ${text}` });
  const two = await open('/relay', [`bearer.${text}`, 'chat']);
  expect(relayed.map(({ headers }) => [headers.authorization, headers['sec-websocket-protocol']])).toEqual([
    [`Bearer ${text}`, undefined],
    [undefined, 'chat'],
  ]);
  one.socket.terminate();
  two.socket.terminate();
});

test('check says of keys, secrets, group files and styles what a start would say', async () => {
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const needed = { type: 'jwt', issuer: ISSUER, audience: AUDIENCE } as const;
  const asker = { type: 'introspection', endpoint: issuer.url, clientId: 'us' } as const;
  const good = { ...needed, jwksFile: write('jwks', JSON.stringify(await jwks(KEY))) };
  const pinned = { ...good, algorithms: ['RS256', 'ES256'] };
  expect(
    await checkSchemeFiles({ auth: { good, uri: { ...needed, jwksUri: 'http://127.0.0.1:1/' }, pinned } }),
  ).toEqual([]);
  const broken: [string, NonNullable<Config['auth']>[string]][] = [
    ['secretFile', { ...needed, secretFile: write('short', 'short') }],
    ['jwksFile', { ...needed, jwksFile: write('page', '<html>') }],
    ['publicKeyFile', { ...needed, publicKeyFile: write('text', 'text') }],
    ['jwksFile', { ...good, algorithms: ['RS256', 'EdDSA'] }],
    [
      'publicKeyFile',
      {
        ...needed,
        algorithms: ['ES384'],
        publicKeyFile: write('p256.pem', KEY.publicKey.export({ type: 'spki', format: 'pem' }) as string),
      },
    ],
    ['clientSecretFile', { ...asker, clientSecretFile: write('empty', '\n') }],
    ['groups', { ...good, groups: write('groups', 'staff: alice\nbob carol\n') }],
    ['page.style', { type: 'form', file: write('users', ''), page: { style: write('style.css', '</style>') } }],
  ];
  for (const [option, scheme] of broken) {
    const [fault, ...others] = await checkSchemeFiles({ auth: { x: scheme } });
    expect([fault?.path, others]).toEqual([['auth', 'x', ...option.split('.')], []]);
    const start = WiredServer.start({ auth: { x: scheme }, routes: [{ path: '/', fetch: () => new Response() }] });
    await expect(start).rejects.toThrow(fault!.message);
  }
  // That one is not there is said once, by the check of files.
  expect(await checkSchemeFiles({ auth: { x: { ...needed, jwksFile: join(folder, 'missing') } } })).toEqual([]);
});
