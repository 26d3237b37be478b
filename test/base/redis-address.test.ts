import { expect, test } from 'vitest';
import { parseRedisAddresses } from '../../src/base/redis-address.ts';

const sentinel = (host: string, port = 26_379) => ({ host, port, isTls: false, database: 0 });

test.each([
  ['redis+sentinel://a/shop', { name: 'shop', sentinels: [sentinel('a')], master: { isTls: false, database: 0 } }],
  [
    'redis+sentinel://ann:p%40ss@a:1,b,[::1]:2/my%20shop/3?prefix=x&replicas=1',
    {
      name: 'my shop',
      sentinels: [sentinel('a', 1), sentinel('b'), sentinel('::1', 2)],
      master: { isTls: false, database: 3, username: 'ann', password: 'p@ss' },
    },
  ],
  [
    'rediss+sentinel://:secret@a/shop/?sentinelUsername=eve&sentinelPassword=s%26t',
    {
      name: 'shop',
      sentinels: [{ ...sentinel('a'), isTls: true, username: 'eve', password: 's&t' }],
      master: { isTls: true, database: 0, password: 'secret' },
    },
  ],
])('%s is an address of Sentinels', (url, expected) => {
  expect(parseRedisAddresses([url]).sentinel).toEqual(expected);
});

test('several addresses of Sentinels are one list', () => {
  const { sentinel: found, servers } = parseRedisAddresses(['redis+sentinel://a/shop', 'redis+sentinel://b:1/shop']);
  expect(found!.sentinels).toEqual([sentinel('a'), sentinel('b', 1)]);
  expect(servers).toEqual([]);
});

test('options of a plain address are read', () => {
  expect(parseRedisAddresses(['redis://ann:p%40@h:1/2?prefix=x&replicas=2'])).toEqual({
    servers: [{ host: 'h', port: 1, isTls: false, username: 'ann', password: 'p@', database: 2 }],
    sentinel: undefined,
    options: { prefix: 'x', replicas: '2' },
  });
});

test.each([
  [['redis+sentinel://user:hunter2@a:26379'], /not one of Sentinels.*"name"/],
  [['redis+sentinel://user:hunter2@a:26379/'], /not one of Sentinels/],
  [['redis+sentinel://user:hunter2@a:70000/shop'], /not one of Sentinels/],
  [['redis+sentinel://user:hunter2@a,,b/shop'], /not one of Sentinels/],
  [['redis+sentinel://user:hunter2@a/shop/first'], /not one of Sentinels/],
  [['redis+sentinel://user:hunter2@a b/shop'], /not one of Sentinels/],
  [
    ['redis+sentinel://a/shop?sentinelPasswort=hunter2'],
    /an option "sentinelPasswort".*sentinelUsername and sentinelPass/,
  ],
  [['redis+sentinel://a/shop', 'redis+sentinel://b/ship?prefix=hunter2'], /differ in more than host and port/],
  [['redis+sentinel://a/shop', 'redis://user:hunter2@b'], /some of the addresses are of Sentinels/],
  [['redis://user:hunter2@a/first'], /not a URL such as redis:/],
  [['redis://user:hunter2@a/-1'], /not a URL such as redis:/],
  [['redis://user:hunter2@a/1e3'], /not a URL such as redis:/],
  [['redis://user:hunter2@a,b'], /not a URL such as redis:/],
  [['redis://a?sentinelPassword=hunter2'], /may have prefix and replicas/],
  [[], /no address given/],
])('%j is refused, without a password in the message', (urls, message) => {
  const parse = () => parseRedisAddresses(urls);
  expect(parse).toThrow(TypeError);
  expect(parse).toThrow(message);
  expect(parse).not.toThrow(/hunter2/);
});
