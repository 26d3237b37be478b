import { SignJWT } from 'jose';
import { describe, expect, test } from 'vitest';
import { readLogoutToken } from '../../../../src/policy/auth/oidc/logout-token.ts';
import { KeysUnavailable } from '../../../../src/policy/auth/tokens/key-source.ts';
import { signingKey } from '../issuer.ts';

const NOW = Date.UTC(2026, 10, 29);
const seconds = NOW / 1000;
const key = signingKey('ES256');
const stranger = signingKey('ES256');
const EVENTS = { 'http://schemas.openid.net/event/backchannel-logout': {} };

interface Made {
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
  readonly by?: typeof key;
}

function token({ claims = {}, header = {}, by = key }: Made = {}): Promise<string> {
  const payload = {
    ...{ iss: 'https://id.example', aud: 'shop', iat: seconds - 1, exp: seconds + 119, jti: 'j1', events: EVENTS },
    ...{ sub: 'alice', sid: 's1' },
    ...claims,
  };
  const given = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined));
  return new SignJWT(given).setProtectedHeader({ alg: 'ES256', typ: 'logout+jwt', ...header }).sign(by.privateKey);
}

const judge = (text: string, keysFor = async () => [key.publicKey]) =>
  readLogoutToken(text, {
    ...{ issuer: 'https://id.example', clientId: 'shop', algorithms: ['ES256'], now: NOW },
    keys: { keysFor },
  });

describe('a logout token', () => {
  test.each<[string, Made, object]>([
    ['of a session', {}, { id: 'j1', subject: 'alice', session: 's1' }],
    ['of all that a user has', { claims: { sid: undefined } }, { id: 'j1', subject: 'alice', session: undefined }],
    ['that names no user', { claims: { sub: undefined } }, { id: 'j1', subject: undefined, session: 's1' }],
    ['for several clients', { claims: { aud: ['x', 'shop'] } }, { id: 'j1', subject: 'alice', session: 's1' }],
    ['without a type', { header: { typ: undefined } }, { id: 'j1', subject: 'alice', session: 's1' }],
    ['of a provider whose clock is behind', { claims: { iat: seconds - 20, exp: seconds - 20 } }, { id: 'j1' }],
  ])('%s counts', async (_, made, expected) => {
    expect(await judge(await token(made))).toMatchObject(expected);
  });

  test.each<[string, Made, RegExp]>([
    ['of another issuer', { claims: { iss: 'https://id.example/' } }, /another issuer/],
    ['for another client', { claims: { aud: 'bank' } }, /aud/],
    ['with the type of an access token', { header: { typ: 'at+jwt' } }, /typ/],
    ['signed by somebody else', { by: stranger }, /signature/],
    ['that is old', { claims: { iat: seconds - 400, exp: seconds + 9 } }, /iat/],
    ['that has expired', { claims: { exp: seconds - 31 } }, /exp/],
    ['of tomorrow', { claims: { iat: seconds + 86_400, exp: seconds + 90_000 } }, /iat/],
    ['without the time that it was made at', { claims: { iat: undefined } }, /iat/],
    ['without an id', { claims: { jti: undefined } }, /jti/],
    ['with an id that is no text', { claims: { jti: 7 } }, /jti/],
    ['with a nonce, which is an ID token', { claims: { nonce: 'n' } }, /nonce/],
    ['without events', { claims: { events: undefined } }, /events/],
    ['of another event', { claims: { events: { 'https://example/x': {} } } }, /events/],
    ['whose event is no object', { claims: { events: { [Object.keys(EVENTS)[0]!]: true } } }, /events/],
    ['for nobody', { claims: { sub: undefined, sid: undefined } }, /neither/],
    ['for a user that is no text', { claims: { sub: 7 } }, /neither/],
  ])('%s is refused', async (_, made, problem) => {
    expect(await judge(await token(made))).toEqual({ problem: expect.stringMatching(problem) });
  });

  test.each(['', 'x', 'a.b.c', `${'A'.repeat(20_000)}`])('that is none is refused (%#)', async text => {
    expect(await judge(text)).toEqual({ problem: 'it is not a JSON Web Token' });
  });

  test('without a signature is refused before a key is looked for', async () => {
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${(await token()).split('.')[1]}.`;
    expect(await judge(none, () => Promise.reject(new KeysUnavailable('asked')))).toEqual({
      problem: 'its algorithm is none of the provider',
    });
  });

  test('whose key cannot be had is neither good nor bad', async () => {
    const asked = judge(await token(), () => Promise.reject(new KeysUnavailable('no keys')));
    await expect(asked).rejects.toBeInstanceOf(KeysUnavailable);
  });
});
