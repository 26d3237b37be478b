import { createSign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompactSign, exportSPKI, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import type { RequestHead } from '../../../src/http/request-head.ts';
import { type JwtOptions, JwtScheme } from '../../../src/policy/auth/jwt.ts';
import { RoleSource, type RolesOptions } from '../../../src/policy/auth/roles.ts';
import type { Verdict } from '../../../src/policy/auth/scheme.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { writeCertificate } from '../../self-signed-certificate.ts';
import { until } from '../../services/until.ts';
import { headWith } from '../head.ts';
import { AUDIENCE, claimsAt, ISSUER, jwks, type SigningKey, sign, signingKey } from './issuer.ts';

// Made once: RSA takes its time.
const RSA = signingKey('RS256');
const EC = signingKey('ES256');

let folder: string;
let clock: FakeClock;
/** The fake one, unless a test is about files that change. */
let time: Clock;
let scheme: JwtScheme | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'jwt-'));
  time = clock = new FakeClock();
});
afterEach(() => {
  scheme?.close();
  scheme = undefined;
  rmSync(folder, { recursive: true });
});

const services = (roles: RolesOptions = {}) => {
  const of = { clock: time, logger: silentLogger };
  return { ...of, name: 'api', roleSource: new RoleSource(roles, { ...of, scheme: 'api' }) };
};

/** A scheme with these keys in a file. */
async function open(
  keys: readonly SigningKey[],
  options: Partial<JwtOptions> = {},
  roles: RolesOptions = {},
): Promise<JwtScheme> {
  const jwksFile = join(folder, 'jwks.json');
  writeFileSync(jwksFile, JSON.stringify(await jwks(...keys)));
  return openWith({ jwksFile, ...options }, roles);
}

async function openWith(options: Partial<JwtOptions>, roles: RolesOptions = {}): Promise<JwtScheme> {
  scheme = new JwtScheme({ issuer: ISSUER, audience: AUDIENCE, ...options }, services(roles));
  await scheme.start();
  return scheme;
}

const showing = (token: string, changes: Partial<RequestHead> = {}) =>
  headWith({ ...changes, headers: { authorization: `Bearer ${token}` } });

const claims = (changes: JWTPayload = {}) => claimsAt(time.now(), changes);

/** The user, or why there is none. */
const said = (verdict: Verdict) => {
  if (verdict.kind === 'authenticated') return verdict.principal.name;
  if (verdict.kind === 'rejected') return verdict.reason;
  return verdict.kind === 'refused' ? `${verdict.refusal.status} ${verdict.refusal.code}` : verdict.kind;
};
const ask = async (of: JwtScheme, token: string) => said(await of.authenticate(showing(token)));

