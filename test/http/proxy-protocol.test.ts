import { describe, expect, test } from 'vitest';
import { parseProxyHeader } from '../../src/http/proxy-protocol.ts';

const text = (line: string) => parseProxyHeader(Buffer.from(line, 'latin1'));

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

function version2(options: { command?: number; family?: number; body?: Buffer; length?: number }): Buffer {
  const { command = 0x21, family = 0x11, body = Buffer.alloc(0), length = body.length } = options;
  return Buffer.concat([SIGNATURE, Buffer.from([command, family, length >> 8, length & 0xff]), body]);
}

const V4 = Buffer.from('c0000207c63364020bb801bb', 'hex'); // 192.0.2.7:3000 → 198.51.100.2:443
const V6 = Buffer.concat([
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from('20010db8000000000000000000000002', 'hex'),
  Buffer.from('0bb801bb', 'hex'),
]);
const tlv = (type: number, value: Buffer) =>
  Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]);

describe('version 1', () => {
  test.each([
    ['PROXY TCP4 192.0.2.7 198.51.100.2 3000 443\r\n', { address: '192.0.2.7', port: 3000 }],
    ['PROXY TCP6 2001:DB8:0:0::1 2001:db8::2 3000 443\r\n', { address: '2001:db8::1', port: 3000 }],
    ['PROXY TCP6 ::ffff:192.0.2.7 ::1 0 65535\r\n', { address: '192.0.2.7', port: 0 }],
    ['PROXY UNKNOWN\r\n', undefined],
    ['PROXY UNKNOWN ffff:f:f anything at all\r\n', undefined],
  ])('reads %j', (line, source) => {
    expect(text(line)).toEqual({ length: line.length, source, isSecure: undefined });
    expect(text(`${line}GET / HTTP/1.1\r\n`)).toEqual({ length: line.length, source, isSecure: undefined });
  });

  test('needs more as long as the line may go on, from the first byte', () => {
    const line = 'PROXY TCP4 192.0.2.7 198.51.100.2 3000 443\r\n';
    for (let length = 0; length < line.length; length++) expect(text(line.slice(0, length))).toBe('incomplete');
  });

  test.each([
    ['another protocol', 'PROXY UDP4 192.0.2.7 198.51.100.2 3000 443\r\n'],
    ['an address of the other family', 'PROXY TCP4 ::1 ::1 3000 443\r\n'],
    ['a host name', 'PROXY TCP4 client.example 198.51.100.2 3000 443\r\n'],
    ['no destination', 'PROXY TCP4 192.0.2.7\r\n'],
    ['a port too large', 'PROXY TCP4 192.0.2.7 198.51.100.2 65536 443\r\n'],
    ['a port with a sign', 'PROXY TCP4 192.0.2.7 198.51.100.2 +1 443\r\n'],
    ['a port with zeros before it', 'PROXY TCP4 192.0.2.7 198.51.100.2 0080 443\r\n'],
    ['two spaces', 'PROXY TCP4  192.0.2.7 198.51.100.2 3000 443\r\n'],
    ['more words', 'PROXY TCP4 192.0.2.7 198.51.100.2 3000 443 more\r\n'],
    ['no word', 'PROXY \r\n'],
    ['no end within 107 bytes', `PROXY UNKNOWN ${'f'.repeat(100)}`],
  ])('refuses %s', (_, line) => {
    expect(text(line)).toEqual({ malformed: expect.any(String) });
  });
});

describe('version 2', () => {
  test('reads addresses of both families', () => {
    expect(parseProxyHeader(version2({ body: V4 }))).toEqual({
      length: 28,
      source: { address: '192.0.2.7', port: 3000 },
      isSecure: undefined,
    });
    expect(parseProxyHeader(version2({ family: 0x21, body: V6 }))).toEqual({
      length: 52,
      source: { address: '2001:db8::1', port: 3000 },
      isSecure: undefined,
    });
  });

  test.each([
    ['LOCAL', version2({ command: 0x20, body: V4 })],
    ['an unspecified family', version2({ family: 0x00, body: tlv(0x04, Buffer.alloc(9)) })],
    ['a Unix socket', version2({ family: 0x31, body: Buffer.alloc(216) })],
  ])('knows no client from %s', (_, bytes) => {
    expect(parseProxyHeader(bytes)).toEqual({ length: bytes.length, source: undefined, isSecure: undefined });
  });

  test.each([
    ['does', 0x01, true],
    ['does not', 0x00, false],
  ])('learns that the client %s speak TLS to the proxy', (_, client, isSecure) => {
    const ssl = tlv(0x20, Buffer.from([client, 0, 0, 0, 0]));
    const body = Buffer.concat([V4, tlv(0x04, Buffer.alloc(3)), ssl, tlv(0x05, Buffer.from('id'))]);
    expect(parseProxyHeader(version2({ body }))).toMatchObject({ isSecure });
  });

  test('needs more until all of it is there, from the first byte', () => {
    const bytes = version2({ body: V4 });
    for (let length = 0; length < bytes.length; length++)
      expect(parseProxyHeader(bytes.subarray(0, length))).toBe('incomplete');
  });

  test.each([
    ['another version', version2({ command: 0x11, body: V4 })],
    ['an unknown command', version2({ command: 0x22, body: V4 })],
    ['a datagram', version2({ family: 0x12, body: V4 })],
    ['no room for its addresses', version2({ family: 0x21, body: V4 })],
    ['a field beyond its end', version2({ body: Buffer.concat([V4, Buffer.from([0x04, 0xff, 0xff, 0])]) })],
    ['a field cut off in its length', version2({ body: Buffer.concat([V4, Buffer.from([0x04, 0])]) })],
    ['more than 4096 bytes', version2({ length: 4081, body: V4 })],
  ])('refuses %s', (_, bytes) => {
    expect(parseProxyHeader(bytes)).toEqual({ malformed: expect.any(String) });
  });
});

test.each([
  ['a request', 'GET / HTTP/1.1\r\n'],
  ['the beginning of a TLS hello', '\x16\x03\x01'],
  ['the word in small letters', 'proxy TCP4 '],
  ['line breaks only', '\r\n\r\n\r\n'],
])('%s is no PROXY header', (_, bytes) => {
  expect(text(bytes)).toBe('absent');
});

test('never throws, whatever follows a good beginning', () => {
  let seed = 7;
  const random = () => {
    seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    return seed >> 16;
  };
  for (let round = 0; round < 5_000; round++) {
    const noise = Buffer.from(Array.from({ length: random() % 80 }, () => random() & 0xff));
    const start = round % 2 ? SIGNATURE : Buffer.from('PROXY ');
    const result = parseProxyHeader(Buffer.concat([start, noise]));
    if (typeof result === 'object' && 'length' in result)
      expect(result.length).toBeLessThanOrEqual(start.length + noise.length);
  }
});
