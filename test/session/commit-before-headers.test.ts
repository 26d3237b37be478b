import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attachSession } from '../../src/session/attach-session.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import type { Session } from '../../src/session/session.ts';
import { createSite, FaultyStore, type Site } from './fixture.ts';

type AnySession = Session<Record<string, unknown>>;
type Handler = (req: http.IncomingMessage, res: http.ServerResponse, binding: SessionBinding) => unknown;

let store: FaultyStore;
let site: Site;
let handler: Handler;
let server: http.Server;
let errors: unknown[];

beforeEach(async () => {
  store = new FaultyStore();
  site = createSite(store);
  errors = [];
  server = http.createServer(async (req, res) => {
    try {
      await handler(req, res, attachSession(site.manager, req, res));
    } catch (error) {
      errors.push(error);
      res.destroy();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

interface Answer {
  readonly status: number;
  readonly message: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawHeaders: string[];
  readonly trailers: NodeJS.Dict<string>;
  readonly body: string;
}

async function send(options: http.RequestOptions = {}): Promise<Answer> {
  const request = http.request({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    agent: false,
    ...options,
  });
  request.end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let body = '';
  for await (const chunk of response.setEncoding('utf8')) body += chunk;
  return {
    status: response.statusCode!,
    message: response.statusMessage!,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    trailers: response.trailers,
    body,
  };
}

function writeThenEnd(res: http.ServerResponse, first: string, second: string): void {
  res.write(first);
  res.write(Buffer.from(second));
  res.end();
}

function flushThenWrite(res: http.ServerResponse, body: string): void {
  res.flushHeaders();
  writeThenEnd(res, body, '');
}

async function writePatiently(res: http.ServerResponse, chunks: readonly string[]): Promise<void> {
  for (const chunk of chunks) if (!res.write(chunk)) await once(res, 'drain');
  res.end();
}

function flushThenEnd(res: http.ServerResponse, body: string): void {
  res.flushHeaders();
  res.end(body);
}

/** Holds commits back until it is called. */
function holdCommits(): () => void {
  const gate = Promise.withResolvers<void>();
  store.before = call => (call === 'create' || call === 'commit' ? gate.promise : undefined);
  return () => gate.resolve();
}

async function open(req: http.IncomingMessage): Promise<AnySession> {
  return (await site.manager.open(req)) as AnySession;
}

async function change(req: http.IncomingMessage): Promise<void> {
  (await open(req)).set('visits', 1);
}

/** What the store holds of the only session. */
async function stored(name: string): Promise<unknown> {
  for await (const sid of store.sids()) return site.manager.access(sid, session => (session as AnySession).get(name));
  return undefined;
}

describe('a response after a change of the session', () => {
  test.each([
    ['end', (res: http.ServerResponse) => res.end('body')],
    ['end with an encoding and a callback', (res: http.ServerResponse) => res.end('626f6479', 'hex', () => {})],
    ['write and end', (res: http.ServerResponse) => writeThenEnd(res, 'bo', 'dy')],
    ['writeHead and end', (res: http.ServerResponse) => res.writeHead(200, { 'X-A': '1' }).end('body')],
    ['flushHeaders and end', (res: http.ServerResponse) => flushThenEnd(res, 'body')],
  ])('by %s is deferred until the commit is done', async (_what, respond) => {
    const release = holdCommits();
    let answered = false;
    handler = async (req, res) => {
      await change(req);
      respond(res);
      expect(res.socket!.bytesWritten).toBe(0);
    };
    const answer = send().then(value => {
      answered = true;
      return value;
    });
    await expect.poll(() => store.calls).toContain('create');
    await new Promise(resolve => setImmediate(resolve));
    expect(answered).toBe(false);
    expect(await store.count()).toBe(0);
    release();
    expect(await answer).toMatchObject({ status: 200, body: 'body' });
    expect((await answer).headers['set-cookie']).toEqual([expect.stringMatching(/^sid=v1\./)]);
    expect(errors).toEqual([]);
  });

  test('may not be kept by shared caches when it carries the cookie, and is left alone when it does not', async () => {
    handler = async (req, res) => {
      res.setHeader('Cache-Control', 'public, max-age=600');
      await change(req);
      res.end();
    };
    const first = await send();
    expect(first.headers['cache-control']).toBe('private, no-cache');
    const second = await send({ headers: { cookie: first.headers['set-cookie']![0]!.split(';')[0]! } });
    expect(second.headers['set-cookie']).toBeUndefined();
    expect(second.headers['cache-control']).toBe('public, max-age=600');
  });

  test('keeps a stricter Cache-Control', async () => {
    handler = async (req, res) => {
      res.setHeader('Cache-Control', 'no-store');
      await change(req);
      res.end();
    };
    expect((await send()).headers['cache-control']).toBe('no-store');
  });

  test('adds its cookie to those of the handler', async () => {
    handler = async (req, res) => {
      await change(req);
      res.setHeader('Set-Cookie', 'a=1');
      res.writeHead(200, { 'Set-Cookie': ['b=2', 'c=3'] }).end();
    };
    expect((await send()).headers['set-cookie']).toEqual(['b=2', 'c=3', expect.stringMatching(/^sid=/)]);
  });

  test.each([
    ['a flat array', ['X-A', '1', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-N', 5]],
    [
      'an array of pairs',
      [
        ['X-A', '1'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
        ['X-N', 5],
      ],
    ],
  ])('takes headers of writeHead as %s', async (_what, headers) => {
    handler = async (req, res) => {
      await change(req);
      res.setHeader('X-A', 'replaced');
      res.writeHead(201, 'Made', headers as unknown as http.OutgoingHttpHeader[]).end('x');
    };
    const answer = await send();
    expect(answer).toMatchObject({ status: 201, message: 'Made', headers: { 'x-a': '1', 'x-n': '5' } });
    expect(answer.headers['set-cookie']).toEqual(['a=1', 'b=2', expect.stringMatching(/^sid=/)]);
  });

  test('has status and headers that stay editable while it is deferred', async () => {
    const release = holdCommits();
    handler = async (req, res) => {
      await change(req);
      res.writeHead(200, { 'X-A': '1', 'X-B': '1' });
      res.end('body');
      res.statusCode = 202;
      res.setHeader('X-A', '2');
      res.removeHeader('X-B');
      release();
    };
    const answer = await send();
    expect(answer).toMatchObject({ status: 202, headers: { 'x-a': '2' }, body: 'body' });
    expect(answer.headers).not.toHaveProperty('x-b');
  });

  test.each([
    ['HEAD', 'HEAD', (res: http.ServerResponse) => res.writeHead(200, { 'Content-Length': 4 }).end('body'), 200],
    ['204', 'DELETE', (res: http.ServerResponse) => res.writeHead(204).end(), 204],
    ['304', 'GET', (res: http.ServerResponse) => res.writeHead(304).end(), 304],
    ['a redirect', 'POST', (res: http.ServerResponse) => res.writeHead(303, { Location: '/next' }).end(), 303],
  ])('works for %s', async (_what, method, respond, status) => {
    handler = async (req, res) => {
      await change(req);
      respond(res);
    };
    expect(await send({ method })).toMatchObject({ status, body: '' });
    expect(await store.count()).toBe(1);
  });

  test('keeps a Content-Length and a known length', async () => {
    handler = async (req, res) => {
      await change(req);
      res.end('body');
    };
    expect((await send()).headers['content-length']).toBe('4');
  });

  test('lets informational responses pass before it', async () => {
    const release = holdCommits();
    handler = async (req, res) => {
      await change(req);
      res.end('body');
      res.writeEarlyHints({ link: '</a.css>; rel=preload' });
    };
    const request = http
      .request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false })
      .end();
    const [early] = await once(request, 'information');
    expect(early.statusCode).toBe(103);
    release();
    const [response] = await once(request, 'response');
    expect(response.statusCode).toBe(200);
    response.resume();
  });

  test('tells the callbacks of write and end, in order', async () => {
    const order: string[] = [];
    handler = async (req, res) => {
      await change(req);
      res.write('a', () => order.push('write'));
      res.end('b', () => order.push('end'));
    };
    expect((await send()).body).toBe('ab');
    await expect.poll(() => order).toEqual(['write', 'end']);
  });

  test('answers false to write while it is deferred, and drain follows', async () => {
    const release = holdCommits();
    const results: boolean[] = [];
    handler = async (req, res) => {
      await change(req);
      results.push(res.write('a'));
      setImmediate(release);
      await once(res, 'drain');
      results.push(res.write('b'));
      res.end('c');
    };
    expect((await send()).body).toBe('abc');
    expect(results).toEqual([false, true]);
  });

  test.each([1, 300])('carries %d chunks of a stream that is piped into it', async chunks => {
    const chunk = 'x'.repeat(16 * 1024);
    handler = async (req, res) => {
      await change(req);
      await pipeline(Readable.from(Array.from({ length: chunks }, () => chunk)), res);
    };
    expect((await send()).body.length).toBe(chunks * chunk.length);
    expect(errors).toEqual([]);
  });

  test('says that nothing was saved when its session was ended by somebody else meanwhile', async () => {
    let sid = '';
    handler = async (req, res) => {
      sid = (await site.manager.open(req)).id;
      res.end();
    };
    const cookie = (await send()).headers['set-cookie']![0]!.split(';')[0]!;
    handler = async (req, res) => {
      (await open(req)).set('a', 1);
      await site.manager.end(sid, 'admin');
      res.end('done');
    };
    expect(await send({ headers: { cookie } })).toMatchObject({
      status: 401,
      body: 'The session has ended, and nothing was saved. Please sign in again.\n',
    });
    expect(await store.count()).toBe(0);
  });

  test('carries the clearing of the cookie after a logout', async () => {
    handler = async (req, res) => {
      await change(req);
      res.end();
    };
    const cookie = (await send()).headers['set-cookie']![0]!.split(';')[0]!;
    handler = async (req, res) => {
      await (await site.manager.open(req)).invalidate();
      res.writeHead(303, { Location: '/' }).end();
    };
    const answer = await send({ headers: { cookie } });
    expect(answer.headers['set-cookie']).toEqual(['sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax']);
    expect(answer.headers['cache-control']).toBe('private, no-cache');
  });

  test('is not disturbed when the client goes away before the commit is done', async () => {
    const release = holdCommits();
    let response: http.ServerResponse | undefined;
    handler = async (req, res) => {
      response = res;
      await change(req);
      res.write('a');
      res.end('b');
    };
    const request = http
      .request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false })
      .end();
    request.on('error', () => {});
    await expect.poll(() => store.calls).toContain('create');
    request.destroy();
    await once(response!, 'close');
    expect(response!.headersSent).toBe(false); // for access logs: nothing has left, and nothing will
    release();
    await expect.poll(() => store.count()).toBe(1);
    expect(errors).toEqual([]);
  });
});

describe('a deferred response', () => {
  test('looks as far along as it would be without us', async () => {
    const seen: unknown[] = [];
    const look = (res: http.ServerResponse) => seen.push([res.headersSent, res.writableEnded]);
    const release = holdCommits();
    handler = async (req, res) => {
      await change(req);
      look(res);
      res.writeHead(200);
      look(res);
      res.write('a');
      look(res);
      res.end('b');
      look(res);
      release();
      await once(res, 'finish');
      look(res);
    };
    expect((await send()).body).toBe('ab');
    await expect
      .poll(() => seen)
      .toEqual([
        [false, false],
        [true, false],
        [true, false],
        [true, true],
        [true, true],
      ]);
    expect(errors).toEqual([]);
  });

  test.each([
    ['writeHead and end', (res: http.ServerResponse) => void res.writeHead(500, { 'X-B': '2' }).end('failed')],
    [
      'writeHead, write and end',
      (res: http.ServerResponse) => {
        res.writeHead(500, { 'X-B': '2' });
        res.write('failed');
        res.end();
      },
    ],
    [
      'an edited status, headers, and end',
      (res: http.ServerResponse) => {
        res.statusCode = 500;
        res.setHeader('X-B', '2');
        res.setHeader('Content-Length', 6);
        res.end('failed');
      },
    ],
  ])('that is whole is replaced by an error page that does not ask, by %s', async (_what, respond) => {
    handler = async (req, res) => {
      await change(req);
      const head = { 'Content-Length': 12, 'Content-Encoding': 'identity', ETag: '"a"', 'Set-Cookie': 'a=1' };
      res.setHeader('X-A', '1');
      res.writeHead(200, head).end('all is well\n', () => told.push('end'));
      respond(res);
    };
    const told: string[] = [];
    const answer = await send();
    expect(answer).toMatchObject({ status: 500, body: 'failed', headers: { 'x-a': '1', 'x-b': '2' } });
    if (_what.startsWith('writeHead')) {
      expect(answer.headers).not.toHaveProperty('etag');
      expect(answer.headers).not.toHaveProperty('content-encoding');
    }
    expect(answer.headers['set-cookie']!.at(-1)).toMatch(/^sid=/);
    expect(await stored('visits')).toBe(1);
    expect(told).toEqual(['end']);
    expect(errors).toEqual([]);
  });

  test('is not changed by a second end without a body', async () => {
    const told: string[] = [];
    handler = async (req, res) => {
      await change(req);
      res.setHeader('Content-Length', 4);
      res.end('body');
      res.end(() => told.push('second'));
    };
    expect(await send()).toMatchObject({ status: 200, body: 'body' });
    expect(told).toEqual(['second']);
  });

  test.each([
    ['flushHeaders', (res: http.ServerResponse) => void res.flushHeaders()],
    ['write', (res: http.ServerResponse) => void res.write('')],
    ['end', () => {}],
  ])(
    'takes what middleware adds to the head when %s asks for it, also where none is set after headersSent',
    async (_, begin) => {
      handler = async (_req, res, binding) => {
        const { setHeader, writeHead } = res;
        // As Next.js, around the `on-headers` of middleware that compresses.
        res.setHeader = (name, value) => (res.headersSent ? res : setHeader.call(res, name, value));
        let isAsked = false;
        res.writeHead = ((...args: [number]) => {
          if (!isAsked) res.setHeader('X-Added', '1');
          isAsked = true;
          return writeHead.apply(res, args);
        }) as http.ServerResponse['writeHead'];
        (await binding.open()).set('a' as never, 1 as never);
        begin(res);
        res.end('body');
      };
      const { headers, body } = await send();
      expect(errors).toEqual([]);
      expect([headers['x-added'], headers['set-cookie']?.length, body]).toEqual(['1', 1, 'body']);
    },
  );

  test('has the status of the last writeHead, and the headers of all', async () => {
    handler = async (req, res) => {
      await change(req);
      res.writeHead(200, { 'X-A': '1', 'X-B': '1' });
      res.writeHead(201, { 'X-B': '2' });
      res.end('body');
    };
    expect(await send()).toMatchObject({ status: 201, headers: { 'x-a': '1', 'x-b': '2' }, body: 'body' });
  });

  test('throws what node:http throws at a writeHead after the body has begun', async () => {
    handler = async (req, res) => {
      await change(req);
      res.write('bo');
      expect(() => res.writeHead(500)).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }));
      res.end('dy');
    };
    expect(await send()).toMatchObject({ status: 200, body: 'body' });
    expect(errors).toEqual([]);
  });

  test('keeps its trailers', async () => {
    handler = async (req, res) => {
      await change(req);
      res.writeHead(200, { Trailer: 'X-Sum' });
      res.write('body');
      res.addTrailers({ 'X-Sum': '42' });
      res.end();
    };
    expect(await send()).toMatchObject({ body: 'body', trailers: { 'x-sum': '42' } });
  });
});

/** How often the wrapper was asked for the head. */
let heads = 0;

/** Puts itself over the response as the usual compressing middleware does. */
function compress(res: http.ServerResponse): void {
  const { writeHead, write, end, on } = res;
  const gzip = createGzip();
  let isDecided = false;
  res.writeHead = ((...args: [number]) => {
    heads++;
    if (!isDecided) {
      isDecided = true;
      res.setHeader('Content-Encoding', 'gzip');
      res.removeHeader('Content-Length');
    }
    return Reflect.apply(writeHead, res, args);
  }) as typeof res.writeHead;
  const begin = () => {
    if (!res.headersSent) res.writeHead(res.statusCode);
  };
  gzip.on('data', chunk => {
    if (!Reflect.apply(write, res, [chunk])) gzip.pause();
  });
  gzip.on('end', () => Reflect.apply(end, res, []));
  res.on('drain', () => gzip.resume());
  res.on = ((event: string, listener: () => void) => {
    if (event === 'drain') gzip.on(event, listener);
    else Reflect.apply(on, res, [event, listener]);
    return res;
  }) as typeof res.on;
  // Whether it compresses is decided with the head: never after it.
  res.write = ((chunk: Buffer) => {
    begin();
    return isDecided ? gzip.write(chunk) : Reflect.apply(write, res, [chunk]);
  }) as typeof res.write;
  res.end = ((chunk?: Buffer) => {
    begin();
    if (isDecided) gzip.end(chunk);
    else Reflect.apply(end, res, [chunk]);
    return res;
  }) as typeof res.end;
}

describe.each(['before', 'after'])('with middleware that wraps the response %s us', order => {
  // What comes out of compression comes while more goes in.
  const BODY = randomBytes(250_000).toString('hex');

  beforeEach(() => {
    heads = 0;
    store.before = call => (call === 'create' ? new Promise(resolve => setTimeout(resolve, 30)) : undefined);
    server.removeAllListeners('request');
    server.on('request', async (req: http.IncomingMessage, res: http.ServerResponse) => {
      if (order === 'before') compress(res);
      const binding = attachSession(site.manager, req, res);
      if (order === 'after') compress(res);
      await handler(req, res, binding);
    });
  });

  const fetchBytes = async () => {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, {
      headers: { 'accept-encoding': 'gzip' },
    });
    return { response, body: await response.text() };
  };

  test.each([
    ['end', (res: http.ServerResponse) => void res.end(BODY)],
    ['writeHead and end', (res: http.ServerResponse) => void res.writeHead(200, { 'X-A': '1' }).end(BODY)],
    ['a pipe', (res: http.ServerResponse) => void Readable.from(BODY.match(/.{1000}/g)!).pipe(res)],
    ['flushHeaders and end', (res: http.ServerResponse) => flushThenEnd(res, BODY)],
    ['flushHeaders and write', (res: http.ServerResponse) => flushThenWrite(res, BODY)],
    ['writes that wait for drain', (res: http.ServerResponse) => void writePatiently(res, BODY.match(/.{1000}/g)!)],
  ])('what is sent by %s arrives whole, after the commit', async (_what, respond) => {
    handler = async (req, res) => {
      await change(req);
      respond(res);
    };
    const { response, body } = await fetchBytes();
    expect([response.status, response.headers.get('content-encoding'), body]).toEqual([200, 'gzip', BODY]);
    expect(response.headers.get('set-cookie')).toMatch(/^sid=/);
    expect(await stored('visits')).toBe(1);
    expect(heads).toBe(1);
  });

  test('a commit that fails is 503', async () => {
    store.failing.add('create');
    handler = async (req, res) => {
      await change(req);
      res.setHeader('Content-Length', BODY.length);
      res.end(BODY);
    };
    const { response, body } = await fetchBytes();
    expect([response.status, body]).toEqual([503, 'The session could not be saved. Please try again.\n']);
  });
});

