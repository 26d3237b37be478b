import { describe, expect, test } from 'vitest';
import { closing } from '../services/closing.ts';
import { type Asked, ask, knock, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();

async function serve(answer?: string): Promise<{ backend: RawBackend; server: WiredServer }> {
  const backend = await RawBackend.listen();
  open.push(backend);
  if (answer !== undefined) backend.answer = () => answer;
  const server = await WiredServer.upstream(backend);
  open.push(server);
  return { backend, server };
}

const headerOf = (request: string | undefined, name: string) =>
  new RegExp(`^${name}: *(.*)\r$`, 'im').exec(`${request?.split('\r\n\r\n')[0]}\r`)?.[1];
const trailersOf = (request: string | undefined) =>
  request
    ?.split(/^0\r\n/m)[1]
    ?.trim()
    .split('\r\n')
    .sort();

const GRPC =
  'HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status, Grpc-Message\r\n\r\n' +
  '5\r\nhello\r\n0\r\nGrpc-Status: 7\r\nGrpc-Message: no%20way\r\n\r\n';

describe.each(wires)('over %s', wire => {
  test('a backend hears that its client takes trailers, and the client gets those that come', async () => {
    const { backend, server } = await serve();
    // As servers do that send them only when asked for.
    backend.answer = request =>
      headerOf(request, 'TE') === 'trailers' && /\bTE\b/.test(headerOf(request, 'Connection') ?? '')
        ? GRPC
        : 'HTTP/1.1 406 No trailers\r\nContent-Length: 0\r\n\r\n';
    const answer = await ask(server, wire, { headers: { TE: 'trailers' } });
    expect([answer.status, answer.body]).toEqual([200, 'hello']);
    expect(answer.headers.trailer).toBe('Grpc-Status, Grpc-Message');
    expect(answer.trailers).toMatchObject({ 'grpc-status': '7', 'grpc-message': 'no%20way' });
    // On a kept connection as well.
    expect((await ask(server, wire, { headers: { TE: 'trailers' } })).status).toBe(200);
    expect((await ask(server, wire)).status).toBe(406);
    expect(headerOf(backend.requests.at(-1), 'Connection')).toBe('keep-alive');
  });

  test('an answer of trailers alone keeps them', async () => {
    const { server } = await serve(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status\r\n\r\n0\r\nGrpc-Status: 12\r\n\r\n',
    );
    expect((await ask(server, wire)).trailers).toMatchObject({ 'grpc-status': '12' });
  });

  test.each([
    ['a length', 'GET', 'HTTP/1.1 200 OK\r\nTrailer: X-A\r\nContent-Length: 2\r\n\r\nok', 'ok'],
    ['no body', 'HEAD', 'HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n', ''],
    ['no content', 'GET', 'HTTP/1.1 204 No\r\nTrailer: X-A\r\n\r\n', ''],
    ['nothing new', 'GET', 'HTTP/1.1 304 No\r\nTrailer: X-A\r\n\r\n', ''],
  ])('an answer with %s announces none', async (_, method, answer, body) => {
    const { server } = await serve(answer);
    const received = await ask(server, wire, { method });
    expect([received.status, received.headers.trailer, received.body]).toEqual([
      Number(answer.slice(9, 12)),
      undefined,
      body,
    ]);
  });

  test('a trailer that comes twice is passed on twice, in both directions', async () => {
    const { backend, server } = await serve(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\nX-B: 3\r\nx-a: 2\r\nETag: 4\r\nETag: 5\r\n\r\n',
    );
    const { trailers } = await ask(server, wire, { method: 'POST', body: 'body', trailers: { 'X-C': ['1', '2'] } });
    expect(trailers).toMatchObject({ 'x-a': '1, 2', 'x-b': '3' });
    // Of some names Node takes one value over HTTP/2, unless told otherwise, and throws.
    expect(trailers.etag).toBeDefined();
    expect(trailersOf(backend.requests[0])?.map(line => line.toLowerCase())).toEqual(['x-c: 1', 'x-c: 2']);
  });

  test('trailers that only we may say, or that frame a message, are neither announced nor passed on', async () => {
    const { server } = await serve(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Holdfast-Session, a b, Content-Length, X-A, Set-Cookie, Connection\r\n\r\n' +
        '0\r\nHoldfast-Session: end\r\nContent-Length: 7\r\nX-A: 1\r\nSet-Cookie: a=1\r\nConnection: close\r\n\r\n',
    );
    const { headers, trailers } = await ask(server, wire);
    expect(headers.trailer).toBe('X-A');
    expect(Object.keys(trailers).filter(name => !name.startsWith(':'))).toEqual(['x-a']);
  });

  test('the trailers of a request reach the backend, but for those that only we may say', async () => {
    const { backend, server } = await serve();
    await ask(server, wire, {
      ...{ method: 'POST', body: 'body', headers: { Trailer: 'X-Checksum, X-Session-ID, X-B' } },
      trailers: {
        'X-Checksum': 'abc',
        'X-B': '1',
        'X-Session-ID': 'stolen',
        X_Session_ID: 'stolen',
        'X-Forwarded-For': '6.6.6.6',
        'X-Real-IP': '6.6.6.6',
        Authorization: 'Basic eDp5',
        Cookie: 'a=1',
        'Content-Type': 'text/html',
      },
    });
    const [request] = backend.requests;
    expect(headerOf(request, 'Trailer')).toBe('X-Checksum, X-B');
    expect(trailersOf(request)?.map(line => line.toLowerCase())).toEqual(['x-b: 1', 'x-checksum: abc']);
  });

  test('a request with a length, or without a body, announces none', async () => {
    // Node's own client of HTTP/1 does not send it.
    if (wire !== 'http/2') return;
    const { backend, server } = await serve();
    await ask(server, wire, { headers: { Trailer: 'X-A' } });
    await ask(server, wire, {
      method: 'POST',
      body: 'body',
      headers: { Trailer: 'X-A', 'Content-Length': '4' },
    });
    expect(backend.requests.map(request => headerOf(request, 'Trailer'))).toEqual([undefined, undefined]);
  });

  test.each(['gzip', 'trailersx', 'gzip;q=0.5, deflate', ''])('TE: %s is not passed on', async te => {
    // HTTP/2 has no other TE than trailers.
    if (wire === 'http/2') return;
    const { backend, server } = await serve();
    await ask(server, wire, { headers: { TE: te } });
    expect([headerOf(backend.requests[0], 'TE'), headerOf(backend.requests[0], 'Connection')]).toEqual([
      undefined,
      'keep-alive',
    ]);
  });

  test('a 426 of a backend says what it wants, and any other answer no Upgrade', async () => {
    const { backend, server } = await serve();
    const from = (status: number, upgrade: string) => {
      backend.answer = () =>
        `HTTP/1.1 ${status} X\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\nContent-Length: 0\r\n\r\n`;
    };
    // HTTP/2 has no Upgrade.
    const isHttp2 = wire === 'http/2';
    for (const asked of [ask, knock]) {
      from(426, 'websocket');
      const required = await asked(server, wire);
      expect([required.status, required.headers.upgrade]).toEqual([426, isHttp2 ? undefined : 'websocket']);
      if (!isHttp2) expect(required.headers.connection).toMatch(/\bUpgrade\b/i);
      for (const status of [200, 204, 401, 403, 500]) {
        from(status, 'h2c');
        const { headers } = await asked(server, wire);
        expect([asked.name, status, headers.upgrade]).toEqual([asked.name, status, undefined]);
        expect(headers.connection ?? '').not.toMatch(/upgrade/i);
      }
    }
  });

  test('a 426 of our own names it in Connection', async () => {
    const server = await WiredServer.start({
      routes: [{ path: '/*', fetch: () => new Response('') }],
    });
    open.push(server);
    // No upgrade, and a handshake of another version.
    const answers = [
      await ask(server, wire, { headers: wire === 'http/2' ? {} : { Connection: 'keep-alive', Upgrade: 'websocket' } }),
      await knock(server, wire, { headers: { 'Sec-WebSocket-Version': '12' } }),
    ];
    for (const { headers } of answers.filter(({ status }) => status === 426))
      expect([headers.upgrade, /\bUpgrade\b/.test(headers.connection ?? '')]).toEqual(
        wire === 'http/2' ? [undefined, false] : ['websocket', true],
      );
  });

  test('a declined handshake is answered as a request is: 204 without a length, and every status with a Date', async () => {
    const { backend, server } = await serve();
    for (const status of [204, 200, 302, 401, 404]) {
      backend.answer = () =>
        `HTTP/1.1 ${status} X\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\nTrailer: X-A\r\nX-Drop: 1\r\nConnection: X-Drop\r\nTE: trailers\r\n\r\n`;
      for (const asked of [ask, knock]) {
        const { headers, status: received } = await asked(server, wire);
        // RFC 8441 §5: every 2xx would say that the WebSocket is open.
        const said = asked === knock && wire === 'http/2' && status < 300 ? 502 : status;
        expect([
          asked.name,
          received,
          headers['content-length'],
          headers['x-drop'],
          headers.trailer,
          headers.te,
        ]).toEqual([asked.name, said, status === 204 ? undefined : '0', undefined, undefined, undefined]);
        expect(Date.parse(headers.date ?? '')).toBeGreaterThan(Date.now() - 10_000);
      }
    }
    backend.answer = () => 'HTTP/1.1 401 No\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n';
    expect((await knock(server, wire)).headers.date).toBe('Thu, 01 Jan 2026 00:00:00 GMT');
  });

  test('a handshake that is declined with trailers ends where its body does', async () => {
    const { server } = await serve(
      'HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\nno\r\n0\r\nX-A: 1\r\n\r\n',
    );
    const { status, headers, body } = await knock(server, wire);
    expect([status, headers.trailer, headers['transfer-encoding'], body]).toEqual([403, undefined, undefined, 'no']);
  });

  test('our own refusal of a handshake has a Date', async () => {
    const server = await WiredServer.start({ routes: [{ path: '/a', redirect: '/b' }] });
    open.push(server);
    expect(Date.parse((await knock(server, wire)).headers.date ?? '')).toBeGreaterThan(Date.now() - 10_000);
  });

  describe.each(['OPTIONS', 'TRACE'])('Max-Forwards of %s', method => {
    const asked = (value: string | string[], more: Asked = {}): Asked => ({
      method,
      ...more,
      headers: { 'Max-Forwards': value, ...more.headers },
    });

    test.each([
      ['1', '0'],
      ['10', '9'],
      ['007', '6'],
      ['99999999999999999999', '9007199254740990'],
    ])('counts down: %s is %s', async (value, seen) => {
      const { backend, server } = await serve();
      await ask(server, wire, asked(value));
      expect(backend.requests.map(request => headerOf(request, 'Max-Forwards'))).toEqual([seen]);
    });

    test.each(['-1', '+1', '1.5', 'x', '0x1', '1, 2', ''])('that is not a number is a 400: %j', async value => {
      const { backend, server } = await serve();
      expect((await ask(server, wire, asked(value))).status).toBe(400);
      expect(backend.requests).toEqual([]);
    });

    test('is left alone where there is none', async () => {
      const { backend, server } = await serve();
      expect((await ask(server, wire, { method })).status).toBe(200);
      expect(headerOf(backend.requests[0], 'Max-Forwards')).toBeUndefined();
    });

    test('of 0 is answered by us, and shows no secret', async () => {
      const { backend, server } = await serve();
      const headers = {
        'X-Test': 'seen',
        ...{ Cookie: 'secret=1', Authorization: 'Basic secret', 'X-API-Key': 'secret', 'X-Csrf-Token': 'secret' },
        ...{
          'Proxy-Authorization': 'secret',
          'X-Session-ID': 'secret',
          'X-Real-IP': 'secret',
          'Client-Cert': 'secret',
        },
      };
      const answer = await ask(server, wire, asked('0', { path: '/a?b=c', headers }));
      expect(answer.status).toBe(200);
      expect(backend.requests).toEqual([]);
      expect(answer.body).not.toMatch(/secret/);
      if (method === 'OPTIONS') expect([answer.body, answer.headers['content-length']]).toEqual(['', '0']);
      else {
        expect(answer.headers['content-type']).toBe('message/http');
        expect(answer.body).toMatch(/^TRACE \/a\?b=c HTTP\/(?:1\.1|2\.0)\r\nHost: public\.example\r\n/);
        expect(answer.body.toLowerCase()).toContain('\r\nx-test: seen\r\n');
        expect(answer.body.toLowerCase()).toContain('\r\nmax-forwards: 0\r\n');
      }
    });
  });

  test('Max-Forwards of other methods means nothing', async () => {
    const { backend, server } = await serve();
    await ask(server, wire, { headers: { 'Max-Forwards': '0' } });
    await ask(server, wire, { method: 'PUT', headers: { 'Max-Forwards': 'x' } });
    expect(backend.requests.map(request => headerOf(request, 'Max-Forwards'))).toEqual(['0', 'x']);
  });
});
