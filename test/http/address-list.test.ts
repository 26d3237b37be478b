import { describe, expect, test } from 'vitest';
import { createAddressList, isAddressOrBlock, unmapIpv4 } from '../../src/http/address-list.ts';

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
  });

  test('contains nothing when it is empty', () => {
    expect(createAddressList([]).contains('127.0.0.1')).toBe(false);
  });

  test.each(['', 'localhost', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1', '::/129', '10.0/16', 'x/8'])(
    'refuses %j and names it',
    entry => {
      expect(() => createAddressList([entry])).toThrow(`not an address or CIDR block: ${JSON.stringify(entry)}`);
      expect(isAddressOrBlock(entry)).toBe(false);
    },
  );

  test.each(['10.0.0.7', '::1', '10.0.0.0/8', '10.1.2.3/08', 'fc00::/7', '0.0.0.0/0', '::/128'])('takes %j', entry => {
    expect(() => createAddressList([entry])).not.toThrow();
    expect(isAddressOrBlock(entry)).toBe(true);
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
