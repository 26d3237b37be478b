import { describe, expect, test } from 'vitest';
import { LoginRequests, placeOnSite } from '../../../../src/policy/auth/oidc/login-request.ts';
import { SealedText } from '../../../../src/policy/auth/oidc/sealed-text.ts';
import { FakeClock } from '../../../../src/testing/fake-clock.ts';

const ORIGIN = 'https://shop.example';
const KEYS = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];

describe('the place to return to', () => {
  test.each([
    ['/cart?item=1', '/cart?item=1'],
    ['/a/../b', '/b'],
    ['/%2e%2e//evil.example', '/'],
    ['/.//evil.example', '/'],
    ['/..//evil.example', '/'],
    ['/\t/evil.example', '/'],
    ['/\\evil.example', '/'],
    ['//evil.example', '/'],
    ['https://evil.example/', '/'],
    ['javascript:alert(1)', '/'],
    ['cart', '/'],
    ['', '/'],
    [null, '/'],
    ['/x\r\nSet-Cookie: a=b', '/xSet-Cookie:%20a=b'],
  ])('%j is %j', (asked, place) => {
    expect(placeOnSite(asked, ORIGIN)).toBe(place);
  });
});

describe('sealed text', () => {
  test('opens for its purpose and place only, also with a key that was replaced, and never when it was changed', () => {
    const sealed = new SealedText(() => KEYS, 'a').seal('secret', 'here');
    const open = (keys: Uint8Array[], purpose: string, place: string, text = sealed) =>
      new SealedText(() => keys, purpose).open(text, place);
    expect(open(KEYS, 'a', 'here')).toBe('secret');
    expect(open([KEYS[1]!, KEYS[0]!], 'a', 'here')).toBe('secret');
    expect(sealed).not.toContain('secret');
    expect([open(KEYS, 'b', 'here'), open(KEYS, 'a', 'there'), open([KEYS[1]!], 'a', 'here')]).toEqual(
      Array(3).fill(undefined),
    );
    for (let i = 0; i < sealed.length - 1; i++) {
      const changed = sealed.slice(0, i) + (sealed[i] === 'A' ? 'B' : 'A') + sealed.slice(i + 1);
      expect(open(KEYS, 'a', 'here', changed)).toBeUndefined();
    }
    for (const text of ['', 'A', '%', 'A'.repeat(38)]) expect(open(KEYS, 'a', 'here', text)).toBeUndefined();
  });
});

describe('a login that has begun', () => {
  const clock = new FakeClock();
  const requests = new LoginRequests({
    ...{ sealed: new SealedText(() => KEYS, 'state'), place: 'idp', clock, cookie: 'oidc', isForm: false },
  });
  const begun = { nonce: 'n', verifier: 'v', returnTo: '/cart' };

  test('is bound to its browser, which keeps its cookie for the next one', () => {
    const first = requests.begin(begun, { cookieHeader: undefined, isSecure: true });
    expect(first.cookie).toMatch(/^__Host-oidc=[\w-]{22}; Max-Age=600; Path=\/; Secure; HttpOnly; SameSite=Lax$/);
    const cookieHeader = first.cookie.split(';')[0]!;
    const second = requests.begin(begun, { cookieHeader, isSecure: true });
    expect(second.cookie).toBe(first.cookie);
    for (const { state } of [first, second])
      expect(requests.returned(state, { cookieHeader, isSecure: true })).toMatchObject({ kind: 'own', request: begun });
    const others = [
      undefined,
      '__Host-oidc=AAAAAAAAAAAAAAAAAAAAAA',
      cookieHeader.slice(7),
      `${cookieHeader}; ${cookieHeader}`,
    ];
    for (const other of others)
      expect(requests.returned(first.state, { cookieHeader: other, isSecure: true })).toEqual({
        ...{ kind: 'stranger', returnTo: '/cart' },
      });
  });

  test('has a state that fits into URLs, whatever page was asked for', () => {
    const { state, cookie } = requests.begin(
      { ...begun, returnTo: `/${'x'.repeat(9_000)}` },
      { cookieHeader: undefined, isSecure: false },
    );
    expect(state.length).toBeLessThan(500);
    const client = { cookieHeader: cookie.split(';')[0]!, isSecure: false };
    expect(requests.returned(state, client)).toMatchObject({ request: { returnTo: '/' } });
    const longest = requests.begin(
      { ...begun, returnTo: `/${'x'.repeat(511)}` },
      { cookieHeader: undefined, isSecure: false },
    );
    expect(longest.state.length).toBeLessThan(1_024);
  });
});
