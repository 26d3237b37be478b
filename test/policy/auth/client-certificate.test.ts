import { FakeClock } from 'holdfast/testing';
import { describe, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import { ConfigError } from '../../../src/config/config-error.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatName, parseName, readAltNames, readName } from '../../../src/http/certificate-names.ts';
import type { ClientCertificate } from '../../../src/http/client-certificate.ts';
import { type ClientCertificateOptions, ClientCertificateScheme } from '../../../src/policy/auth/client-certificate.ts';
import { RoleSource, type RolesOptions } from '../../../src/policy/auth/roles.ts';
import type { Principal } from '../../../src/policy/auth/scheme.ts';
import { headWith } from '../head.ts';

const clock = new FakeClock();
const good: ClientCertificate = {
  subject: 'O=Example\\, Inc\nOU=Staff\nOU=Doctors\nCN=alice + emailAddress=a@example.com',
  issuer: 'O=Example\nCN=Clients CA',
  subjectAltName: 'DNS:alice.example, email:alice@example.com, URI:"spiffe://a/b,c", IP Address:127.0.0.1',
  serialNumber: '01',
  fingerprint256: 'AA:BB',
  validTo: clock.now() + 1_000,
};

function judge(
  options: ClientCertificateOptions,
  certificate: Partial<ClientCertificate> = {},
  roles: RolesOptions = {},
) {
  const roleSource = new RoleSource(roles, { scheme: 'certificate', clock, logger: silentLogger });
  const scheme = new ClientCertificateScheme(options, { name: 'certificate', roleSource, clock });
  const verdict = scheme.authenticate({ clientCertificate: { ...good, ...certificate } });
  return verdict.kind === 'authenticated'
    ? verdict.principal
    : verdict.kind === 'rejected'
      ? verdict.reason
      : verdict.kind;
}

test.each([
  [undefined, 'alice'],
  ['subject.emailAddress', 'a@example.com'],
  ['subject', 'CN=alice+emailAddress=a@example.com,OU=Doctors,OU=Staff,O=Example\\2C Inc'],
  ['san.email', 'alice@example.com'],
  ['san.dns', 'alice.example'],
  ['san.uri', 'spiffe://a/b,c'],
  ['fingerprint', 'AA:BB'],
] as const)('user: %s finds %s', (user, name) => {
  expect(judge(user ? { user } : {})).toMatchObject({ name, expiresAt: good.validTo, credential: 'AA:BB' });
});

test('a ticket that was got by a certificate needs a handshake that comes with it', () => {
  const roleSource = new RoleSource({}, { scheme: 'certificate', clock, logger: silentLogger });
  const scheme = new ClientCertificateScheme({}, { name: 'certificate', roleSource, clock });
  const principal = judge({}) as Principal;
  const recall = (clientCertificate?: ClientCertificate) =>
    scheme.recall(principal, undefined, headWith({ clientCertificate }));
  expect(recall(good)).toBe(principal);
  expect(recall({ ...good, fingerprint256: 'CC:DD' })).toBeUndefined();
  expect(recall()).toBeUndefined();
});

test('groups are organizational units where roles ask for them, and a name with blanks stays whole', () => {
  const roles = { rolesClaim: 'subject.OU', roles: { doctor: ['group:Doctors'], nurse: ['group:Nurses'] } };
  expect(judge({}, {}, roles)).toMatchObject({ roles: ['doctor'] });
  expect(judge({}, { subject: 'OU=Not Doctors\nCN=alice' }, roles)).toMatchObject({ roles: [] });
});

test.each([
  ['two common names', { subject: 'CN=alice\nCN=root' }, /has 2 of subject\.CN/],
  ['two in one RDN', { subject: 'CN=alice + CN=root' }, /has 2 of subject\.CN/],
  ['none', { subject: 'O=Example' }, /has no subject\.CN/],
  ['no subject at all', { subject: '' }, /has no subject\.CN/],
  ['an empty one', { subject: 'CN=' }, /is empty/],
  ['a NUL', { subject: 'CN=root\\00.evil.example' }, /control characters/],
  ['a line break', { subject: 'CN=alice\\0ACN=root' }, /control characters/],
  ['257 characters', { subject: `CN=${'a'.repeat(257)}` }, /longer than 256/],
  ['bytes that are not UTF-8', { subject: 'CN=\\FF' }, /cannot be read/],
  ['alternative names that cannot be read', { subjectAltName: 'DNS:"a' }, /cannot be read/],
  ['an end in the past', { validTo: clock.now() }, /is over/],
])('a certificate with %s names nobody', (_, certificate, reason) => {
  expect(judge({}, certificate)).toMatch(reason);
});

test('what looks like another attribute within a value is part of the value, also for patterns', () => {
  expect(judge({}, { subject: 'CN=alice\\, OU=Admins\\+CN=root' })).toMatchObject({ name: 'alice, OU=Admins+CN=root' });
  const roles = { roles: { admin: ['*,OU=Admins*', '*OU=Admins,*'] } };
  expect(judge({ user: 'subject' }, { subject: 'O=Example\nOU=Admins\nCN=bob' }, roles)).toMatchObject({
    roles: ['admin'],
  });
  expect(judge({ user: 'subject' }, { subject: 'O=Example\nCN=x\\,OU=Admins\\,y' }, roles)).toMatchObject({
    roles: [],
  });
});

test('of several issuers only those that are listed count, whatever blanks and escapes are written with', () => {
  expect(judge({ issuers: ['CN=Clients CA, O=Example'] })).toMatchObject({ name: 'alice' });
  expect(judge({ issuers: ['CN=Other CA,O=Example'] })).toMatch(
    /is of CN=Clients CA,O=Example, which is not in "issuers"/,
  );
  expect(judge({ issuers: ['CN=A\\, B'] }, { issuer: 'CN=A\\, B' })).toMatchObject({ name: 'alice' });
});

test('who shows none has shown nothing', () => {
  expect(judge({}, {})).toMatchObject({ name: 'alice' });
  const roleSource = new RoleSource({}, { scheme: 'c', clock, logger: silentLogger });
  const scheme = new ClientCertificateScheme({}, { name: 'c', roleSource, clock });
  expect(scheme.authenticate({ clientCertificate: undefined })).toEqual({ kind: 'absent' });
});

describe('names of certificates', () => {
  test('are the same after they were written and read', () => {
    for (const value of ['plain', 'a,b+c=d;e<f>g"h\\i#j', ' blank ', 'Zoë 学', '\0\n']) {
      const name = [[{ type: 'CN', value }], [{ type: 'O', value: 'x' }]];
      expect(parseName(formatName(name))).toEqual(name);
    }
  });

  test.each(['', 'alice', 'CN', '=x', 'CN=a\\', 'CN=a,,O=b'])('%j is none', text => {
    expect(parseName(text)).toBeUndefined();
  });

  test('are empty or unreadable, and nothing in between', () => {
    expect([readName(''), readName('x'), readAltNames(''), readAltNames('DNS')]).toEqual([
      [],
      undefined,
      [],
      undefined,
    ]);
  });
});

test.each([
  [{ user: 'cn' }, /not what names a user; write subject\.CN/],
  [{ issuers: ['Clients CA'] }, /not a name; write for example "CN=Clients CA,O=Example"/],
  [{}, /no listener requests certificates/],
])('a configuration with %j is refused', (options, message) => {
  const parse = () =>
    parseConfig({
      listen: [{ port: 1 }],
      auth: { c: { type: 'client-certificate', ...options } },
      routes: [],
    } as never);
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(message);
});
