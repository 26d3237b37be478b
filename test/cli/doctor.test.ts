import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';
import { doctorOf } from './doctor-of.ts';
import { echoServer, httpServer, rawServer } from './doctor-servers.ts';

const authority = createAuthority('Doctors');
const DAY_MS = 86_400_000;
const inDays = (days: number) => Math.floor(Date.now() / 1000) * 1000 + days * DAY_MS;
const certificate = (days = 90, name = 'localhost') => {
  const { certificate: cert, key } = createCertificate({
    name,
    authority,
    validFrom: inDays(-60),
    validTo: inDays(days),
  });
  return { cert, key };
};
const ca = authority.certificate;

// Side by side: each waits for what its server does not say.
describe.concurrent('nothing is wrong with', () => {
  test('a WebSocket without TLS', async () => {
    await using server = await echoServer();
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/socket`);
    expect(codes).toEqual([]);
    expect(said('tcp')).toMatch(/^ok 127\.0\.0\.1:\d+ in /);
    expect(said('http')).toMatch(/^ok a plain request is answered with 426/);
    expect(said('handshake')).toMatch(/^ok 101 in/);
    expect(said('origin')).toBe('ok own: 101, none: 101, foreign: 101');
    expect(said('size')).toBe('ok 64 KiB: taken; 1 MiB: taken');
  });

  test('one with TLS, of an authority that was named', async () => {
    await using server = await echoServer({ tls: certificate() });
    const { codes, said } = await doctorOf(`https://localhost:${server.port}/`, { ca });
    expect(codes).toEqual([]);
    expect(said('dns')).toContain('ok localhost is ');
    expect(said('tls')).toMatch(/^ok TLSv1\.3; certificate of CN=localhost, signed by CN=Doctors, until \d{4}-/);
  });

  test('one behind a name that has no record yet, by --connect', async () => {
    await using server = await echoServer({ tls: certificate(90, 'new.example') });
    const { codes } = await doctorOf('wss://new.example/', { ca, connect: `127.0.0.1:${server.port}` });
    expect(codes).toEqual([]);
  });

  test('one that agrees on compression and a subprotocol', async () => {
    await using server = await echoServer({ perMessageDeflate: true });
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { subprotocols: ['chat.v1', 'chat.v2'] });
    expect(codes).toEqual([]);
    expect(said('subprotocol')).toBe('ok chat.v1 is chosen');
    expect(said('extensions')).toBe('ok permessage-deflate is agreed');
  });

  test('one that closes with 1009 when a message is too large for it', async () => {
    await using server = await echoServer({ maxPayload: 100_000 });
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual([]);
    expect(said('size')).toBe('note 64 KiB: taken; 1 MiB: refused with 1009');
  });

  test('one that stays open in silence; pings of the server are seen', async () => {
    const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(sockets, 'listening');
    sockets.on('connection', client => {
      const timer = setInterval(() => client.ping(), 100);
      client.on('close', () => clearInterval(timer));
    });
    const { port } = sockets.address() as { port: number };
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${port}/`, { idleMs: 600 });
    sockets.close();
    expect(codes).toEqual([]);
    expect(said('idle')).toMatch(/^ok open after 600 ms of silence; the server sends a ping every \d+ ms$/);
  });
});

describe.concurrent('the application', () => {
  test('gets no message, unless whole ones are asked for', async () => {
    const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(sockets, 'listening');
    const messages: number[] = [];
    sockets.on('connection', client => client.on('message', data => void messages.push(String(data).length)));
    const { port } = sockets.address() as { port: number };
    const { said } = await doctorOf(`ws://127.0.0.1:${port}/`);
    const whole = await doctorOf(`ws://127.0.0.1:${port}/`, { sendsMessages: true, timeoutMs: 500 });
    sockets.close();
    expect(said('size')).toBe('ok 64 KiB: taken; 1 MiB: taken');
    expect(whole.said('size')).toBe('ok 64 KiB: taken, not echoed; 1 MiB: taken, not echoed');
    expect(messages).toEqual([65_536, 1_048_576]);
  });
});

