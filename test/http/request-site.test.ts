import { describe, expect, test } from 'vitest';
import { hidesLaxCookies, requestSite } from '../../src/http/request-site.ts';

const PLAIN = { host: 'shop.test:8080', isSecure: false, isSchemeKnown: false };
const TLS = { host: 'shop.test', isSecure: true, isSchemeKnown: true };

describe('whose page sends a request', () => {
  test.each([
    [{ 'sec-fetch-site': 'same-origin' }, 'own'],
    [{ 'sec-fetch-site': 'same-site' }, 'own'],
    [{ 'sec-fetch-site': 'none' }, 'own'],
    [{ 'sec-fetch-site': 'cross-site' }, 'other'],
    [{ 'sec-fetch-site': 'same-origin, cross-site' }, 'other'],
    [{ 'sec-fetch-site': 'Same-Origin' }, 'other'],
    [{ 'sec-fetch-site': '' }, 'other'],
    // What the browser says of the site counts more than an origin.
    [{ 'sec-fetch-site': 'cross-site', origin: 'http://shop.test:8080' }, 'other'],
    [{ 'sec-fetch-site': 'same-site', origin: 'http://other.test' }, 'own'],
    [{ 'sec-fetch-site': 'same-origin', origin: 'null' }, 'own'],
    [{ 'sec-fetch-site': 'cross-site', origin: 'null' }, 'other'],
    [{}, 'unknown'],
    [{ referer: 'http://evil.test/' }, 'unknown'],
  ] as const)('%j: %s', (headers, site) => {
    expect(requestSite(headers, PLAIN)).toBe(site);
  });

  test.each([
    ['http://shop.test:8080', PLAIN, 'own'],
    ['HTTP://Shop.Test:8080', PLAIN, 'own'],
    ['https://shop.test:8080', PLAIN, 'own'], // something undeclared may end TLS in front of us
    ['https://shop.test:8080', { ...PLAIN, isSchemeKnown: true }, 'other'],
    ['http://shop.test', PLAIN, 'other'],
    ['http://shop.test:8081', PLAIN, 'other'],
    ['http://evil.test', PLAIN, 'other'],
    ['http://shop.test:8080.evil.test', PLAIN, 'other'],
    ['http://evil.test/shop.test:8080', PLAIN, 'other'],
    ['http://a@shop.test:8080', PLAIN, 'other'],
    ['null', PLAIN, 'opaque'],
    ['null', TLS, 'opaque'],
    ['null, null', PLAIN, 'other'],
    ['', PLAIN, 'other'],
    ['https://shop.test', TLS, 'own'],
    ['https://shop.test:443', TLS, 'own'],
    ['http://shop.test', TLS, 'other'],
    ['https://sub.shop.test', TLS, 'other'],
  ] as const)('an Origin of %j to %j: %s', (origin, place, site) => {
    expect(requestSite({ origin }, place)).toBe(site);
  });

  test('a request of another site brings no Lax cookie unless its method is safe', () => {
    const methods = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'POST', 'PUT', 'DELETE', 'PATCH', 'QUERY', ''];
    expect(methods.filter(method => !hidesLaxCookies(method, 'other'))).toEqual(['GET', 'HEAD', 'OPTIONS', 'TRACE']);
    expect(methods.filter(method => !hidesLaxCookies(method, 'opaque'))).toEqual(['GET', 'HEAD', 'OPTIONS', 'TRACE']);
    for (const site of ['own', 'unknown'] as const)
      expect(methods.filter(method => hidesLaxCookies(method, site))).toEqual([]);
  });
});
