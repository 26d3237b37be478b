import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { joinHeaders, type ResponseHead } from '../../src/http/response-head.ts';
import { ResponseReader, type ResponseSink } from '../../src/http/response-reader.ts';
import { seededRandom } from '../websocket/protocol/seeded-random.ts';

interface Read {
  status: number;
  headers: readonly string[];
  body: string;
  trailers: readonly string[] | undefined;
  interim: number[];
  isKeptAlive: boolean;
  /** Bytes behind the response. */
  rest: string;
}

class Collector implements ResponseSink {
  readonly reader = new ResponseReader(this, 16 * 1024);
  head: ResponseHead | undefined;
  body = '';
  trailers: readonly string[] | undefined;
  readonly interim: number[] = [];
  lastTold = 0;

  onInformation({ status }: ResponseHead): void {
    this.interim.push(status);
  }

  onHead(head: ResponseHead): void {
    this.head = head;
  }

  onBody(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    this.body += chunk.toString('latin1', start, end);
    if (isLast) this.lastTold++;
  }

  onEnd(rawTrailers: readonly string[]): void {
    if (this.trailers) throw new Error('ended twice');
    this.trailers = rawTrailers;
  }
}

/**
 * Reads a response that arrives in pieces, each at the begin of a buffer with other bytes behind it. @param sizes Of
 * the pieces, again and again.
 */
function read(text: string, { method = 'GET', sizes = [text.length], ends = false } = {}): Read {
  const sink = new Collector();
  sink.reader.expect(method);
  let at = 0;
  let rest = '';
  for (let i = 0; at < text.length; i++) {
    const size = Math.min(sizes[i % sizes.length]!, text.length - at);
    const chunk = Buffer.from(`${text.slice(at, at + size)}\r\n\r\nHTTP/1.1 200 old bytes\r\n\r\n`, 'latin1');
    const stopped = sink.reader.push(chunk, 0, size);
    rest += text.slice(at + stopped, at + size);
    at += size;
  }
  if (ends) sink.reader.end();
  const { body, head, interim, reader, trailers } = sink;
  if (!head) throw new Error('no head');
  const { rawHeaders: headers, status } = head;
  return { status, headers, body, trailers, interim, isKeptAlive: reader.isKeptAlive, rest };
}