describe.concurrent('it is found that', () => {
  test.each([
    ['is not known', 'ENOTFOUND', 'name-unknown'],
    ['cannot be looked up', 'EAI_AGAIN', 'name-unanswered'],
  ])('the name %s', async (_, errorCode, code) => {
    const lookup = () => Promise.reject(Object.assign(new Error('no'), { code: errorCode }));
    const { codes, said } = await doctorOf('wss://nothing.invalid/', { lookup });
    expect(codes).toEqual([code]);
    expect(said('dns')).toBe(`fail nothing.invalid: ${errorCode}`);
  });

  test('nothing listens', async () => {
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${await freePort()}/`);
    expect(codes).toEqual(['port-closed']);
    expect(said('tcp')).toMatch(/^fail 127\.0\.0\.1:\d+: ECONNREFUSED$/);
  });

  test('one of several addresses is dead', async () => {
    await using server = await echoServer();
    const lookup = async () => ['127.0.0.2', '127.0.0.1'];
    const { codes, said, chart } = await doctorOf(`ws://example.com:${server.port}/`, { lookup });
    expect(codes).toEqual(['address-dead']);
    expect(said('tcp')).toMatch(/^warn 127\.0\.0\.2:\d+: ECONNREFUSED\nok 127\.0\.0\.1:/);
    expect(chart.address).toBe(`127.0.0.1:${server.port}`);
    const local = await doctorOf(`ws://localhost:${server.port}/`, { lookup });
    expect(local.codes).toEqual([]);
    expect(local.said('tcp')).toMatch(/^note 127\.0\.0\.2:\d+: ECONNREFUSED\nok 127\.0\.0\.1:/);
  });

  test('the port does not speak TLS, or it does and the URL does not', async () => {
    await using plain = await echoServer();
    expect((await doctorOf(`wss://127.0.0.1:${plain.port}/`)).codes).toEqual(['tls-not-spoken']);
    await using secure = await echoServer({ tls: certificate() });
    expect((await doctorOf(`ws://127.0.0.1:${secure.port}/`)).codes).toEqual(['tls-expected']);
  });

  test.each([
    ['is over', -1, 'localhost', 'certificate-expired', /^fail ended on .*and clients refuse it/],
    ['ends soon', 3, 'localhost', 'certificate-ending', /^warn ends on .*within two weeks/],
    ['is for another name', 90, 'other.example', 'certificate-name', /^fail it is for DNS:other\.example/],
  ])('the certificate %s', async (_, days, name, code, text) => {
    const { certificate: cert, key } = createCertificate({
      name,
      authority,
      validFrom: inDays(-60),
      validTo: inDays(days),
    });
    await using server = await echoServer({ tls: { cert, key } });
    const { codes, said } = await doctorOf(`wss://localhost:${server.port}/`, { ca });
    expect(codes).toEqual([code]);
    expect(said('tls')).toMatch(text);
  });

  test('the certificate has not begun', async () => {
    const { certificate: cert, key } = createCertificate({
      name: 'localhost',
      authority,
      validFrom: inDays(1),
      validTo: inDays(90),
    });
    await using server = await echoServer({ tls: { cert, key } });
    expect((await doctorOf(`wss://localhost:${server.port}/`, { ca })).codes).toEqual(['certificate-early']);
  });

  test.each([
    ['the intermediate certificate is missing', 'http://issuer.example/1.crt', 'certificate-chain'],
    ['the authority is not known', undefined, 'certificate-untrusted'],
  ])('%s', async (_, issuerUrl, code) => {
    const { certificate: cert, key } = createCertificate({
      name: 'localhost',
      authority: createAuthority('Intermediate'),
      validTo: inDays(90),
      ...(issuerUrl && { issuerUrl }),
    });
    await using server = await echoServer({ tls: { cert, key } });
    const { codes, said } = await doctorOf(`wss://localhost:${server.port}/`, { ca });
    expect(codes).toEqual([code]);
    expect(said('tls')).toContain('UNABLE_TO_VERIFY_LEAF_SIGNATURE');
  });

  test('the server speaks old versions of TLS only', async () => {
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' } as const;
    await using server = await echoServer({ tls: { ...certificate(), ...old } });
    expect((await doctorOf(`wss://localhost:${server.port}/`, { ca })).codes).toEqual(['tls-version']);
  });

  test('there is no way to the address', async () => {
    const lookup = async () => ['0.0.0.0.0'];
    expect((await doctorOf('ws://example.com/', { lookup })).codes).toEqual(['unreachable']);
  });

  test('the server agrees on a compression that nobody has offered', async () => {
    await using server = await rawServer(socket => {
      socket.once('data', request => {
        const key = /Sec-WebSocket-Key: (\S+)/.exec(String(request))?.[1] ?? '';
        const extensions = String(request).includes('permessage-deflate')
          ? 'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n'
          : '';
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
            `Sec-WebSocket-Accept: ${acceptKey(key)}\r\n${extensions}\r\n`,
        );
      });
    });
    const { codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { timeoutMs: 200 });
    expect(codes).toEqual(['no-pong', 'extension-wrong']);
  });

  test('nobody has signed the certificate: nothing is sent then, unless --insecure says so', async () => {
    const { certificate: cert, key } = createCertificate({ name: 'localhost', validTo: inDays(90) });
    let requests = 0;
    await using server = await echoServer({ tls: { cert, key }, onRequest: () => void requests++ });
    const { codes, said } = await doctorOf(`wss://localhost:${server.port}/`);
    expect(codes).toEqual(['certificate-untrusted']);
    expect(said('tls')).toMatch(/^fail DEPTH_ZERO_SELF_SIGNED_CERT/);
    expect([said('http'), requests]).toEqual(['', 0]);
    const insecure = await doctorOf(`wss://localhost:${server.port}/`, { isInsecure: true, timeoutMs: 500 });
    expect(insecure.codes).toEqual(['certificate-untrusted']);
    expect(insecure.said('handshake')).toMatch(/^ok 101/);
  });

  test('another server than the one of the first connection answers later: it gets no cookie', async () => {
    const { certificate: cert, key } = createCertificate({ name: 'localhost', validTo: inDays(90) });
    let requests = 0;
    await using good = await echoServer({ tls: certificate() });
    await using strange = await echoServer({ tls: { cert, key }, onRequest: () => void requests++ });
    let connections = 0;
    await using balancer = await rawServer(socket => {
      // The first two: whether the port is open, and the step of TLS.
      const behind = connect(++connections <= 2 ? good.port : strange.port, '127.0.0.1');
      socket
        .on('error', () => {})
        .pipe(behind.on('error', () => {}))
        .pipe(socket);
    });
    const options = { ca, cookie: 'SESSIONID=1', headers: [['Authorization', 'Bearer 1']] as const };
    const { codes, said } = await doctorOf(`wss://localhost:${balancer.port}/`, {
      ...options,
      lookup: async () => ['127.0.0.1'],
    });
    expect(said('tls')).toMatch(/^ok /);
    expect(codes).toEqual(['certificate-untrusted']);
    expect(said('handshake')).toMatch(/^fail DEPTH_ZERO_SELF_SIGNED_CERT/);
    expect(requests).toBe(0);
  });

  test('an address of a family that this machine does not have is dead: a note', async () => {
    await using server = await echoServer();
    // Linux has no way to a group for TCP, as it has none to IPv6 where there is only IPv4.
    const lookup = async () => ['ff02::1', '127.0.0.1'];
    const { codes, said } = await doctorOf(`ws://example.com:${server.port}/`, { lookup, timeoutMs: 500 });
    expect(said('tcp')).toMatch(/^note \[ff02::1\]:\d+: (ENETUNREACH|EADDRNOTAVAIL)\nok 127/);
    expect(codes).toEqual([]);
  });

  test('the origin of the page is refused', async () => {
    await using server = await echoServer({ refuse: ({ headers }) => (headers.origin ? 403 : 0) });
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { origin: 'https://example.com' });
    expect(codes).toEqual(['origin-refused']);
    expect(said('handshake')).toBe(
      'fail answered with 403 instead of 101; without "Origin: https://example.com" it is taken',
    );
  });

  test('the cookie lets in, and foreign pages bring it too', async () => {
    const known = 'SESSIONID=1';
    const refuse = (isStrict: boolean) => (request: { headers: Record<string, string | string[] | undefined> }) =>
      request.headers.cookie !== known || (isStrict && String(request.headers.origin).includes('doctor')) ? 403 : 0;
    await using open = await echoServer({ refuse: refuse(false) });
    expect((await doctorOf(`ws://127.0.0.1:${open.port}/`, { cookie: known })).codes).toEqual(['origin-open']);
    await using strict = await echoServer({ refuse: refuse(true) });
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${strict.port}/`, { cookie: known });
    expect(codes).toEqual([]);
    expect(said('origin')).toBe('ok own: 101, none: 101, foreign: 403');
  });

  test.each([
    [301, { location: 'https://login.example/?return=secret' }, 'redirected'],
    [302, { location: 'https://me:secret@login.example/in;jsessionid=secret' }, 'redirected'],
    [401, { 'www-authenticate': 'Basic realm="x"' }, 'credentials-required'],
    [403, {}, 'forbidden'],
    [404, {}, 'path-unknown'],
    [421, {}, 'host-unknown'],
    [426, { 'sec-websocket-version': '8' }, 'version-refused'],
    [429, {}, 'too-many'],
    [500, {}, 'server-error'],
    [502, {}, 'backend-broken'],
    [503, {}, 'backend-unavailable'],
    [504, {}, 'backend-slow'],
  ])('the handshake is answered with %s %j', async (status, headers, code) => {
    await using server = await httpServer((_, response) => void response.writeHead(status, headers).end());
    const { codes, said, chart } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual([code]);
    expect(said('handshake')).toContain(`fail answered with ${status} instead of 101`);
    expect(JSON.stringify(chart.steps)).not.toContain('secret');
  });

  test.each([
    [200, 'hello'],
    [400, 'Can "Upgrade" only to "WebSocket".'],
    [405, ''],
  ])('the handshake is taken for a plain request and answered with %s', async (status, body) => {
    await using server = await httpServer((_, response) => void response.writeHead(status).end(body));
    expect((await doctorOf(`ws://127.0.0.1:${server.port}/`)).codes).toEqual(['upgrade-lost']);
  });

  test('the application refuses by a rule of its own', async () => {
    await using server = await echoServer({ refuse: () => 400 });
    expect((await doctorOf(`ws://127.0.0.1:${server.port}/`)).codes).toEqual(['refused']);
  });

  test('a cache answers with the 101 of another handshake', async () => {
    const head =
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n';
    await using server = await rawServer(socket => socket.on('data', () => socket.write(head)));
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual(['answer-wrong']);
    expect(said('handshake')).toContain('does not answer the key');
  });

  test('none of the subprotocols is chosen', async () => {
    await using server = await echoServer({ handleProtocols: () => false });
    const { codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { subprotocols: ['chat'] });
    expect(codes).toEqual(['subprotocol-missing']);
  });

  test('the WebSocket opens and closes at once', async () => {
    const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(sockets, 'listening');
    sockets.on('connection', client => client.close(1008, 'sign in\u001b[2J first'));
    const { port } = sockets.address() as { port: number };
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${port}/`);
    sockets.close();
    expect(codes).toEqual(['closed-at-once']);
    expect(said('handshake')).toMatch(/^fail 101, and after \d+ ms it ends with 1008 "sign in\?\[2J first"$/);
  });

  test.each([429, 503])('later handshakes are refused with %i: nothing is said of compression', async status => {
    let handshakes = 0;
    await using server = await echoServer({ refuse: () => (++handshakes > 1 ? status : 0) });
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual([]);
    expect(said('extensions')).toBe('note there is no second WebSocket to try with');
  });

  test('an offer of compression is refused', async () => {
    const refuse = ({ headers }: { headers: Record<string, unknown> }) =>
      headers['sec-websocket-extensions'] === undefined ? 0 : 400;
    await using server = await echoServer({ refuse });
    expect((await doctorOf(`ws://127.0.0.1:${server.port}/`)).codes).toEqual(['extension-wrong']);
  });

  test('the WebSocket was closed before a ping, or by it, with which code and reason', async () => {
    await using onPing = await echoServer({
      onClient: client => client.once('ping', () => client.close(1008, 'no pings')),
      autoPong: false,
    });
    const byPing = await doctorOf(`ws://127.0.0.1:${onPing.port}/`);
    expect(byPing.codes[0]).toBe('no-pong');
    expect(byPing.said('ping')).toBe('fail then it ends with 1008 "no pings"');
    await using late = await echoServer({
      onClient: client => setTimeout(() => client.close(1013, 'later'), 600),
      onRequest: (_, response) =>
        setTimeout(
          () => response.writeHead(200, { 'set-cookie': 'SESSIONID=x1234567890; HttpOnly; SameSite=Lax' }).end(),
          250,
        ),
    });
    const before = await doctorOf(`ws://127.0.0.1:${late.port}/`);
    expect(before.codes).toEqual(['closed-at-once']);
    expect(before.said('ping')).toMatch(/^fail after \d+ ms it ends with 1013 "later"$/);
  });

  test('one WebSocket for each client is let in, and the first one is not in the way', async () => {
    let previous: WebSocket | undefined;
    await using server = await echoServer({
      onClient: client => {
        previous?.close(1008, 'replaced');
        previous = client;
      },
    });
    const { said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(said('ping')).toMatch(/^ok answered in/);
  });

  test('a large message cuts the connection', async () => {
    await using server = await echoServer();
    const limit = (socket: Socket, port: number) => {
      const behind = connect(port, '127.0.0.1');
      let bytes = 0;
      socket.on('data', chunk => {
        bytes += chunk.length;
        if (bytes > 200_000) socket.destroy();
        else behind.write(chunk);
      });
      behind.on('data', chunk => socket.write(chunk)).on('error', () => {});
      socket.on('close', () => behind.destroy());
    };
    await using front = await rawServer(socket => limit(socket, server.port));
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${front.port}/`);
    expect(codes).toEqual(['size-cut']);
    expect(said('size')).toBe('fail 64 KiB: taken; 1 MiB: cut');
  });
});

describe('what becomes of silence', () => {
  const idleServer = async (end: (client: WebSocket) => void, pingsCount: boolean) => {
    const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(sockets, 'listening');
    sockets.on('connection', client => {
      let timer = setTimeout(end, 1_200, client);
      client.on('close', () => clearTimeout(timer));
      client.on('ping', () => {
        if (!pingsCount) return;
        clearTimeout(timer);
        timer = setTimeout(end, 1_200, client);
      });
    });
    return {
      url: `ws://127.0.0.1:${(sockets.address() as { port: number }).port}/`,
      [Symbol.dispose]() {
        for (const client of sockets.clients) client.terminate();
        sockets.close();
      },
    };
  };

  test.each([
    ['the server closes', 'idle-closed', true, (client: WebSocket) => client.close(1001, 'idle')],
    ['it is cut, and pings help', 'idle-cut', true, (client: WebSocket) => client.terminate()],
    ['it is cut, and pings do not help', 'lifetime-cut', false, (client: WebSocket) => client.terminate()],
  ])('%s', async (_, code, pingsCount, end) => {
    using server = await idleServer(end, pingsCount);
    const { codes, said } = await doctorOf(server.url, { idleMs: 2_400 });
    expect(codes).toEqual([code]);
    expect(said('idle')).toMatch(
      /^fail (closed with 1001 "idle"|cut without a close frame \(1006\)) after \d[\d.]* m?s/,
    );
  });
});

