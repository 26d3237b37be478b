import { once } from 'node:events';
import { createServer, type IncomingMessage, request as nodeRequest, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/base/logger.ts';
import { type FetchContext, type FetchHandler, runFetchHandler } from '../../src/gateway/targets/fetch.ts';
import { createAddressList } from '../../src/http/address-list.ts';
import { isRefusal } from '../../src/http/refusal.ts';
import { readRequestHead } from '../../src/http/request-head.ts';
import { writeRefusal } from '../../src/http/write-refusal.ts';
import { closing } from '../services/closing.ts';

const context: FetchContext = {
  session: undefined,
  user: undefined,
  clientAddress: '127.0.0.1',
  params: {},
  isSecure: false,
};

const running = closing();

interface Serving {
  readonly port: number;
  readonly errors: { fields: Record<string, unknown>; message: string }[];
  /** Settles when the handler of the first request was run to its end. */
  readonly done: Promise<unknown>;
}

async function serve(
  handler: FetchHandler,
  prepare: (incoming: IncomingMessage, outgoing: ServerResponse) => void = () => {},
  onRequest?: (request: Request) => void,
): Promise<Serving> {
  const errors: Serving['errors'] = [];
  const logger: Logger = {
    ...silentLogger,
    error: (fields, message) => errors.push({ fields: fields as Record<string, unknown>, message }),
  };
  const { promise: done, resolve, reject } = Promise.withResolvers<unknown>();
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const head = readRequestHead(incoming, { trustedProxies: createAddressList(['127.0.0.1']) });
    if (isRefusal(head)) return reject(new Error(head.reason));
    prepare(incoming, outgoing);
    runFetchHandler(handler, incoming, outgoing, head, context, {
      logger,
      maxBodyBytes: 1024 * 1024,
      ...(onRequest && { onRequest }),
    })
      .then(refusal => refusal && writeRefusal(outgoing, refusal))
      .then(resolve, reject);
  };
  const server = createServer(answer).on('checkContinue', answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  running.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  return { port: (server.address() as AddressInfo).port, errors, done };
}

/** Sends raw bytes on a new connection. */
function open(port: number, ...lines: string[]): Socket {
  const socket = connect(port, '127.0.0.1');
  running.push({ close: () => socket.destroy() });
  socket.write(lines.join('\r\n'));
  return socket;
}

/** One request on a connection that is closed after it; the whole answer as it stood on the wire. */
function exchange(port: number, start: string, headers: readonly string[] = [], body = ''): Promise<string> {
  return text(open(port, `${start} HTTP/1.1`, 'Host: a.test:8080', 'Connection: close', ...headers, '', body));
}

describe('the request', () => {
  test('has the method, URL, headers and body of the wire', async () => {
    const seen: unknown[] = [];
    const { port } = await serve(async request => {
      seen.push(
        request.method,
        request.url,
        request.headers.get('x-a'),
        request.headers.get('cookie'),
        await request.text(),
      );
      return new Response();
    });
    await exchange(
      port,
      'POST /a//b/%7e?x=1&y=%20',
      ['X-A: 1', 'x-a: 2', 'Cookie: a=1', 'Cookie: b=2', 'Content-Length: 5'],
      'hello',
    );
    expect(seen).toEqual(['POST', 'http://a.test:8080/a/b/~?x=1&y=%20', '1, 2', 'a=1; b=2', 'hello']);
  });

  test('has the URL the client used, behind a trusted proxy', async () => {
    const seen: string[] = [];
    const { port } = await serve(request => {
      seen.push(request.url);
      return new Response();
    });
    await exchange(port, 'GET /a', ['X-Forwarded-Proto: https', 'X-Forwarded-Host: example.com']);
    expect(seen).toEqual(['https://example.com/a']);
  });

  test('is shown before the handler gets it, with the context it was given', async () => {
    const seen: unknown[] = [];
    const { port } = await serve(
      (request, given) => {
        seen.push(request, given);
        return new Response();
      },
      undefined,
      request => seen.push(request),
    );
    await exchange(port, 'GET /');
    expect(seen[0]).toBeInstanceOf(Request);
    expect(seen[1]).toBe(seen[0]);
    expect(seen[2]).toBe(context);
  });

  test('streams its body at the pace it is read', async () => {
    const { port } = await serve(async request => {
      const reader = request.body!.getReader();
      const parts: string[] = [];
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        parts.push(Buffer.from(part.value).toString());
        if (parts.length === 1) socket.write('5\r\nworld\r\n0\r\n\r\n');
      }
      return Response.json(parts);
    });
    const socket = open(
      port,
      'POST / HTTP/1.1',
      'Host: a',
      'Connection: close',
      'Transfer-Encoding: chunked',
      '',
      '5\r\nhello\r\n',
    );
    expect(await text(socket)).toContain('["hello","world"]');
  });

  test.each(['GET', 'HEAD'])('%s has no body, whatever was sent', async method => {
    const { port } = await serve(request => new Response(null, { headers: { 'X-Body': String(request.body) } }));
    expect(await exchange(port, `${method} /`, ['Content-Length: 3'], 'abc')).toMatch(
      /^HTTP\/1.1 200 [\s\S]*x-body: null/i,
    );
  });

  test.each([
    ['unread', () => {}],
    ['read in part', (request: Request) => request.body!.getReader().read()],
    ['cancelled', (request: Request) => request.body!.cancel()],
  ])('whose body is left %s does not spoil the connection for the next one', async (_case, use) => {
    const { port } = await serve(async request => {
      if (request.method === 'POST') await use(request);
      return new Response(`${request.method} ok`);
    });
    const large = 'x'.repeat(1024 * 1024);
    const socket = open(port, 'POST / HTTP/1.1', 'Host: a', `Content-Length: ${large.length}`, '', large);
    socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(await text(socket)).toMatch(/POST okHTTP\/1.1 200 OK[\s\S]*GET ok$/);
  });

  test('is aborted when the client goes away', async () => {
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const { port, done, errors } = await serve(async request => {
      start();
      await once(request.signal, 'abort');
      request.signal.throwIfAborted();
      return new Response();
    });
    const socket = open(port, 'GET / HTTP/1.1', 'Host: a', '', '');
    await started;
    socket.destroy();
    await done;
    expect(errors).toEqual([]);
  });

  test('whose client goes away in the middle of the body fails to be read', async () => {
    const { promise: outcome, resolve } = Promise.withResolvers<unknown>();
    const { port, done } = await serve(async request => {
      const reader = request.body!.getReader();
      await reader.read();
      socket.destroy();
      await reader.read().then(resolve, resolve);
      return new Response();
    });
    const socket = open(port, 'POST / HTTP/1.1', 'Host: a', 'Content-Length: 100', '', 'part');
    expect(await outcome).toBeInstanceOf(Error);
    await done;
  });

  test('is not aborted by an answer that was written', async () => {
    let signal: AbortSignal | undefined;
    const { port, done } = await serve(request => {
      signal = request.signal;
      return new Response('ok');
    });
    await exchange(port, 'GET /');
    await done;
    expect(signal?.aborted).toBe(false);
  });

  test('with a method that fetch forbids is answered with 501', async () => {
    const { port } = await serve(() => new Response('never'));
    expect(await exchange(port, 'TRACE /')).toMatch(/^HTTP\/1.1 501 /);
  });
});

