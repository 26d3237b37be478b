import { describe, expect, test } from 'vitest';
import { createAddressList } from '../../src/http/address-list.ts';
import { parseForwarded } from '../../src/http/forwarded.ts';
import { forwardedHeaders } from '../../src/http/forwarded-headers.ts';
import { receiveGoodHead } from './receive-head.ts';

async function headersFor(
  lines: readonly string[],
  trustedProxies: readonly string[],
): Promise<Record<string, string>> {
  const head = await receiveGoodHead(['GET / HTTP/1.1', ...lines], {
    trustedProxies: createAddressList(trustedProxies),
  });
  const raw = forwardedHeaders(head);
  return Object.fromEntries(raw.flatMap((name, i) => (i % 2 === 0 ? [[name, raw[i + 1]!]] : [])));
}

describe('from an untrusted peer', () => {
  test('nothing that it says remains', async () => {
    const spoofed = [
      'X-Forwarded-For: 6.6.6.6',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: evil.test',
      'Forwarded: for=6.6.6.6',
    ];
    expect(await headersFor(['Host: example.com:8080', ...spoofed], [])).toEqual({
      'X-Forwarded-For': '127.0.0.1',
      'X-Forwarded-Proto': 'http',
      'X-Forwarded-Host': 'example.com:8080',
      'X-Forwarded-Port': '8080',
      Forwarded: 'for=127.0.0.1;host="example.com:8080";proto=http',
    });
  });
});

describe('from a trusted peer', () => {
  test('the lists are continued, and scheme, host and port are those of the client', async () => {
    const lines = [
      'Host: localhost:3000',
      'X-Forwarded-For: 6.6.6.6, 203.0.113.1',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: example.com',
    ];
    expect(await headersFor(lines, ['127.0.0.1'])).toEqual({
      'X-Forwarded-For': '6.6.6.6, 203.0.113.1, 127.0.0.1',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Host': 'example.com',
      'X-Forwarded-Port': '443',
      Forwarded: 'for=6.6.6.6, for=203.0.113.1, for=127.0.0.1;host=example.com;proto=https',
    });
  });

  test('that spoke RFC 7239 both forms are continued', async () => {
    const lines = ['Host: a', 'Forwarded: for="[2001:db8::1]:4711";proto=https;host=example.com, for=_hidden'];
    expect(await headersFor(lines, ['127.0.0.1'])).toEqual({
      'X-Forwarded-For': '[2001:db8::1]:4711, _hidden, 127.0.0.1',
      'X-Forwarded-Proto': 'http',
      'X-Forwarded-Host': 'a',
      'X-Forwarded-Port': '80',
      Forwarded: 'for="[2001:db8::1]:4711", for=_hidden, for=127.0.0.1;host=a;proto=http',
    });
  });

  test('a Forwarded header that its X-Forwarded-For does not vouch for is not passed on', async () => {
    const headers = await headersFor(
      ['Host: a', 'X-Forwarded-For: 203.0.113.1', 'Forwarded: for=6.6.6.6'],
      ['127.0.0.1'],
    );
    expect(headers.Forwarded).toBe('for=203.0.113.1, for=127.0.0.1;host=a;proto=http');
  });

  test('what it reports cannot break out of its element', async () => {
    const headers = await headersFor(['Host: a', 'X-Forwarded-For: 1";for="6.6.6.6, 2001:DB8::1'], ['127.0.0.1']);
    expect(parseForwarded(headers.Forwarded!)).toEqual([
      { for: '1";for="6.6.6.6' },
      { for: '[2001:DB8::1]' },
      { for: '127.0.0.1', host: 'a', proto: 'http' },
    ]);
  });
});