const OK = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`;

describe('a response', () => {
  test.each([
    ['with a length', `${OK}Content-Length: 3\r\n\r\nabc`, {}, 'abc', true],
    ['with a length of nothing', `${OK}Content-Length: 0\r\n\r\n`, {}, '', true],
    ['to HEAD', `${OK}Content-Length: 3\r\n\r\n`, { method: 'HEAD' }, '', true],
    ['without content', 'HTTP/1.1 204 No Content\r\n\r\n', {}, '', true],
    ['that is not modified', 'HTTP/1.1 304 \r\nContent-Length: 3\r\n\r\n', {}, '', true],
    ['until the connection ends', `${OK}\r\nabc`, { ends: true }, 'abc', false],
    ['in chunks', `${CHUNKED}1\r\na\r\n0002;x="y"\r\nbc\r\n0\r\n\r\n`, {}, 'abc', true],
    ['of a server that closes', `${OK}Connection: close\r\nContent-Length: 1\r\n\r\na`, {}, 'a', false],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na', {}, 'a', false],
    ['of HTTP/1.0 that is kept', 'HTTP/1.0 200\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na', {}, 'a', true],
  ])('%s ends where it ends, wherever it is cut', (_, text, options, body, isKeptAlive) => {
    for (let size = 1; size <= text.length; size++)
      expect(read(text, { ...options, sizes: [size] })).toMatchObject({ body, trailers: [], isKeptAlive, rest: '' });
  });

  test('has trailers, and interim responses before it', () => {
    const text = `HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n${CHUNKED}1\r\na\r\n0\r\nX-A: 1\r\nX-B:\t2 \r\n\r\n`;
    for (let size = 1; size <= text.length; size++)
      expect(read(text, { sizes: [size] })).toMatchObject({
        interim: [103, 100],
        body: 'a',
        trailers: ['X-A', '1', 'X-B', '2'],
      });
  });

  test.each([
    `${OK}Content-Length: 1\r\n\r\na`,
    `${CHUNKED}1\r\na\r\n0\r\n\r\n`,
    'HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n',
  ])('leaves alone what follows it: %j', text => {
    for (let size = 1; size <= text.length + 9; size++)
      expect(read(`${text}HTTP/1.1 `, { sizes: [size] }).rest).toBe('HTTP/1.1 ');
  });

  test('that breaks off is not complete', () => {
    for (const text of [OK, `${OK}Content-Length: 2\r\n\r\na`, `${CHUNKED}1\r\na\r\n0\r\n`]) {
      const sink = new Collector();
      sink.reader.expect('GET');
      sink.reader.push(Buffer.from(text), 0, text.length);
      expect([sink.reader.end(), sink.trailers]).toEqual([false, undefined]);
    }
  });

  test('says once that its last byte is there', () => {
    const sink = new Collector();
    sink.reader.expect('GET');
    for (const part of [`${OK}Content-Length: 2\r\n\r\n`, 'a', 'b'])
      sink.reader.push(Buffer.from(part), 0, part.length);
    expect([sink.body, sink.lastTold]).toEqual(['ab', 1]);
  });

  test('tells nothing while the reader is paused', () => {
    const sink = new Collector();
    sink.onHead = head => {
      sink.head = head;
      sink.reader.isPaused = true;
    };
    sink.reader.expect('GET');
    const text = `${OK}Content-Length: 0\r\n\r\n`;
    sink.reader.push(Buffer.from(text), 0, text.length);
    expect(sink.trailers).toBeUndefined();
    sink.reader.isPaused = false;
    sink.reader.push(Buffer.alloc(0), 0, 0);
    expect(sink.trailers).toEqual([]);
  });
});

const MALFORMED: [string, string][] = [
  ['another protocol', 'SSH-2.0-OpenSSH\r\n\r\n'],
  ['something that has no end', '\xfe'.repeat(100)],
  ['another version', 'HTTP/2.0 200 OK\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
  ['a status below 100', 'HTTP/1.1 099 OK\r\n\r\n'],
  ['an empty line before it', `\r\n${OK}Content-Length: 0\r\n\r\n`],
  ['a folded line', `${OK}A: b\r\n c\r\nContent-Length: 0\r\n\r\n`],
  ['a space before a colon', `${OK}Content-Length : 0\r\n\r\n`],
  ['a space before the first name', `${OK} Content-Length: 0\r\n\r\n`],
  ['a bare line feed', `${OK}A: b\nContent-Length: 0\r\n\r\n`],
  ['a bare carriage return', `${OK}A: b\rContent-Length: 0\r\n\r\n`],
  ['NUL', `${OK}A: b\0\r\nContent-Length: 0\r\n\r\n`],
  ['a line without a colon', `${OK}Content-Length\r\n\r\n`],
  ['an empty name', `${OK}: 0\r\n\r\n`],
  ['two lengths', `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`],
  ['two lengths in one line', `${OK}Content-Length: 1, 1\r\n\r\na`],
  ['a signed length', `${OK}Content-Length: +1\r\n\r\na`],
  ['a hexadecimal length', `${OK}Content-Length: 0x1\r\n\r\na`],
  ['an empty length', `${OK}Content-Length:\r\n\r\n`],
  ['a length beside chunks', `${OK}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['another coding', `${OK}Transfer-Encoding: gzip\r\n\r\n`],
  ['a coding around the chunks', `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
  ['chunks in chunks', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['chunks in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a chunk without a size', `${CHUNKED}\r\na\r\n0\r\n\r\n`],
  ['a chunk with a signed size', `${CHUNKED}+1\r\na\r\n0\r\n\r\n`],
  ['a chunk with 0x', `${CHUNKED}0x1\r\na\r\n0\r\n\r\n`],
  ['a chunk size that is too large', `${CHUNKED}1${'0'.repeat(16)}\r\n`],
  ['a chunk longer than its size', `${CHUNKED}1\r\nab\r\n0\r\n\r\n`],
  ['a chunk size that ends with a line feed', `${CHUNKED}1\na\r\n0\r\n\r\n`],
  ['a chunk that ends with a line feed', `${CHUNKED}1\r\na\n0\r\n\r\n`],
  ['a trailer that is none', `${CHUNKED}0\r\nX-A\r\n\r\n`],
  ['a head without end', `${OK}A: ${'b'.repeat(17_000)}`],
  ['a head that is too long', `${OK}A: ${'b'.repeat(17_000)}\r\n\r\n`],
  ['too many headers', `${OK}${'a:\r\n'.repeat(1001)}\r\n`],
  ['trailers that are too long', `${CHUNKED}0\r\nA: ${'b'.repeat(17_000)}`],
  ['a chunk line without end', `${CHUNKED}1;${'x'.repeat(2_000)}`],
];

test.each(MALFORMED)('%s is malformed, wherever it is cut', (_, text) => {
  for (const sizes of [[text.length], [1], [7, 2, 64]])
    expect(() => read(text, { sizes })).toThrow(expect.objectContaining({ code: 'ERR_HTTP_BAD_RESPONSE' }));
});

describe("Node's parser", () => {
  const server = net.createServer(socket => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(answer, 'latin1'));
  });
  let answer = '';
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => void server.close());

  test('finds the same in whatever we can read', async () => {
    const random = seededRandom(7);
    const pieces = [
      ...['HTTP/1.1 200 OK\r\n', 'HTTP/1.0 200 OK\r\n', 'HTTP/1.1 204 No\r\n', 'HTTP/1.1 100 Continue\r\n\r\n'],
      ...[
        'Content-Length: 3\r\n',
        'content-length: 0\r\n',
        'Transfer-Encoding: chunked\r\n',
        'transfer-encoding:chunked \r\n',
      ],
      ...[
        'Connection: close\r\n',
        'Connection: keep-alive, x\r\n',
        'X:\t a b \t\r\n',
        'X: \xe9\xa0\r\n',
        ' folded\r\n',
      ],
      ...[
        '\r\n',
        '\r\n\r\n',
        '\n',
        '\r',
        'abc',
        '3\r\nabc\r\n',
        '0\r\n\r\n',
        '0\r\nT: 1\r\n\r\n',
        '3;a=b\r\n',
        '0',
        ':',
        ' ',
      ],
    ];
    const pick = (from: number, to: number) => pieces[from + random(to - from)]!;
    let compared = 0;
    for (let round = 0; round < 1500; round++) {
      let text = pick(0, 4);
      for (let i = random(4); i > 0; i--) text += random(10) > 0 ? pick(4, 13) : pick(13, pieces.length);
      text += '\r\n';
      for (let i = random(4); i > 0; i--) text += pick(13, pieces.length);
      let ours: Read;
      try {
        ours = read(text, { sizes: [1 + random(20)], ends: true });
      } catch {
        continue;
      }
      if (ours.trailers === undefined || ours.rest !== '') continue;
      answer = text;
      const request = http.get({ port: (server.address() as AddressInfo).port, agent: false });
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      const body = (await buffer(response)).toString('latin1');
      const { rawHeaders, rawTrailers, statusCode } = response;
      expect({ text, statusCode, rawHeaders, body, rawTrailers }).toEqual({
        ...{ text, statusCode: ours.status, rawHeaders: ours.headers },
        ...{ body: ours.body, rawTrailers: ours.trailers },
      });
      compared++;
    }
    expect(compared).toBeGreaterThan(100);
  });
});

test('repeated headers are joined, whatever their case, and none is taken for what every object has', () => {
  const headers = joinHeaders(['X-A', '1', 'constructor', 'y', 'x-a', '2']);
  expect({ ...headers }).toEqual({ 'x-a': '1, 2', constructor: 'y' });
  expect(headers.valueOf).toBeUndefined();
});
