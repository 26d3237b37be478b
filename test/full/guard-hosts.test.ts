import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';

// Which host is asked for: what is not one name or address with one port is 400, on every way in, and never reaches a
// route or a backend.

const CONFIG = `
import { createServer as createBackend } from 'node:http';

const backend = createBackend((request, response) => response.end(JSON.stringify(request.rawHeaders)));
await new Promise(resolve => backend.listen(0, '127.0.0.1', resolve));
backend.unref();

const open = { origins: 'any' };
export default defineConfig({
  listen: [
    ...listen,
    { port: 0, host: '127.0.0.1', redirect: 'https' },
    { port: 0, host: '127.0.0.1', hosts: ['App.test', '*.apps.test', 'münchen.test'] },
    { port: 0, host: '127.0.0.1', tls: { certificate: 'localhost.crt', key: 'localhost.key' }, hosts: ['App.test'] },
    { port: 0, host: '127.0.0.1', redirect: 'https', hosts: ['app.test'] },
  ],
  session: false,
  // 127.0.0.2 is one that is not trusted.
  trustedProxies: ['127.0.0.1'],
  upstreams: { app: { servers: [\`http://127.0.0.1:\${backend.address().port}\`] } },
  routes: [
    { host: '*.example.com', path: '/route', fetch: request => Response.json(['*.example.com', request.url]) },
    { path: '/route', fetch: request => Response.json(['any', request.url]) },
    { path: '/backend', upstream: 'app', policy: open },
    { endpoint: defineEndpoint({ path: '/ws', onMessage: (connection, data) => connection.send(data) }), policy: open },
  ],
});
`;

