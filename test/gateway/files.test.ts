import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFileServer } from '../../src/gateway/targets/files.ts';
import { emptyAddressList } from '../../src/http/address-list.ts';
import { isRefusal, type Refusal } from '../../src/http/refusal.ts';
import { readRequestHead } from '../../src/http/request-head.ts';
import { writeRefusal } from '../../src/http/write-refusal.ts';
import type { ResponseCommit } from '../../src/session/request/response-commit.ts';

const outside = mkdtempSync(join(tmpdir(), 'files-'));
const folder = join(outside, 'public');
let server: Server;
let port: number;
const refusals: Refusal[] = [];

beforeAll(async () => {
  mkdirSync(join(folder, 'docs'), { recursive: true });
  mkdirSync(join(folder, 'empty'));
  mkdirSync(join(folder, 'a:b'));
  mkdirSync(join(folder, '.git'));
  mkdirSync(join(folder, '.well-known', '.hidden'), { recursive: true });
  writeFileSync(join(outside, 'secret.txt'), 'secret');
  writeFileSync(join(folder, 'hello.txt'), 'hello world');
  writeFileSync(join(folder, 'nothing.bin'), '');
  writeFileSync(join(folder, 'large.bin'), Buffer.alloc(100_000));
  writeFileSync(join(folder, 'straße 1.html'), 'street');
  writeFileSync(join(folder, 'index.html'), '<h1>root</h1>');
  writeFileSync(join(folder, 'docs', 'index.html'), '<h1>docs</h1>');
  writeFileSync(join(folder, '.env'), 'secret');
  writeFileSync(join(folder, '.git', 'config'), 'secret');
  writeFileSync(join(folder, '.well-known', 'token'), 'token');
  writeFileSync(join(folder, '.well-known', '.hidden', 'token'), 'secret');

  const serve = createFileServer(folder);
  server = createServer(async (request, response) => {
    const head = readRequestHead(request, { trustedProxies: emptyAddressList });
    const refusal = isRefusal(head) ? head : await serve(request, response, head.path.replace(/^\/static/, ''));
    if (!refusal) return;
    refusals.push(refusal);
    writeRefusal(response, refusal);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(outside, { recursive: true });
});

/** One request as raw bytes, so that nothing tidies the path on the way. */
async function get(target: string, headers: readonly string[] = [], method = 'GET') {
  const socket = connect(port, '127.0.0.1');
  socket.write(`${[`${method} ${target} HTTP/1.1`, 'Host: a', 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`);
  const answer = await text(socket);
  const end = answer.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = answer.slice(0, end).split('\r\n');
  return {
    status: Number(statusLine.split(' ')[1]),
    headers: Object.fromEntries(
      lines.map(line => [line.split(': ')[0]!.toLowerCase(), line.slice(line.indexOf(': ') + 2)]),
    ),
    body: answer.slice(end + 4),
  };
}

describe('a file', () => {
  test('is sent with its type, length, validators and accepted ranges', async () => {
    const answer = await get('/static/hello.txt');
    expect(answer).toMatchObject({ status: 200, body: 'hello world' });
    expect(answer.headers).toMatchObject({
      'content-type': 'text/plain; charset=utf-8',
      'content-length': '11',
      'accept-ranges': 'bytes',
      etag: expect.stringMatching(/^W?\/?".+"$/),
      'last-modified': expect.stringContaining('GMT'),
    });
  });

  test('that is empty is sent', async () => {
    expect(await get('/static/nothing.bin')).toMatchObject({
      status: 200,
      body: '',
      headers: { 'content-length': '0' },
    });
  });

  test('may have letters beyond ASCII and spaces in its name', async () => {
    expect(await get('/static/stra%C3%9Fe%201.html')).toMatchObject({ status: 200, body: 'street' });
  });

  test('is not sent again when the client has it', async () => {
    const { etag } = (await get('/static/hello.txt')).headers;
    expect(await get('/static/hello.txt', [`If-None-Match: ${etag}`])).toMatchObject({ status: 304, body: '' });
  });

  test('is sent in part', async () => {
    expect(await get('/static/hello.txt', ['Range: bytes=6-'])).toMatchObject({
      status: 206,
      body: 'world',
      headers: { 'content-range': 'bytes 6-10/11' },
    });
  });

  test('that is shorter than the range is refused with 416 and its length, without the headers of the file', async () => {
    const answer = await get('/static/hello.txt', ['Range: bytes=99-']);
    expect(answer).toMatchObject({ status: 416, headers: { 'content-range': 'bytes */11' } });
    expect(answer.headers).not.toHaveProperty('etag');
    expect(answer.headers).not.toHaveProperty('last-modified');
    expect(answer.body).toBe('Range Not Satisfiable\n');
  });

  test('that is not the expected one is refused with 412', async () => {
    expect((await get('/static/hello.txt', ['If-Match: "other"'])).status).toBe(412);
  });

  test('is described without its content by HEAD', async () => {
    expect(await get('/static/hello.txt', [], 'HEAD')).toMatchObject({
      status: 200,
      body: '',
      headers: { 'content-length': '11' },
    });
  });
});

describe('a folder', () => {
  test.each([
    ['/static/', '<h1>root</h1>'],
    ['/static/docs/', '<h1>docs</h1>'],
  ])('%s answers with its index.html', async (path, body) => {
    expect(await get(path)).toMatchObject({
      status: 200,
      body,
      headers: { 'content-type': 'text/html; charset=utf-8' },
    });
  });

  test.each([
    ['/static', './static/'],
    ['/static?a=/b', './static/?a=/b'],
    ['/static/docs', './docs/'],
    ['/static/docs?a=b', './docs/?a=b'],
    ['/static//x/..//docs', './docs/'],
    ['/static/a:b', './a:b/'],
    ['http://a/static/docs', './docs/'],
  ])('%s is redirected to %s', async (path, location) => {
    expect(await get(path)).toMatchObject({ status: 301, headers: { location } });
  });

  test('without index.html is not found', async () => {
    expect((await get('/static/empty/')).status).toBe(404);
  });
});

describe('not found is', () => {
  test.each([
    '/static/missing.txt',
    '/static/hello.txt/',
    '/static/hello.txt/more',
    '/static/.env',
    '/static/%2eenv',
    '/static/.git/config',
    '/static/.well-known/.hidden/token',
    '/static/../secret.txt',
    '/static/%2e%2e/secret.txt',
    '/static/docs%2findex.html',
    '/static/..%2fsecret.txt',
    '/static/..%2Fsecret.txt',
    '/static/docs/..%2f..%2f..%2fsecret.txt',
    '/static/%252e%252e/secret.txt',
    '/static/%FF',
    // Refused before, where files are a route.
    '/static/..%5csecret.txt',
    `/static/${'a'.repeat(300)}`,
  ])('%s', async path => {
    refusals.length = 0;
    expect(await get(path)).toMatchObject({ status: 404, body: 'Not Found\n' });
    expect(refusals).toMatchObject([{ code: 'ERR_ROUTE_NOT_FOUND' }]);
  });

  test.each(['/static/..\\secret.txt', '/static/hello.txt%00'])('%s, which never gets here', async path =>
    expect((await get(path)).status).toBe(400),
  );
});

test('/.well-known/ is served', async () => {
  expect(await get('/static/.well-known/token')).toMatchObject({ status: 200, body: 'token' });
});

test.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])('%s is refused with 405', async method => {
  expect(await get('/static/hello.txt', ['Content-Length: 0'], method)).toMatchObject({
    status: 405,
    headers: { allow: 'GET, HEAD' },
  });
});

