import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { Served } from '../guard/served.ts';
import { SigningBackend } from '../guard/signing-backend.ts';
import { Http2Client } from '../server/http2-client.ts';

interface Answered {
  readonly status: number;
  /** Who the backend took the request for. */
  readonly user: string;
  /** Which backend. */
  readonly by: string;
}

interface Asked {
  readonly authorization?: string | readonly string[];
  readonly method?: string;
  readonly body?: string;
  readonly path?: string;
}

/** A client with one connection of HTTP/1.1, which stays open. */
class Client implements Disposable {
  readonly #wire: 'http/1' | 'tls';
  readonly #port: number;
  readonly #agent: http.Agent;

  constructor(wire: 'http/1' | 'tls', host = 'one') {
    this.#wire = wire;
    this.#port = server.port(wire);
    const options = { keepAlive: true, maxSockets: 1 };
    this.#agent = wire === 'tls' ? new https.Agent({ ...options, rejectUnauthorized: false }) : new http.Agent(options);
    this.host = host;
  }

  /** Which upstream. */
  readonly host: string;

  async ask({ authorization, method = 'GET', body, path = '/' }: Asked = {}): Promise<Answered> {
    const request = this.#request(path, method, authorization);
    request.end(body);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let user = '';
    for await (const chunk of response) user += chunk;
    return { status: response.statusCode!, user, by: String(response.headers['x-server']) };
  }

  /** The lines of `WWW-Authenticate`. */
  async challenges(path: string): Promise<string[] | undefined> {
    const request = this.#request(path, 'GET');
    request.end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    return response.headersDistinct['www-authenticate'];
  }

  /** The user of a WebSocket, or the status that it was refused with. It stays open until the client ends. */
  async upgrade(authorization?: string): Promise<string | number> {
    const request = this.#request('/socket', 'GET', authorization);
    const headers = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13' };
    for (const [name, value] of Object.entries(headers)) request.setHeader(name, value);
    request.setHeader('Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==');
    request.end();
    const { promise, resolve } = Promise.withResolvers<string | number>();
    request.on('upgrade', (response, socket) => {
      this.#sockets.push(socket);
      socket.on('error', () => {});
      resolve(String(response.headers['x-user']));
    });
    request.on('response', response => resolve(response.statusCode!));
    return promise;
  }

  readonly #sockets: { destroy(): void }[] = [];

