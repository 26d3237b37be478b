import { expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { parseRoutePattern } from '../../src/gateway/route-pattern.ts';
import { createOriginPolicy } from '../../src/policy/origin.ts';

// A configuration is judged without the parts that will use it. What it accepts they must accept, or `holdfast check` would say "ok"
// to what `holdfast serve` cannot run; and what they accept must not be refused.

function accepts(judge: () => unknown): boolean {
  try {
    judge();
    return true;
  } catch {
    return false;
  }
}

test.each([
  ...['/', '/*', '/a', '/a/', '/a/*', '/:a', '/:a/b/:c', '/:a/:a', '/a:b', '/:', '/:1', '/{x}', '/a*', '/*/a', '/a/**'],
  ...[
    '/a/../b',
    '/a/./b',
    '/.',
    '/..',
    '/...',
    '/%2e%2e/x',
    '/%2E',
    '/.%2e',
    '/a\\b',
    '/a%5cb',
    '/a%2',
    '/%',
    '/a%2fb',
  ],
  ...[
    '/straße',
    '/a b',
    '/ ',
    '/a%20b',
    '/%ff',
    '/%00',
    '/\u0000',
    '/a;b',
    '/a%41',
    '/a//b',
    '//',
    '/a//*',
    'x',
    '',
    '/a?b',
    '/#',
  ],
])('the configuration and the router agree on the path %j', path => {
  const isConfig = accepts(() => parseConfig({ routes: [{ path, redirect: '/elsewhere' }] }));
  expect(isConfig).toBe(accepts(() => parseRoutePattern(path)));
});

test.each([
  ...[
    'self',
    'null',
    'any',
    '*',
    'https://a',
    'https://a/',
    'https://a/b',
    'https://a:443',
    'https://a:99999',
    'https://a:',
  ],
  ...[
    'https://*.a',
    'https://*',
    'https://a*b',
    'https://*.*.a',
    'http://x.*.a',
    'http://*.a:80',
    'https://*.a:*',
    'https://*.',
  ],
  ...[
    'ftp://a',
    'ws://a',
    'wss://*.a',
    'chrome-extension://abc',
    'chrome-extension://*.abc',
    'file://',
    'https://user@a',
  ],
  ...['https://[::1]:8080', 'https://A', 'https://straße.de', 'a', 'a.example.com', 'https://a b', 'https://a\\b', ''],
])('the configuration and the policy agree on the origin %j', origin => {
  const route = { path: '/a', fetch: () => new Response(), policy: { origins: [origin] } };
  const isConfig = accepts(() => parseConfig({ routes: [route] }));
  expect(isConfig).toBe(accepts(() => createOriginPolicy([origin], { logger: silentLogger })));
});