describe('tokens', () => {
  test.each(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'])('signed by %s are taken', async alg => {
    const key = { ...RSA, alg };
    expect(await ask(await open([key]), await sign(key, claims()))).toBe('alice');
  });

  test.each(['ES256', 'ES384', 'ES512'])('signed by %s are taken', async alg => {
    const key = signingKey(alg);
    expect(await ask(await open([key]), await sign(key, claims()))).toBe('alice');
  });

  test.each([
    ['EdDSA', 'EdDSA'],
    ['Ed25519', 'Ed25519'],
    ['EdDSA', 'Ed25519'],
    ['Ed25519', 'EdDSA'],
  ])('of a key published as %s and signed as %s are taken', async (published, alg) => {
    const key = signingKey(published);
    expect(await ask(await open([key]), await sign(key, claims(), { alg }))).toBe('alice');
    scheme!.close();
    expect(await ask(await open([key], { algorithms: [published] }), await sign(key, claims(), { alg }))).toBe('alice');
  });

  test('with a good signature give user, roles, claims, their end, and jti as what names them', async () => {
    const { exp, ...rest } = claims({ realm_access: { roles: ['staff', 'admin'] } });
    const token = await sign(RSA, { ...rest, exp });
    const opened = await open([RSA], {}, { rolesClaim: 'realm_access.roles' });
    expect(await opened.authenticate(showing(token))).toEqual({
      kind: 'authenticated',
      principal: {
        name: 'alice',
        roles: ['staff', 'admin'],
        scheme: 'api',
        expiresAt: exp! * 1_000 + 30_000,
        credential: 'token-1',
        claims: { ...rest, exp },
      },
    });
  });

  test('are looked for in nothing but Authorization, the cookie that is named, and subprotocols', async () => {
    const token = await sign(EC, claims());
    const opened = await open([EC], { cookie: 'token' });
    const inCookie = headWith({ headers: { cookie: `token=${token}` } });
    expect(said(await opened.authenticate(inCookie))).toBe('alice');
    const subprotocols = [`bearer.${token}`, 'chat'];
    const offered = headWith({ upgrade: { key: '', subprotocols, extensions: '' } });
    expect(said(await opened.authenticate(offered))).toBe('alice');
    expect(said(await opened.authenticate(headWith({ query: `access_token=${token}` })))).toBe('absent');
    expect(opened.places).toEqual([
      { kind: 'header', name: 'authorization' },
      { kind: 'cookie', name: 'token' },
      { kind: 'subprotocol', prefix: 'bearer.', standIn: 'holdfast.bearer' },
    ]);
  });

  test.each<[string, JWTPayload, Partial<JwtOptions>, RegExp]>([
    ['of another issuer', { iss: 'https://issuer.example/' }, {}, /of another issuer/],
    ['without an issuer', { iss: undefined as never }, {}, /of another issuer/],
    ['for somebody else', { aud: 'https://other.example' }, {}, /unexpected "aud"/],
    ['for nobody', { aud: undefined as never }, {}, /missing required "aud"/],
    ['without an end', { exp: undefined as never }, {}, /missing required "exp"/],
    ['without a user', { sub: undefined as never }, {}, /no claim "sub"/],
    ['with an empty user', { sub: '' }, {}, /not a text of 1 to 256/],
    ['with a user of too many characters', { sub: 'x'.repeat(257) }, {}, /not a text of 1 to 256/],
    ['with a line break in the user', { sub: 'alice\nbob' }, {}, /not a text of 1 to 256/],
    ['with a number as the user', { uid: 7 }, { userClaim: 'uid' }, /not a text of 1 to 256/],
    ['with an end that is a text', { exp: '9999999999' as never }, {}, /"exp" claim must be a number/],
    ['without a claim that is required', {}, { requiredClaims: ['scope'] }, /missing required "scope"/],
    [
      'without jti where tokens can be revoked',
      { jti: undefined as never },
      { revokedFile: '' },
      /missing required "jti"/,
    ],
    [
      'with an email that is not verified',
      { email: 'a@b.example', email_verified: false },
      { userClaim: 'email' },
      /not verified/,
    ],
    ['bound to a key as by DPoP', { cnf: { jkt: 'x' } }, {}, /bound to a key/],
    ['bound to a certificate that is not shown', { cnf: { 'x5t#S256': 'x' } }, {}, /bound to a client certificate/],
    [
      'without iat where their age counts',
      { iat: undefined as never },
      { maxTokenAge: '1h' },
      /missing required "iat"/,
    ],
  ])('%s are refused', async (_, changes, options, problem) => {
    const revokedFile = options.revokedFile === '' ? join(folder, 'revoked') : undefined;
    if (revokedFile) writeFileSync(revokedFile, '');
    const opened = await open([EC], { ...options, ...(revokedFile && { revokedFile }) });
    expect(await ask(opened, await sign(EC, claims(changes)))).toMatch(problem);
  });

  test('are taken until exp and the skew are over, and from nbf less the skew', async () => {
    const opened = await open([EC], { clockSkew: '10s' });
    const token = await sign(EC, claims());
    await clock.advance(609_000);
    expect(await ask(opened, token)).toBe('alice');
    await clock.advance(1_000);
    // Also one whose signature was verified before.
    expect(await ask(opened, token)).toBe('bearer token: it has expired');
    const seconds = Math.floor(clock.now() / 1_000);
    expect(await ask(opened, await sign(EC, claims({ nbf: seconds + 10, jti: '2' })))).toBe('alice');
    expect(await ask(opened, await sign(EC, claims({ nbf: seconds + 11, jti: '3' })))).toMatch(/"nbf"/);
  });

  test('without exp are taken for as long as maxTokenAge says', async () => {
    const opened = await open([EC], { maxTokenAge: '10m', clockSkew: 0 });
    const token = await sign(EC, claims({ exp: undefined as never }));
    const verdict = await opened.authenticate(showing(token));
    expect(verdict).toMatchObject({ principal: { expiresAt: (claims().iat! + 600) * 1_000 } });
    await clock.advance(601_000);
    expect(await ask(opened, token)).toBe('bearer token: it has expired');
    const later = claims().iat! + 60;
    expect(await ask(opened, await sign(EC, claims({ iat: later, exp: undefined as never, jti: '2' })))).toMatch(
      /"iat"/,
    );
  });

  test('for several audiences are taken by one of them, and by anyone with audience: false', async () => {
    const token = await sign(EC, claims({ aud: ['https://other.example', AUDIENCE] }));
    expect(await ask(await open([EC], { audience: ['x', AUDIENCE] }), token)).toBe('alice');
    scheme!.close();
    const other = await sign(EC, claims({ aud: 'https://other.example', jti: '2' }));
    expect(await ask(await open([EC], { audience: false }), other)).toBe('alice');
  });

  test('have their user in a claim of any name, also one with dots', async () => {
    const token = await sign(EC, claims({ 'https://example.com/login': 'bob', profile: { login: 'carol' } }));
    expect(await ask(await open([EC], { userClaim: 'https://example.com/login' }), token)).toBe('bob');
    scheme!.close();
    expect(await ask(await open([EC], { userClaim: 'profile.login' }), token)).toBe('carol');
  });

  test('that are for something else by their typ are refused, and others than the one that is pinned', async () => {
    const opened = await open([EC]);
    const typed = (typ: string) => sign(EC, claims({ jti: typ }), { typ });
    expect(await ask(opened, await typed('JWT'))).toBe('alice');
    expect(await ask(opened, await typed('at+jwt'))).toBe('alice');
    for (const typ of ['logout+jwt', 'dpop+jwt', 'secevent+jwt', 'token-introspection+jwt'])
      expect(await ask(opened, await typed(typ))).toMatch(/"typ"/);
    opened.close();
    const pinned = await open([EC], { tokenType: 'at+jwt' });
    expect(await ask(pinned, await typed('JWT'))).toMatch(/"typ"/);
    expect(await ask(pinned, await typed('application/at+jwt'))).toBe('alice');
  });

  test('bound to the certificate that the client shows are taken', async () => {
    const opened = await open([EC]);
    const fingerprint256 = Array(32).fill('AB').join(':');
    const thumbprint = Buffer.alloc(32, 0xab).toString('base64url');
    const token = await sign(EC, claims({ cnf: { 'x5t#S256': thumbprint } }));
    const clientCertificate = {
      fingerprint256,
      subject: '',
      issuer: '',
      subjectAltName: '',
      serialNumber: '',
      validTo: 0,
    };
    expect(said(await opened.authenticate(showing(token, { clientCertificate })))).toBe('alice');
    // Whoever has stolen it does not profit from what was verified.
    expect(await ask(opened, token)).toMatch(/bound to a client certificate/);
  });
});

