import { defineEndpoint, type EndpointOptions, type Handshake } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { Journal } from './journal.ts';
import { RawClient } from './raw-client.ts';
import { serve } from './serve.ts';

type Accept = NonNullable<EndpointOptions<string>['accept']>;

const guarded = (accept: Accept, more: Partial<EndpointOptions<string>> = {}) =>
  defineEndpoint<string>({
    path: '/',
    accept,
    onOpen: connection => void connection.send(`open ${connection.data}`),
    ...more,
  });

describe('accept', () => {
  test.each([
    ['at once', () => true],
    ['later', async () => true],
  ])('takes the connection with true, said %s', async (_, accept) => {
    await using served = await serve(guarded(accept));
    await using client = await testClient(served.url);
    expect(await client.receive()).toBe('open undefined');
  });

  test.each([
    ['at once', () => false],
    ['later', async () => false],
  ])('refuses with 403 with false, said %s, and nothing is opened', async (_, accept) => {
    const journal = new Journal();
    await using served = await serve(
      guarded(accept, { onOpen: () => journal.add('open'), onClose: () => journal.add('close') }),
    );
    using client = await RawClient.connect(served.url);
    expect(client.status).toBe(403);
    await client.ended();
    expect(journal.entries).toEqual([]);
  });

  test.each([
    ['nothing', () => undefined, 500],
    ['nothing, later', async () => undefined, 500],
    // biome-ignore lint/suspicious/noThenProperty: it is what is tested.
    ['a false of a promise library', () => ({ then: (tell: (answer: boolean) => void) => tell(false) }), 403],
  ])('lets nobody in with %s', async (_, accept, status) => {
    await using served = await serve(guarded(accept as unknown as Accept));
    using client = await RawClient.connect(served.url);
    expect(client.status).toBe(status);
  });

  test('refuses with its own status, headers and body', async () => {
    await using served = await serve(
      guarded(() => ({ status: 429, headers: { 'Retry-After': '30' }, body: 'slow down' })),
    );
    using client = await RawClient.connect(served.url);
    await client.ended();
    expect(client.status).toBe(429);
    expect(client.header('Retry-After')).toEqual(['30']);
    expect(client.body).toBe('slow down');
  });

  test('writes the headers of a refusal as they were when they were checked', async () => {
    const headers = (reads = 0) => ({
      get 'X-A'() {
        return reads++ === 0 ? 'a' : 'a\r\nX-B: b';
      },
    });
    await using served = await serve(guarded(() => ({ status: 403, headers: headers() })));
    using client = await RawClient.connect(served.url);
    await client.ended();
    expect([client.status, client.header('X-A'), client.header('X-B')]).toEqual([403, ['a'], []]);
  });

  test('may redirect', async () => {
    await using served = await serve(guarded(() => ({ status: 302, headers: { Location: '/login' } })));
    using client = await RawClient.connect(served.url);
    expect(client.status).toBe(302);
    expect(client.header('Location')).toEqual(['/login']);
  });

  test('chooses the subprotocol, sets headers of the 101, several cookies among them, and gives the connection its data', async () => {
    await using served = await serve(
      guarded(
        async () => ({
          subprotocol: 'chat.v1',
          headers: { 'X-Room': 'kitchen', 'Set-Cookie': ['a=1; Path=/', 'b=2; Path=/'] },
          data: 'alice',
        }),
        { subprotocols: ['chat.v2', 'chat.v1'] },
      ),
    );
    using client = await RawClient.connect(served.url, { headers: ['Sec-WebSocket-Protocol: chat.v2, chat.v1'] });
    expect(client.status).toBe(101);
    expect(client.header('Sec-WebSocket-Protocol')).toEqual(['chat.v1']);
    expect(client.header('X-Room')).toEqual(['kitchen']);
    expect(client.header('Set-Cookie')).toEqual(['a=1; Path=/', 'b=2; Path=/']);
    expect(await client.text()).toBe('open alice');
  });

  test('agrees on the first subprotocol of the endpoint that the client offers, and on none otherwise', async () => {
    const endpoint = defineEndpoint({
      path: '/',
      subprotocols: ['chat.v2', 'chat.v1'],
      onOpen: connection => void connection.send(connection.subprotocol),
    });
    await using served = await serve(endpoint);
    await using both = await testClient(served.url, { subprotocols: ['chat.v1', 'x', 'chat.v2'] });
    expect([both.subprotocol, await both.receive()]).toEqual(['chat.v2', 'chat.v2']);
    await using neither = await testClient(served.url, { subprotocols: ['x'] });
    expect([neither.subprotocol, await neither.receive()]).toEqual(['', '']);
  });

  test.each([
    ['it throws', () => Promise.reject(new Error('the password is hunter2'))],
    [
      'it throws at once',
      () => {
        throw new Error('the password is hunter2');
      },
    ],
    ['it chooses a subprotocol that was not offered', () => ({ subprotocol: 'hunter2' })],
    ['it sets a header with a line break', () => ({ headers: { 'X-A': 'hunter2\r\nSet-Cookie: a=1' } })],
    ['it sets a header of the handshake', () => ({ headers: { Upgrade: 'hunter2' } })],
    ['its refusal has no such status', () => ({ status: 200, body: 'hunter2' })],
    ['its refusal has a header with a line break', () => ({ status: 403, headers: { 'X-A': 'hunter2\r\nB: c' } })],
  ] as [string, Accept][])(
    'is answered with 500 and without details when %s, and the place is free again',
    async (_, accept) => {
      let isBroken = true;
      const endpoint = guarded(handshake => (isBroken ? accept(handshake) : true), { maxConnections: 1 });
      await using served = await serve(endpoint);
      using client = await RawClient.connect(served.url);
      await client.ended();
      expect(client.status).toBe(500);
      expect(client.head + client.body).not.toContain('hunter2');
      isBroken = false;
      await using next = await testClient(served.url);
      expect(await next.receive()).toBe('open undefined');
    },
  );

  test('sees the whole handshake', async () => {
    let seen: Handshake | undefined;
    const endpoint = defineEndpoint({
      path: '/chat/:room',
      origins: 'any',
      accept(handshake) {
        seen = handshake;
        return true;
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(`${served.url}/chat/kitchen?a=1&b=2`, {
      headers: [
        'Origin: https://example.com',
        'Cookie: theme=dark; id=7',
        'X-Own: yes',
        'Sec-WebSocket-Protocol: one, two',
        'Sec-WebSocket-Extensions: permessage-deflate',
      ],
    });
    expect(client.status).toBe(101);
    expect(seen).toMatchObject({
      origin: 'https://example.com',
      path: '/chat/kitchen',
      params: { room: 'kitchen' },
      cookies: { theme: 'dark', id: '7' },
      headers: { 'x-own': 'yes' },
      session: undefined,
      user: undefined,
      clientCertificate: undefined,
      isSecure: false,
      remoteAddress: '127.0.0.1',
      remotePort: client.socket.localPort,
      subprotocols: ['one', 'two'],
      extensions: 'permessage-deflate',
    });
    expect(seen!.url.href).toBe(`${served.url}/chat/kitchen?a=1&b=2`);
    expect(seen!.query.get('b')).toBe('2');
  });

  test('gives the connection the same facts', async () => {
    const facts = Promise.withResolvers<object>();
    const endpoint = defineEndpoint({
      path: '/chat/:room',
      onOpen: ({ url, params, isSecure, isOpen, remoteAddress, remotePort, user, session, endpoint, id }) =>
        facts.resolve({
          url: url.href,
          params,
          isSecure,
          isOpen,
          remoteAddress,
          remotePort,
          user,
          session,
          endpoint,
          id,
        }),
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(`${served.url}/chat/kitchen?a=1`);
    expect(await facts.promise).toEqual({
      url: `${served.url}/chat/kitchen?a=1`,
      params: { room: 'kitchen' },
      isSecure: false,
      isOpen: true,
      remoteAddress: '127.0.0.1',
      remotePort: client.socket.localPort,
      user: undefined,
      session: undefined,
      endpoint,
      id: expect.stringMatching(/^c[a-z0-9]+$/),
    });
  });

  test('does not run for requests that are no handshake', async () => {
    const journal = new Journal();
    await using served = await serve(
      guarded(() => {
        journal.add('accept');
        return true;
      }),
    );
    const http = served.url.replace('ws', 'http');
    expect((await fetch(http)).status).toBe(426);
    expect((await fetch(http, { method: 'POST' })).status).toBe(405);
    expect(journal.entries).toEqual([]);
  });
});

test.each([
  ['without a key', 'Sec-WebSocket-Version: 13', 400],
  ['with a key that is none', 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short', 400],
  ['of another version', `Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==`, 426],
])('accept never sees a handshake %s', async (_, lines, status) => {
  const journal = new Journal();
  await using served = await serve(
    guarded(() => {
      journal.add('accept');
      return true;
    }),
  );
  using client = await RawClient.dial(served.url);
  client.socket.write(`GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines}\r\n\r\n`);
  await client.answered();
  expect([client.status, journal.entries]).toEqual([status, []]);
});

describe('an accept that does not answer', () => {
  /** Answers nothing until told to, and says when it was asked. */
  function stubborn(more: Partial<EndpointOptions<string>> = {}) {
    const journal = new Journal();
    const answer = Promise.withResolvers<boolean>();
    const endpoint = guarded(
      ({ query }) => {
        if (query.has('now')) return true;
        journal.add('asked');
        return answer.promise;
      },
      { maxConnections: 1, onOpen: () => journal.add('open'), onClose: () => journal.add('close'), ...more },
    );
    return { endpoint, journal, answer };
  }

  test.each([
    ['ends its side', (client: RawClient) => void client.socket.end()],
    ['is cut off', (client: RawClient) => client.reset()],
  ])('gives the place back when the client %s, and opens nothing when it answers after all', async (_, leave) => {
    const { endpoint, journal, answer } = stubborn();
    await using served = await serve(endpoint);
    using client = await RawClient.knock(served.url);
    await journal.until('asked');
    await expect(testClient(`${served.url}/?now`)).rejects.toMatchObject({ status: 503 });
    leave(client);
    await expect.poll(() => endpoint.isEmpty).toBe(true);
    answer.resolve(true);
    await using next = await testClient(`${served.url}/?now`);
    await journal.until('open');
    expect(next.isOpen).toBe(true);
    expect(journal.entries).toEqual(['asked', 'open']);
  });

  test('is refused with 503 when the handler timeout is over', async () => {
    const clock = new FakeClock();
    const { endpoint, journal } = stubborn({ handlerTimeout: '5s' });
    await using served = await serve(endpoint, {}, { clock });
    using client = await RawClient.knock(served.url);
    await journal.until('asked');
    await clock.advance(5_300);
    await client.ended();
    expect(client.status).toBe(503);
    expect(endpoint.isEmpty).toBe(true);
  });

  test('does not keep the server from stopping: the client gets 503', async () => {
    const { endpoint, journal } = stubborn();
    const served = await serve(endpoint);
    using client = await RawClient.knock(served.url);
    await journal.until('asked');
    await served.server.stop({ drain: 0 });
    await client.ended();
    expect(client.status).toBe(503);
  });

  test('is not disturbed by what the client sends behind its handshake', async () => {
    const { endpoint, journal, answer } = stubborn({ onMessage: (_, data) => journal.add(`message ${data}`) });
    await using served = await serve(endpoint);
    const early = Buffer.from('8185000000006561726c79', 'hex');
    using client = await RawClient.knock(served.url, { early });
    await journal.until('asked');
    client.send(Buffer.from('8185000000006c61746572', 'hex'));
    answer.resolve(true);
    await journal.until('message later');
    expect(journal.entries).toEqual(['asked', 'open', 'message early', 'message later']);
  });
});

describe('origins', () => {
  const origin = (value: string) => ({ headers: [`Origin: ${value}`] });

  test('are only our own by default', async () => {
    await using served = await serve(guarded(() => true));
    const own = served.url.replace('ws', 'http');
    for (const [headers, status] of [
      [origin(own), 101],
      [origin('https://evil.example'), 403],
      [origin('null'), 403],
      [{}, 101],
      [{ headers: ['Cookie: a=b'] }, 403],
    ] as const) {
      using client = await RawClient.connect(served.url, headers);
      expect([headers, client.status]).toEqual([headers, status]);
    }
  });

  test('are those of a list, and accept is not asked for others', async () => {
    const journal = new Journal();
    await using served = await serve(
      guarded(
        ({ origin: from }) => {
          journal.add(`${from}`);
          return true;
        },
        {
          origins: ['https://example.com', /https:\/\/[a-z]+\.test/],
        },
      ),
    );
    for (const [from, status] of [
      ['https://example.com', 101],
      ['https://shop.test', 101],
      ['https://shop.test.evil.example', 403],
      [served.url.replace('ws', 'http'), 403],
    ] as const) {
      using client = await RawClient.connect(served.url, origin(from));
      expect([from, client.status]).toEqual([from, status]);
    }
    expect(journal.entries).toEqual(['https://example.com', 'https://shop.test']);
  });

  test('are left to accept, which admits a foreign one with permission, as in the document: ORIGIN.equals(origin) || hasPermission(user)', async () => {
    const hasPermission = (name: string | undefined) => name === 'alice';
    await using served = await serve(
      guarded(({ origin: from, cookies }) => from === 'https://example.com' || hasPermission(cookies.name), {
        origins: 'accept',
      }),
    );
    for (const [from, name, status] of [
      ['https://example.com', 'bob', 101],
      ['https://elsewhere.example', 'alice', 101],
      ['https://elsewhere.example', 'bob', 403],
    ] as const) {
      using client = await RawClient.connect(served.url, { headers: [`Origin: ${from}`, `Cookie: name=${name}`] });
      expect([from, name, client.status]).toEqual([from, name, status]);
    }
  });

  test('are all of them with "any"', async () => {
    await using served = await serve(guarded(() => true, { origins: 'any' }));
    using client = await RawClient.connect(served.url, origin('https://evil.example'));
    expect(client.status).toBe(101);
  });
});
