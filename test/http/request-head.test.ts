import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createAddressList, emptyAddressList } from '../../src/http/address-list.ts';
import { type RequestHead, readRequestHead } from '../../src/http/request-head.ts';
import { receiveGoodHead, receiveHead } from './receive-head.ts';

const trustLoopback = { trustedProxies: createAddressList(['127.0.0.0/8']) };

describe('a plain request', () => {
  test('gives its facts', async () => {
    const head = await receiveGoodHead([
      'GET /a//b/%2e%2e/c?x=1&y=%2F HTTP/1.1',
      'Host: Example.COM:8080',
      'X-A: 1',
      'x-a: 2',
    ]);
    expect(head).toMatchObject({
      method: 'GET',
      target: '/a//b/%2e%2e/c?x=1&y=%2F',
      path: '/a/c',
      query: 'x=1&y=%2F',
      httpVersion: '1.1',
      host: 'example.com:8080',
      peerAddress: '127.0.0.1',
      clientAddress: '127.0.0.1',
      isPeerTrusted: false,
      isSecure: false,
      isSchemeKnown: false,
      isUpgrade: false,
      clientCertificate: undefined,
    });
    expect(head.peerPort).toBeGreaterThan(0);
    expect(head.headers['x-a']).toBe('1, 2');
    expect(head.rawHeaders).toEqual(['Host', 'Example.COM:8080', 'X-A', '1', 'x-a', '2']);
  });

  test('from an IPv4 peer on a dual-stack socket has an IPv4 address', async () => {
    const head = await receiveGoodHead(['GET / HTTP/1.1', 'Host: a'], undefined, {
      host: '::',
      connectTo: '127.0.0.1',
    });
    expect(head.peerAddress).toBe('127.0.0.1');
    expect(head.clientAddress).toBe('127.0.0.1');
  });

  test('over a Unix socket has no peer address and is not trusted', async () => {
    const path = join(tmpdir(), `head-${process.pid}.sock`);
    const server = createServer();
    const received = new Promise(resolve =>
      server.on('request', request => resolve(readRequestHead(request, trustLoopback))),
    );
    server.listen(path);
    await once(server, 'listening');
    const socket = connect(path);
    socket.write('GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n');
    expect(await received).toMatchObject({ peerAddress: '', peerPort: 0, clientAddress: '', isPeerTrusted: false });
    socket.destroy();
    server.close();
  });

  test('keeps no reference to the request object', async () => {
    const head = await receiveGoodHead(['GET / HTTP/1.1', 'Host: a']);
    for (const value of Object.values(head).filter(value => value !== undefined))
      expect(value?.constructor?.name).not.toMatch(/Socket|IncomingMessage/);
  });
});

describe('the request target', () => {
  test.each([
    ['GET /', '/', ''],
    ['GET /?', '/', ''],
    ['GET /a?b?c', '/a', 'b?c'],
    ['GET //evil.test/a', '/evil.test/a', ''],
    ['GET /?x=/../%zz', '/', 'x=/../%zz'],
    ['GET http://example.com/a/../b?c', '/b', 'c'],
    ['GET HTTP://EXAMPLE.com', '/', ''],
    ['GET http://example.com?q', '/', 'q'],
    ['OPTIONS *', '*', ''],
  ])('%s has path %s and query %j', async (start, path, query) => {
    expect(await receiveGoodHead([`${start} HTTP/1.1`, 'Host: example.com'])).toMatchObject({ path, query });
  });

  test.each([
    ['GET http://other.test/', 'another host'],
    ['GET http://example.com:81/', 'another host'],
    ['GET http://user@example.com/', 'another host'],
    ['CONNECT example.com:443', 'forward proxy'],
    ['GET ftp://example.com/', 'neither'],
    ['GET *', 'neither'],
    ['GET /%', 'invalid escape'],
    ['GET /a%00', 'invalid escape'],
    ['GET /a\\..\\b', 'not allowed'],
    ['GET http://example.com/%zz', 'invalid escape'],
  ])('%s is refused with 400', async (start, reason) => {
    expect(await receiveHead([`${start} HTTP/1.1`, 'Host: example.com'])).toMatchObject({
      allow: false,
      status: 400,
      code: 'ERR_HTTP_BAD_REQUEST',
      reason: expect.stringContaining(reason),
    });
  });
});

describe('the Transfer-Encoding header', () => {
  test.each([
    ['POST / HTTP/1.1', 'gzip, chunked', 501],
    ['POST / HTTP/1.0', 'chunked', 400],
  ])('of %s: %s is refused with %i, and the connection ends', async (line, coding, status) => {
    expect(await receiveHead([line, 'Host: example.com', `Transfer-Encoding: ${coding}`])).toMatchObject({
      allow: false,
      status,
      headers: { Connection: 'close' },
    });
  });

  test('may be chunked', async () => {
    await receiveGoodHead(['POST / HTTP/1.1', 'Host: example.com', 'Transfer-Encoding: Chunked']);
  });
});

