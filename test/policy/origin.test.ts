import { describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/base/logger.ts';
import { createOriginPolicy } from '../../src/policy/origin.ts';
import { headWith } from './head.ts';

const overTls = { isSecure: true, isSchemeKnown: true };
const overPlainForSure = { isSecure: false, isSchemeKnown: true };

function allows(
  origins: 'any' | readonly (string | RegExp)[],
  origin: string | undefined,
  changes: Parameters<typeof headWith>[0] = {},
): boolean {
  const policy = createOriginPolicy(origins, { logger: silentLogger });
  return policy(headWith({ ...changes, headers: { ...changes.headers, origin } })) === undefined;
}

describe("'self'", () => {
  test.each([
    ['https://example.com', 'example.com', overTls, true],
    ['https://example.com:443', 'example.com', overTls, true],
    ['https://example.com', 'example.com:443', overTls, true],
    ['HTTPS://EXAMPLE.COM', 'example.com', overTls, true],
    ['https://example.com:8443', 'example.com:8443', overTls, true],
    ['https://example.com:8443', 'example.com', overTls, false],
    ['https://example.com', 'example.com:8443', overTls, false],
    ['http://example.com', 'example.com', overTls, false],
    ['http://example.com:443', 'example.com', overTls, false],
    ['https://example.com', 'example.com', overPlainForSure, false],
    ['http://example.com', 'example.com', overPlainForSure, true],
    ['http://example.com', 'example.com:80', overPlainForSure, true],
    ['http://[::1]:8080', '[::1]:8080', overPlainForSure, true],
    ['https://evil.test', 'example.com', overTls, false],
    ['https://www.example.com', 'example.com', overTls, false],
    ['https://example.com.evil.test', 'example.com', overTls, false],
    ['https://evilexample.com', 'example.com', overTls, false],
    ['https://example.com@evil.test', 'example.com', overTls, false],
    ['https://example.com/', 'example.com', overTls, false],
    ['chrome-extension://example.com', 'example.com', overTls, false],
  ])('for %s at host %s (%j): %s', (origin, host, scheme, expected) => {
    expect(allows(['self'], origin, { host, ...scheme })).toBe(expected);
  });

  test.each([
    ['http://example.com', 'example.com', true],
    ['https://example.com', 'example.com', true],
    ['https://example.com', 'example.com:443', true],
    ['https://example.com:8443', 'example.com:8443', true],
    ['https://example.com', 'example.com:80', false],
    ['https://example.com:8443', 'example.com', false],
    ['https://evil.test', 'example.com', false],
    ['ftp://example.com', 'example.com', false],
  ])('where the scheme is not known, for %s at host %s compares host and port: %s', (origin, host, expected) => {
    expect(allows(['self'], origin, { host })).toBe(expected);
  });

  test('warns once that something undeclared ends TLS in front of us', () => {
    const warnings: [object, string][] = [];
    const logger: Logger = { ...silentLogger, warn: (fields, message) => warnings.push([fields, message]) };
    const policy = createOriginPolicy(['self'], { logger });
    const request = (origin: string) => policy(headWith({ headers: { origin } }));

    expect(request('http://example.com')).toBeUndefined();
    expect(warnings).toEqual([]);
    expect(request('https://example.com')).toBeUndefined();
    expect(request('https://example.com')).toBeUndefined();
    expect(warnings).toEqual([
      [
        { origin: 'https://example.com', host: 'example.com', peer: '203.0.113.1' },
        expect.stringContaining('trustedProxies'),
      ],
    ]);
  });
});

describe('a list', () => {
  test('does not take the own origin unless it says so', () => {
    expect(allows(['https://app.test'], 'https://example.com', overTls)).toBe(false);
    expect(allows(['https://app.test', 'self'], 'https://example.com', overTls)).toBe(true);
  });

  test('that is empty takes no page', () => {
    expect(allows([], 'https://example.com', overTls)).toBe(false);
  });

  test.each([
    ['https://app.test', 'https://app.test', true],
    ['https://app.test', 'https://app.test:443', true],
    ['https://app.test:443', 'https://app.test', true],
    ['HTTPS://App.Test', 'https://app.test', true],
    ['https://münchen.test', 'https://xn--mnchen-3ya.test', true],
    ['https://app.test', 'http://app.test', false],
    ['https://app.test', 'https://app.test:8443', false],
    ['https://app.test', 'https://app.test.evil.test', false],
    ['http://localhost:5173', 'http://localhost:5173', true],
    ['http://[::1]:5173', 'http://[::1]:5173', true],
    ['chrome-extension://abcdefgh', 'chrome-extension://abcdefgh', true],
    ['https://*.app.test', 'https://a.app.test', true],
    ['https://*.app.test', 'https://a.b.app.test', true],
    ['https://*.App.test', 'https://A.app.test', true],
    ['https://*.app.test', 'https://app.test', false],
    ['https://*.app.test', 'https://evilapp.test', false],
    ['https://*.app.test', 'http://a.app.test', false],
    ['https://*.app.test', 'https://a.app.test:8443', false],
    ['https://*.app.test', 'https://a.app.test.evil.test', false],
    ['https://*.app.test', 'https://a.appxtest', false],
    ['https://*.app.test', 'https://.app.test', false],
    ['https://*.app.test:8443', 'https://a.app.test:8443', true],
  ])('with %s, for %s: %s', (entry, origin, expected) => {
    expect(allows([entry], origin)).toBe(expected);
  });

  test.each([
    [/https:\/\/(app|www)\.test/, 'https://www.test', true],
    [/https:\/\/(app|www)\.test/, 'https://www.test.evil.test', false],
    [/https:\/\/(app|www)\.test/, 'http://evil.test?https://www.test', false],
    // Each alternative must match the whole, not only the first its beginning and the last its end.
    [/https:\/\/a\.test|https:\/\/b\.test/, 'https://a.test.evil.test', false],
    [/https:\/\/a\.test|b\.test/, 'https://evil.b.test', false],
    [/^https:\/\/a\.test$/m, 'https://a.test', true],
    [/HTTPS:\/\/A\.TEST/i, 'https://a.test', true],
  ])('with the expression %s, for %s: %s', (entry, origin, expected) => {
    expect(allows([entry], origin)).toBe(expected);
  });

  test('with a global expression gives the same answer each time', () => {
    const policy = createOriginPolicy([/https:\/\/a\.test/g], { logger: silentLogger });
    const head = headWith({ headers: { origin: 'https://a.test' } });
    expect([policy(head), policy(head), policy(head)]).toEqual([undefined, undefined, undefined]);
  });
});

test("'any' takes every origin, also null", () => {
  expect(allows('any', 'https://evil.test')).toBe(true);
  expect(allows('any', 'null')).toBe(true);
  expect(allows('any', undefined, { headers: { cookie: 'a=b' } })).toBe(true);
});

test('a request without Origin passes when it carries no cookie', () => {
  expect(allows(['self'], undefined)).toBe(true);
  expect(allows(['self'], undefined, { headers: { cookie: 'SESSIONID=x' } })).toBe(false);
});

test.each([
  'null',
  'NULL',
  '',
  'example.com',
  'https://',
  'https://a.test, https://example.com',
  'https://example.com https://a.test',
])('the Origin %j is refused', origin => expect(allows(['self', /.*/], origin, overTls)).toBe(false));

test('a refusal is 403, and its reason names the origin and the host', () => {
  const policy = createOriginPolicy(['self'], { logger: silentLogger });
  expect(policy(headWith({ headers: { origin: 'https://evil.test', cookie: 'secret=1' } }))).toMatchObject({
    allow: false,
    status: 403,
    closeCode: 1008,
    code: 'ERR_POLICY_ORIGIN',
    reason: 'the origin "https://evil.test" is not allowed on example.com',
  });
});

test.each([
  ['https://example.com/', 'write "https://example.com"'],
  ['https://example.com/app?x', 'write "https://example.com"'],
  ['wss://example.com:8443', 'write "https://example.com:8443"'],
  ['ws://example.com', 'write "http://example.com"'],
  ['https://user@example.com', 'write "https://example.com"'],
  ['example.com', 'write "https://example.com"'],
  ['', 'write "https://example.com"'],
  ['null', 'cannot be allowed'],
  ['*', 'origins: "any"'],
  ['any', 'origins: "any"'],
  ['https://*', 'write "https://example.com", "https://*.example.com"'],
  ['https://a.*.test', 'write "https://example.com", "https://*.example.com"'],
  ['https://*.a.test/', 'write "https://*.a.test"'],
  ['https://*.a!b', 'not an origin'],
  ['*.example.com', 'write "https://example.com", "https://*.example.com"'],
])('%j in a list is a TypeError that says how to write it', (entry, remedy) => {
  const create = () => createOriginPolicy(['self', entry], { logger: silentLogger });
  expect(create).toThrow(TypeError);
  expect(create).toThrow(`not an origin: ${JSON.stringify(entry)}`);
  expect(create).toThrow(remedy);
});