describe('forged tokens', () => {
  const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

  test('without a signature, or with another one, are refused', async () => {
    const opened = await open([EC]);
    expect(await ask(opened, new UnsecuredJWT(claims()).encode())).toMatch(/algorithm|not a JSON Web Token/);
    const token = await sign(EC, claims());
    const [header, , signature] = token.split('.');
    expect(await ask(opened, `${header}.${encoded(claims({ sub: 'root' }))}.${signature}`)).toMatch(
      /signature is wrong/,
    );
    expect(await ask(opened, await sign(signingKey('ES256'), claims()))).toMatch(/signature is wrong/);
    expect(await ask(opened, `${encoded({ alg: 'none' })}.${encoded(claims())}.`)).toMatch(/algorithm|not a JSON/);
    expect(await ask(opened, `${encoded({ alg: 'NonE' })}.${encoded(claims())}.AA`)).toMatch(/algorithm/);
  });

  test('with the jti and claims of a good one find nothing in what was verified before', async () => {
    const opened = await open([EC]);
    const token = await sign(EC, claims());
    expect(await ask(opened, token)).toBe('alice');
    const [header, payload, signature] = token.split('.');
    expect(await ask(opened, `${header}.${encoded(claims({ sub: 'root' }))}.${signature}`)).toMatch(
      /signature is wrong/,
    );
    const other = signature!.startsWith('A') ? `B${signature!.slice(1)}` : `A${signature!.slice(1)}`;
    expect(await ask(opened, `${header}.${payload}.${other}`)).toMatch(/signature is wrong/);
    expect(await ask(opened, token)).toBe('alice');
  });

  test('signed with the public key as a secret are refused', async () => {
    const opened = await open([RSA]);
    const pem = await exportSPKI(RSA.publicKey as never);
    for (const alg of ['HS256', 'HS512']) {
      const forged = new SignJWT(claims()).setProtectedHeader({ alg, kid: RSA.kid! });
      expect(await ask(opened, await forged.sign(Buffer.from(pem)))).toMatch(/algorithm/);
    }
  });

  test('that bring their own key are refused', async () => {
    const own = signingKey('ES256', 'own');
    const { keys } = await jwks(own);
    const opened = await open([EC]);
    for (const header of [{ jwk: keys[0] }, { jku: 'http://127.0.0.1:1/jwks' }, { x5u: 'http://127.0.0.1:1/x' }])
      expect(await ask(opened, await sign(own, claims(), header))).toMatch(/key is none of the issuer/);
    const { kid } = EC;
    expect(await ask(opened, await sign({ ...own, kid }, claims(), { jwk: keys[0] }))).toMatch(/signature is wrong/);
  });

  test('with extensions that nobody here understands are refused', async () => {
    const critical = new CompactSign(Buffer.from(JSON.stringify(claims()))).setProtectedHeader({
      ...{ alg: 'ES256', kid: EC.kid!, crit: ['exotic'], exotic: true },
    });
    const token = await critical.sign(EC.privateKey, { crit: { exotic: true } });
    expect(await ask(await open([EC]), token)).toMatch(/exotic|crit/i);
  });

  test.each([
    ['b64', { b64: false, crit: ['b64'] }],
    ['b64 and another', { b64: false, exotic: 1, crit: ['b64', 'exotic'] }],
    ['nothing', { crit: [] }],
    ['what is no list', { crit: 'exp' }],
  ])('whose crit names %s are refused', async (_, header) => {
    const [head, payload] = [{ alg: 'ES256', kid: EC.kid, ...header }, claims()].map(part =>
      Buffer.from(JSON.stringify(part)).toString('base64url'),
    );
    const signature = createSign('sha256')
      .update(`${head}.${payload}`)
      .sign({ key: EC.privateKey, dsaEncoding: 'ieee-p1363' }, 'base64url');
    expect(await ask(await open([EC]), `${head}.${payload}.${signature}`)).toMatch(/crit|b64|exotic|unencoded/i);
  });

  test('that are thousands of lists within each other are refused, wherever these stand', async () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    const part = (text: string) => Buffer.from(text).toString('base64url');
    const head = part(JSON.stringify({ alg: 'ES256', kid: EC.kid }));
    const opened = await open([EC]);
    for (const claim of ['jti', 'iss', 'sub', 'exp', 'aud'])
      expect(await ask(opened, `${head}.${part(`{"iss":"${ISSUER}","${claim}":${deep}}`)}.AAAA`)).toMatch(/^bearer/);
    expect(await ask(opened, `${part(`{"alg":"ES256","kid":${deep}}`)}.${part('{}')}.AAAA`)).toMatch(/^bearer/);
  });

  test('that have ended are no failed logins, and all others that are refused are', async () => {
    const opened = await open([EC]);
    const isOver = async (token: string) =>
      ((await opened.authenticate(showing(token))) as { isOver?: boolean }).isOver;
    const good = await sign(EC, claims());
    expect(await isOver(await sign(EC, claims({ exp: 1 })))).toBe(true);
    expect(await isOver(await sign(EC, claims({ iss: 'https://other.example' })))).toBe(false);
    expect(await isOver(`${good.slice(0, -8)}AAAAAAAA`)).toBe(false);
    expect(await ask(opened, good)).toBe('alice');
    await clock.advance(700_000);
    expect(await isOver(good)).toBe(true);
  });

  test('that are none are refused', async () => {
    const opened = await open([EC]);
    const long = `${'a'.repeat(8_000)}.b.c`;
    for (const text of ['a', 'a.b', 'a.b.c', '..', 'e30.e30.', 'a.b.c.d.e', long, 'e30.W10.AA', '____.____.____'])
      expect(await ask(opened, text), text).toMatch(/^bearer token: /);
  });

  test('by an algorithm that is not pinned are refused, also with a good key', async () => {
    const rs512 = await sign({ ...RSA, alg: 'RS512' }, claims());
    const opened = await open([{ ...RSA, alg: undefined as never }], { algorithms: ['RS256'] });
    expect(await ask(opened, rs512)).toMatch(/algorithm/);
    expect(await ask(opened, await sign(RSA, claims()))).toBe('alice');
  });

  test('have the reason in the challenge, and nothing of themselves', async () => {
    const opened = await open([EC], { realm: 'The API' });
    const head = showing(await sign(EC, claims({ exp: 1 })));
    expect(opened.challenge(head)).toEqual({ header: 'Bearer realm="The API"' });
    const verdict = await opened.authenticate(head);
    expect(opened.challenge(head)).toEqual({
      header:
        'Bearer realm="The API", error="invalid_token", error_description="The token cannot be used: it has expired"',
    });
    expect(JSON.stringify(verdict)).not.toContain(head.headers.authorization!.slice(20, 40));
  });
});

