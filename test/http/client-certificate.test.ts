import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { clientCertificateOf } from '../../src/http/client-certificate.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';

const authority = createAuthority('Test Authority');

async function accepted(client: { cert?: string; key?: string }, requestCert = true): Promise<TLSSocket> {
  const { certificate: cert, key } = createCertificate({ name: 'localhost' });
  const server = createServer({ cert, key, ca: authority.certificate, requestCert, rejectUnauthorized: false });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...client });
  socket.on('error', () => {});
  const [own] = (await once(server, 'secureConnection')) as [TLSSocket];
  own.on('close', () => server.close());
  own.on('error', () => {});
  return own;
}

const alice = (issuer = authority) => {
  const validTo = Date.UTC(2030, 0, 1);
  const of = { name: 'alice', hosts: ['alice.example'], validTo };
  const { certificate, key } = createCertificate({ ...of, authority: issuer });
  return { cert: certificate, key };
};

test('a good certificate is known by its names, its number and its print, and is read once', async () => {
  const socket = await accepted(alice());
  const certificate = clientCertificateOf(socket);
  expect(certificate).toEqual({
    subject: 'CN=alice',
    issuer: 'CN=Test Authority',
    subjectAltName: 'DNS:alice.example, IP Address:127.0.0.1',
    serialNumber: expect.stringMatching(/^[\dA-F]+$/),
    fingerprint256: expect.stringMatching(/^([\dA-F]{2}:){31}[\dA-F]{2}$/),
    validTo: Date.UTC(2030, 0, 1),
  });
  expect(clientCertificateOf(socket)).toBe(certificate);
  socket.destroy();
});

test.each([
  ['no certificate', () => ({}), true],
  ['one of another authority of the same name', () => alice(createAuthority('Test Authority')), true],
  [
    'one signed with itself',
    () => {
      const { certificate: cert, key } = createCertificate({ name: 'alice' });
      return { cert, key };
    },
    true,
  ],
  ['one that nobody asked for', () => alice(), false],
])('%s counts as none', async (_, client, requestCert) => {
  const socket = await accepted(client(), requestCert);
  expect(clientCertificateOf(socket)).toBeUndefined();
  socket.destroy();
});