let server: Served;
let ports: number[];
beforeAll(async () => {
  server = await Served.module(CONFIG);
  await server.program.printed(/(?:listening on \S+\n){6}/);
  ports = [...server.program.stdout.matchAll(/listening on \S+:(\d+)\n/g)].map(([, port]) => Number(port));
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

const [REDIRECT, NAMED, NAMED_TLS, NAMED_REDIRECT] = [2, 3, 4, 5];

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly head: string;
}

/** The only answer to these bytes. @param from An address of this machine. */
async function ask(wire: 'http/1' | 'tls' | number, lines: readonly string[], from = '127.0.0.1'): Promise<Answer> {
  const socket =
    typeof wire === 'string' && from === '127.0.0.1'
      ? await server.dial(wire)
      : connect({
          host: '127.0.0.1',
          port: typeof wire === 'number' ? ports[wire]! : server.port(wire),
          localAddress: from,
        });
  socket.write(`${[...lines, 'Connection: close'].join('\r\n')}\r\n\r\n`, 'latin1');
  const answer = await text(socket);
  socket.destroy();
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  return { status: Number(head.split(' ')[1]), body, head };
}

const BAD = [
  'evil.test,x.example.com',
  'evil.test, x.example.com',
  ',x.example.com',
  'x.example.com,',
  'evil.test;x.example.com',
  'evil.test x.example.com',
  'evil.test\tx.example.com',
  'user@x.example.com',
  'user:secret@x.example.com',
  '@x.example.com',
  'x.example.com:0x50',
  'x.example.com:65536',
  'x.example.com:99999999999',
  'x.example.com:-1',
  'x.example.com:+80',
  'x.example.com:80:80',
  'x.example.com:80 ',
  'x.example.com/',
  'x.example.com/a',
  'x.example.com?a',
  'x.example.com#a',
  'x.example.com\\a',
  'http://x.example.com',
  '//x.example.com',
  '',
  ':80',
  '.',
  '..',
  '.x.example.com',
  'x..example.com',
  'x.example.com..',
  '*.example.com',
  'x%2eexample.com',
  'x.example.com%2c',
  '%78.example.com',
  'x.example.com%00',
  'x.example.com%',
  "x'.example.com",
  'x".example.com',
  'x(.example.com',
  'x!.example.com',
  'x$.example.com',
  'x&.example.com',
  'x=.example.com',
  'x+.example.com',
  'x~.example.com',
  'x<.example.com',
  'x`.example.com',
  'x|.example.com',
  'x^.example.com',
  'x{}.example.com',
  '\xfc.example.com',
  'x\x7f.example.com',
  '[::1',
  '::1',
  '[::1]x',
  '[::1]:x',
  '[::1%25eth0]',
  '[v1.a]',
  '[1.2.3.4]',
  '[:::1]',
  '[x.example.com]',
  '999.1.1.1',
  '1.2.3.4.5',
  `${'a'.repeat(250)}.example.com`,
].filter(host => host !== 'x.example.com:80 '); // white space around a value is not part of it

/** As sent, and as a URL has it. */
const GOOD = [
  ['x.example.com', 'x.example.com'],
  ['X.Example.COM', 'x.example.com'],
  ['x.example.com:8080', 'x.example.com:8080'],
  ['x.example.com:', 'x.example.com'],
  ['x.example.com:08080', 'x.example.com:8080'],
  ['x.example.com.', 'x.example.com.'],
  ['x.example.com.:8080', 'x.example.com.:8080'],
  ['a_b.example.com', 'a_b.example.com'],
  ['_dmarc.a-b.example.com', '_dmarc.a-b.example.com'],
  ['-.example.com', '-.example.com'],
  ['1.example.com', '1.example.com'],
  ['xn--mnchen-3ya.example.com', 'xn--mnchen-3ya.example.com'],
  ['app_web_1:3000', 'app_web_1:3000'],
  ['localhost', 'localhost'],
  ['127.0.0.1:8080', '127.0.0.1:8080'],
  ['127.1', '127.0.0.1'],
  ['0x7f.1', '127.0.0.1'],
  ['[::1]', '[::1]'],
  ['[::1]:8080', '[::1]:8080'],
  ['[2001:DB8:0:0:0:0:0:1]', '[2001:db8::1]'],
  ['[::FFFF:127.0.0.1]', '[::ffff:7f00:1]'],
] as const;

describe.each(['http/1', 'tls'] as const)('over %s', wire => {
  test('what is not one host is 400, in Host and in the target, for routes, backends and WebSockets', async () => {
    const wrong: unknown[] = [];
    const upgrade = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}`;
    const requests = BAD.flatMap(host => {
      const all = [
        ['GET /backend HTTP/1.1', `Host: ${host}`],
        ['GET /ws HTTP/1.1', `Host: ${host}`, upgrade],
        ['GET /route HTTP/1.1', `Host: ${host}`],
        ['GET /nowhere HTTP/1.1', `Host: ${host}`],
        ['GET /route HTTP/1.0', `Host: ${host}`],
        [`GET http://${host}/route HTTP/1.1`, `Host: ${host}`],
      ];
      // Where only the target names it, a slash is the end of the host.
      if (!/[/\\?#]/.test(host)) all.push([`GET http://${host}/route HTTP/1.0`]);
      return wire === 'tls' ? all.slice(0, 2) : all;
    });
    await each(requests, async lines => {
      const { status } = await ask(wire, lines);
      if (status !== 400) wrong.push([lines, status]);
    });
    expect(wrong).toEqual([]);
  }, 60_000);

  test('what is not one host is 400 when a trusted proxy forwards it, anywhere in its list, and ignored from anybody else', async () => {
    const wrong: unknown[] = [];
    await each(BAD, async host => {
      const isList = host.split(',').every(item => /^[a-z. ]*$/.test(item));
      const quoted = `"${host.replace(/["\\]/g, '\\$&')}"`;
      for (const header of [
        ...(isList || host === '' ? [] : [`X-Forwarded-Host: ${host}`, `X-Forwarded-Host: ${host}, x.example.com`]),
        ...(host === ''
          ? []
          : [`Forwarded: for=192.0.2.1;host=${quoted}`, `Forwarded: host=${quoted}, for=192.0.2.1;host=x.example.com`]),
      ]) {
        const lines = ['GET /backend HTTP/1.1', 'Host: x.example.com', header];
        const { status } = await ask(wire, lines);
        if (status !== 400) wrong.push([header, status]);
        // The last is what no header may have.
        if (wire === 'tls' || host.includes('\x7f')) continue;
        const { body } = await ask(wire, lines, '127.0.0.2');
        if (headerOf(body, 'X-Forwarded-Host') !== 'x.example.com') wrong.push([header, body]);
      }
    });
    expect(wrong).toEqual([]);
  }, 60_000);

  test('no list of hosts reaches a backend: it gets the host that was decided on', async () => {
    for (const header of ['X-Forwarded-Host: evil.test,x.example.com', 'X-Forwarded-Host: x.example.com']) {
      const { body } = await ask(wire, [
        'GET /backend HTTP/1.1',
        'Host: proxy.test',
        header,
        'X-Forwarded-For: 192.0.2.1',
      ]);
      expect([headerOf(body, 'Host'), headerOf(body, 'X-Forwarded-Host')]).toEqual(['x.example.com', 'x.example.com']);
    }
  });

  test.each(GOOD)('%s is the host %s, for routes and for backends', async (sent, host) => {
    const [route, backend, forwarded] = await Promise.all([
      ask(wire, ['GET /route HTTP/1.1', `Host: ${sent}`]),
      ask(wire, ['GET /backend HTTP/1.1', `Host: ${sent}`]),
      ask(wire, ['GET /backend HTTP/1.1', 'Host: proxy.test', `X-Forwarded-Host: ${sent}`]),
    ]);
    const url = new URL(`${wire === 'tls' ? 'https' : 'http'}://${host}/route`).href;
    expect(JSON.parse(route.body)).toEqual([host.includes('.example.com') ? '*.example.com' : 'any', url]);
    expect(headerOf(backend.body, 'Host')).toBe(host);
    expect(headerOf(backend.body, 'X-Forwarded-Host')).toBe(host);
    expect(headerOf(forwarded.body, 'X-Forwarded-Host')).toBe(host);
  });

  test('a request of HTTP/1.0 may name no host: routes of every host serve it, and backends are told of none', async () => {
    const served = await ask(wire, ['GET /route HTTP/1.0']);
    expect([served.status, JSON.parse(served.body)]).toEqual([
      200,
      ['any', expect.stringMatching(/^https?:\/\/localhost\/route$/)],
    ]);
    const { status, body } = await ask(wire, ['GET /backend HTTP/1.0']);
    expect(status).toBe(200);
    expect(headerOf(body, 'Host')).toBe('localhost');
    expect(headerOf(body, 'X-Forwarded-Host')).toBeUndefined();
    expect(headerOf(body, 'X-Forwarded-Port')).toBeUndefined();
    expect(headerOf(body, 'Forwarded')).toBe(`for=127.0.0.1;proto=${wire === 'tls' ? 'https' : 'http'}`);
    // What it names in its target is its host.
    expect(JSON.parse((await ask(wire, ['GET http://x.example.com/route HTTP/1.0'])).body)[0]).toBe('*.example.com');
    expect((await ask(wire, ['GET /route HTTP/1.1'])).status).toBe(400);
    expect((await ask(wire, ['GET /route HTTP/1.0', 'Host: a', 'Host: a'])).status).toBe(400);
    expect((await ask(wire, ['GET /route HTTP/1.0', 'Host:'])).status).toBe(400);
  });
});