test('serving settles when the client goes away in the middle', async () => {
  writeFileSync(join(folder, 'large.bin'), new Uint8Array(32 * 1024 * 1024));
  const serve = createFileServer(folder);
  const settled = new Promise<unknown>(resolve => {
    const slow = createServer((request, response) => {
      void serve(request, response, '/large.bin').then(resolve);
    });
    slow.listen(0, '127.0.0.1', () => {
      const socket = connect((slow.address() as AddressInfo).port, '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      socket.once('data', () => {
        socket.destroy();
        slow.close();
      });
    });
  });
  expect(await settled).toBeUndefined();
});

describe.each(['a commit', 'an asynchronous commit'])('a head that cannot be written after %s', kind => {
  const isAsynchronous = kind.includes('asynchronous');
  test.each([
    'HEAD /hello.txt',
    'GET /hello.txt',
    'GET /docs',
    'GET /nothing.bin',
    'GET /large.bin',
    'conditional GET /hello.txt',
  ])('%s rejects, and leaves nothing of the file', async asked => {
    const serve = createFileServer(folder);
    const [path, method] = asked.split(' ').toReversed();
    const told = () => void failing.response!.setHeader('Cache-Control', 'private, no-cache');
    const commit = {
      commit: () => (isAsynchronous ? Promise.resolve(undefined) : undefined),
      beforeHead: () => (isAsynchronous ? Promise.resolve().then(told) : told()),
      tell: told,
      tellAgain: told,
    } as unknown as ResponseCommit;
    const failing: { response?: ServerResponse } = {};
    const failed = Promise.withResolvers<unknown>();
    const refusing = createServer((request, response) => {
      failing.response = response;
      // Node refuses it beside a length.
      response.setHeader('Trailer', 'X-After');
      serve(request, response, path!, commit).then(failed.resolve, failed.resolve);
    });
    await new Promise<void>(resolve => refusing.listen(0, '127.0.0.1', resolve));
    const socket = connect((refusing.address() as AddressInfo).port, '127.0.0.1');
    const condition = asked.startsWith('conditional') ? 'If-None-Match: *\r\n' : '';
    socket.write(`${method} / HTTP/1.1\r\nHost: a\r\n${condition}\r\n`);
    expect(await failed.promise).toMatchObject({ code: 'ERR_HTTP_TRAILER_INVALID' });
    expect(failing.response!.getHeaders()).toEqual({ trailer: 'X-After', 'cache-control': 'private, no-cache' });
    socket.destroy();
    refusing.close();
  });
});