describe('the response', () => {
  test('has the status, reason, headers and body of the handler', async () => {
    const { port } = await serve(
      () => new Response('made', { status: 201, statusText: 'Made', headers: { 'X-A': '1' } }),
    );
    const answer = await exchange(port, 'GET /');
    expect(answer).toMatch(/^HTTP\/1.1 201 Made\r\n/);
    expect(answer).toMatch(/\r\nx-a: 1\r\n/i);
    expect(answer).toMatch(/\r\n\r\nmade$/);
  });

  test('whose body is there at once has a length', async () => {
    const { port } = await serve(() => new Response('hello'));
    const answer = await exchange(port, 'GET /');
    expect(answer).toMatch(/\r\nContent-Length: 5\r\n/i);
    expect(answer).not.toMatch(/Transfer-Encoding/i);
  });

  test('keeps several cookies apart, and those that were set before', async () => {
    const { port } = await serve(
      () =>
        new Response('', {
          headers: [
            ['Set-Cookie', 'a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT'],
            ['Set-Cookie', 'b=2'],
          ],
        }),
      (_incoming, outgoing) => outgoing.setHeader('Set-Cookie', 'session=x'),
    );
    const cookies = [...(await exchange(port, 'GET /')).matchAll(/^set-cookie: (.*)\r$/gim)].map(match => match[1]);
    expect(cookies).toEqual(['session=x', 'a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT', 'b=2']);
  });

  test('to HEAD has no body, and its own length', async () => {
    const { port } = await serve(() => new Response('hello', { headers: { 'Content-Length': '5' } }));
    expect(await exchange(port, 'HEAD /')).toMatch(
      /^HTTP\/1.1 200 OK\r\n[\s\S]*content-length: 5\r\n[\s\S]*\r\n\r\n$/i,
    );
  });

  test('to HEAD cancels a body that was made in vain', async () => {
    const { promise: cancelled, resolve } = Promise.withResolvers<void>();
    const { port } = await serve(() => new Response(new ReadableStream({ cancel: () => resolve() })));
    await exchange(port, 'HEAD /');
    await cancelled;
  });

  test.each([204, 304])('with status %i has no body', async status => {
    const { port } = await serve(() => new Response(null, { status, headers: { ETag: '"x"' } }));
    expect(await exchange(port, 'GET /')).toMatch(
      new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*etag: "x"[\\s\\S]*\\r\\n\\r\\n$`, 'i'),
    );
  });

  test('shows its head before the body has anything to say, and each chunk as it comes', async () => {
    const { promise: source, resolve } = Promise.withResolvers<ReadableStreamDefaultController<Uint8Array>>();
    const { port } = await serve(
      () =>
        new Response(new ReadableStream<Uint8Array>({ start: controller => resolve(controller) }), {
          headers: { 'Content-Type': 'text/event-stream' },
        }),
    );
    const answer = await new Promise<IncomingMessage>(settle => nodeRequest({ port, host: '127.0.0.1' }, settle).end());
    expect(answer.headers['content-type']).toBe('text/event-stream');
    const controller = await source;
    for (const message of ['one', 'two', 'three']) {
      controller.enqueue(new TextEncoder().encode(message));
      expect(String((await once(answer, 'data'))[0])).toBe(message);
    }
    controller.close();
    await once(answer, 'end');
  });

  test('is produced at the pace of its reader, and cancelled when the reader goes away', async () => {
    const chunk = new Uint8Array(64 * 1024);
    let produced = 0;
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const { promise: cancelled, resolve: cancel } = Promise.withResolvers<void>();
    const { port, done, errors } = await serve(
      () =>
        new Response(
          new ReadableStream<Uint8Array>({
            pull(controller) {
              start();
              produced += chunk.length;
              controller.enqueue(chunk);
            },
            cancel: () => cancel(),
          }),
        ),
    );
    const socket = open(port, 'GET / HTTP/1.1', 'Host: a', '', '');
    socket.pause();
    await started;
    // The kernel takes some megabytes before a client that does not read is felt.
    for (let quietTurns = 0, before = 0; quietTurns < 200; quietTurns++) {
      await new Promise(resolve => setImmediate(resolve));
      expect(produced).toBeLessThan(64 * 1024 * 1024);
      if (produced !== before) quietTurns = 0;
      before = produced;
    }
    socket.destroy();
    await cancelled;
    await done;
    expect(errors).toEqual([]);
  });
});

describe('a handler that fails', () => {
  const secret = () => new Error('password is hunter2');
  const cases: [string, FetchHandler][] = [
    ['throws', () => Promise.reject(secret())],
    [
      'throws before it is asynchronous',
      () => {
        throw secret();
      },
    ],
    ['returns nothing', () => undefined as never],
    ['returns an error response', () => Response.error()],
    [
      'returns a response that was read',
      async () => {
        const response = new Response('x');
        await response.text();
        return response;
      },
    ],
    [
      'has a body that fails at once',
      () =>
        new Response(new ReadableStream({ start: controller => controller.error(secret()) }), {
          headers: { 'Content-Length': '5', 'X-A': '1' },
        }),
    ],
    [
      'has a reason that cannot be written, and a body that says nothing',
      () =>
        ({
          status: 200,
          statusText: 'two\nlines',
          headers: new Headers({ 'X-A': '1' }),
          body: new ReadableStream(),
        }) as Response,
    ],
    [
      'announces trailers beside a length, and has a body that says nothing',
      () => new Response(new ReadableStream(), { headers: { 'Content-Length': '5', Trailer: 'X-After' } }),
    ],
  ];

  test.each(cases)('because it %s is answered with 500 and an id that is in the log', async (_case, handler) => {
    const { port, errors } = await serve(handler);
    const answer = await exchange(port, 'GET /path?token=x');
    expect(answer).toMatch(/^HTTP\/1.1 500 Internal Server Error\r\n/);
    expect(answer).not.toContain('hunter2');
    // The name of a header: the id may have these letters, too.
    expect(answer).not.toMatch(/^x-a:/im);
    expect(errors).toHaveLength(1);
    const { id, err, path } = errors[0]!.fields;
    expect(answer.endsWith(`\r\n\r\nInternal Server Error (${id})\n`)).toBe(true);
    expect(err).toBeInstanceOf(Error);
    expect(path).toBe('/path');
  });

  test('because it announces trailers to a client of HTTP/1.0, and its body says nothing, is answered with 500', async () => {
    const { port } = await serve(() => new Response(new ReadableStream(), { headers: { Trailer: 'X-After' } }));
    const socket = connect(port, '127.0.0.1');
    socket.write('GET /path HTTP/1.0\r\n\r\n');
    expect(await text(socket)).toMatch(/^HTTP\/1.1 500 Internal Server Error\r\n/);
  });

  test('after the head has left cuts the answer off', async () => {
    const { promise: source, resolve } = Promise.withResolvers<ReadableStreamDefaultController<Uint8Array>>();
    const { port, errors, done } = await serve(
      () => new Response(new ReadableStream<Uint8Array>({ start: controller => resolve(controller) })),
    );
    const answer = await new Promise<IncomingMessage>(settle => nodeRequest({ port, host: '127.0.0.1' }, settle).end());
    (await source).error(secret());
    await expect(text(answer)).rejects.toThrow('aborted');
    await done;
    expect(errors).toMatchObject([{ fields: { err: { message: 'password is hunter2' } } }]);
  });
});

test('a client that waits with its body is told to go on when the handler reads it, and not before', async () => {
  const seen: string[] = [];
  const { port } = await serve(async request => {
    seen.push('asked');
    return new Response(request.url.endsWith('/unread') ? 'unread' : await request.text());
  });
  const send = (path: string) =>
    new Promise<string>((resolve, reject) => {
      const headers = { Expect: '100-continue', 'Content-Length': 4 };
      const request = nodeRequest({ host: '127.0.0.1', port, path, method: 'POST', headers, agent: false });
      request.on('continue', () => {
        seen.push('continue');
        request.end('body');
      });
      request.on('response', response => resolve(text(response)));
      request.on('error', reject);
      request.flushHeaders();
    });
  expect(await send('/read')).toBe('body');
  expect(seen).toEqual(['asked', 'continue']);
  expect(await send('/unread')).toBe('unread');
  expect(seen).toEqual(['asked', 'continue', 'asked']);
});
