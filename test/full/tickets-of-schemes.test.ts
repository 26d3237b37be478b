import { hash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { defineEndpoint } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import type { Config } from '../../src/config/config.ts';
import { AUDIENCE, claimsAt, ISSUER, IssuerServer, jwks, sign, signingKey } from '../policy/auth/issuer.ts';
import { ask, Lines, WiredServer } from '../server/wires.ts';
import { until } from '../services/until.ts';

const KEY = signingKey('ES256');
const ALICE = `Basic ${btoa('alice:open sesame')}`;

let folder: string;
let issuer: IssuerServer;
let service: http.Server;
/** What `service` answers. */
let isLetIn: boolean;
/** Two of them, with one store. */
let servers: WiredServer[];
let log: Lines;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tickets-'));
  writeUsers('open sesame');
  writeFileSync(join(folder, 'secret'), 'our secret');
  writeFileSync(join(folder, 'revoked'), '');
  writeFileSync(join(folder, 'keys.json'), JSON.stringify(await jwks(KEY)));
  issuer = new IssuerServer();
  await issuer.open();
  issuer.serves({ active: true, token_type: 'Bearer', sub: 'alice' });
  isLetIn = true;
  service = http.createServer((_, response) =>
    response.writeHead(isLetIn ? 200 : 401, { 'Remote-User': 'alice' }).end(),
  );
  service.listen(0, '127.0.0.1');
  await once(service, 'listening');
  log = new Lines();
  servers = [await start(), await start()];
});
afterEach(async () => {
  for (const server of servers) await server.close();
  await issuer.close();
  service.closeAllConnections();
  service.close();
  rmSync(folder, { recursive: true, force: true });
});

function writeUsers(password: string): void {
  writeFileSync(join(folder, 'users'), `alice:{SHA}${hash('sha1', password, 'base64')}\n`);
}

function start(): Promise<WiredServer> {
  const at = (name: string) => join(folder, name);
  const auth = {
    basic: { type: 'basic', file: at('users') },
    jwt: {
      ...{ type: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwksFile: at('keys.json') },
      revokedFile: at('revoked'),
    },
    introspection: { type: 'introspection', endpoint: issuer.url, clientId: 'us', clientSecretFile: at('secret') },
    forward: {
      type: 'forward',
      url: `http://127.0.0.1:${(service.address() as AddressInfo).port}/`,
      recheck: '30s',
    },
  } satisfies Config['auth'];
  const routes = Object.keys(auth).map(name => ({
    endpoint: defineEndpoint({ path: `/${name}`, accept: ({ user }) => ({ data: user?.name }) }),
    policy: { auth: name, origins: 'any' as const, tickets: true },
  }));
  return WiredServer.start({ session: { store: `lmdb:${at('sessions')}` }, auth, routes }, log);
}

const credentials: Record<string, () => Promise<string>> = {
  basic: async () => ALICE,
  jwt: () => sign(KEY, claimsAt(Date.now())).then(token => `Bearer ${token}`),
  introspection: async () => 'Bearer opaque',
  forward: async () => 'Whatever',
};
const schemes = Object.keys(credentials);

async function ticketFor(scheme: string): Promise<string> {
  const headers = { Authorization: await credentials[scheme]!() };
  const { body } = await ask(servers[0]!, 'http/1', { method: 'POST', path: `/${scheme}/ticket`, headers });
  return JSON.parse(body).ticket as string;
}

/** The status of its handshake, or the socket. */
async function open(server: WiredServer, path: string): Promise<number | WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port('http/1')}${path}`);
  socket.on('error', () => {});
  const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode as number);
  return Promise.race([refused, once(socket, 'open').then(() => socket)]);
}

describe.each(schemes)('a ticket for a user of the scheme %s', scheme => {
  test('opens a WebSocket that stays open, in the process that gave it and in another', async () => {
    for (const server of servers) {
      const socket = await open(server, `/${scheme}?ticket=${await ticketFor(scheme)}`);
      if (typeof socket === 'number') throw new Error(`refused with ${socket}`);
      await wait(50);
      expect(socket.readyState).toBe(WebSocket.OPEN);
      socket.terminate();
    }
  });
});

const changes: [string, () => void, string][] = [
  ['basic', () => writeUsers('another'), 'password-file'],
  ['jwt', () => writeFileSync(join(folder, 'revoked'), `${claimsAt(0).jti}\n`), 'revokedFile'],
];

test.each(changes)(
  'a ticket of the scheme %s opens nothing when its user was changed meanwhile',
  async (scheme, change) => {
    const ticket = await ticketFor(scheme);
    const seen = () => log.all.filter(({ fields }) => fields.event === 'file-changed').length;
    change();
    await until(() => seen() === servers.length);
    expect(await open(servers[1]!, `/${scheme}?ticket=${ticket}`)).toBe(401);
    expect(log.all.filter(({ fields }) => fields.event === 'login-failed')).toEqual([]);
  },
);

test('a ticket for a token that was revoked meanwhile opens nothing, and one whose issuer is silent is 503', async () => {
  const [revoked, unknown] = [await ticketFor('introspection'), await ticketFor('introspection')];
  issuer.serves({ active: false });
  expect(await open(servers[1]!, `/introspection?ticket=${revoked}`)).toBe(401);
  issuer.answer = (_, response) => response.writeHead(500).end();
  await wait(1_000);
  expect(await open(servers[1]!, `/introspection?ticket=${unknown}`)).toBe(503);
});

test('a ticket for a user whom the service does not let in any more opens nothing', async () => {
  const ticket = await ticketFor('forward');
  isLetIn = false;
  expect(await open(servers[1]!, `/forward?ticket=${ticket}`)).toBe(401);
});
