import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Holdfast, runHoldfast } from '../cli/run-holdfast.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';

// Whatever ends `holdfast serve` with 1 is found by `holdfast check`. Each row: a configuration that no start takes, and
// the path at which `check` says so.

let folder: string;
const inFolder = (name: string) => join(folder, name);
const write = (name: string, content: string | Buffer) => writeFileSync(inFolder(name), content);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-check-and-serve-'));
  const [pair, other] = ['localhost', 'other'].map(name => createCertificate({ name }));
  write('good.crt', pair!.certificate);
  write('good.key', pair!.key);
  write('other.key', other!.key);
  write('garbage.pem', 'this is no certificate\n');
  write('empty.pem', '');
  write('clients.crt', createAuthority('clients').certificate);
  write('der.crt', derOf(pair!.certificate));
  const openssl = (args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  openssl(['pkey', '-in', 'good.key', '-aes256', '-passout', 'pass:secret', '-out', 'encrypted.key']);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  write('rsa.pem', privateKey.export({ type: 'pkcs8', format: 'pem' }));
  write('short', 'short');
  write('token', 'a'.repeat(40));
  write('file', 'a file');
  write('users', 'alice:$2y$10$WqLxoZYwJfTkXn6FJJ4GQ.yJmJ6e1g1Q3m2c5dZ0h8bV7u4n3p2lC\n');
  mkdirSync(inFolder('read-only'));
  chmodSync(inFolder('read-only'), 0o500);
  mkdirSync(inFolder('tokens/keys/admin.token'), { recursive: true });
  mkdirSync(inFolder('spoiled/keys'), { recursive: true });
  write('spoiled/keys/session.key', 'spoiled');
  const product = new URL('../../src/index.ts', import.meta.url).href;
  write('throws.ts', 'throw new Error("no prices");\n');
  write(
    'twice.ts',
    `import { defineEndpoint } from '${product}';\nexport const a = defineEndpoint({ path: '/twice' });\n`,
  );
});
afterAll(() => {
  chmodSync(inFolder('read-only'), 0o700);
  rmSync(folder, { recursive: true });
});

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
}

const tls = (options: string) => `listen: [{ port: 0, host: localhost, hosts: [localhost], tls: { ${options} } }]`;
const OWN_TLS = 'certificate: good.crt, key: good.key';
const APP = (options: string) =>
  `upstreams: { app: { servers: [https://localhost:1], ${options} } }\nroutes: [{ path: /*, upstream: app }]`;
const AUTH = (options: string) => `auth: { staff: { ${options} } }\nroutes: [{ path: /a, redirect: /b }]`;
const API = (options: string) =>
  `internal: { port: 0 }\nupstreams: { app: { servers: [http://localhost:1], sessionApi: ${options} } }\nroutes: [{ path: /*, upstream: app }]`;
const isRoot = process.getuid?.() === 0;

