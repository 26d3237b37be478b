import { describe, expect, test } from 'vitest';
import { isAddressOrBlock } from '../../src/http/address-block.ts';
import { createAddressList, doubtfulEntries } from '../../src/http/address-list.ts';
import { unmapIpv4 } from '../../src/http/ip-address.ts';

describe('an address list', () => {
  const list = createAddressList(['192.168.0.0/24', '10.0.0.7', 'fc00::/7', '::1', '127.0.0.0/8']);

  test.each(['192.168.0.0', '192.168.0.255', '10.0.0.7', 'fd12:3456::1', '::1', '127.9.9.9', '::ffff:192.168.0.9'])(
    'contains %s',
    address => expect(list.contains(address)).toBe(true),
  );

  test.each(['192.168.1.0', '10.0.0.8', 'fe80::1', '::2', '8.8.8.8', '', 'unknown', '192.168.0', '192.168.0.1:80'])(
    'does not contain %j',
    address => expect(list.contains(address)).toBe(false),
  );

  test('takes a block whose address is not the first of the block', () => {
    expect(createAddressList(['10.1.2.3/8']).contains('10.200.0.1')).toBe(true);
  });

  test('takes all addresses of one family with /0, and none of the other', () => {
    expect(createAddressList(['0.0.0.0/0']).contains('203.0.113.1')).toBe(true);
    expect(createAddressList(['0.0.0.0/0']).contains('2001:db8::1')).toBe(false);
    expect(createAddressList(['::/0']).contains('2001:db8::1')).toBe(true);
    for (const address of ['203.0.113.1', '127.0.0.1', '::ffff:203.0.113.1', '::ffff:cb00:7101'])
      expect(createAddressList(['::/0']).contains(address)).toBe(false);
    expect(createAddressList(['::/1']).contains('203.0.113.1')).toBe(false);
    expect(createAddressList(['0.0.0.0/0']).contains('::1')).toBe(false);
  });

  test.each<[entry: string, inside: string[], outside: string[]]>([
    ['::ffff:10.0.0.0/104', ['10.1.2.3', '::ffff:10.1.2.3'], ['11.0.0.1', '::1']],
    ['::ffff:a00:0/104', ['10.1.2.3'], ['11.0.0.1']],
    ['::ffff:0:0/96', ['203.0.113.1', '127.0.0.1'], ['::1', '2001:db8::1']],
    ['::FFFF:10.0.0.7', ['10.0.0.7'], ['10.0.0.8']],
    ['10.0.0.0/8', ['::ffff:10.1.2.3', '0:0:0:0:0:ffff:a01:203'], ['::10.1.2.3']],
    ['fe80::/10', ['fe80::1', 'fe80::1%eth0', 'FEBF::1'], ['fec0::1']],
    ['::/96', ['::1'], ['0.0.0.1']],
  ])('%s means the addresses of one family, however they are written', (entry, inside, outside) => {
    const list = createAddressList([entry]);
    for (const address of inside) expect([address, list.contains(address)]).toEqual([address, true]);
    for (const address of outside) expect([address, list.contains(address)]).toEqual([address, false]);
  });

  test('contains nothing when it is empty', () => {
    expect(createAddressList([]).contains('127.0.0.1')).toBe(false);
  });

  test.each([
    '',
    'localhost',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    '::/129',
    '10.0/16',
    'x/8',
    '010.0.0.1',
    '10.0.0.0/+8',
    '10.0.0.0/8.0',
    ' 10.0.0.1',
    '10.0.0.1 ',
    'fe80::1%eth0',
    'fe80::%eth0/64',
    '[::1]',
    '::ffff:10.0.0.0/8',
    '0x0a.0.0.1',
    '10.0.0.*',
    '10.0.0.1-9',
  ])('refuses %j and names it', entry => {
    expect(() => createAddressList([entry])).toThrow(`not an address or CIDR block: ${JSON.stringify(entry)}`);
    expect(isAddressOrBlock(entry)).toBe(false);
  });

  test.each(['10.0.0.7', '::1', '10.0.0.0/8', '10.1.2.3/08', 'fc00::/7', '0.0.0.0/0', '::/128'])('takes %j', entry => {
    expect(() => createAddressList([entry])).not.toThrow();
    expect(isAddressOrBlock(entry)).toBe(true);
  });
});

describe('what an entry is probably not meant to be', () => {
  test.each<[entry: string, doubt: RegExp]>([
    ['192.168.1.0/2', /"192\.168\.1\.0\/2" is the block 192\.0\.0\.0\/2, .*1,073,741,824 addresses/],
    ['10.1.2.3/8', /is the block 10\.0\.0\.0\/8/],
    ['10.1.2.3/08', /is the block 10\.0\.0\.0\/8/],
    ['10.0.0.1/31', /is the block 10\.0\.0\.0\/31/],
    ['fd00::1/8', /is the block fd00::\/8/],
    ['2001:db8:0:1::/48', /is the block 2001:db8::\/48/],
    ['::ffff:10.1.2.3/104', /is the block 10\.0\.0\.0\/8/],
    ['0.0.0.0/0', /every IPv4 address.*no IPv6 address/],
    ['::/0', /every IPv6 address.*no IPv4 address/],
    ['::ffff:0:0/96', /every IPv4 address/],
    ['1.2.3.4/0', /every IPv4 address/],
  ])('%s: %s', (entry, doubt) => {
    const kind = doubt.source.startsWith('every') ? 'every-address-trusted' : 'wide-block';
    expect(doubtfulEntries(['127.0.0.1', entry])).toEqual([{ kind, index: 1, message: expect.stringMatching(doubt) }]);
  });

  test('nothing is said of what is whole', () => {
    const fine = [
      '10.0.0.7',
      '10.0.0.0/8',
      '10.0.0.7/32',
      '192.168.0.0/24',
      'fc00::/7',
      '::1',
      '::1/128',
      'fe80::/10',
      '::ffff:10.0.0.0/104',
    ];
    expect(doubtfulEntries(fine)).toEqual([]);
  });
});

test.each([
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['192.0.2.1', '192.0.2.1'],
  ['::1', '::1'],
  ['::ffff:c000:201', '192.0.2.1'],
  ['::FFFF:C000:0201', '192.0.2.1'],
  ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
  ['0000::ffff:192.0.2.1', '192.0.2.1'],
  ['::ffff:0:c000:201', '::ffff:0:c000:201'],
  ['::ffff:192.0.2.1%eth0', '::ffff:192.0.2.1%eth0'],
  ['::ffff:unknown', '::ffff:unknown'],
  ['2001:db8::ffff:c000:201', '2001:db8::ffff:c000:201'],
])('%s is the address %s', (address, unmapped) => expect(unmapIpv4(address)).toBe(unmapped));
