import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { closing } from '../services/closing.ts';
import { type GatewayOptions, listenDeaf, listenTcp, TestGateway, unusedServer } from './gateway-server.ts';
import { settled } from './settled.ts';

const open = closing();

async function backend(handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({
    close: () => {
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function tcp(onSocket: (socket: net.Socket) => void): Promise<string> {
  const server = await listenTcp(onSocket);
  open.push(server);
  return server.url;
}

async function gateway(servers: string | string[], options?: GatewayOptions): Promise<TestGateway> {
  const one = await new TestGateway([servers].flat(), options).listen();
  open.push(one);
  return one;
}

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  rawHeaders: string[];
  trailers: NodeJS.Dict<string>;
  body: string;
}

async function ask(to: TestGateway, options: http.RequestOptions & { body?: string } = {}): Promise<Answer> {
  const request = http.request({ port: to.port, host: '127.0.0.1', agent: false, ...options });
  request.end(options.body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const body = await text(response);
  const { statusCode, headers, rawHeaders, trailers } = response;
  return { status: statusCode!, headers, rawHeaders, trailers, body };
}

/** Sends bytes as they are and reads until the connection ends. */
async function askRaw(to: TestGateway, bytes: string): Promise<string> {
  const socket = net.connect(to.port, '127.0.0.1');
  socket.write(bytes);
  return text(socket);
}

/** A backend that answers with the request it got. */
const mirror: http.RequestListener = async (request, response) => {
  const body = await text(request);
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ method: request.method, url: request.url, rawHeaders: request.rawHeaders, body }));
};

interface Mirrored {
  method: string;
  url: string;
  rawHeaders: string[];
  body: string;
}

function mirrored(answer: Answer): Mirrored & { values(name: string): string[] } {
  const seen = JSON.parse(answer.body) as Mirrored;
  return {
    ...seen,
    values: name => seen.rawHeaders.filter((_, i) => i % 2 === 1 && seen.rawHeaders[i - 1]!.toLowerCase() === name),
  };
}

describe('a request that is forwarded', () => {
  test('reaches the backend with method, path, query, host and body, and its answer reaches the client', async () => {
    const url = await backend(mirror);
    const to = await gateway(url);
    const answer = await ask(to, {
      method: 'PUT',
      path: '/a/b?c=%2F',
      headers: { Host: 'example.com' },
      body: 'hello',
    });
    const seen = mirrored(answer);
    expect(answer.status).toBe(200);
    expect(seen).toMatchObject({ method: 'PUT', url: '/a/b?c=%2F', body: 'hello' });
    expect(seen.values('host')).toEqual(['example.com']);
    expect(await to.outcome()).toMatchObject({ status: 200, complete: true, upstream: 'app', server: url });
    expect(to.upstream.servers[0]).toMatchObject({
      url,
      address: { hostname: '127.0.0.1', port: Number(new URL(url).port) },
    });
  });

  test('goes to the path that was decided on', async () => {
    const to = await gateway(await backend(mirror));
    expect(mirrored(await ask(to, { path: '/public/%2e%2e/admin' })).url).toBe('/admin');
  });

  test('keeps the framing of its body: a length stays a length, chunks stay chunks, none stays none', async () => {
    const to = await gateway(await backend(mirror));
    const sized = mirrored(await ask(to, { method: 'POST', headers: { 'Content-Length': 2 }, body: 'ab' }));
    expect([sized.values('content-length'), sized.values('transfer-encoding'), sized.body]).toEqual([['2'], [], 'ab']);
    const chunked = mirrored(
      await ask(to, { method: 'POST', headers: { 'Transfer-Encoding': 'chunked' }, body: 'ab' }),
    );
    expect([chunked.values('content-length'), chunked.values('transfer-encoding'), chunked.body]).toEqual([
      [],
      ['chunked'],
      'ab',
    ]);
    const get = mirrored(
      await ask(to, {
        method: 'GET',
        headers: { 'Transfer-Encoding': 'chunked' },
        body: 'GET /smuggled HTTP/1.1\r\n\r\n',
      }),
    );
    expect([get.values('transfer-encoding'), get.body]).toEqual([['chunked'], 'GET /smuggled HTTP/1.1\r\n\r\n']);
    const none = JSON.parse(
      (await askRaw(to, 'POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'))
        .split('\r\n\r\n')[1]!
        .replace(/^[^{]*|[^}]*$/g, ''),
    ) as Mirrored;
    expect(none.rawHeaders.join()).toContain('Content-Length,0');
  });

  test('uses one connection to the backend for requests that follow each other', async () => {
    const ports = new Set<number>();
    const to = await gateway(
      await backend((request, response) => {
        ports.add(request.socket.remotePort!);
        response.end('ok');
      }),
    );
    for (let i = 0; i < 5; i++) expect((await ask(to)).body).toBe('ok');
    expect(ports.size).toBe(1);
  });

  test('passes answers without a body', async () => {
    const to = await gateway(
      await backend((request, response) => {
        if (request.method === 'HEAD') response.writeHead(200, { 'Content-Length': 7 }).end();
        else response.writeHead(Number(request.url!.slice(1))).end();
      }),
    );
    expect(await ask(to, { path: '/204' })).toMatchObject({ status: 204, body: '' });
    expect(await ask(to, { path: '/304' })).toMatchObject({ status: 304, body: '' });
    expect(await ask(to, { method: 'HEAD' })).toMatchObject({
      status: 200,
      body: '',
      headers: { 'content-length': '7' },
    });
  });

  test('announces no body where there never is one, whatever the backend says', async () => {
    const answers =
      'HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n';
    const to = await gateway(await tcp(socket => void socket.once('data', () => socket.write(answers))));
    const raw = await askRaw(to, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(raw).toMatch(
      /^HTTP\/1\.1 103 Early Hints\r\n\r\nHTTP\/1\.1 204 None\r\nDate: .*\r\nConnection: close\r\n\r\n$/,
    );
  });

  test('passes interim responses, the 100 only to a client that asked', async () => {
    const to = await gateway(
      await backend((_, response) => {
        response.writeEarlyHints({
          link: '</a.css>; rel=preload',
          'Holdfast-Session': 'end',
          'Set-Cookie': 'holdfast=forged',
          'Content-Length': '5',
        });
        response.end('done');
      }),
      { sessionCookieName: 'holdfast' },
    );
    const request = http.request({ port: to.port, agent: false });
    const information: [number, string[]][] = [];
    request.on('information', info => information.push([info.statusCode, info.rawHeaders]));
    request.end();
    const [response] = await once(request, 'response');
    expect(await text(response)).toBe('done');
    // Without what an answer must not carry either.
    expect(information).toEqual([[103, ['Link', '</a.css>; rel=preload']]]);
  });

  test('passes the 100 of the backend to a client that waits for it before it sends its body', async () => {
    const to = await gateway(await backend(mirror));
    const request = http.request({
      port: to.port,
      agent: false,
      method: 'POST',
      headers: { Expect: '100-continue', 'Content-Length': 2 },
    });
    request.flushHeaders();
    await once(request, 'continue');
    request.end('ab');
    const [response] = await once(request, 'response');
    expect(JSON.parse(await text(response))).toMatchObject({ body: 'ab' });
  });

  test('passes trailers of the answer', async () => {
    const to = await gateway(
      await backend((_, response) => {
        response.writeHead(200, { Trailer: 'X-Sum' });
        response.write('a');
        response.addTrailers({ 'X-Sum': '1', 'Set-Cookie': 'a=b', 'Holdfast-Session': 'end' });
        response.end();
      }),
    );
    expect((await ask(to)).trailers).toEqual({ 'x-sum': '1' });
  });

  test('passes the head of an endless answer at once, and each piece as it comes', async () => {
    let backendResponse!: http.ServerResponse;
    const to = await gateway(
      await backend((_, response) => {
        backendResponse = response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.flushHeaders();
      }),
    );
    const request = http.get({ port: to.port, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    backendResponse.write('data: 1\n\n');
    expect(String((await once(response, 'data'))[0])).toBe('data: 1\n\n');
    request.destroy();
    await once(backendResponse, 'close');
  });
});

describe('what the backend is told', () => {
  test('is the sid in X-Session-ID when there is a live session, and no such header when there is none', async () => {
    const url = await backend(mirror);
    const withSession = mirrored(
      await ask(await gateway(url, { sid: 'the-sid' }), { headers: { 'X-Session-ID': 'stolen' } }),
    );
    expect(withSession.values('x-session-id')).toEqual(['the-sid']);
    const without = mirrored(await ask(await gateway(url), { headers: { 'X-Session-ID': 'stolen' } }));
    expect(without.values('x-session-id')).toEqual([]);
  });

  test('never is the client copy of X-Session-ID in any spelling', async () => {
    const to = await gateway(await backend(mirror), { sid: 'the-sid' });
    const seen = mirrored(
      await ask(to, {
        headers: ['X_Session_ID', 'a', 'x-session-id', 'b', 'X-SESSION_ID', 'c', 'X.Session.Id', 'd', 'Host', 'h'],
      }),
    );
    expect(seen.rawHeaders.filter(name => /session/i.test(name))).toEqual(['X-Session-ID']);
    expect(seen.values('x-session-id')).toEqual(['the-sid']);
  });

  test('still is our X-Session-ID when the client names it in Connection', async () => {
    const to = await gateway(await backend(mirror), { sid: 'the-sid' });
    const seen = mirrored(
      await ask(to, {
        headers: { Connection: 'close, X-Session-ID, X-Mine', 'X-Session-ID': 'stolen', 'X-Mine': '1' },
      }),
    );
    expect(seen.values('x-session-id')).toEqual(['the-sid']);
    expect(seen.values('x-mine')).toEqual([]);
  });

  test('is the sid under the configured name', async () => {
    const to = await gateway(await backend(mirror), { sid: 'the-sid', sessionHeader: 'X-My-Session' });
    expect(mirrored(await ask(to, { headers: { x_my_session: 'stolen' } })).values('x-my-session')).toEqual([
      'the-sid',
    ]);
  });

  test('does not include our session cookie, and includes every other cookie', async () => {
    const to = await gateway(await backend(mirror), { sessionCookieName: 'holdfast' });
    const cookies = async (header: string) => mirrored(await ask(to, { headers: { Cookie: header } })).values('cookie');
    expect(await cookies('a=1; holdfast=v1.secret; b="2"')).toEqual(['a=1; b="2"']);
    expect(await cookies('holdfast=v1.secret')).toEqual([]);
    expect(await cookies('notholdfast=1; holdfast2=2; Holdfast=3')).toEqual(['notholdfast=1; holdfast2=2; Holdfast=3']);
    expect(await cookies('holdfast = v1.one;holdfast=v1.two;c=3')).toEqual(['c=3']);
  });

  test('is who the client is, whatever the client claims', async () => {
    const to = await gateway(await backend(mirror));
    const seen = mirrored(
      await ask(to, {
        headers: {
          'X-Forwarded-For': '6.6.6.6',
          'X-Forwarded-Proto': 'https',
          Forwarded: 'for=6.6.6.6',
          X_Forwarded_Host: 'evil',
          Host: 'good.example',
        },
      }),
    );
    expect(seen.values('x-forwarded-for')).toEqual(['127.0.0.1']);
    expect(seen.values('x-forwarded-proto')).toEqual(['http']);
    expect(seen.values('x-forwarded-host')).toEqual(['good.example']);
    expect(seen.values('forwarded')).toEqual(['for=127.0.0.1;host=good.example;proto=http']);
    expect(seen.values('x_forwarded_host')).toEqual([]);
  });

  test('does not include other headers that only another server may send', async () => {
    const names = ['X-Forwarded', 'X-Forwarded-Prefix', 'x_forwarded_user', 'X-Real-IP', 'X-Original-URL', 'Proxy'];
    names.push('X-Original');
    const to = await gateway(await backend(mirror));
    const seen = mirrored(
      await ask(to, { headers: [...names.flatMap(name => [name, 'forged']), 'X-Origins', 'a', 'Host', 'h'] }),
    );
    expect(seen.values('x-origins')).toEqual(['a']);
    expect(seen.rawHeaders).not.toContain('forged');
  });

  test('does not include an upgrade to another protocol', async () => {
    const to = await gateway(await backend(mirror));
    Object.assign(to.server, { shouldUpgradeCallback: () => false });
    const seen = mirrored(
      await ask(to, {
        headers: { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQ' },
      }),
    );
    expect([...seen.values('upgrade'), ...seen.values('http2-settings')]).toEqual([]);
  });
});

describe('what the client is told', () => {
  test('does not include headers of the backend connection, nor those meant for us', async () => {
    const to = await gateway(
      await backend((_, response) => {
        response.writeHead(200, [
          'Connection',
          'keep-alive, X-Hop',
          'X-Hop',
          '1',
          'Proxy-Authenticate',
          'Basic',
          'Holdfast-Session',
          'end',
          'X-End',
          '2',
        ]);
        response.end();
      }),
    );
    const { headers } = await ask(to);
    expect(headers).toMatchObject({ 'x-end': '2' });
    expect(
      Object.keys(headers).filter(name => ['x-hop', 'proxy-authenticate', 'holdfast-session'].includes(name)),
    ).toEqual([]);
  });

  test('includes every cookie the backend sets but one of our name, and the one we set ourselves', async () => {
    const to = await gateway(
      await backend((_, response) => {
        response
          .writeHead(200, ['Set-Cookie', 'a=1; Path=/', 'Set-Cookie', 'holdfast=fixed; Path=/', 'set-cookie', 'b=2'])
          .end();
      }),
      { sessionCookieName: 'holdfast', before: response => response.setHeader('Set-Cookie', 'holdfast=ours') },
    );
    expect((await ask(to)).headers['set-cookie']).toEqual(['holdfast=ours', 'a=1; Path=/', 'b=2']);
  });

  test('includes repeated headers as they were', async () => {
    const to = await gateway(
      await backend((_, response) => response.writeHead(200, ['Link', '<a>', 'Link', '<b>']).end()),
    );
    const { rawHeaders } = await ask(to);
    expect(rawHeaders.filter((_, i) => rawHeaders[i - 1] === 'Link')).toEqual(['<a>', '<b>']);
  });
});

test('a client that leaves before it has its answer ends no other request, which has got its connection meanwhile', async () => {
  const firstSeen = Promise.withResolvers<void>();
  const secondSeen = Promise.withResolvers<http.ServerResponse>();
  const url = await backend((request, response) => {
    if (request.url === '/second') return secondSeen.resolve(response);
    response.end('first');
    firstSeen.resolve();
  });
  const to = await gateway(url, {
    maxConnections: 1,
    // The connection takes nothing.
    before: response =>
      void (response.req.url === '/first' && Object.assign(response.socket!, { _write() {}, _writev() {} })),
  });
  const first = http.request({ port: to.port, agent: false, path: '/first' }).on('error', () => {});
  first.end();
  await firstSeen.promise;
  const second = ask(to, { path: '/second' });
  const response = await secondSeen.promise;
  first.socket!.resetAndDestroy();
  expect(await to.outcome()).toMatchObject({ complete: false });
  response.end('second');
  expect(await second).toMatchObject({ status: 200, body: 'second' });
});

describe('backpressure', () => {
  test('stops reading an upload that the backend does not take, and delivers all of it in the end', async () => {
    let upload!: http.IncomingMessage;
    const received = Promise.withResolvers<number>();
    const arrived = Promise.withResolvers<void>();
    const to = await gateway(
      await backend(async (request, response) => {
        upload = request;
        arrived.resolve();
        await received.promise;
        response.end(String((await buffer(request)).length));
      }),
    );
    const total = 64 * 1024 * 1024;
    let produced = 0;
    const body = new Readable({
      read() {
        produced += 64 * 1024;
        this.push(produced > total ? null : Buffer.alloc(64 * 1024));
      },
    });
    const request = http.request({ port: to.port, agent: false, method: 'POST', headers: { 'Content-Length': total } });
    body.pipe(request);
    await arrived.promise;
    await settled(() => produced);
    expect(produced).toBeLessThan(total / 2);
    upload.resume();
    received.resolve(0);
    const [response] = await once(request, 'response');
    expect(response.statusCode).toBe(200);
    await text(response);
    expect(produced).toBeGreaterThan(total);
  });

  test('stops reading an answer that the client does not take', async () => {
    let written = 0;
    const total = 64 * 1024 * 1024;
    const to = await gateway(
      await backend((_, response) => {
        new Readable({
          read() {
            written += 64 * 1024;
            this.push(written > total ? null : Buffer.alloc(64 * 1024));
          },
        }).pipe(response);
      }),
    );
    const request = http.get({ port: to.port, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    await settled(() => written);
    expect(written).toBeLessThan(total / 2);
    expect((await buffer(response)).length).toBe(total);
  });
});

describe('a backend that fails', () => {
  test('because nobody listens: 503 with Retry-After', async () => {
    const to = await gateway(await unusedServer());
    expect(await ask(to)).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    expect(await to.outcome()).toMatchObject({ status: 503, code: 'ERR_UPSTREAM_UNAVAILABLE' });
  });

  test('because nobody listens is passed over for the next server, also with a body', async () => {
    const to = await gateway([await unusedServer(), await backend(mirror)]);
    expect(mirrored(await ask(to, { method: 'POST', body: 'abc' }))).toMatchObject({ method: 'POST', body: 'abc' });
  });

  test('because its name does not resolve: 502', async () => {
    expect(await ask(await gateway('http://does-not-exist.invalid:80'))).toMatchObject({ status: 502 });
  });

  test('because it never answers: 504 after the answer timeout, and its connection is closed', async () => {
    const clock = new FakeClock();
    const accepted = Promise.withResolvers<net.Socket>();
    const to = await gateway(await tcp(accepted.resolve), { clock, answerTimeout: '60s' });
    const answer = ask(to, { method: 'POST', body: 'abc' });
    const socket = await accepted.promise;
    const closed = once(socket, 'close');
    await once(socket, 'data');
    await clock.advance(59_999);
    expect(to.outcomes).toEqual([]);
    await clock.advance(1);
    expect((await answer).status).toBe(504);
    expect(await to.outcome()).toMatchObject({ status: 504, code: 'ERR_UPSTREAM_TIMEOUT' });
    await closed;
  });

  test('does not count the time in which the client is still sending', async () => {
    const clock = new FakeClock();
    const arrived = Promise.withResolvers<void>();
    const to = await gateway(
      await backend((request, response) => {
        request.once('data', () => arrived.resolve());
        mirror(request, response);
      }),
      { clock, clientTimeout: -1 },
    );
    const request = http.request({ port: to.port, agent: false, method: 'POST' });
    request.write('slow ');
    await arrived.promise;
    await clock.advance(300_000);
    request.end('upload');
    const [response] = await once(request, 'response');
    expect(JSON.parse(await text(response))).toMatchObject({ body: 'slow upload' });
  });

  test.each([
    ['closes without an answer', (socket: net.Socket) => socket.end()],
    ['resets the connection', (socket: net.Socket) => socket.resetAndDestroy()],
    ['answers something that is not HTTP', (socket: net.Socket) => socket.end('\x00\x01garbage\r\n\r\n')],
    [
      'answers a head that is too long',
      (socket: net.Socket) => socket.end(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`),
    ],
    [
      'answers 101 to a request that is no upgrade',
      (socket: net.Socket) =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n'),
    ],
    [
      'answers without coming to an end of interim answers',
      (socket: net.Socket) => socket.write('HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n'.repeat(1_000)),
    ],
    [
      'answers with a length and chunks at once',
      (socket: net.Socket) =>
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'),
    ],
  ])('because it %s: 502', async (_, act) => {
    const to = await gateway(
      await tcp(socket => {
        socket.once('data', () => act(socket));
      }),
    );
    expect((await ask(to, { method: 'POST', body: 'abc' })).status).toBe(502);
    expect(await to.outcome()).toMatchObject({ status: 502, code: 'ERR_UPSTREAM_BAD_ANSWER' });
  });

  test('in the middle of its answer: the client sees that it is not complete', async () => {
    const to = await gateway(
      await tcp(socket => {
        socket.once('data', () =>
          socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345', () => socket.resetAndDestroy()),
        );
      }),
    );
    const request = http.get({ port: to.port, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    await expect(text(response)).rejects.toThrow('aborted');
    expect(await to.outcome()).toMatchObject({ status: 200, complete: false });
  });

  test('gets a POST once only, also when another server is there', async () => {
    let requests = 0;
    const broken = await tcp(socket => {
      socket.once('data', () => {
        requests++;
        socket.resetAndDestroy();
      });
    });
    const to = await gateway([broken, await backend(mirror)]);
    expect((await ask(to, { method: 'POST', body: 'pay' })).status).toBe(502);
    expect(requests).toBe(1);
  });

  test('by closing a kept connection: a GET is sent again on a new one, a POST is not', async () => {
    let connections = 0;
    const url = await tcp(socket => {
      const isFirst = ++connections % 2 === 1;
      let requests = 0;
      socket.on('data', () => {
        // The first connection takes one request and breaks off at the second, as when both ends act at the same time.
        if (isFirst && ++requests === 2) socket.resetAndDestroy();
        else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    const to = await gateway(url);
    expect((await ask(to)).body).toBe('ok');
    expect((await ask(to)).body).toBe('ok');
    expect(connections).toBe(2);
    expect((await ask(to)).body).toBe('ok');
    expect(connections).toBe(3);
    expect((await ask(to, { method: 'POST', body: 'x' })).status).toBe(502);
    expect(connections).toBe(3);
  });

  test('by answering before it took the whole body: the client gets the answer', async () => {
    const to = await gateway(
      await tcp(socket => {
        socket.once('data', () => {
          socket.end('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
        });
      }),
    );
    const request = http.request({
      port: to.port,
      agent: false,
      method: 'POST',
      headers: { 'Content-Length': 50_000_000 },
    });
    request.on('error', () => {});
    request.write(Buffer.alloc(100_000));
    const [response] = await once(request, 'response');
    expect(response.statusCode).toBe(413);
    request.destroy();
  });

  test('by not accepting connections: 504 after the connect timeout', async () => {
    const clock = new FakeClock();
    const to = await gateway(await deafServer(), { clock, connectTimeout: '5s' });
    const arrived = once(to.server, 'request');
    const answer = ask(to);
    await arrived;
    await setImmediate();
    await clock.advance(4_999);
    expect(to.outcomes).toEqual([]);
    await clock.advance(1);
    expect((await answer).status).toBe(504);
    expect(await to.outcome()).toMatchObject({ status: 504, code: 'ERR_UPSTREAM_TIMEOUT' });
  });
});

describe('a client that is gone', () => {
  test('before the answer: the request to the backend is cut and counts as 499', async () => {
    const got = Promise.withResolvers<http.IncomingMessage>();
    const to = await gateway(await backend(request => got.resolve(request)));
    const request = http.get({ port: to.port, agent: false });
    request.on('error', () => {});
    const backendRequest = await got.promise;
    const closed = once(backendRequest.socket, 'close');
    request.destroy();
    await closed;
    expect(await to.outcome()).toMatchObject({ status: 499, complete: false });
  });

  test('in the middle of its upload: the backend sees that the request is not complete', async () => {
    const got = Promise.withResolvers<http.IncomingMessage>();
    const to = await gateway(await backend(request => got.resolve(request)));
    const request = http.request({ port: to.port, agent: false, method: 'POST', headers: { 'Content-Length': 100 } });
    request.on('error', () => {});
    request.write('abc');
    const backendRequest = await got.promise;
    const whole = text(backendRequest);
    request.destroy();
    await expect(whole).rejects.toThrow('aborted');
    expect(await to.outcome()).toMatchObject({ status: 499 });
  });

  test('in the middle of the answer: the backend stops sending', async () => {
    const closed = Promise.withResolvers<void>();
    const to = await gateway(
      await backend((_, response) => {
        new Readable({
          read: function () {
            this.push(Buffer.alloc(65536));
          },
        }).pipe(response);
        response.on('close', () => closed.resolve());
      }),
    );
    const request = http.get({ port: to.port, agent: false });
    const [response] = await once(request, 'response');
    await once(response, 'data');
    response.destroy();
    await closed.promise;
    expect(await to.outcome()).toMatchObject({ status: 200, complete: false });
  });
});

describe('an upstream', () => {
  test.each([
    [[]],
    [['localhost:3000']],
    [['ftp://localhost']],
    [['http://a/path']],
    [['http://u:p@a']],
    [['http://a?x']],
  ])('with servers %j is a TypeError that says what to write', servers => {
    expect(() => new Upstream('app', { servers }, systemClock)).toThrow(/upstream "app".*(add one|http:\/\/host:port)/);
  });

  test('takes names, IPv4 and IPv6 addresses, with and without port', () => {
    const { servers } = new Upstream(
      'app',
      { servers: ['http://a', 'http://1.2.3.4:81', 'http://[::1]:82/'] },
      systemClock,
    );
    expect(servers.map(({ address: { hostname, port } }) => [hostname, port])).toEqual([
      ['a', 80],
      ['1.2.3.4', 81],
      ['::1', 82],
    ]);
  });
});

async function deafServer(): Promise<string> {
  const server = await listenDeaf();
  open.push(server);
  return server.url;
}