test('what is not one host is 400, or the end of the stream, in the authority of HTTP/2', async () => {
  using client = new Http2Client(server.url('http/2'));
  const wrong: unknown[] = [];
  await each(BAD, async host => {
    for (const headers of [
      { ':path': '/route' },
      { ':path': '/backend' },
      { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws', 'sec-websocket-version': '13' },
    ]) {
      const stream = client.open({ ...headers, ':authority': host });
      const status = await new Promise<number>(resolve => {
        stream.once('response', answer => resolve(answer[':status']!));
        stream.once('close', () => resolve(400));
      });
      stream.close();
      if (status !== 400) wrong.push([host, headers, status]);
    }
  });
  expect(wrong).toEqual([]);
  for (const [sent, host] of GOOD) {
    const { body } = await client.get('/backend', { ':authority': sent });
    expect(headerOf(body, 'Host')).toBe(host);
  }
}, 60_000);

describe('a redirect to https', () => {
  test('does not lead to what is not one host, nor anywhere when none is named', async () => {
    const wrong: unknown[] = [];
    await each(BAD, async host => {
      const { status, head } = await ask(REDIRECT, ['GET /a HTTP/1.1', `Host: ${host}`]);
      if (status !== 400 || /location/i.test(head)) wrong.push([host, status]);
    });
    expect(wrong).toEqual([]);
    expect((await ask(REDIRECT, ['GET /a HTTP/1.0'])).status).toBe(400);
    expect((await ask(REDIRECT, ['GET /a HTTP/1.1', 'Host: X_1.example.com:80'])).head).toMatch(
      /^HTTP\/1\.1 308 [\s\S]*\r\nLocation: https:\/\/x_1\.example\.com:\d+\/a/i,
    );
  });
});

describe('a listener that answers to some hosts', () => {
  const ws = [
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${KEY}`,
    'Origin: http://evil.test',
  ];

  test.each([
    'evil.test',
    'evil.test:8080',
    'app.test.evil.test',
    'xapp.test',
    'apps.test',
    'app.test.evil',
    'localhost.evil.test',
    '127.0.0.1.evil.test',
    'münchen.test.evil',
  ])('refuses %s with 421: requests, WebSockets and redirects', async host => {
    const sent = `Host: ${host.replace('ü', 'u')}`;
    expect((await ask(NAMED, ['GET /route HTTP/1.1', sent])).status).toBe(421);
    expect((await ask(NAMED, ['GET /nowhere HTTP/1.1', sent])).status).toBe(421);
    expect((await ask(NAMED, ['GET /ws HTTP/1.1', sent, ...ws])).status).toBe(421);
    expect((await ask(NAMED_REDIRECT, ['GET /route HTTP/1.1', sent])).status).toBe(421);
  });

  test.each([
    'app.test',
    'APP.test:8080',
    'app.test.',
    'a.apps.test',
    'a.b.apps.test',
    'xn--mnchen-3ya.test',
    'localhost',
    'localhost:8080',
    '127.0.0.1',
    '10.1.2.3:80',
    '[::1]:8080',
  ])('answers %s', async host => {
    expect((await ask(NAMED, ['GET /route HTTP/1.1', `Host: ${host}`])).status).toBe(200);
  });

  test('believes neither the Host nor what a trusted proxy forwards when the other is not of its own', async () => {
    // A page under a name that leads here can send any header to here.
    expect((await ask(NAMED, ['GET /route HTTP/1.1', 'Host: evil.test', 'X-Forwarded-Host: app.test'])).status).toBe(
      421,
    );
    expect((await ask(NAMED, ['GET /route HTTP/1.1', 'Host: app.test', 'X-Forwarded-Host: evil.test'])).status).toBe(
      421,
    );
    expect((await ask(NAMED, ['GET http://evil.test/route HTTP/1.0'])).status).toBe(421);
    expect((await ask(NAMED, ['GET /route HTTP/1.0'])).status).toBe(200);
  });

  test('does so over HTTP/2', async () => {
    using client = new Http2Client(`https://127.0.0.1:${ports[NAMED_TLS!]}`);
    expect((await client.get('/route', { ':authority': 'evil.test' })).status).toBe(421);
    expect((await client.get('/route', { ':authority': 'app.test' })).status).toBe(200);
    expect((await client.knock('/ws', { ':authority': 'evil.test' })).status).toBe(421);
  });

  test('says so in its log, with what to do', async () => {
    await ask(NAMED, ['GET /route HTTP/1.1', 'Host: evil.test']);
    await expect
      .poll(() => server.logged().find(line => line.code === 'ERR_POLICY_HOST')?.msg, { timeout: 15_000 })
      .toMatch(/"evil\.test.*hosts/);
  });
});

/** Ten at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = [...items];
  await Promise.all(
    Array.from({ length: 10 }, async () => {
      for (let item = rest.pop(); item !== undefined; item = rest.pop()) await work(item);
    }),
  );
}

/** Of those that the backend has sent back. */
function headerOf(body: string, name: string): string | undefined {
  const rawHeaders = JSON.parse(body) as string[];
  return rawHeaders[rawHeaders.indexOf(name) + 1 || rawHeaders.length];
}
