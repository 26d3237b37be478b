import { expect, test } from 'vitest';
import { normalizePath } from '../../src/http/path.ts';

test.each([
  ['/', '/'],
  ['/socket', '/socket'],
  ['/socket/', '/socket/'],
  ['/a/b.c/~d_e-f', '/a/b.c/~d_e-f'],
  ['//socket', '/socket'],
  ['/a///b//', '/a/b/'],
  ['/%73ocket', '/socket'],
  ['/%7Ealice/%2d', '/~alice/-'],
  ['/socket/../app', '/app'],
  ['/socket/%2e%2E/app', '/app'],
  ['/a/./b', '/a/b'],
  ['/a/.', '/a/'],
  ['/a/b/..', '/a/'],
  ['/..', '/'],
  ['/../../etc/passwd', '/etc/passwd'],
  ['/a//../b', '/b'],
  ['/.well-known/x', '/.well-known/x'],
  ['/a/...', '/a/...'],
  ['/socket%2f..%2fapp', '/socket%2F..%2Fapp'],
  ['/a%20b%3Fc', '/a%20b%3Fc'],
  ['/caf\u00c3\u00a9', '/caf%C3%A9'],
  ['/caf%c3%a9', '/caf%C3%A9'],
  ['/socket;x=1', '/socket;x=1'],
  ['/a/...;x', '/a/...;x'],
  ['/a@b:c', '/a@b:c'],
])('%s becomes %s', (path, normal) => {
  expect(normalizePath(path)).toBe(normal);
});

test.each([
  '/%',
  '/a%2',
  '/a%zz',
  '/%00',
  '/a%5cb',
  '/a%5Cb',
  '/a\\b',
  '/a b',
  '/a\tb',
  '/a#b',
  '/a\x7f',
  '/a/..;/b',
  '/a/.;x=1/b',
  '/a/%2e%2E;',
])('%j cannot be trusted', path => {
  expect(normalizePath(path)).toBeUndefined();
});

test('a normal path stays as it is when it is normalised again', () => {
  for (const path of ['/a%2Fb', '/caf%C3%A9/', '/', '/a/..b/c', '/%25%32%65']) {
    const once = normalizePath(path)!;
    expect(normalizePath(once)).toBe(once);
  }
});

test('an escaped percent sign is not decoded twice', () => {
  expect(normalizePath('/%252e%252e/app')).toBe('/%252e%252e/app');
});
