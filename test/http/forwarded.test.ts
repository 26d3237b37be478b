import { describe, expect, test } from 'vitest';
import { createAddressList } from '../../src/http/address-list.ts';
import { findClient, nodeAddress, parseForwarded, readForwardedChain } from '../../src/http/forwarded.ts';
import { cpuTime } from '../cpu-time.ts';

describe('the Forwarded header', () => {
  test.each([
    ['for=192.0.2.43', [{ for: '192.0.2.43' }]],
    ['For="[2001:db8:cafe::17]:4711"', [{ for: '[2001:db8:cafe::17]:4711' }]],
    ['for=192.0.2.60;proto=http;by=203.0.113.43', [{ for: '192.0.2.60', proto: 'http', by: '203.0.113.43' }]],
    ['for=192.0.2.43, for=198.51.100.17', [{ for: '192.0.2.43' }, { for: '198.51.100.17' }]],
    ['for="a,b;c\\"d";host=x', [{ for: 'a,b;c"d', host: 'x' }]],
    ['for=1.2.3.4; , ,proto=https;', [{ for: '1.2.3.4' }, { proto: 'https' }]],
    ['for=_hidden, for=unknown', [{ for: '_hidden' }, { for: 'unknown' }]],
    ['for=[::1]', [{ for: '[::1]' }]],
    ['', []],
  ])('%j is read', (text, elements) => expect(parseForwarded(text)).toEqual(elements));

  test.each([
    'for',
    'for=',
    'for="a',
    'for=a b',
    'for=a for=b',
    '=a',
    'for=a;for=b',
    'for=a;FOR=b',
    'for="a"b',
    'for=ä',
  ])('%j is malformed', text => expect(parseForwarded(text)).toBeUndefined());

  test('that is malformed behind thousands of spaces is refused without trying every way to divide them', () => {
    const text = `for=a,${' '.repeat(60_000)}b`;
    // Tried one by one they take seconds.
    expect(cpuTime(() => expect(parseForwarded(text)).toBeUndefined())).toBeLessThan(500);
  });
});

describe('the chain of hops', () => {
  test('comes from X-Forwarded-For when both headers are there', () => {
    const chain = readForwardedChain({ 'x-forwarded-for': '203.0.113.1, 10.0.0.1', forwarded: 'for=6.6.6.6' });
    expect(chain?.hops).toEqual(['203.0.113.1', '10.0.0.1']);
  });

  test('comes from Forwarded when X-Forwarded-For is missing or empty', () => {
    const forwarded = 'for=203.0.113.1;proto=https;host=example.com, for=10.0.0.1';
    expect(readForwardedChain({ 'x-forwarded-for': ' ', forwarded })).toEqual({
      hops: ['203.0.113.1', '10.0.0.1'],
      protos: ['https', ''],
      hosts: ['example.com', ''],
      ports: [],
    });
  });

  test('does not come from a malformed Forwarded', () => {
    expect(readForwardedChain({ forwarded: 'for="' })).toBeUndefined();
    expect(readForwardedChain({ forwarded: 'for="', 'x-forwarded-for': '203.0.113.1' })?.hops).toEqual(['203.0.113.1']);
  });
});

describe('the client', () => {
  const trusted = createAddressList(['10.0.0.0/8', '::1']);
  const client = (hops: string, protos = '', hosts = '') =>
    findClient(
      readForwardedChain({ 'x-forwarded-for': hops, 'x-forwarded-proto': protos, 'x-forwarded-host': hosts })!,
      '10.0.0.1',
      trusted,
    );

  test.each([
    ['203.0.113.1', '203.0.113.1'],
    ['6.6.6.6, 203.0.113.1', '203.0.113.1'],
    ['6.6.6.6, 203.0.113.1, 10.0.0.2', '203.0.113.1'],
    ['203.0.113.1, 10.0.0.3, 10.0.0.2', '203.0.113.1'],
    ['10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['unknown, 10.0.0.2', '10.0.0.2'],
    ['203.0.113.1, unknown', '10.0.0.1'],
    ['', '10.0.0.1'],
    ['203.0.113.1:4711', '203.0.113.1'],
    ['[2001:db8::1]:4711', '2001:db8::1'],
    ['2001:DB8::1, ::1', '2001:db8::1'],
    ['::ffff:203.0.113.1', '203.0.113.1'],
  ])('of X-Forwarded-For: %s is %s', (hops, address) => expect(client(hops).address).toBe(address));

  test.each([
    ['203.0.113.1', 'https', true],
    ['203.0.113.1', 'http', false],
    ['203.0.113.1', 'WSS', true],
    ['203.0.113.1', 'ws', false],
    ['203.0.113.1', '', undefined],
    ['203.0.113.1', 'gopher', undefined],
    // One value per hop: the one that belongs to the client's hop, not one a client put to the left of it.
    ['203.0.113.1, 10.0.0.2', 'https, http', true],
    ['6.6.6.6, 203.0.113.1', 'https, http', false],
    // The proxy next to us set one value for the whole chain.
    ['203.0.113.1, 10.0.0.2', 'https', true],
    ['', 'https', true],
  ])('with hops %j and protos %j is secure: %s', (hops, protos, isSecure) => {
    expect(client(hops, protos).isSecure).toBe(isSecure);
  });

  test('asked for the host that its own hop reports', () => {
    expect(client('203.0.113.1, 10.0.0.2', '', 'example.com, inner.local').host).toBe('example.com');
    expect(client('6.6.6.6, 203.0.113.1', '', 'evil.test, example.com').host).toBe('example.com');
    expect(client('203.0.113.1').host).toBeUndefined();
  });
});

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['192.0.2.1:80', '192.0.2.1'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['2001:db8::1', '2001:db8::1'],
  ['2001:0DB8:0:0:0::1', '2001:db8::1'],
  ['fe80::1%eth0', 'fe80::1%eth0'],
  ['unknown', undefined],
  ['_abc', undefined],
  ['192.0.2.1:x', undefined],
  ['[192.0.2.1', undefined],
])('the address of the node %s is %s', (node, address) => expect(nodeAddress(node)).toBe(address));