test('the wrapper of these tests compresses', async () => {
  server.removeAllListeners('request');
  server.on('request', (_req: http.IncomingMessage, res: http.ServerResponse) => {
    compress(res);
    res.end('body');
  });
  const request = http.request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false }).end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  expect(gunzipSync(Buffer.concat(chunks)).toString()).toBe('body');
});

test('a head that cannot be sent throws at once, and another one can take its place', async () => {
  handler = async (req, res) => {
    await change(req);
    expect(() => res.writeHead(9999)).toThrow(RangeError);
    res.writeHead(500).end('failed');
  };
  const answer = await send();
  expect([answer.status, answer.body, answer.headers['set-cookie']?.length]).toEqual([500, 'failed', 1]);
  expect(errors).toEqual([]);
});

test('what middleware sets when it sees the head is in the same commit', async () => {
  handler = async (req, res) => {
    const session = await open(req);
    const { writeHead } = res;
    res.writeHead = ((...args: unknown[]) => {
      session.set('seen', 'yes');
      return Reflect.apply(writeHead, res, args);
    }) as typeof writeHead;
    writeThenEnd(res, 'o', 'k');
  };
  expect((await send()).body).toBe('ok');
  expect([await stored('seen'), store.calls.filter(call => call === 'create' || call === 'commit')]).toEqual([
    'yes',
    ['create'],
  ]);
});

