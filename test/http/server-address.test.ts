import { expect, test } from 'vitest';
import { parseServerAddress } from '../../src/http/server-address.ts';

test.each([
  ['http://localhost:3000', 'http://localhost:3000', 'localhost', 3000, false],
  ['http://localhost:3000/', 'http://localhost:3000', 'localhost', 3000, false],
  ['http://localhost', 'http://localhost', 'localhost', 80, false],
  ['https://Example.com', 'https://example.com', 'example.com', 443, true],
  ['ws://localhost', 'ws://localhost', 'localhost', 80, false],
  ['wss://localhost:443', 'wss://localhost', 'localhost', 443, true],
  ['http://[::1]:3000', 'http://[::1]:3000', '::1', 3000, false],
])('%s is the server %s: host %s, port %i, TLS %s', (text, url, hostname, port, isTls) => {
  expect(parseServerAddress(text)).toEqual({ url, hostname, port, isTls, socketPath: undefined });
});

test('unix: and a path is a socket in the file system', () => {
  expect(parseServerAddress('unix:/run/app.sock')).toEqual({
    ...{ url: 'unix:/run/app.sock', hostname: '', port: 0, isTls: false },
    socketPath: '/run/app.sock',
  });
});

test.each([
  'localhost:3000',
  'http://localhost:3000/path',
  'http://localhost/?a',
  'http://localhost/#a',
  'ftp://example.com',
  'https://user@host',
  'http://localhost:99999',
  'unix:',
  '',
])('%j is not a server', text => expect(parseServerAddress(text)).toBeUndefined());