  [Symbol.dispose](): void {
    this.#agent.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }

  #request(path: string, method: string, authorization?: string | readonly string[]): http.ClientRequest {
    const options: https.RequestOptions = {
      ...{ host: '127.0.0.1', port: this.#port, agent: this.#agent, path, method },
      headers: { Host: this.host, ...(authorization !== undefined && { Authorization: authorization as string }) },
    };
    const request = this.#wire === 'tls' ? https.request(options) : http.request(options);
    request.on('error', () => {});
    return request;
  }
}

let server: Served;
let one: SigningBackend;
let two: SigningBackend;
beforeAll(async () => {
  [one, two] = [await SigningBackend.listen('one'), await SigningBackend.listen('two')];
  server = await Served.yaml(
    [
      'session: false',
      'upstreams:',
      `  one: { servers: ['${one.url}'] }`,
      `  few: { servers: ['${one.url}'], maxConnections: 2 }`,
      `  both: { servers: ['${one.url}', '${two.url}'], affinity: none }`,
      'routes:',
      ...['one', 'few', 'both'].map(
        name => `  - { host: ${name}, path: /*, upstream: ${name}, policy: { origins: any } }`,
      ),
      '',
    ].join('\n'),
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  for (const backend of [one, two]) await backend[Symbol.asyncDispose]();
});
beforeEach(async () => {
  // No test may live off what another one has left.
  await vi.waitFor(
    () => expect([...one.connections, ...two.connections].filter(user => user !== 'nobody')).toEqual([]),
    15_000,
  );
  one.seen.length = 0;
  two.seen.length = 0;
});

const ANONYMOUS = { status: 401, user: 'nobody' };

/** Signs in on the client's connection, each in its own way. */
const signIns: Record<string, (client: Client, name: string) => Promise<Answered>> = {
  'NTLM in three legs': async (client, name) => {
    expect(await client.ask()).toMatchObject(ANONYMOUS);
    expect(await client.ask({ authorization: 'NTLM hello' })).toMatchObject(ANONYMOUS);
    return client.ask({ authorization: `NTLM proof:${name}` });
  },
  'NTLM with a body in each leg': async (client, name) => {
    const body = 'x'.repeat(100_000);
    expect(await client.ask({ authorization: 'ntlm hello', method: 'POST', body })).toMatchObject(ANONYMOUS);
    return client.ask({ authorization: `ntlm proof:${name}`, method: 'POST', body });
  },
  'Negotiate in the first request': (client, name) => client.ask({ authorization: `Negotiate ticket:${name}` }),
  'Negotiate that the answer says nothing of': (client, name) =>
    client.ask({ authorization: `NEGOTIATE ticket:${name}`, path: '/silent' }),
  'Kerberos as a scheme of its own': (client, name) => client.ask({ authorization: `Kerberos ticket:${name}` }),
  'CredSSP that the answer says nothing of': (client, name) =>
    client.ask({ authorization: `CredSSP ticket:${name}`, path: '/silent' }),
  'an unknown scheme of which an interim answer says Persistent-Auth': (client, name) =>
    client.ask({ authorization: `Other ticket:${name}`, path: '/interim' }),
  'an unknown scheme of which a trailer says Persistent-Auth': (client, name) =>
    client.ask({ authorization: `Other ticket:${name}`, path: '/trailer' }),
  'Negotiate behind credentials of another scheme': (client, name) =>
    client.ask({ authorization: ['Basic YTpi', `Negotiate ticket:${name}`], path: '/silent' }),
  'an unknown scheme whose answer says Persistent-Auth': (client, name) =>
    client.ask({ authorization: `Other ticket:${name}` }),
};

const h1 = ['http/1', 'tls'] as const;
const ways = h1.flatMap(wire => Object.keys(signIns).map(way => [way, wire] as const));

test.each(ways)('who signed in by %s over %s is nobody else', async (way, wire) => {
  const name = 'alice';
  const client = new Client(wire);
  expect(await signIns[way]!(client, name)).toMatchObject({ status: 200, user: name });
  const others = Array.from({ length: 8 }, () => new Client(wire));
  for (const other of others) expect(await other.ask()).toMatchObject(ANONYMOUS);
  // The whole connection is signed in: that is what the client counts on.
  expect(await client.ask()).toMatchObject({ status: 200, user: name });
  expect(await client.ask({ method: 'POST', body: 'hello' })).toMatchObject({ status: 200, user: name });
  expect(await Promise.all(others.map(other => other.ask()))).toEqual(
    others.map(() => expect.objectContaining(ANONYMOUS)),
  );
  using second = new Client(wire);
  expect(await second.ask()).toMatchObject(ANONYMOUS);
  client[Symbol.dispose]();
  // It ends with the client's.
  await vi.waitFor(() => expect(one.connections).not.toContain(name), 15_000);
  for (const other of others) expect(await other.ask()).toMatchObject(ANONYMOUS);
  for (const other of others) other[Symbol.dispose]();
  expect(
    one.seen
      .filter(({ user }) => user === name)
      .every(({ socket }) => socket === one.seen.find(seen => seen.user === name)!.socket),
  ).toBe(true);
});

test.each(h1)('a connection that nobody signs in is shared over %s', async wire => {
  for (let i = 0; i < 5; i++) {
    using client = new Client(wire);
    expect(await client.ask({ path: '/open', authorization: 'Basic YTpi' })).toMatchObject({
      status: 200,
      user: 'nobody',
    });
    expect(await client.ask({ path: '/basic' })).toMatchObject(ANONYMOUS);
  }
  expect(new Set(one.seen.map(({ socket }) => socket)).size).toBe(1);
});

test.each(h1)('the legs of a sign-in go to one of two servers over %s', async wire => {
  for (let i = 0; i < 4; i++) {
    using client = new Client(wire, 'both');
    const { by } = await client.ask();
    expect(await client.ask({ authorization: 'NTLM hello' })).toMatchObject({ status: 401, by });
    expect(await client.ask({ authorization: 'NTLM proof:bob' })).toMatchObject({ status: 200, by, user: 'bob' });
    for (let n = 0; n < 3; n++) expect(await client.ask()).toMatchObject({ by, user: 'bob' });
  }
});

test.each(h1)('the end of the backend connection ends the sign-in over %s, and nothing is asked again', async wire => {
  using client = new Client(wire);
  await signIns['NTLM in three legs']!(client, 'carol');
  expect(await client.ask({ path: '/cut' })).toMatchObject({ status: 502 });
  expect(one.seen.filter(({ url }) => url === '/cut')).toHaveLength(1);
  expect(await client.ask()).toMatchObject(ANONYMOUS);
  await signIns['NTLM in three legs']!(client, 'carol');
  one.cut('carol');
  await vi.waitFor(async () => expect(await client.ask()).toMatchObject(ANONYMOUS), 15_000);
  await signIns['NTLM in three legs']!(client, 'carol');
  expect(await client.ask({ path: '/last' })).toMatchObject({ status: 200, user: 'carol' });
  expect(await client.ask()).toMatchObject(ANONYMOUS);
});

const firsts = {
  'GET with Kerberos': { authorization: 'Negotiate ticket:' },
  'POST with Kerberos': { authorization: 'Negotiate ticket:', method: 'POST', body: 'a body' },
  'GET whose answer says nothing': { authorization: 'Kerberos ticket:', path: '/silent' },
} as const;
const places = [
  ['http/1', 'one'],
  ['http/1', 'few'],
  ['tls', 'one'],
] as const;
const stale = places.flatMap(place =>
  Object.keys(firsts).map(what => [what as keyof typeof firsts, ...place] as const),
);

test.each(stale)(
  'kept connections that are stale do no harm to the first %s over %s at %s',
  async (what, wire, host) => {
    const others = Array.from({ length: 3 }, () => new Client(wire, host));
    await Promise.all(others.map(other => other.ask({ path: '/slow' })));
    one.makeStale();
    one.seen.length = 0;
    const client = new Client(wire, host);
    const first = firsts[what];
    expect(await client.ask({ ...first, authorization: `${first.authorization}mallory` })).toMatchObject({
      status: 200,
      user: 'mallory',
    });
    // On a connection of its own, which it keeps.
    expect(await client.ask()).toMatchObject({ status: 200, user: 'mallory' });
    expect(new Set(one.seen.map(({ socket }) => socket)).size).toBe(1);
    for (const other of others) expect(await other.ask({ path: '/open' })).toMatchObject({ user: 'nobody' });
    expect(await client.ask()).toMatchObject({ status: 200, user: 'mallory' });
    for (const each of [client, ...others]) each[Symbol.dispose]();
  },
);

test.each(h1)('a sign-in that waits for a place has a connection of its own over %s', async wire => {
  const others = Array.from({ length: 2 }, () => new Client(wire, 'few'));
  const slow = others.map(other => other.ask({ path: '/slow' }));
  await vi.waitFor(() => expect(one.seen).toHaveLength(2));
  one.makeStale();
  using client = new Client(wire, 'few');
  const last = { authorization: 'Negotiate ticket:niaj' };
  expect(await client.ask(last)).toMatchObject({ status: 200, user: 'niaj' });
  expect(await client.ask()).toMatchObject({ status: 200, user: 'niaj' });
  expect(await Promise.all(slow)).toEqual(slow.map(() => expect.objectContaining({ status: 200, user: 'nobody' })));
  for (const other of others) other[Symbol.dispose]();
});

test.each(h1)(
  'connections that are signed in count in maxConnections, and the longest idle gives way, over %s',
  async wire => {
    const clients = ['dave', 'erin', 'frank'].map(name => ({ name, client: new Client(wire, 'few') }));
    const before = one.connections.length;
    for (const { client, name } of clients)
      expect(await client.ask({ authorization: `Negotiate ticket:${name}` })).toMatchObject({
        status: 200,
        user: name,
      });
    using other = new Client(wire, 'few');
    expect(await other.ask()).toMatchObject(ANONYMOUS);
    expect(one.connections.length - before).toBeLessThanOrEqual(2);
    expect(await clients[0]!.client.ask()).toMatchObject(ANONYMOUS);
    for (const { client } of clients) client[Symbol.dispose]();
  },
);

test.each(h1)("a WebSocket on a connection that is signed in is the user's over %s, and nobody else's", async wire => {
  const client = new Client(wire);
  await signIns['NTLM in three legs']!(client, 'grace');
  expect(await client.upgrade()).toBe('grace');
  using other = new Client(wire);
  expect(await other.upgrade()).toBe(401);
  using third = new Client(wire);
  expect(await third.ask()).toMatchObject(ANONYMOUS);
  using fourth = new Client(wire);
  expect(await fourth.upgrade('Negotiate ticket:heidi')).toBe('heidi');
  client[Symbol.dispose]();
  await vi.waitFor(() => expect(one.connections).not.toContain('grace'), 15_000);
  expect(await third.ask()).toMatchObject(ANONYMOUS);
});

const { NGHTTP2_HTTP_1_1_REQUIRED } = http2.constants;

async function reset(stream: http2.ClientHttp2Stream): Promise<number> {
  stream.on('response', () => stream.resume());
  await new Promise(resolve => stream.once('close', resolve));
  return stream.rstCode;
}

test.each(['NTLM hello', 'Negotiate ticket:ivan', 'Kerberos ticket:ivan', ['Basic YTpi', 'NTLM hello']])(
  'HTTP/2 is told to come by HTTP/1.1 with %s, and the backend hears nothing of it',
  async authorization => {
    using client = await Http2Client.connect(server.url('http/2'));
    const headers = { ':authority': 'one', ':path': '/', authorization: authorization as string };
    expect(await reset(client.open(headers))).toBe(NGHTTP2_HTTP_1_1_REQUIRED);
    const post = client.open({ ...headers, ':method': 'POST' });
    post.end('a body');
    expect(await reset(post)).toBe(NGHTTP2_HTTP_1_1_REQUIRED);
    const knock = { ':method': 'CONNECT', ':protocol': 'websocket', 'sec-websocket-version': '13' };
    expect(await reset(client.open({ ...headers, ...knock }))).toBe(NGHTTP2_HTTP_1_1_REQUIRED);
    expect(one.seen).toEqual([]);
    // The connection goes on.
    expect(await client.get('/open', { ':authority': 'one' })).toMatchObject({ status: 200, body: 'nobody' });
  },
);

const KNOCK = { ':method': 'CONNECT', ':protocol': 'websocket', 'sec-websocket-version': '13' };

test('HTTP/2 is told to come by HTTP/1.1 where the backend asks for a sign-in of the connection and nothing else', async () => {
  using client = await Http2Client.connect(server.url('http/2'));
  const only = { ':authority': 'one', ':path': '/only' };
  expect(await reset(client.open(only))).toBe(NGHTTP2_HTTP_1_1_REQUIRED);
  expect(await reset(client.open({ ...KNOCK, ...only }))).toBe(NGHTTP2_HTTP_1_1_REQUIRED);
  // The connection goes on.
  expect(await client.get('/open', { ':authority': 'one' })).toMatchObject({ status: 200, body: 'nobody' });
});

test.each([
  ['/', 'Basic realm="a, b"'],
  ['/basic', 'Basic realm="a"'],
  ['/quoted', 'Basic realm="a, Negotiate b, NTLM"'],
  ['/mixed', 'Bearer realm = "a, \\"NTLM", error=invalid, Digest realm="b", nonce="c"'],
])('over HTTP/2 the 401 of %s asks for what HTTP/2 can carry', async (path, challenges) => {
  using client = await Http2Client.connect(server.url('http/2'));
  const answer = await client.get(path, { ':authority': 'one' });
  expect(answer).toMatchObject({ status: 401, body: 'nobody' });
  expect(answer.headers['www-authenticate']).toBe(challenges);
  const { status, stream, headers } = await client.knock(path, { ':authority': 'one' });
  stream.resume();
  expect(status).toBe(401);
  expect(headers['www-authenticate']).toBe(challenges);
  expect(await client.get('/open', { ':authority': 'one', authorization: 'Basic YTpi' })).toMatchObject({
    status: 200,
  });
});

test('over HTTP/1 the 401 asks for what the backend takes', async () => {
  using client = new Client('http/1');
  expect(await client.challenges('/mixed')).toEqual([
    'Negotiate dG9rZW4=, Bearer realm = "a, \\"NTLM", error=invalid, NTLM',
    'Digest realm="b", nonce="c"',
  ]);
});

test('a connection that was signed in over HTTP/2 by a scheme that nobody knew is used by nobody else', async () => {
  using client = await Http2Client.connect(server.url('http/2'));
  const answer = await client.get('/', { ':authority': 'one', authorization: 'Other ticket:judy' });
  expect(answer).toMatchObject({ status: 200, body: 'judy' });
  for (let i = 0; i < 3; i++)
    expect(await client.get('/open', { ':authority': 'one' })).toMatchObject({ body: 'nobody' });
  using other = new Client('tls');
  expect(await other.ask()).toMatchObject(ANONYMOUS);
});