describe('a response without a change', () => {
  test('is passed on as it is', async () => {
    handler = async (req, res) => {
      expect(await site.manager.get(req)).toBeUndefined();
      res.writeHead(200, ['X-Case', '1', 'X-Case', '2']);
      expect(res.headersSent).toBe(true);
      expect(res.write('a')).toBe(true);
      res.end('b');
    };
    const answer = await send();
    expect(answer.body).toBe('ab');
    expect(answer.rawHeaders.filter(text => text === 'X-Case')).toHaveLength(2);
    expect(errors).toEqual([]);
  });
});

describe('a commit that fails', () => {
  test.each([
    ['end', (res: http.ServerResponse) => res.end('secret')],
    ['write and end', (res: http.ServerResponse) => writeThenEnd(res, 'sec', 'ret')],
    ['writeHead', (res: http.ServerResponse) => res.writeHead(302, 'Go', { Location: '/home', ETag: 'x' }).end()],
    ['flushHeaders', (res: http.ServerResponse) => flushThenEnd(res, 'secret')],
    [
      'a pipe',
      (res: http.ServerResponse) => void Readable.from(Array.from({ length: 50 }, () => 'x'.repeat(9999))).pipe(res),
    ],
  ])('before %s is answered with 503 and nothing of the handler', async (_what, respond) => {
    store.failing.add('create');
    handler = async (req, res) => {
      await change(req);
      res.setHeader('X-Mine', '1');
      res.setHeader('Set-Cookie', 'a=1');
      respond(res);
    };
    const answer = await send();
    expect(answer).toMatchObject({ status: 503, message: 'Service Unavailable' });
    expect(answer.headers).toMatchObject({ 'retry-after': '5', 'cache-control': 'no-store' });
    for (const name of ['x-mine', 'set-cookie', 'location', 'etag']) expect(answer.headers).not.toHaveProperty(name);
    expect(answer.body).not.toContain('secret');
    expect(errors).toEqual([]);
  });

  test('is not made up for when the response has closed, because its client may ask again', async () => {
    let isFirst = true;
    store.before = call => {
      if (call !== 'create' || !isFirst) return;
      isFirst = false;
      throw new Error('connection refused');
    };
    const isClosed = Promise.withResolvers<void>();
    handler = async (req, res) => {
      res.on('close', () => setTimeout(isClosed.resolve, 20));
      await change(req);
      res.end();
    };
    expect((await send()).status).toBe(503);
    await isClosed.promise;
    expect(await store.count()).toBe(0);
  });

  test('lets the handler and its callbacks run to their end', async () => {
    store.failing.add('create');
    const told: string[] = [];
    handler = async (req, res) => {
      await change(req);
      await pipeline(Readable.from(Array.from({ length: 20 }, () => 'x'.repeat(20_000))), res);
      told.push('pipeline');
    };
    expect((await send()).status).toBe(503);
    handler = async (req, res) => {
      await change(req);
      res.write('a', () => told.push('write'));
      res.end('b', () => told.push('end'));
    };
    expect((await send()).status).toBe(503);
    await expect.poll(() => told).toEqual(['pipeline', 'write', 'end']);
    handler = async (req, res) => {
      await change(req);
      res.write('a');
      await once(res, 'drain');
      res.end('b');
    };
    expect((await send({ method: 'HEAD' })).status).toBe(503);
    expect(errors).toEqual([]);
  });
});