describe('the Host header', () => {
  test.each([
    ['example.com', 'example.com'],
    ['EXAMPLE.com:80', 'example.com:80'],
    ['example.com:', 'example.com'],
    ['[2001:DB8::1]:8080', '[2001:db8::1]:8080'],
    ['127.0.0.1', '127.0.0.1'],
  ])('%s is the host %s', async (sent, host) => {
    expect((await receiveGoodHead(['GET / HTTP/1.1', `Host: ${sent}`])).host).toBe(host);
  });

  test.each([
    ['missing', []],
    ['given twice', ['Host: example.com', 'Host: example.com']],
    ['given twice in different case', ['Host: example.com', 'HOST: evil.test']],
    ['empty', ['Host: ']],
    ['with a user name', ['Host: a@b']],
    ['with a path', ['Host: example.com/a']],
    ['with a port that is none', ['Host: example.com:x']],
    ['with a port above 65535', ['Host: example.com:65536']],
    ['that no URL could have', ['Host: 999.1.1.1']],
    ['with a broken escape', ['Host: a%zz']],
    ['with a space', ['Host: example.com evil.test']],
  ])('%s is refused with 400', async (_case, headers) => {
    expect(await receiveHead(['GET / HTTP/1.1', ...headers])).toMatchObject({ allow: false, status: 400 });
  });
});

describe('an upgrade', () => {
  test.each([
    ['GET / HTTP/1.1', ['Connection: Upgrade', 'Upgrade: websocket'], true],
    ['GET / HTTP/1.1', ['Connection: keep-alive, UPGRADE', 'Upgrade: WebSocket'], true],
    ['GET / HTTP/1.1', ['Connection: keep-alive', 'Connection: upgrade', 'Upgrade: h2c, websocket'], true],
    ['GET / HTTP/1.1', ['Connection: Upgrade', 'Upgrade: h2c'], false],
    ['GET / HTTP/1.1', ['Connection: Upgrade', 'Upgrade: websocket2'], false],
    ['GET / HTTP/1.1', ['Connection: close', 'Upgrade: websocket'], false],
    ['GET / HTTP/1.1', ['Upgrade: websocket'], false],
    ['GET / HTTP/1.1', ['Connection: Upgrade'], false],
    ['GET / HTTP/1.0', ['Connection: Upgrade', 'Upgrade: websocket'], false],
    ['POST / HTTP/1.1', ['Connection: Upgrade', 'Upgrade: websocket'], false],
  ])('%s with %j: %s', async (start, headers, isUpgrade) => {
    expect((await receiveGoodHead([start, 'Host: a', ...headers])).isUpgrade).toBe(isUpgrade);
  });
});

describe('forwarded headers', () => {
  const spoofed = [
    'X-Forwarded-For: 6.6.6.6',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: evil.test',
    'Forwarded: for=',
  ];
  const facts = ({ clientAddress, host, isSecure, isSchemeKnown, isPeerTrusted }: RequestHead) => ({
    clientAddress,
    host,
    isSecure,
    isSchemeKnown,
    isPeerTrusted,
  });

  test('from an untrusted peer are not believed', async () => {
    const head = await receiveGoodHead(['GET / HTTP/1.1', 'Host: example.com', ...spoofed], {
      trustedProxies: createAddressList(['10.0.0.0/8']),
    });
    expect(facts(head)).toEqual({
      clientAddress: '127.0.0.1',
      host: 'example.com',
      isSecure: false,
      isSchemeKnown: false,
      isPeerTrusted: false,
    });
  });

  test('from a trusted peer say who the client is, and how it came', async () => {
    const head = await receiveGoodHead(
      [
        'GET / HTTP/1.1',
        'Host: localhost:3000',
        'X-Forwarded-For: 6.6.6.6, 203.0.113.9',
        'X-Forwarded-Proto: https',
        'X-Forwarded-Host: Example.com',
      ],
      trustLoopback,
    );
    expect(facts(head)).toEqual({
      clientAddress: '203.0.113.9',
      host: 'example.com',
      isSecure: true,
      isSchemeKnown: true,
      isPeerTrusted: true,
    });
    expect(head.peerAddress).toBe('127.0.0.1');
  });

  test('in the form of RFC 7239 say the same', async () => {
    const head = await receiveGoodHead(
      ['GET / HTTP/1.1', 'Host: a', 'Forwarded: for="[2001:db8::1]:80";proto=http;host=example.com:8080'],
      trustLoopback,
    );
    expect(facts(head)).toEqual({
      clientAddress: '2001:db8::1',
      host: 'example.com:8080',
      isSecure: false,
      isSchemeKnown: true,
      isPeerTrusted: true,
    });
  });

  test('that are missing leave the peer as the client and the scheme unknown', async () => {
    expect(facts(await receiveGoodHead(['GET / HTTP/1.1', 'Host: a'], trustLoopback))).toEqual({
      clientAddress: '127.0.0.1',
      host: 'a',
      isSecure: false,
      isSchemeKnown: false,
      isPeerTrusted: true,
    });
  });

  test.each([['Forwarded: for="'], ['Forwarded: for'], ['X-Forwarded-Host: a@b']])(
    '%s from a trusted peer is refused with 400',
    async header => {
      expect(await receiveHead(['GET / HTTP/1.1', 'Host: a', header], trustLoopback)).toMatchObject({ status: 400 });
    },
  );

  test('do not make a forwarded host a way to a foreign absolute target', async () => {
    expect(
      await receiveHead(['GET http://evil.test/ HTTP/1.1', 'Host: a', 'X-Forwarded-Host: evil.test'], trustLoopback),
    ).toMatchObject({ status: 400 });
  });
});

test('TLS that we speak ourselves is certain', async () => {
  const request = {
    method: 'GET',
    url: '/',
    httpVersion: '1.1',
    headers: { host: 'a' },
    rawHeaders: ['Host', 'a'],
    socket: { remoteAddress: '203.0.113.1', remotePort: 4711, encrypted: true },
  };
  expect(readRequestHead(request as never, { trustedProxies: emptyAddressList })).toMatchObject({
    isSecure: true,
    isSchemeKnown: true,
  });
});
