import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createServer } from 'holdfast';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { forgeryIn, parseRevocationLists } from '../../src/http/revocation-list.ts';
import { Lines } from '../server/wires.ts';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'openssl-clients-'));
const openssl = (...args: string[]) => run('openssl', args, { cwd: folder });
const log = new Lines();
let server: ReturnType<typeof createServer>;

/** An authority below the root, and certificates of it, as an administrator makes them. */
beforeAll(async () => {
  const ca = (name: string) =>
    `[ca]\ndefault_ca = d\n[d]\ndatabase = ${name}.txt\nserial = ${name}.serial\ncrlnumber = ${name}.number\ndefault_md = sha256\ndefault_crl_days = 30\nunique_subject = no\n`;
  for (const name of ['root', 'clients']) {
    writeFileSync(join(folder, `${name}.cnf`), ca(name));
    writeFileSync(join(folder, `${name}.txt`), '');
    writeFileSync(join(folder, `${name}.number`), '01');
  }
  writeFileSync(join(folder, 'ca.ext'), 'basicConstraints = critical, CA:true\nkeyUsage = keyCertSign, cRLSign\n');
  writeFileSync(
    join(folder, 'client.ext'),
    'subjectAltName = email:alice@example.com\nextendedKeyUsage = clientAuth\n',
  );
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'root.key',
    '-out',
    'root.crt',
    '-subj',
    '/O=Example/CN=Root',
    '-days',
    '30',
  );
  const sign = async (name: string, subject: string, issuer: string, extensions: string[] = []) => {
    await openssl('req', ...key, '-utf8', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject);
    const from = ['-CA', `${issuer}.crt`, '-CAkey', `${issuer}.key`, '-CAcreateserial'];
    await openssl('x509', '-req', '-in', `${name}.csr`, ...from, '-out', `${name}.crt`, '-days', '5', ...extensions);
  };
  await sign('clients', '/O=Example/CN=Clients CA', 'root', ['-extfile', 'ca.ext']);
  await sign('alice', '/O=Example, Inc/OU=Staff/CN=Zoë "A" = b', 'clients', ['-extfile', 'client.ext']);
  await sign('two', '/CN=alice/CN=root', 'clients');
  await sign('server', '/CN=localhost', 'root');
  writeFileSync(
    join(folder, 'authorities.pem'),
    readFileSync(join(folder, 'root.crt'), 'utf8') + readFileSync(join(folder, 'clients.crt'), 'utf8'),
  );
  for (const name of ['root', 'clients']) await writeList(name);
  server = createServer(
    {
      listen: [
        {
          port: 0,
          host: '127.0.0.1',
          tls: {
            certificate: join(folder, 'server.crt'),
            key: join(folder, 'server.key'),
            clientCertificates: {
              ca: join(folder, 'authorities.pem'),
              crl: [join(folder, 'root.crl'), join(folder, 'clients.crl')],
            },
          },
        },
      ],
      session: false,
      auth: {
        name: { type: 'client-certificate', issuers: ['CN=Clients CA,O=Example'] },
        email: { type: 'client-certificate', user: 'san.email' },
      },
      routes: [
        { path: '/name', fetch: (_, { user }) => new Response(user?.name), policy: { auth: 'name' } },
        { path: '/email', fetch: (_, { user }) => new Response(user?.name), policy: { auth: 'email' } },
      ],
    },
    { logger: log },
  );
  await server.start();
}, 30_000);
afterAll(async () => {
  await server?.stop({ drain: 0 });
  rmSync(folder, { recursive: true });
});

const authority = (name: string) => ['ca', '-config', `${name}.cnf`, '-cert', `${name}.crt`, '-keyfile', `${name}.key`];
const writeList = (name: string) => openssl(...authority(name), '-gencrl', '-out', `${name}.crl`);

async function curl(path: string, name: string | undefined, ...more: string[]): Promise<string> {
  const shown = name === undefined ? [] : ['--cert', `${name}.crt`, '--key', `${name}.key`];
  const args = ['-sk', '-w', ' %{http_code}', ...shown, ...more, `${server.urls[0]}${path}`];
  return (await run('curl', args, { cwd: folder }).catch(error => ({ stdout: `exit ${error.code}` }))).stdout;
}

test('curl with certificates of openssl: users by name and address, and nobody by two names', async () => {
  expect(await curl('/name', 'alice')).toBe('Zoë "A" = b 200');
  expect(await curl('/email', 'alice', '--http1.1', '--tls-max', '1.2')).toBe('alice@example.com 200');
  expect(await curl('/name', 'two')).toMatch(/401$/);
  expect(await curl('/name', undefined)).toMatch(/^exit /);
  expect(log.all.filter(({ fields }) => fields.event === 'login-failed')).toMatchObject([
    { message: expect.stringContaining('has 2 of subject.CN') },
  ]);
});

test('a certificate that openssl has revoked, and one of an authority that was, come in no more', async () => {
  await openssl(...authority('clients'), '-revoke', 'two.crt');
  await writeList('clients');
  await vi.waitFor(async () => expect(await curl('/name', 'two')).toMatch(/^exit /), {
    timeout: 10_000,
    interval: 100,
  });
  expect(await curl('/name', 'alice')).toBe('Zoë "A" = b 200');
  await openssl(...authority('root'), '-revoke', 'clients.crt');
  await writeList('root');
  await vi.waitFor(async () => expect(await curl('/name', 'alice')).toMatch(/^exit /), {
    timeout: 10_000,
    interval: 100,
  });
  const refused = log.all.filter(({ fields }) => fields.event === 'client-certificate-refused');
  expect(refused.at(-1)!.fields).toMatchObject({
    failure: 'CERT_REVOKED',
    subject: expect.stringContaining('OU=Staff'),
  });
}, 30_000);

test.each([
  ['RSA', ['rsa:2048'], 'sha256', []],
  ['RSA-PSS', ['rsa:2048'], 'sha512', ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:20']],
  ['RSA-PSS, by a key for nothing else', ['rsa-pss', '-pkeyopt', 'rsa_keygen_bits:2048'], 'sha256', []],
  ['RSA with SHA-1', ['rsa:2048'], 'sha1', []],
  ['RSA with SHA-3', ['rsa:2048'], 'sha3-256', []],
  ['ECDSA with SHA-384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], 'sha384', []],
  ['Ed25519', ['ed25519'], 'default', []],
])('a list that openssl has signed by %s is known for one of its authority', async (_, key, md, options) => {
  writeFileSync(
    join(folder, 'signer.cnf'),
    '[ca]\ndefault_ca = d\n[d]\ndatabase = signer.txt\ndefault_crl_days = 30\n',
  );
  writeFileSync(join(folder, 'signer.txt'), '');
  const files = ['-keyout', 'signer.key', '-out', 'signer.crt'];
  await openssl('req', '-x509', '-newkey', ...key, '-nodes', ...files, '-subj', '/CN=Signer');
  await openssl(...authority('signer'), '-gencrl', '-md', md, ...options, '-out', 'signer.crl');
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  const [found] = parseRevocationLists(read('signer.crl'));
  expect(forgeryIn(found!.list, read('signer.crt'))).toBe(undefined);
  expect(
    forgeryIn({ ...found!.list, seal: { ...found!.list.seal, signed: Buffer.from('x') } }, read('signer.crt')),
  ).toBe('the list of "CN=Signer" is not signed by the authority of this name in "ca"; fetch it anew');
});
