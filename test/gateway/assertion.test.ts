import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'holdfast';
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, type JWTVerifyOptions, jwtVerify } from 'jose';
import { afterAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { AssertionIssuer, AssertionKeys } from '../../src/gateway/backend-session/assertion.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { ManagedBackend } from './managed-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'assertion-'));
const keyFile = (name: string) => {
  const path = join(folder, name);
  writeFileSync(path, AssertionKeys.generate());
  return path;
};
const [oldKey, newKey] = [keyFile('old.pem'), keyFile('new.pem')];
afterAll(() => rmSync(folder, { recursive: true }));

const common = { dataFolder: folder, internal: { port: 0 } };

/** As a backend does: with the keys that we publish. */
async function verify(backend: ManagedBackend, jwt: unknown, options: JWTVerifyOptions = {}) {
  const keys = createRemoteJWKSet(new URL('/.well-known/jwks.json', backend.server.internalUrl));
  return jwtVerify(jwt as string, keys, {
    issuer: 'holdfast',
    audience: 'app',
    requiredClaims: ['exp', 'sid'],
    ...options,
  });
}

describe('the assertion that a backend gets', () => {
  test('says whose session it is, and can be verified with the keys that we publish', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true, assertion: true }, common);
    const cookie = await backend.signIn('alice');
    expect(backend.told['holdfast-assertion']).toBeUndefined();
    await backend.ask({}, { cookie });
    const { payload, protectedHeader } = await verify(backend, backend.told['holdfast-assertion']);
    const sid = backend.told['x-session-id'];
    expect(payload).toMatchObject({ iss: 'holdfast', aud: 'app', sub: 'alice', roles: ['user', 'admin'], sid });
    expect(payload.exp! - payload.iat!).toBe(60);
    expect(payload.jti).toMatch(/^[\w-]{22}$/);
    expect(protectedHeader).toMatchObject({ alg: 'ES256', typ: 'JWT', kid: expect.any(String) });
    expect(statSync(join(folder, 'keys/assertion.pem')).mode & 0o777).toBe(0o600);

    // A visitor without a name, and a handshake.
    await backend.ask({}, { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' });
    const visitor = await verify(backend, backend.told['holdfast-assertion']);
    expect(visitor.payload).not.toHaveProperty('sub');
    expect(visitor.payload).not.toHaveProperty('roles');
    const client = new WebSocket(backend.url.replace('http', 'ws'), { headers: { cookie, origin: backend.url } });
    await new Promise(resolve => client.on('open', resolve));
    client.terminate();
    expect((await verify(backend, backend.told['holdfast-assertion'])).payload.sub).toBe('alice');
  });

  test('is good for one audience and a short time', async () => {
    const clock = new FakeClock();
    const config = { ...common, assertions: { issuer: 'https://example.com' } };
    const assertion = { header: 'X-Assertion', audience: 'https://app.example', lifetime: '10s' };
    await using backend = await ManagedBackend.start({ controlsSession: true, assertion }, config, { clock });
    const cookie = await backend.signIn('alice');
    await backend.ask({}, { cookie });
    const jwt = backend.told['x-assertion'];
    const at = (ms: number) => ({ currentDate: new Date(clock.now() + ms), issuer: 'https://example.com' });
    const audience = 'https://app.example';
    await verify(backend, jwt, { audience, ...at(9_000) });
    await expect(verify(backend, jwt, { audience, ...at(11_000) })).rejects.toMatchObject({ code: 'ERR_JWT_EXPIRED' });
    for (const wrong of [{ audience: 'app' }, { audience, issuer: 'holdfast' }])
      await expect(verify(backend, jwt, { ...at(0), ...wrong })).rejects.toMatchObject({
        claim: wrong.issuer ? 'iss' : 'aud',
      });
    const forged = `${(jwt as string).split('.')[0]}.${Buffer.from(JSON.stringify({ ...decodeJwt(jwt as string), sub: 'root' })).toString('base64url')}.${(jwt as string).split('.')[2]}`;
    await expect(verify(backend, forged, { audience, ...at(0) })).rejects.toMatchObject({
      code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
    });
  });

  test('is never that of a client, in whatever spelling, over HTTP/1.1 and HTTP/2', async () => {
    const tls = writeSelfSignedCertificate(folder);
    const listen = [
      { port: 0, host: '127.0.0.1' },
      { port: 0, host: '127.0.0.1', tls },
    ];
    await using backend = await ManagedBackend.start({ assertion: true }, { ...common, listen });
    const lies = { 'holdfast-assertion': 'forged', holdfast_assertion: 'forged', 'Holdfast.Assertion': 'forged' };
    await backend.ask({}, lies);
    using client = new Http2Client(backend.server.urls[1]!);
    await client.get('/', lies);
    expect(JSON.stringify(backend.seen)).not.toContain('forged');
    await backend.ask({}, { ...lies, 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' });
    expect((await verify(backend, backend.told['holdfast-assertion'])).payload.sid).toBe(backend.told['x-session-id']);
  });

  test('survives a change of the key: the next one is published before it signs, the last one while what it signed is good', async () => {
    const kids: unknown[] = [];
    let signedByOld: unknown;
    for (const keyFiles of [[oldKey], [oldKey, newKey], [newKey, oldKey], [newKey]]) {
      const config = { ...common, assertions: { keyFiles } };
      await using backend = await ManagedBackend.start({ assertion: true }, config);
      await backend.ask({}, { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' });
      const jwt = backend.told['holdfast-assertion'] as string;
      await verify(backend, jwt);
      kids.push(decodeProtectedHeader(jwt).kid);
      signedByOld ??= jwt;
      if (keyFiles.includes(oldKey)) await verify(backend, signedByOld);
      else await expect(verify(backend, signedByOld)).rejects.toMatchObject({ code: 'ERR_JWKS_NO_MATCHING_KEY' });
    }
    expect(new Set(kids).size).toBe(2);
    expect(kids).toEqual([kids[0], kids[0], kids[2], kids[2]]);
  });

  test.each([
    ['is not there', () => undefined],
    ['is none', () => 'no key'],
    [
      'is of another curve',
      () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ type: 'pkcs8', format: 'pem' }),
    ],
  ])('a key file that %s stops the start', async (_, content) => {
    const path = join(folder, 'wrong.pem');
    rmSync(path, { force: true });
    const text = content();
    if (text !== undefined) writeFileSync(path, text);
    const server = createServer({
      listen: [{ port: 0 }],
      upstreams: { app: { servers: ['http://localhost:1'], assertion: true } },
      assertions: { keyFiles: [path] },
      log: { level: 'silent' },
    });
    await expect(server.start()).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
  });
});

test('an assertion is used again for half of its lifetime, unless the user or the roles are others', async () => {
  const clock = new FakeClock();
  const keys = new AssertionKeys([AssertionKeys.generate()]);
  const issuer = new AssertionIssuer(keys, { issuer: 'i', audience: 'a', lifetimeMs: 60_000 }, clock);
  const alice = { name: 'alice', roles: ['user'] };
  const first = issuer.issue('s1', alice);
  await clock.advance(29_999);
  expect(issuer.issue('s1', { ...alice })).toBe(first);
  const others = [
    issuer.issue('s2', alice),
    issuer.issue('s1', { ...alice, roles: [] }),
    issuer.issue('s1', undefined),
  ];
  const again = issuer.issue('s1', alice);
  await clock.advance(30_001);
  const all = [first, ...others, again, issuer.issue('s1', alice)];
  expect(new Set(all).size).toBe(all.length);
  expect(new Set(all.map(jwt => decodeJwt(jwt).jti)).size).toBe(all.length);
});