test('a commit that loses against another request is 409', async () => {
  site = createSite(store, { conflicts: 'reject' });
  handler = async (req, res) => {
    await change(req);
    res.end();
  };
  const cookie = (await send()).headers['set-cookie']![0]!.split(';')[0]!;
  handler = async (req, res) => {
    (await open(req)).set('visits', 2);
    const other = site.request(cookie);
    ((await other.open()) as AnySession).set('visits', 3);
    await other.commit();
    res.end('all is well');
  };
  const answer = await send({ headers: { cookie } });
  expect(answer).toMatchObject({ status: 409, body: 'The session could not be saved. Please try again.\n' });
  expect(answer.headers).not.toHaveProperty('retry-after');
  expect(await stored('visits')).toBe(3);
});

test('attachSession twice for one response makes one session, and two managers make one each', async () => {
  const other = createSite(new FaultyStore(), { cookie: { name: 'other' } });
  handler = async (req, res, binding) => {
    expect(attachSession(site.manager, req, res)).toBe(binding);
    attachSession(other.manager, req, res);
    ((await other.manager.open(req)) as AnySession).set('visits', 1);
    (await open(req)).set('visits', 1);
    ((await site.manager.get(req)) as AnySession).set('again', 1);
    res.end('body');
  };
  const answer = await send();
  expect(answer).toMatchObject({ status: 200, body: 'body' });
  expect(answer.headers['set-cookie']).toEqual([expect.stringMatching(/^other=/), expect.stringMatching(/^sid=/)]);
});

