import { defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { createOriginPolicy } from '../../src/policy/origin.ts';
import { knock, WiredServer, wires } from '../server/wires.ts';
import { headWith } from './head.ts';

const allows = (rule: string | RegExp, origin: string) =>
  createOriginPolicy([rule], { logger: silentLogger })(headWith({ headers: { origin } })) === undefined;

describe.each([
  ['a text', '/https://[a-z]+\\.example\\.com/'],
  ['a RegExp', /https:\/\/[a-z]+\.example\.com/gmy],
  ['a RegExp with anchors of its own', /^https:\/\/[a-z]+\.example\.com$/],
])('an expression given as %s', (_, rule) => {
  test.each([
    ['https://shop.example.com', true],
    ['https://shop.example.com', true],
    ['HTTPS://SHOP.example.com', true],
    ['https://shop.example.com:443', true],
    ['https://shop.example.com:8443', false],
    ['https://shop.example.com.evil.test', false],
    ['https://shopxexample.com', false],
    ['http://shop.example.com', false],
    ['https://evil.test/https://shop.example.com', false],
    ['https://shop2.example.com', false],
  ])('for %s: %s', (origin, expected) => {
    expect(allows(rule, origin)).toBe(expected);
  });
});

test('alternatives of an expression do not get round its ends', () => {
  expect(allows('/https://a\\.test|https://b\\.test/', 'https://a.test')).toBe(true);
  expect(allows('/https://a\\.test|https://b\\.test/', 'https://a.test.evil.test')).toBe(false);
});

test('upper case in an expression means lower case only with the flag i', () => {
  expect(allows('/https://EXAMPLE\\.com/i', 'https://example.com')).toBe(true);
  expect(allows('/https://EXAMPLE\\.com/', 'https://example.com')).toBe(false);
});

test.each([['/(?:a+)+/'], [/(?:https?:\/\/)?(?:[a-z]+\.?)+\.com/], ['/[a-z]+[a-z0-9]+/']])(
  'an endpoint with the origin %s is refused when it is defined',
  rule => {
    expect(() => defineEndpoint({ path: '/', origins: [rule] })).toThrow(
      /^defineEndpoint: "origins": the expression "\/.*\/" is refused: for some texts its time/,
    );
  },
);

test('an expression lets handshakes in by every wire, at an endpoint and a route', async () => {
  const origins = ['/https://[a-z]+\\.example\\.com/'];
  const server = await WiredServer.start({
    routes: [
      { endpoint: defineEndpoint({ path: '/own', origins }) },
      { endpoint: defineEndpoint({ path: '/routed' }), policy: { origins } },
    ],
  });
  const knocks = (path: string, origin: string) =>
    Promise.all(wires.map(async wire => (await knock(server, wire, { path, headers: { Origin: origin } })).status));
  const seen = [
    await knocks('/own', 'https://shop.example.com'),
    await knocks('/routed', 'https://shop.example.com'),
    await knocks('/own', 'https://shop.example.com.evil.test'),
    await knocks('/routed', 'https://shop.example.com.evil.test'),
  ];
  await server.close();
  expect(seen).toEqual([
    [101, 101, 101],
    [101, 101, 101],
    [403, 403, 403],
    [403, 403, 403],
  ]);
});
