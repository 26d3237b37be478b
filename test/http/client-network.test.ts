import { expect, test } from 'vitest';
import { clientNetwork } from '../../src/http/client-network.ts';

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::ffff:c000:201', '192.0.2.1'],
  ['64:ff9b::192.0.2.1', '192.0.2.1'],
  ['64:ff9b::c000:201', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::', '2001:db8:1:2::/64'],
  ['2001:0DB8::1', '2001:db8::/64'],
  ['2001:db8::1:2:3:4', '2001:db8::/64'],
  ['::1', '::/64'],
  ['::', '::/64'],
  ['fe80::1%eth0', 'fe80::1'],
  ['fe80::2', 'fe80::2'],
  ['fd00:1::7', 'fd00:1::/64'],
  ['', undefined],
  ['unknown', undefined],
  ['192.0.2', undefined],
])('%s is a client of the network %s', (address, network) => expect(clientNetwork(address)).toBe(network));

test('a client is in the same network each time, and after thousands of others', () => {
  for (let round = 0; round < 3; round++)
    for (let i = 0; i < 1_500; i++) {
      const group = i.toString(16);
      expect(clientNetwork(`2001:db8:${group}::7`)).toBe(i === 0 ? '2001:db8::/64' : `2001:db8:${group}::/64`);
    }
});