describe('keys', () => {
  test('without kid are tried, and a token may leave its kid out', async () => {
    const keys = [signingKey('ES256', undefined), signingKey('ES256', undefined), signingKey('ES256', undefined)];
    const bare = keys.map(key => ({ ...key, kid: undefined }));
    const opened = await open(bare);
    for (const [i, key] of bare.entries())
      expect(await ask(opened, await sign(key, claims({ jti: String(i) })))).toBe('alice');
    expect(await ask(opened, await sign({ ...signingKey('ES256'), kid: undefined }, claims()))).toMatch(/signature/);
    opened.close();
    expect(await ask(await open([EC, RSA]), await sign({ ...EC, kid: undefined }, claims()))).toBe('alice');
  });

  test('in a file are exchanged within a second, and what was verified by the old ones counts no more', async () => {
    time = systemClock;
    const opened = await open([EC]);
    const token = await sign(EC, claims());
    expect(await ask(opened, token)).toBe('alice');
    const next = signingKey('ES256', 'next');
    writeFileSync(join(folder, 'jwks.json'), JSON.stringify(await jwks(next)));
    const fresh = await sign(next, claims({ jti: '2' }));
    await until(async () => (await ask(opened, fresh)) === 'alice', 1_000);
    expect(await ask(opened, token)).toMatch(/key is none of the issuer/);
  });

  test('in PEM are read, also from a certificate', async () => {
    const publicKeyFile = join(folder, 'key.pem');
    writeFileSync(publicKeyFile, await exportSPKI(RSA.publicKey as never));
    const opened = await openWith({ publicKeyFile });
    expect(await ask(opened, await sign(RSA, claims()))).toBe('alice');
    expect(await ask(opened, await sign({ ...RSA, alg: 'PS256' }, claims({ jti: '2' })))).toBe('alice');
    expect(await ask(opened, await sign(EC, claims()))).toMatch(/key is none of the issuer/);
    opened.close();
    const files = writeCertificate(folder, { name: 'issuer.example' });
    await openWith({ publicKeyFile: files.certificate });
  });

  test('that are a secret verify HS256', async () => {
    const secret = 'a secret of at least 32 bytes, really';
    const secretFile = join(folder, 'secret');
    writeFileSync(secretFile, `${secret}\n`);
    const opened = await openWith({ secretFile });
    const signed = (text: string, alg = 'HS256') =>
      new SignJWT(claims()).setProtectedHeader({ alg }).sign(Buffer.from(text));
    expect(await ask(opened, await signed(secret))).toBe('alice');
    expect(await ask(opened, await signed(`${secret}!`))).toMatch(/signature/);
    expect(await ask(opened, await signed(secret, 'HS384'))).toMatch(/algorithm/);
  });

  test.each<[string, string, Partial<JwtOptions>, RegExp]>([
    ['a secret that is too short', 'x'.repeat(31), { secretFile: 'key' }, /31 bytes.*at least 32/],
    [
      'a secret that is too short for HS512',
      'x'.repeat(63),
      { secretFile: 'key', algorithms: ['HS512'] },
      /at least 64/,
    ],
    [
      'a private key',
      '-----BEGIN PRIVATE KEY-----\nMC4\n-----END PRIVATE KEY-----\n',
      { publicKeyFile: 'key' },
      /private key/,
    ],
    ['a text that is no key', 'hello', { publicKeyFile: 'key' }, /not a public key/],
    ['a text that is no key set', 'hello', { jwksFile: 'key' }, /not a JSON Web Key Set/],
    ['an empty key set', '{"keys":[]}', { jwksFile: 'key' }, /no key of the kinds/],
    ['a secret in a key set', '{"keys":[{"kty":"oct","k":"AAAA"}]}', { jwksFile: 'key' }, /no key of the kinds/],
    [
      'a private key in a key set',
      '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}',
      { jwksFile: 'key' },
      /private/,
    ],
    ['101 keys', JSON.stringify({ keys: Array(101).fill({ kty: 'EC' }) }), { jwksFile: 'key' }, /101 keys/],
  ])('of %s are an error at the start that names the file', async (_, text, options, problem) => {
    const path = join(folder, 'key');
    writeFileSync(path, text);
    const named = Object.fromEntries(Object.entries(options).map(([k, v]) => [k, v === 'key' ? path : v]));
    const error = await openWith(named).catch(thrown => thrown);
    expect(error).toMatchObject({ code: 'ERR_CONFIG_INVALID', message: expect.stringMatching(problem) });
    expect(error.message).toContain(path);
    if (text.length > 20 && text.length < 64) expect(error.message).not.toContain(text);
  });

  test.each<[string, Partial<JwtOptions>, RegExp]>([
    ['none', {}, /exactly one of jwksUri, jwksFile, publicKeyFile, secretFile, not 0/],
    ['two', { jwksFile: 'a', secretFile: 'b' }, /not 2/],
    [
      'HS256 with public keys',
      { jwksFile: 'a', algorithms: ['RS256', 'HS256'] },
      /"HS256" does not go with public keys/,
    ],
    ['RS256 with a secret', { secretFile: 'a', algorithms: ['RS256'] }, /"RS256" does not go with a secret/],
    ['none as an algorithm', { jwksFile: 'a', algorithms: ['none'] }, /"none" does not go/],
    ['no algorithms', { jwksFile: 'a', algorithms: [] }, /empty/],
  ])('%s: the scheme cannot be made', (_, options, problem) => {
    expect(() => new JwtScheme({ issuer: ISSUER, audience: AUDIENCE, ...options }, services())).toThrow(problem);
  });
});