test('attachSession follows clients without cookies by a header', async () => {
  site = createSite(store, { tracking: 'header' });
  handler = async (req, res) => {
    const session = await open(req);
    session.set('visits', ((session.get('visits') as number | undefined) ?? 0) + 1);
    res.end(String(session.get('visits')));
  };
  const first = await send();
  expect(first.headers).not.toHaveProperty('set-cookie');
  const ticket = first.headers['holdfast-session-ticket'] as string;
  expect((await send({ headers: { 'holdfast-session-ticket': ticket } })).body).toBe('2');
});

test('attachSession follows clients without cookies by the URL, which no handler sees', async () => {
  site = createSite(store, { tracking: 'url' });
  handler = async (req, res, binding) => {
    await change(req);
    res.end(binding.encodeUrl('/next?a=1'));
    await once(res, 'finish');
  };
  const link = (await send()).body;
  expect(link).toMatch(/^\/next;holdfast=v1\.[^?]+\?a=1$/);
  handler = async (req, res) => {
    res.end(JSON.stringify([req.url, req.headers.referer, (await open(req)).get('visits')]));
  };
  const answer = await send({ path: link, headers: { referer: `http://a${link}` } });
  expect(JSON.parse(answer.body)).toEqual(['/next?a=1', 'http://a/next?a=1', 1]);
  expect(answer.headers['referrer-policy']).toBe('same-origin');
});

