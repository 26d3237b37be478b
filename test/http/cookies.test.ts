import { describe, expect, test } from 'vitest';
import {
  cookieValues,
  hostPrefixConflict,
  isCookieDomain,
  isCookiePath,
  parseCookies,
  serializeSetCookie,
} from '../../src/http/cookies.ts';

describe('parseCookies', () => {
  test.each([
    [undefined, []],
    ['', []],
    ['a=1', [['a', '1']]],
    [
      'a=1; b=2',
      [
        ['a', '1'],
        ['b', '2'],
      ],
    ],
    [
      'a=1;b=2 ;\tc = 3',
      [
        ['a', '1'],
        ['b', '2'],
        ['c', '3'],
      ],
    ],
    [
      'a=1; a=2; a=1',
      [
        ['a', '1'],
        ['a', '2'],
        ['a', '1'],
      ],
    ],
    ['a=b=c', [['a', 'b=c']]],
    ['a=', [['a', '']]],
    [
      'a="x y"; b="',
      [
        ['a', 'x y'],
        ['b', '"'],
      ],
    ],
    ['a=%41', [['a', '%41']]],
    ['novalue; =noname; ;; a=1;', [['a', '1']]],
    [
      '__proto__=1; constructor=2',
      [
        ['__proto__', '1'],
        ['constructor', '2'],
      ],
    ],
  ] as [string | undefined, [string, string][]][])('reads %j', (header, expected) => {
    expect(parseCookies(header).map(({ name, value }) => [name, value])).toEqual(expected);
  });

  test('takes a header of a hundred thousand separators in linear time', () => {
    expect(parseCookies(`${';'.repeat(100_000)}a=1${' ;'.repeat(100_000)}`)).toEqual([{ name: 'a', value: '1' }]);
  });
});

describe('cookieValues', () => {
  test('matches the whole name and its case, and keeps duplicates in order', () => {
    expect(cookieValues('sid=1; SID=2; xsid=3; sidx=4; sid=5', 'sid')).toEqual(['1', '5']);
  });

  test('stops at the limit', () => {
    expect(cookieValues('a=1; a=2; a=3', 'a', 2)).toEqual(['1', '2']);
  });
});

describe('serializeSetCookie', () => {
  test('writes every attribute', () => {
    const cookie = {
      name: 'a',
      value: 'b',
      maxAge: 60,
      domain: 'example.com',
      path: '/x',
      secure: true,
      httpOnly: true,
    } as const;
    expect(serializeSetCookie({ ...cookie, sameSite: 'none' })).toBe(
      'a=b; Max-Age=60; Domain=example.com; Path=/x; Secure; HttpOnly; SameSite=None',
    );
    expect(serializeSetCookie({ name: 'a', value: '' })).toBe('a=');
  });

  test('accepts prefixed names that keep their promise', () => {
    expect(serializeSetCookie({ name: '__Host-a', value: 'b', path: '/', secure: true })).toBe(
      '__Host-a=b; Path=/; Secure',
    );
    expect(serializeSetCookie({ name: '__Secure-a', value: 'b', domain: 'x.org', secure: true })).toContain(
      'Domain=x.org',
    );
  });

  test.each([
    ['an empty name', { name: '', value: 'x' }],
    ['a name with a separator', { name: 'a b', value: 'x' }],
    ['a value with a semicolon', { name: 'a', value: 'x; Path=/' }],
    ['a value with a line break', { name: 'a', value: 'x\r\nSet-Cookie: y=z' }],
    ['a value that is not ASCII', { name: 'a', value: 'ä' }],
    ['more than 4096 bytes', { name: 'a', value: 'x'.repeat(4096) }],
    ['a path that is not one', { name: 'a', value: 'x', path: 'x' }],
    ['a path with an attribute in it', { name: 'a', value: 'x', path: '/; Domain=evil.example' }],
    ['a domain that is not one', { name: 'a', value: 'x', domain: 'a;b' }],
    ['a fractional max age', { name: 'a', value: 'x', maxAge: 1.5 }],
    ['SameSite=None without Secure', { name: 'a', value: 'x', sameSite: 'none' }],
    ['__Host- without Secure', { name: '__Host-a', value: 'x', path: '/' }],
    ['__Host- with a path', { name: '__Host-a', value: 'x', path: '/x', secure: true }],
    ['__Host- without a path', { name: '__Host-a', value: 'x', secure: true }],
    [
      '__host- (case does not matter) with a domain',
      { name: '__host-a', value: 'x', path: '/', domain: 'x.org', secure: true },
    ],
    ['__Secure- without Secure', { name: '__Secure-a', value: 'x' }],
  ] as const)('refuses %s', (_what, cookie) => {
    expect(() => serializeSetCookie(cookie)).toThrow(TypeError);
  });
});

test.each([
  ['example.com', true],
  ['localhost', true],
  ['a b', false],
  ['a;b', false],
  ['.example.com', false],
  ['', false],
])('%j is the domain of a cookie: %s', (text, expected) => expect(isCookieDomain(text)).toBe(expected));

test.each([
  ['/', true],
  ['/a', true],
  ['/a b', true],
  ['/a,b', true],
  ['a', false],
  ['/a;b', false],
  ['/ü', false],
])('%j is the path of a cookie: %s', (text, expected) => expect(isCookiePath(text)).toBe(expected));

test.each([
  [{ name: '__Host-a' }, undefined],
  [{ name: '__Host-a', path: '/' }, undefined],
  [{ name: '__Host-a', path: '/a' }, 'path'],
  [{ name: '__host-a', domain: 'a.example' }, 'domain'],
  [{ name: '__Secure-a', domain: 'a.example', path: '/a' }, undefined],
  [{ name: 'a', domain: 'a.example', path: '/a' }, undefined],
])('the cookie %j has a %s that its name forbids', (cookie, expected) => {
  expect(hostPrefixConflict(cookie)).toBe(expected);
});
