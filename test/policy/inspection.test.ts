import { once } from 'node:events';
import net from 'node:net';
import { defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { systemClock } from '../../src/base/clock.ts';
import { jsonDecoded, percentDecoded } from '../../src/policy/inspected-text.ts';
import type { InspectConfig, InspectRule } from '../../src/policy/inspection.ts';
import { Inspection } from '../../src/policy/inspection.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { cpuTime } from '../cpu-time.ts';
import { ask, Lines, RawBackend, WiredServer, wires } from '../server/wires.ts';
import { headWith } from './head.ts';

const rule = (place: InspectRule['in'], match: string | RegExp, more: Partial<InspectRule> = {}): InspectRule => ({
  name: 'test',
  in: place,
  match,
  ...more,
});

function inspectionOf(rules: InspectRule[], lines = new Lines()): Inspection {
  return new Inspection({ rules }, new SecurityEvents(CalmLogger.over(lines, systemClock)));
}

const denies = (one: InspectRule, changes: Parameters<typeof headWith>[0]) =>
  inspectionOf([one]).judgeHead(headWith({ isUpgrade: false, ...changes }), '/') !== undefined;

describe('a rule', () => {
  test.each<[string, InspectRule, Parameters<typeof headWith>[0], boolean]>([
    ['sees the path', rule('path', '/\\.php/'), { path: '/a.php' }, true],
    ['sees escapes of the path', rule('path', '/%3c/i', { view: 'raw' }), { path: '/%3Cx' }, true],
    ['sees what escapes of the path stand for', rule('path', '/<x/'), { path: '/%3Cx' }, true],
    ['sees escapes only where it asks for them', rule('path', '/<x/', { view: 'raw' }), { path: '/%3Cx' }, false],
    ['decodes once', rule('query', '/<x/'), { query: 'a=%253Cx' }, false],
    ['sees a second escape', rule('query', '/%3Cx/', { view: 'decoded' }), { query: 'a=%253Cx' }, true],
    ['takes a plus of the query for a space', rule('query', '/union select/i'), { query: 'a=UNION+select' }, true],
    ['keeps a plus of the path', rule('path', '/a b/'), { path: '/a+b' }, false],
    ['sees UTF-8 in escapes', rule('query', '/é/'), { query: 'a=%C3%A9' }, true],
    ['bears escapes that are none', rule('query', '/zz/'), { query: 'a=%zz%C3%' }, true],
    ['of the path does not see the query', rule('path', '/x/'), { path: '/a', query: 'x' }, false],
    [
      'sees a header by its name',
      rule('header:User-Agent', '/sqlmap/i'),
      { headers: { 'user-agent': 'SQLMap' } },
      true,
    ],
    ['of one header sees no other', rule('header:User-Agent', '/x/'), { headers: { referer: 'x' } }, false],
    ['of headers sees each', rule('headers', '/jndi:/i'), { headers: { 'x-any': '${JNDI:ldap' } }, true],
    ['of headers sees repeated ones', rule('headers', '/b/'), { headers: { 'set-cookie': ['a', 'b'] } }, true],
    ['of headers sees no cookie', rule('headers', '/x/'), { headers: { cookie: 'x', authorization: 'x' } }, false],
    ['sees a cookie when it asks for it', rule('header:cookie', '/x/'), { headers: { cookie: 'x' } }, true],
    ['of several places sees each', rule(['path', 'query'], '/x/'), { query: 'x' }, true],
    ['searches anew for each request, whatever flags it has', rule('query', /x/gy), { query: 'ax' }, true],
  ])('%s', (_, one, changes, expected) => {
    expect(denies(one, changes)).toBe(expected);
    expect(denies(one, changes)).toBe(expected);
  });

  test('that logs lets the rules behind it speak, and its line has nothing of what was found', () => {
    const lines = new Lines();
    const inspection = inspectionOf(
      [
        rule('query', '/secret/', { name: 'a', action: 'log' }),
        rule('query', '/secret/', { name: 'b', action: 'ban' }),
        rule('query', '/secret/', { name: 'c' }),
      ],
      lines,
    );
    const head = headWith({ isUpgrade: false, path: '/a;jsessionid=1', query: 'secret=1' });
    expect(inspection.judgeHead(head, 'route')).toMatchObject({
      status: 403,
      code: 'ERR_POLICY_INSPECTION',
      reason: 'the rule "b" matches (query)',
    });
    const client = { address: '203.0.113.1', route: 'route', method: 'GET', path: '/a' };
    expect(lines.all.map(({ level, fields }) => [level, fields])).toEqual([
      ['warn', { event: 'inspection-matched', ...client, rule: 'a', action: 'log' }],
      ['warn', { event: 'inspection-ban', ...client, rule: 'b', action: 'ban' }],
    ]);
    expect(JSON.stringify(lines.all)).not.toContain('secret');
  });

  test.each<[string, string, string]>([
    ['escapes that are none, and bytes that are not UTF-8', '%zz%C3x%4%', '%zz\ufffdx%4%'],
    ['escapes in any case, and what stands between them', 'a%3c%3Cb%é%C3%A9', 'a<<b%éé'],
  ])('sees %s', (_, query, decoded) => {
    expect(percentDecoded(query)).toBe(decoded);
  });

  test.each<[string, string, string]>([
    ['the escapes of JSON', '\\n\\t\\"\\/\\\\n\\u003C\\U003c', '\n\t"/\\n<<'],
    ['escapes that are none', '\\u00g1\\u12\\x\\', 'u00g1u12x\\'],
    ['both halves of a character', '\\ud83d\\ude00!', '😀!'],
  ])('sees %s', (_, message, decoded) => {
    expect(jsonDecoded(message)).toBe(decoded);
  });

  test.each<[string, string]>([
    ['of a form', '%C3x%zz'],
    ['of nothing but broken escapes', '%'],
    ['of JSON', '\\n'],
    ['of backslashes', 'a\\'],
  ])('costs a few milliseconds for 64 KiB %s, and 16 times as much for a mebibyte', (_, unit) => {
    const decode = unit.includes('%') ? percentDecoded : jsonDecoded;
    const cost = (bytes: number) => {
      const text = unit.repeat(bytes / unit.length);
      return Math.min(...Array.from({ length: 5 }, () => cpuTime(() => decode(text))));
    };
    cost(64 * 1024);
    expect(cost(64 * 1024)).toBeLessThan(5);
    expect(cost(1024 * 1024)).toBeLessThan(80);
  });

  test('with an expression that may take for ever is refused', () => {
    expect(() => inspectionOf([rule('body', /<script[^>]*>/)])).toThrow(/is refused: for some texts its time/);
  });
});

test('a rule that bans is heard by the jails: the client is banned from everything, and no other', async () => {
  const server = await WiredServer.start({
    trustedProxies: ['127.0.0.1'],
    bans: { action: 'refuse' },
    policy: { inspect: { rules: [rule('path', '/\\.git/', { action: 'ban' })] } },
    routes: [{ path: '/*', fetch: () => new Response('ok') }],
  });
  const statusOf = async (address: string, path: string, headers: Record<string, string> = {}) =>
    (await ask(server, 'tls', { path, headers: { 'X-Forwarded-For': address, ...headers } })).status;
  const seen = [
    // A page of another site could have others banned.
    await statusOf('198.51.100.7', '/.git', { 'Sec-Fetch-Site': 'cross-site' }),
    await statusOf('198.51.100.7', '/page'),
    await statusOf('198.51.100.7', '/.git'),
    await statusOf('198.51.100.7', '/page'),
    await statusOf('198.51.100.8', '/page'),
  ];
  await server.close();
  expect(seen).toEqual([403, 200, 403, 403, 200]);
});

describe('bodies', () => {
  const inspect: InspectConfig = {
    rules: [rule('body', '/union\\s+select|<script\\b/i', { name: 'attack' })],
    maxBodySize: '1KiB',
  };

  /** A backend and a handler that both say how many bytes they were sent. */
  async function serve(config: Partial<InspectConfig> = {}) {
    const backend = await RawBackend.listen();
    backend.answer = request => {
      const sent = request.slice(request.indexOf('\r\n\r\n') + 4);
      // What comes by HTTP/2 goes on in one chunk.
      const body = /^[0-9a-f]+\r\n([\s\S]*)\r\n0\r\n\r\n$/.exec(sent)?.[1] ?? sent;
      return `HTTP/1.1 200 OK\r\nContent-Length: ${String(body.length).length}\r\n\r\n${body.length}`;
    };
    const lines = new Lines();
    let handled = 0;
    const server = await WiredServer.start(
      {
        policy: { inspect: { ...inspect, ...config } },
        upstreams: { app: { servers: [backend.url] } },
        routes: [
          { path: '/backend', upstream: 'app' },
          {
            path: '/handler',
            fetch: async request => {
              handled++;
              return new Response(String((await request.text()).length));
            },
          },
          { path: '/free', policy: { inspect: false }, upstream: 'app' },
        ],
      },
      lines,
    );
    return {
      backend,
      server,
      lines,
      handled: () => handled,
      close: () => Promise.all([server.close(), backend.close()]),
    };
  }

  const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };
  const JSON_TYPE = { 'Content-Type': 'application/problem+json; charset=UTF-8' };

  test.each(['/backend', '/handler'])(
    'are judged before %s has any of them, and arrive whole when they are good',
    async path => {
      const { server, backend, handled, close } = await serve();
      const send = (headers: Record<string, string>, body: string, method = 'POST') =>
        Promise.all(
          wires.map(async wire => {
            const { status, body: text } = await ask(server, wire, { path, method, headers, body });
            return status === 200 ? Number(text) : status;
          }),
        );
      const bad = [
        await send(FORM, 'q=1+UNION%20+select'),
        await send(JSON_TYPE, '{"q":"\\u003cscript>"}'),
        await send({}, 'a <SCRIPT>'),
        await send({ 'Content-Type': 'multipart/form-data; boundary=x' }, '--x\r\n\r\n<script\r\n--x--'),
        await send(FORM, `q=${'x'.repeat(1_000)}<script>`, 'PUT'),
      ];
      expect(bad.flat()).toEqual(bad.flat().map(() => 403));
      expect(backend.requests.length + handled()).toBe(0);
      const good = [
        await send(FORM, 'q=reunion+elected'),
        await send({}, 'x'.repeat(1_024)),
        await send(JSON_TYPE, '{}', 'PUT'),
      ];
      await close();
      expect(good).toEqual([wires.map(() => 17), wires.map(() => 1_024), wires.map(() => 2)]);
      expect(backend.requests.length + handled()).toBe(9);
    },
  );

  test('in pieces, with trailers or empty are judged as one, and the connection goes on', async () => {
    const { server, backend, close } = await serve();
    const socket = net.connect(server.port('http/1'), '127.0.0.1');
    let text = '';
    socket.setEncoding('latin1').on('data', chunk => {
      text += chunk;
    });
    const answers = async (count: number) => {
      while (text.split('HTTP/1.1 ').length <= count) await once(socket, 'data');
    };
    const send = async (...parts: string[]) => {
      for (const part of parts) {
        socket.write(part);
        await new Promise(resolve => setTimeout(resolve, 5));
      }
    };
    const head = 'POST /backend HTTP/1.1\r\nHost: a\r\n';
    await send(`${head}Content-Length: 7\r\n\r\n`, '<scr', 'ipt');
    await answers(1);
    await send(`${head}Transfer-Encoding: chunked\r\n\r\n`, '4\r\n<scr\r\n', '3\r\nipt\r\n0\r\n\r\n');
    await answers(2);
    await send(`${head}Transfer-Encoding: chunked\r\n\r\n`, '4\r\n<scr\r\n', '1\r\ni\r\n', '0\r\nX-T: 1\r\n\r\n');
    await answers(3);
    await send(`${head}Transfer-Encoding: chunked\r\n\r\n`, '0\r\n\r\n');
    await answers(4);
    await send(`${head}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n`);
    await answers(5);
    await send('good');
    await answers(6);
    socket.destroy();
    await close();
    expect([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(match => match[1])).toEqual([
      '403',
      '403',
      '200',
      '200',
      '100',
      '200',
    ]);
    expect(backend.requests.map(request => request.slice(request.indexOf('\r\n\r\n') + 4))).toEqual([
      '5\r\n<scri\r\n0\r\nX-T: 1\r\n\r\n',
      '0\r\n\r\n',
      'good',
    ]);
  });

  test('that cannot be judged are refused: too large, compressed, or in a strange character set', async () => {
    const { server, backend, lines, close } = await serve();
    const statuses = [];
    for (const wire of wires)
      for (const [headers, body] of [
        [{}, 'x'.repeat(1_025)],
        [{ 'Transfer-Encoding': 'chunked' }, 'x'.repeat(1_025)],
        [{ 'Content-Encoding': 'gzip' }, 'x'],
        [{ 'Content-Type': 'application/json; charset="utf-16le"' }, 'x'],
      ] as const)
        if (wire !== 'http/2' || !('Transfer-Encoding' in headers))
          statuses.push((await ask(server, wire, { path: '/backend', method: 'POST', headers, body })).status);
    await close();
    expect(statuses).toEqual([413, 413, 415, 415, 413, 413, 415, 415, 413, 415, 415]);
    expect(backend.requests).toEqual([]);
    expect(lines.of('info').join('\n')).toContain('a body of more than 1024 bytes cannot be inspected');
  });

  test('that cannot be judged pass where it is said, and their beginning is judged', async () => {
    const { server, close } = await serve({ otherBodies: 'pass' });
    const send = async (body: string, headers: Record<string, string> = {}) => {
      const { status, body: text } = await ask(server, 'tls', { path: '/handler', method: 'POST', body, headers });
      return status === 200 ? Number(text) : status;
    };
    const seen = [
      await send('x'.repeat(200_000)),
      await send('x'.repeat(200_000), { 'Transfer-Encoding': 'chunked' }),
      await send(`<script>${'x'.repeat(200_000)}`),
      await send('<script>', { 'Content-Encoding': 'br' }),
    ];
    await close();
    expect(seen).toEqual([200_000, 200_000, 403, 8]);
  });

  test('of a route with "inspect: false" are nobody\'s business', async () => {
    const { server, close } = await serve();
    const { status } = await ask(server, 'http/1', { path: '/free', method: 'POST', body: '<script>' });
    await close();
    expect(status).toBe(200);
  });

  test('of clients that leave before the end cost nothing', async () => {
    const { server, backend, close } = await serve();
    const socket = net.connect(server.port('http/1'), '127.0.0.1');
    socket.write('POST /backend HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf');
    await new Promise(resolve => setTimeout(resolve, 20));
    socket.destroy();
    const { status } = await ask(server, 'http/1', { path: '/backend', method: 'POST', body: 'good' });
    await close();
    expect(status).toBe(200);
    expect(backend.requests.length).toBe(1);
  });
});

describe('messages', () => {
  const inspect: InspectConfig = { rules: [rule('messages', '/<script\\b/i', { name: 'script' })] };

  async function serve(more: Partial<InspectConfig> = {}) {
    const backend = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true });
    const received: string[] = [];
    const ends: number[] = [];
    backend.on('connection', socket => {
      socket.on('message', (data, isBinary) => {
        received.push(`${isBinary ? 'binary' : 'text'} ${data}`);
        socket.send(data, { binary: isBinary });
      });
      socket.on('close', code => ends.push(code));
    });
    await once(backend, 'listening');
    const lines = new Lines();
    const onMessage = (connection: { send(data: string | Uint8Array): unknown }, data: string | Uint8Array) => {
      received.push(typeof data === 'string' ? `text ${data}` : `binary ${Buffer.from(data)}`);
      connection.send(data);
    };
    const server = await WiredServer.start(
      {
        policy: { origins: 'any', inspect: { ...inspect, ...more } },
        upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as net.AddressInfo).port}`] } },
        routes: [
          { path: '/relay', upstream: 'app' },
          { endpoint: defineEndpoint({ path: '/endpoint', compression: true, onMessage }) },
          {
            endpoint: defineEndpoint({
              path: '/fragments',
              onMessage,
              onFragment: () => {
                received.push('a fragment');
              },
            }),
          },
        ],
      },
      lines,
    );
    const connect = async (path: string) => {
      const socket = new WebSocket(`${server.url('http/1').replace('http', 'ws')}${path}`);
      await once(socket, 'open');
      return socket;
    };
    const close = async () => {
      for (const client of backend.clients) client.terminate();
      await Promise.all([server.close(), new Promise(resolve => backend.close(resolve))]);
    };
    return { server, connect, received, ends, lines, close };
  }

  const ended = async (socket: WebSocket) => ((await once(socket, 'close')) as [number])[0];
  const echoed = async (socket: WebSocket) => String(((await once(socket, 'message')) as [Buffer])[0]);

  test.each(['/relay', '/endpoint', '/fragments'])(
    'are judged whole before %s has them, and 1008 ends the socket',
    async path => {
      const { connect, received, lines, close } = await serve();
      const socket = await connect(path);
      for (const message of ['hello', Buffer.from('bytes'), '', 'x'.repeat(60_000)]) {
        socket.send(message);
        expect(await echoed(socket)).toBe(String(message));
      }
      socket.send('frag', { fin: false });
      socket.ping('between');
      socket.send('men', { fin: false });
      socket.send('ted');
      expect(await echoed(socket)).toBe('fragmented');
      const before = [...received];
      socket.send('<scr', { fin: false });
      socket.send('ipt>');
      socket.send('behind it');
      expect(await ended(socket)).toBe(1008);
      const escaped = await connect(path);
      escaped.send('{"a":"\\u003cSCRIPT>"}');
      expect(await ended(escaped)).toBe(1008);
      const binary = await connect(path);
      binary.send(Buffer.from('\0\xff<script>', 'latin1'));
      expect(await ended(binary)).toBe(1008);
      await close();
      expect(received).toEqual(before);
      expect(before.map(message => message.slice(0, 20))).toEqual([
        'text hello',
        'binary bytes',
        'text ',
        'text xxxxxxxxxxxxxxx',
        'text fragmented',
      ]);
      const events = lines.all.filter(({ fields }) => fields.event === 'inspection-matched');
      expect(events.length).toBe(3);
      expect(events[0]!.fields).toMatchObject({ rule: 'script', route: path, address: '127.0.0.1', path });
    },
  );

  test('that came in pieces go to an endpoint that takes pieces only as one, the last', async () => {
    const pieces: unknown[] = [];
    const onFragment = (_: unknown, data: string | Uint8Array, last: boolean) => void pieces.push([String(data), last]);
    const server = await WiredServer.start({
      policy: { origins: 'any', inspect },
      routes: [{ endpoint: defineEndpoint({ path: '/', compression: true, onFragment }) }],
    });
    const socket = new WebSocket(server.url('http/1').replace('http', 'ws'));
    await once(socket, 'open');
    for (const compress of [false, true]) {
      socket.send('in ', { fin: false, compress });
      socket.send('pieces', { compress });
    }
    await expect.poll(() => pieces.length).toBe(2);
    expect(pieces).toEqual(Array(2).fill(['in pieces', true]));
    socket.send('<scr', { fin: false });
    socket.send('ipt>');
    expect(await ended(socket)).toBe(1008);
    expect(pieces.length).toBe(2);
    await server.close();
  });

  test('pass in order with control frames between them, and what is only logged passes', async () => {
    const { connect, received, lines, close } = await serve({ rules: [{ ...inspect.rules[0]!, action: 'log' }] });
    const socket = await connect('/relay');
    const pongs: string[] = [];
    socket.on('pong', data => pongs.push(String(data)));
    const { promise: all, resolve } = Promise.withResolvers<void>();
    socket.on('message', data => String(data).startsWith('49') && resolve());
    for (let i = 0; i < 50; i++) {
      socket.send(`${i} <script>`);
      socket.ping(String(i));
    }
    await all;
    socket.close();
    await ended(socket);
    await close();
    expect(received).toEqual(Array.from({ length: 50 }, (_, i) => `text ${i} <script>`));
    expect(pongs).toEqual(Array.from({ length: 50 }, (_, i) => String(i)));
    expect(lines.all.filter(({ fields }) => fields.event === 'inspection-matched').length).toBeGreaterThan(10);
  });

  test('that would be compressed are not: relayed ones come as they are written', async () => {
    const { connect, close } = await serve();
    const [relayed, own] = [await connect('/relay'), await connect('/endpoint')];
    expect(relayed.extensions).toBe('');
    expect(own.extensions).toBe('permessage-deflate');
    own.send(`${'x'.repeat(5_000)}<script>`);
    expect(await ended(own)).toBe(1008);
    relayed.terminate();
    await close();
  });

  test('in more pieces than are kept end the socket', async () => {
    const { connect, received, close } = await serve();
    const socket = await connect('/relay');
    for (let i = 0; i < 1_100; i++) socket.send('', { fin: false });
    expect(await ended(socket)).toBe(1008);
    await close();
    expect(received).toEqual([]);
  });
});
