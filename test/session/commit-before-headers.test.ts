import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SessionBinding } from '../../src/session/binding.ts';
import { attachSession } from '../../src/session/commit-before-headers.ts';
import { createSite, FaultyStore, type Site } from './fixture.ts';

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
    body,
  };
}

function writeThenEnd(res: http.ServerResponse, first: string, second: string): void {
  res.write(first);
  res.write(Buffer.from(second));
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

async function change(req: http.IncomingMessage): Promise<void> {
  (await site.manager.open(req)).set('visits', 1);
}

describe('a response after a change of the session', () => {
  test.each([
    ['end', (res: http.ServerResponse) => res.end('body')],
    ['end with an encoding and a callback', (res: http.ServerResponse) => res.end('626f6479', 'hex', () => {})],
    ['write and end', (res: http.ServerResponse) => writeThenEnd(res, 'bo', 'dy')],
    ['writeHead and end', (res: http.ServerResponse) => res.writeHead(200, { 'X-A': '1' }).end('body')],
    ['flushHeaders and end', (res: http.ServerResponse) => flushThenEnd(res, 'body')],
  ])('by %s is held back until the commit is done', async (_what, respond) => {
    const release = holdCommits();
    let answered = false;
    handler = async (req, res) => {
      await change(req);
      respond(res);
      expect(res.headersSent).toBe(false);
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

  test('has status and headers that stay editable while it is held back', async () => {
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

  test('answers false to write while it is held back, and drain follows', async () => {
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

  test('is sent although its session was ended by somebody else meanwhile', async () => {
    let sid = '';
    handler = async (req, res) => {
      sid = (await site.manager.open(req)).id;
      res.end();
    };
    const cookie = (await send()).headers['set-cookie']![0]!.split(';')[0]!;
    handler = async (req, res) => {
      (await site.manager.open(req)).set('a', 1);
      await site.manager.end(sid, 'admin');
      res.end('done');
    };
    expect(await send({ headers: { cookie } })).toMatchObject({ status: 200, body: 'done' });
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
    release();
    await expect.poll(() => store.count()).toBe(1);
    expect(errors).toEqual([]);
  });
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

describe('after the headers', () => {
  test('what is set is committed before the response ends', async () => {
    handler = async (req, res) => {
      const session = await site.manager.open(req);
      res.write('a');
      await expect.poll(() => res.headersSent).toBe(true);
      session.set('late', 'yes');
      res.end('b');
    };
    const answer = await send();
    const cookie = answer.headers['set-cookie']![0]!.split(';')[0]!;
    expect(answer.body).toBe('ab');
    expect((await site.request(cookie).get())?.get('late')).toBe('yes');
  });

  test('a commit that fails cuts the connection, because a whole response would be a lie', async () => {
    handler = async (req, res) => {
      const session = await site.manager.open(req);
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
      const session = await site.manager.open(req);
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