const rows: [what: string, path: string, yaml: string, message?: RegExp][] = [
  ['a certificate that is garbage', 'listen[0].tls.certificate', tls('certificate: garbage.pem, key: good.key')],
  ['a certificate that is empty', 'listen[0].tls.certificate', tls('certificate: empty.pem, key: good.key')],
  ['a certificate in DER', 'listen[0].tls.certificate', tls('certificate: der.crt, key: good.key'), /openssl x509/],
  ['a certificate that is missing', 'listen[0].tls.certificate', tls('certificate: none, key: good.key')],
  ['a certificate that is a folder', 'listen[0].tls.certificate', tls('certificate: read-only, key: good.key')],
  ['a key that is garbage', 'listen[0].tls.key', tls('certificate: good.crt, key: garbage.pem'), /PRIVATE KEY/],
  ['a key that is encrypted', 'listen[0].tls.key', tls('certificate: good.crt, key: encrypted.key'), /openssl pkey/],
  ['a key of another certificate', 'listen[0].tls.key', tls('certificate: good.crt, key: other.key')],
  [
    'a second pair that is garbage',
    'listen[0].tls.certificates[0].key',
    tls(`${OWN_TLS}, certificates: [{ certificate: good.crt, key: garbage.pem }]`),
  ],
  [
    'authorities that are garbage',
    'listen[0].tls.clientCertificates.ca',
    tls(`${OWN_TLS}, clientCertificates: { ca: garbage.pem }`),
  ],
  [
    'a revocation list that is garbage',
    'listen[0].tls.clientCertificates.crl',
    tls(`${OWN_TLS}, clientCertificates: { ca: clients.crt, crl: garbage.pem }`),
  ],
  [
    'a key of the internal listener that is encrypted',
    'internal.tls.key',
    `${API('true').replace('port: 0', 'port: 0, tls: { certificate: good.crt, key: encrypted.key }')}`,
  ],
  ['authorities of an upstream that are garbage', 'upstreams.app.tls.ca', APP('tls: { ca: garbage.pem }')],
  ['authorities of an upstream that are a key', 'upstreams.app.tls.ca', APP('tls: { ca: good.key }')],
  [
    'a certificate for an upstream with the key of another',
    'upstreams.app.tls.key',
    APP('tls: { certificate: good.crt, key: other.key }'),
  ],
  [
    'a key of assertions that is not one',
    'assertions.keyFiles[0]',
    `assertions: { keyFiles: [rsa.pem] }\n${APP('assertion: true')}`,
    /P-256.*openssl genpkey/,
  ],
  ['a key of sessions that is short', 'session.keyFiles[0]', 'session: { keyFiles: [short] }'],
  ['a generated key that is spoiled', 'dataFolder', 'dataFolder: spoiled', /does not hold a key/],
  ['a token of a backend that is short', 'upstreams.app.sessionApi.tokenFile', API('{ tokenFile: short }')],
  [
    'a token of a backend in a variable that is not set',
    'upstreams.app.sessionApi.tokenVariable',
    API('{ tokenVariable: HOLDFAST_NOT_SET }'),
    /HOLDFAST_NOT_SET is not set/,
  ],
  [
    'one token for two backends',
    'upstreams.b.sessionApi.tokenFile',
    API('{ tokenFile: token } }, b: { servers: [http://localhost:2], sessionApi: { tokenFile: token }').replace(
      'upstream: app }',
      'upstream: app }, { path: /b, upstream: b }',
    ),
  ],
  [
    'a secret of OpenID Connect in a variable that is not set',
    'auth.staff.clientSecretVariable',
    AUTH('type: oidc, issuer: https://localhost:1, clientId: a, clientSecretVariable: HOLDFAST_NOT_SET'),
    /HOLDFAST_NOT_SET is not set/,
  ],
  [
    'a secret of OpenID Connect that is empty',
    'auth.staff.clientSecretFile',
    AUTH('type: oidc, issuer: https://localhost:1, clientId: a, clientSecretFile: empty.pem'),
  ],
  [
    'a public key that is garbage',
    'auth.staff.publicKeyFile',
    AUTH('type: jwt, issuer: a, audience: b, publicKeyFile: garbage.pem'),
  ],
  [
    'a set of keys that is garbage',
    'auth.staff.jwksFile',
    AUTH('type: jwt, issuer: a, audience: b, jwksFile: garbage.pem'),
  ],
  [
    'a secret of tokens that is short',
    'auth.staff.secretFile',
    AUTH('type: jwt, issuer: a, audience: b, secretFile: short'),
  ],
  ['a password file without hashes', 'auth.staff.file', AUTH('type: basic, realm: a, file: garbage.pem')],
  ['groups without names', 'auth.staff.groups', AUTH('type: basic, realm: a, file: users, groups: garbage.pem')],
  ['a folder for lmdb that is a file', 'session.store', 'session: { store: lmdb:file }', /is not a folder/],
  ['a folder for lmdb below a file', 'session.store', 'session: { store: lmdb:file/sessions }', /is not a folder/],
  ['a data folder that is a file', 'dataFolder', 'dataFolder: file', /is not a folder/],
  ['a token of administrators that is short', 'admin.tokenFile', 'admin: { port: 0, tokenFile: short }'],
  [
    'a key of the admin port that is encrypted',
    'admin.tls.key',
    'admin: { port: 0, tls: { certificate: good.crt, key: encrypted.key } }',
  ],
  ['an admin socket below a file', 'admin.socket', 'admin: { socket: file/admin.sock }', /is not a folder/],
  ['a socket to listen on in a folder that is missing', 'listen[0].socket', 'listen: [{ socket: none/web.sock }]'],
  ['a socket to listen on at a file', 'listen[0].socket', 'listen: [{ socket: file }]', /is not a socket/],
  [
    'a socket to listen on whose whole path is too long',
    'listen[0].socket',
    `listen: [{ socket: ${'a'.repeat(100)} }]`,
    /107 at most/,
  ],
  ['an admin socket at a file', 'admin.socket', 'admin: { socket: file }', /is not a socket/],
  ['a token of administrators that is a folder', 'dataFolder', 'dataFolder: tokens\nadmin: { port: 0 }', /cannot read/],
  ['a folder of files that is missing', 'routes[0].files', 'routes: [{ path: /*, files: none }]'],
  ['a log in a folder that is missing', 'log.security.file', 'log: { security: { file: none/security.log } }'],
  ['endpoints that no module matches', 'endpoints', 'endpoints: [none-*.ts]'],
  ['a module of endpoints that throws', 'endpoints', 'endpoints: [throws.ts]'],
  [
    'an endpoint at the path of a route',
    '',
    'endpoints: [twice.ts]\nroutes: [{ path: /twice, redirect: /b }]',
    /match the same requests/,
  ],
  ...(isRoot
    ? []
    : ([
        ['a folder for lmdb that may not be written', 'session.store', 'session: { store: lmdb:read-only/sessions }'],
        ['a data folder that may not be written', 'dataFolder', 'dataFolder: read-only'],
      ] as [string, string, string][])),
  ['an address of another machine', 'listen[0].host', 'listen: [{ port: 0, host: 192.0.2.1 }]'],
];