describe('what becomes of silence, when it ends long before the time that was asked for', () => {
  test.each([
    ['pings help', 'idle-cut', true],
    ['pings do not help', 'lifetime-cut', false],
  ])('%s', async (_, code, pingsCount) => {
    await using server = await echoServer({
      onClient: client => {
        const end = () => client.terminate();
        let timer = setTimeout(end, 500);
        client.on('close', () => clearTimeout(timer));
        client.on('ping', () => {
          if (!pingsCount) return;
          clearTimeout(timer);
          timer = setTimeout(end, 500);
        });
      },
    });
    // The first one is watched for 400 ms.
    const { said, codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { idleMs: 5_000 });
    expect(codes).toEqual([code]);
    expect(said('idle')).toMatch(/^fail cut without a close frame \(1006\) after \d{3} ms/);
  });
});

describe.concurrent('of the session cookie it is found that', () => {
  const page = (cookie: string, tls?: { cert: string; key: string }) =>
    echoServer({
      onRequest: (_, response) => void response.setHeader('Set-Cookie', cookie).end(),
      ...(tls && { tls }),
    });

  test.each([
    ['browsers do not keep it over http', 'SESSIONID=a; HttpOnly; Secure', 'cookie-secure-on-http'],
    ['scripts can read it', 'SESSIONID=a', 'cookie-without-httponly'],
    ['another path has it', 'SESSIONID=a; HttpOnly; Path=/app', 'cookie-path'],
    ['another domain has it', 'SESSIONID=a; HttpOnly; Domain=backend.test', 'cookie-domain'],
    ['it may not be SameSite=None', 'SESSIONID=a; HttpOnly; SameSite=None', 'cookie-samesite-none'],
    ['it holds no session', 'SESSIONID=(null); HttpOnly', 'cookie-null'],
  ])('%s', async (_, cookie, code) => {
    await using server = await page(cookie);
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/socket`);
    expect(codes).toEqual([code]);
    expect(said('cookie')).toContain('set: SESSIONID');
    expect(said('cookie')).not.toContain('=a');
  });

  test('it may travel in the clear', async () => {
    await using server = await page('SESSIONID=a; HttpOnly', certificate());
    expect((await doctorOf(`wss://localhost:${server.port}/`, { ca })).codes).toEqual(['cookie-without-secure']);
  });

  test('nothing is wrong with it', async () => {
    await using server = await page('SESSIONID=a; HttpOnly; Path=/');
    const { codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual([]);
  });

  test.each(['XSRF-TOKEN=a', 'sidebar=open', 'author=me', 'SESSIONID=; Max-Age=0'])('%s is none', async cookie => {
    await using server = await page(cookie);
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual([]);
    expect(said('cookie')).toBe('note no session cookie is set here');
  });

  test('the server gives a new one each time', async () => {
    let count = 0;
    await using server = await echoServer({
      onRequest: (_, response) => void response.setHeader('Set-Cookie', `sid=${++count}; HttpOnly`).end(),
    });
    const { codes, said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual(['session-not-kept']);
    expect(said('cookie')).toBe('fail sid is new with each request, also when it is shown');
  });

  test('the server does not know the one that was given', async () => {
    await using server = await page('SESSIONID=new; HttpOnly');
    const { codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { cookie: 'SESSIONID=old; a=b' });
    expect(codes).toEqual(['session-unknown']);
  });

  test('pages take it and the handshake does not', async () => {
    await using server = await echoServer({
      onRequest: (request, response) => void response.writeHead(request.headers.cookie ? 200 : 401).end(),
      refuse: () => 401,
    });
    const { codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`, { cookie: 'SESSIONID=a' });
    expect(codes).toEqual(['session-not-handed-on']);
  });
});
