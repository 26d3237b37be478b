import { describe, expect, test } from 'vitest';
import { parseResponseHead } from '../../../src/websocket/protocol/response-head.ts';

const HEAD = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A:1\r\nx-a: \t2 \r\nX-Empty:\r\n\r\n';

describe('parseResponseHead', () => {
  test('reads the status, joins repeated headers and says where the head ends', () => {
    const head = parseResponseHead(Buffer.from(`${HEAD}rest\r\n\r\n`))!;
    expect({ ...head, headers: { ...head.headers } }).toEqual({
      status: 101,
      headers: { upgrade: 'websocket', 'x-a': '1, 2', 'x-empty': '' },
      length: HEAD.length,
    });
  });

  test('waits for the end of the head, wherever it is cut', () => {
    for (let length = 0; length < HEAD.length; length++) {
      expect(parseResponseHead(Buffer.from(HEAD.slice(0, length)))).toBeUndefined();
    }
    expect(parseResponseHead(Buffer.from(HEAD))?.status).toBe(101);
  });

  test('takes a head without headers and a status line without a phrase', () => {
    expect(parseResponseHead(Buffer.from('HTTP/1.1 404\r\n\r\n'))).toMatchObject({ status: 404, length: 16 });
    expect(parseResponseHead(Buffer.from('HTTP/1.1 404 \r\n\r\n'))).toMatchObject({ status: 404, length: 17 });
  });

  test('does not confuse header names with what every object has', () => {
    const head = parseResponseHead(Buffer.from('HTTP/1.1 200 OK\r\ntoString: x\r\nconstructor: y\r\n\r\n'))!;
    expect(head.headers.constructor).toBe('y');
    expect(head.headers.valueOf).toBeUndefined();
  });

  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status out of range', 'HTTP/1.1 600 No\r\n\r\n'],
    ['a line without a colon', 'HTTP/1.1 101 OK\r\nUpgrade\r\n\r\n'],
    ['a space before the colon', 'HTTP/1.1 101 OK\r\nUpgrade : websocket\r\n\r\n'],
    ['a folded line', 'HTTP/1.1 101 OK\r\nUpgrade: web\r\n socket\r\n\r\n'],
    ['an empty name', 'HTTP/1.1 101 OK\r\n: x\r\n\r\n'],
    ['a bare line feed', 'HTTP/1.1 101 OK\r\nA: b\nC: d\r\n\r\n'],
    ['a bare carriage return', 'HTTP/1.1 101 OK\r\nA: b\rC: d\r\n\r\n'],
    ['NUL', 'HTTP/1.1 101 OK\r\nA: b\0\r\n\r\n'],
    ['a head without end', `HTTP/1.1 101 OK\r\nA: ${'b'.repeat(17_000)}`],
    ['a head that is too long', `HTTP/1.1 101 OK\r\nA: ${'b'.repeat(17_000)}\r\n\r\n`],
  ])('refuses %s', (_what, text) => {
    expect(() => parseResponseHead(Buffer.from(text))).toThrow(
      expect.objectContaining({ code: 'ERR_WS_BAD_HANDSHAKE' }),
    );
  });
});