test('attachSession keeps what may hold a ticket from shared caches', async () => {
  site = createSite(store, { tracking: 'url' });
  const type = {
    'Content-Type': 'text/html',
    'Cache-Control': 'public, max-age=60',
    'CDN-Cache-Control': 'max-age=60',
  };
  handler = async (req, res, binding) => {
    if (req.url !== '/late') await change(req);
    res.writeHead(200, { ...type, ...(req.url === '/image' && { 'Content-Type': 'image/png' }) });
    res.write('<a href="');
    if (req.url === '/late') await site.manager.get(req);
    res.end(binding.encodeUrl('/next'));
  };
  const kept = ({ headers }: Awaited<ReturnType<typeof send>>) => [
    headers['cache-control'],
    headers['cdn-cache-control'],
  ];
  const first = await send();
  expect(kept(first)).toEqual(['private, no-cache', undefined]);
  const ticket = /;holdfast=[^"]+/.exec(first.body)![0];
  // Nothing has changed, and the session is read when the head has left.
  const late = await send({ path: `/late${ticket}` });
  expect(late.body).toContain(ticket);
  expect(kept(late)).toEqual(['private, no-cache', undefined]);
  expect(kept(await send({ path: `/image${ticket}` }))).toEqual(['public, max-age=60', 'max-age=60']);
  expect(kept(await send({ path: '/late' }))).toEqual(['public, max-age=60', 'max-age=60']);
});

test('attachSession refuses the session of another user than the one it is told', async () => {
  const ann = { name: 'ann', roles: [] };
  let user = ann;
  server.removeAllListeners('request');
  server.on('request', async (req: http.IncomingMessage, res: http.ServerResponse) => {
    const binding = attachSession(site.manager, req, res, { user });
    await handler(req, res, binding);
  });
  handler = async (_req, res, binding) => {
    await binding.signIn(ann);
    res.end();
  };
  const cookie = (await send()).headers['set-cookie']![0]!.split(';')[0]!;
  handler = async (req, res) => {
    res.statusCode = await open(req).then(
      () => 200,
      error => error.status,
    );
    res.end();
  };
  expect((await send({ headers: { cookie } })).status).toBe(200);
  user = { name: 'bob', roles: [] };
  expect((await send({ headers: { cookie } })).status).toBe(403);
});

test('attachSession without a user, as on a page that does not ask, answers with an owned session as one without owner and attributes', async () => {
  const ann = { name: 'ann', roles: [] };
  let user: typeof ann | undefined = ann;
  server.removeAllListeners('request');
  server.on('request', async (req: http.IncomingMessage, res: http.ServerResponse) => {
    const binding = attachSession(site.manager, req, res, user && { user });
    await handler(req, res, binding);
  });
  handler = async (req, res) => {
    const session = (await open(req)) as Session<Record<string, unknown>>;
    if (req.url === '/set') session.set('cart', 1);
    res.end(JSON.stringify([session.owner?.name ?? null, session.keys()]));
  };
  const cookie = (await send({ path: '/set' })).headers['set-cookie']![0]!.split(';')[0]!;
  user = undefined;
  const unasked = await send({ headers: { cookie } });
  expect([unasked.status, unasked.body, unasked.headers['set-cookie']]).toEqual([200, '[null,[]]', undefined]);
  user = ann;
  expect((await send({ headers: { cookie } })).body).toBe('["ann",["cart"]]');
});

describe('a response that the client does not wait for', () => {
  const startAndLeave = async () => {
    const request = http.request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false });
    request.on('error', () => {}).end();
    await started.promise;
    request.destroy();
  };
  let started: PromiseWithResolvers<void>;
  beforeEach(() => {
    started = Promise.withResolvers();
  });

  test('keeps what was set before the client left, and what the handler sets until its end', async () => {
    handler = async (req, res) => {
      await change(req);
      res.end();
    };
    const cookie = (await send()).headers['set-cookie']![0]!.split(';')[0]!;
    const gate = Promise.withResolvers<void>();
    handler = async (req, res) => {
      const session = await open(req);
      session.set('early', 'yes');
      started.resolve();
      await once(res, 'close');
      await gate.promise;
      session.set('late', 'yes');
      res.end();
    };
    const request = http.request({
      port: (server.address() as AddressInfo).port,
      host: '127.0.0.1',
      agent: false,
      headers: { cookie },
    });
    request.on('error', () => {}).end();
    await started.promise;
    request.destroy();
    await expect.poll(() => stored('early')).toBe('yes');
    gate.resolve();
    await expect.poll(() => stored('late')).toBe('yes');
    expect(errors).toEqual([]);
  });

  test('holds no session any longer, also when its handler never ends it', async () => {
    handler = async (req, res) => {
      await open(req);
      res.write('a part');
      started.resolve();
    };
    await startAndLeave();
    await expect.poll(() => site.manager.statistics().activeNow).toBe(0);
  });

  test('stores no new session that nobody could ever come back to', async () => {
    let response: http.ServerResponse | undefined;
    handler = async (req, res) => {
      response = res;
      await change(req);
      started.resolve();
    };
    await startAndLeave();
    if (!response!.closed) await once(response!, 'close');
    await new Promise(resolve => setImmediate(resolve));
    expect(store.calls).not.toContain('create');
  });
});