describe('revoked tokens', () => {
  test('are refused by jti, however they are written, and their users are gone at once', async () => {
    time = systemClock;
    const revokedFile = join(folder, 'revoked');
    writeFileSync(revokedFile, '# none yet\n');
    const opened = await open([EC], { revokedFile });
    const token = await sign(EC, claims());
    const verdict = await opened.authenticate(showing(token));
    const { principal } = verdict as Extract<Verdict, { kind: 'authenticated' }>;
    expect(opened.review(principal)).toBe(principal);
    let calls = 0;
    const end = opened.onChange(() => calls++);
    writeFileSync(revokedFile, '# stolen\n\n  token-1  \r\ntoken-2\n');
    await until(() => calls === 1, 1_000);
    end();
    expect(opened.review(principal)).toBeUndefined();
    expect(await ask(opened, token)).toBe('bearer token: it was revoked');
    expect(await ask(opened, malleated(token))).toBe('bearer token: it was revoked');
    expect(await ask(opened, await sign(EC, claims({ jti: 'token-3' })))).toBe('alice');
  });

  test('could be written anew: an ECDSA signature is good in a second form', async () => {
    // Why no list and no cache goes by the text of a token.
    const opened = await open([EC]);
    const token = await sign(EC, claims());
    expect(malleated(token)).not.toBe(token);
    expect(await ask(opened, malleated(token))).toBe('alice');
  });

  /** The same token with the signature (r, n − s). */
  function malleated(token: string): string {
    const N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
    const [header, payload, signature] = token.split('.');
    const bytes = Buffer.from(signature!, 'base64url');
    const s = BigInt(`0x${bytes.toString('hex', 32)}`);
    const other = Buffer.from((N - s).toString(16).padStart(64, '0'), 'hex');
    return `${header}.${payload}.${Buffer.concat([bytes.subarray(0, 32), other]).toString('base64url')}`;
  }
});

test('the review of a user ends with the token, and gives the roles of now', async () => {
  let admins = ['alice'];
  const rolesOf = ({ name }: { name: string }) => (admins.includes(name) ? ['admin'] : []);
  const opened = await open([EC], {}, { rolesOf });
  const verdict = await opened.authenticate(showing(await sign(EC, claims())));
  const { principal } = verdict as Extract<Verdict, { kind: 'authenticated' }>;
  expect(principal.roles).toEqual(['admin']);
  admins = [];
  expect(opened.review(principal)).toEqual({ ...principal, roles: [] });
  await clock.advance(630_000);
  expect(opened.review(principal)).toBeUndefined();
});

test('claims that handlers get cannot be changed by them', async () => {
  const opened = await open([EC]);
  const token = await sign(EC, claims({ list: [{ a: 1 }] }));
  const verdict = await opened.authenticate(showing(token));
  const { principal } = verdict as Extract<Verdict, { kind: 'authenticated' }>;
  expect(() => Object.assign((principal.claims!.list as object[])[0]!, { a: 2 })).toThrow(TypeError);
});