describe('what ends serve is found by check', () => {
  test.each(rows)('%s', async (what, path, yaml, message = /./) => {
    const name = `${what.replaceAll(' ', '-')}.yaml`;
    const listens = yaml.includes('listen:') ? '' : 'listen: [{ port: 0, host: localhost, hosts: [localhost] }]\n';
    const routes = yaml.includes('routes:') ? '' : '\nroutes: [{ path: /x, redirect: /b }]';
    const store = /session:|dataFolder:/.test(yaml) ? '' : `\ndataFolder: data-${what.replaceAll(' ', '-')}`;
    write(name, `${listens}${yaml}${routes}${store}\n`);
    const [checked, served] = await Promise.all([
      runHoldfast(['check', '--strict', '--json', '--config', name], { cwd: folder }),
      startAndStop(name),
    ]);
    expect(served).toEqual({ code: 1, stderr: expect.not.stringMatching(/^\s+at .*:\d+:\d+\)?$/m) });
    expect(checked.code).toBe(1);
    const { errors, warnings } = JSON.parse(checked.stdout);
    const found = [...errors, ...warnings].find(problem => problem.path === path);
    expect(found?.message, checked.stdout).toMatch(message);
    // What another machine may have is a warning; all else is an error.
    expect(errors).toHaveLength(what === 'an address of another machine' ? 0 : 1);
  });
});

/** It ends by itself, or is stopped when it has started. */
async function startAndStop(name: string): Promise<{ code: number | string; stderr: string }> {
  const server = new Holdfast(['serve', '--config', name], { cwd: folder });
  await server.printed(/^listening on/m).then(
    () => server.kill('SIGTERM'),
    () => {},
  );
  return { code: await server.ended, stderr: server.stderr };
}

test('a port below 1024 without the right to it is a warning with what to do', async () => {
  if (isRoot || Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8')) <= 80) return;
  write('privileged.yaml', 'listen: [{ port: 80 }]\nroutes: [{ path: /a, redirect: /b }]\n');
  const { code, stdout } = await runHoldfast(['check', '--config', 'privileged.yaml'], { cwd: folder });
  expect([code, stdout]).toEqual([0, expect.stringMatching(/AmbientCapabilities.*\[privileged-port\]/)]);
});