test.each([
  ['a fetch request', [new Request('http://a/'), {}]],
  ['a context without node:http behind it', [{ env: {} }]],
  ['a request without its response', [{ headers: {} }]],
])('attachSession refuses %s at once', (_what, args) => {
  expect(() => Reflect.apply(attachSession, undefined, [site.manager, ...args])).toThrow(TypeError);
});

describe('after the headers', () => {
  test('what is set is committed before the response ends', async () => {
    handler = async (req, res) => {
      const session = await open(req);
      res.write('a');
      await expect.poll(() => res.headersSent).toBe(true);
      session.set('late', 'yes');
      res.end('b');
    };
    const answer = await send();
    const cookie = answer.headers['set-cookie']![0]!.split(';')[0]!;
    expect(answer.body).toBe('ab');
    expect(((await site.request(cookie).get()) as AnySession).get('late')).toBe('yes');
  });

  test('a commit that fails cuts the connection, because a whole response would be a lie', async () => {
    handler = async (req, res) => {
      const session = await open(req);
      res.write('a');
      await expect.poll(() => res.headersSent).toBe(true);
      session.set('late', 'yes');
      store.failing.add('commit');
      res.end('b');
    };
    await expect(send()).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test('no session can be opened, also when the first use comes then', async () => {
    handler = async (req, res) => {
      res.write('a');
      await expect(site.manager.open(req)).rejects.toMatchObject({ code: 'ERR_SESSION_HEADERS_SENT' });
      res.end();
    };
    expect((await send()).status).toBe(200);
    expect(errors).toEqual([]);
  });

  test('and after the end the session is outside its request', async () => {
    handler = async (req, res) => {
      const session = await open(req);
      res.end();
      expect(() => session.set('too', 'late')).toThrow(
        expect.objectContaining({ code: 'ERR_SESSION_OUTSIDE_REQUEST' }),
      );
    };
    expect((await send()).status).toBe(200);
    expect(errors).toEqual([]);
  });
});

test.each([
  [{ 'sec-fetch-dest': 'document', accept: '*/*' }, true],
  [{ 'sec-fetch-dest': 'iframe', accept: 'text/html' }, false],
  [{ 'sec-fetch-dest': 'empty' }, false],
  [{ accept: 'text/html,application/xhtml+xml;q=0.9' }, true],
  [{ accept: 'application/json, text/html' }, false],
  [{}, false],
])('a request with %j makes a session by itself: %s', async (headers, expected) => {
  handler = async (_req, res, binding) => res.end(String((await binding.auto()) !== undefined));
  expect((await send({ headers })).body).toBe(String(expected));
});
