import { CloseCode, type CloseEvent, type Connection, defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { testClient } from '../../src/testing/test-client.ts';
import { CLOSE, closeFrame, frame, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

/** An endpoint that closes as it is told, and says how it ended. */
function closing(more: Partial<EndpointOptions> = {}) {
  const ended = Promise.withResolvers<CloseEvent>();
  const endpoint = defineEndpoint({
    path: '/',
    onMessage(connection, data) {
      const [code, reason] = (data as string).split(' ');
      connection.close(Number(code), reason);
    },
    onClose: (_, event) => ended.resolve(event),
    ...more,
  });
  return { endpoint, ended: ended.promise };
}

describe('the peer closes', () => {
  test.each([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])(
    'with %i: it is echoed, told to onClose with its reason, and the ending is clean',
    async code => {
      const { endpoint, ended } = closing();
      await using served = await serve(endpoint);
      using client = await RawClient.connect(served.url);
      client.send(closeFrame(code, 'grüße'));
      expect(await client.next()).toMatchObject({
        opcode: CLOSE,
        payload: Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from('grüße')]),
      });
      // RFC 6455 §7.1.1: the server ends the TCP connection first.
      await client.ended();
      client.socket.end();
      expect(await ended).toEqual({ code, reason: 'grüße', clean: true });
    },
  );

  test('without a code: the answer has none either, and onClose gets 1005', async () => {
    const { endpoint, ended } = closing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(closeFrame());
    expect(await client.next()).toMatchObject({ opcode: CLOSE, payload: Buffer.alloc(0) });
    client.socket.end();
    expect(await ended).toEqual({ code: 1005, reason: '', clean: true });
  });

  test.each([0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535])(
    'with %i, which must not be sent: 1002',
    async code => {
      const { endpoint, ended } = closing();
      await using served = await serve(endpoint);
      using client = await RawClient.connect(served.url);
      client.send(closeFrame(code));
      expect(await client.closeCode()).toBe(1002);
      client.socket.end();
      expect(await ended).toEqual({ code: 1002, reason: '', clean: false });
    },
  );

  test('by ending the TCP connection: onClose gets 1006', async () => {
    const { endpoint, ended } = closing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.socket.end();
    expect(await ended).toEqual({ code: 1006, reason: '', clean: false });
    await client.ended();
    expect(client.frames).toEqual([]);
  });

  test('and what it sends behind its close frame is ignored', async () => {
    const seen: unknown[] = [];
    const { endpoint, ended } = closing({ onMessage: (_, data) => void seen.push(data) });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'before'), closeFrame(1000), frame(TEXT, 'behind'), Buffer.from('garbage'));
    expect(await client.closeCode()).toBe(1000);
    client.socket.end();
    expect(await ended).toMatchObject({ code: 1000, clean: true });
    expect(seen).toEqual(['before']);
  });
});

describe('we close', () => {
  test('with code and reason, and the ending is clean when the peer answers', async () => {
    const { endpoint, ended } = closing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, '4001 enough'));
    expect(await client.next()).toMatchObject({ opcode: CLOSE, payload: Buffer.from('\x0f\xa1enough', 'latin1') });
    client.send(closeFrame(4001, 'enough'));
    await client.ended();
    client.socket.end();
    expect(await ended).toEqual({ code: 4001, reason: 'enough', clean: true });
  });

  test.each([
    ['normal', 1000],
    ['goingAway', 1001],
    ['protocolError', 1002],
    ['unsupportedData', 1003],
    ['invalidData', 1007],
    ['policyViolation', 1008],
    ['messageTooBig', 1009],
    ['internalError', 1011],
  ] as const)('with CloseCode.%s, and the peer gets %i', async (name, code) => {
    const { endpoint } = closing({ onOpen: connection => connection.close(CloseCode[name], name) });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    expect(await client.closed).toEqual({ code, reason: name, clean: true });
  });

  test('never with CloseCode.noStatus, which says to onClose that the peer gave no code', async () => {
    const refused = Promise.withResolvers<unknown>();
    const { endpoint, ended } = closing({
      onOpen(connection) {
        try {
          connection.close(CloseCode.noStatus);
        } catch (error) {
          refused.resolve(error);
        }
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    expect(await refused.promise).toBeInstanceOf(RangeError);
    client.send(closeFrame());
    client.socket.end();
    expect((await ended).code).toBe(CloseCode.noStatus);
  });

  test('with 1000 when no code is given', async () => {
    const { endpoint } = closing({ onOpen: connection => connection.close() });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    expect(await client.closed).toEqual({ code: 1000, reason: '', clean: true });
  });

  test('and hear nothing more: messages that arrive meanwhile are discarded', async () => {
    const seen: unknown[] = [];
    const { endpoint, ended } = closing({
      onMessage(connection, data) {
        seen.push(data);
        connection.close(4000);
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'first'), frame(TEXT, 'second'));
    expect(await client.closeCode()).toBe(4000);
    client.send(frame(TEXT, 'third'), closeFrame(4000));
    client.socket.end();
    expect(await ended).toMatchObject({ code: 4000, clean: true });
    expect(seen).toEqual(['first']);
  });

  test('only once: a second close does nothing', async () => {
    const { endpoint, ended } = closing({
      onOpen(connection) {
        connection.close(4000, 'first');
        connection.close(4001, 'second');
      },
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    expect(await client.closed).toMatchObject({ code: 4000, reason: 'first' });
    expect(await ended).toMatchObject({ code: 4000, reason: 'first' });
  });

  test('at the same time as the peer: each side gets what it may', async () => {
    const { endpoint, ended } = closing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, '4001 ours'), closeFrame(4002, 'theirs'));
    expect(await client.closeCode()).toBe(4001);
    await client.ended();
    client.socket.end();
    expect(await ended).toEqual({ code: 4001, reason: 'ours', clean: true });
  });

  test('with a code that must not be sent, or a reason that is too long: RangeError, and the connection stays', async () => {
    const errors = Promise.withResolvers<unknown[]>();
    const attempt = (connection: Connection, code: number, reason?: string) => {
      try {
        return connection.close(code, reason);
      } catch (error) {
        return (error as Error).name;
      }
    };
    const { endpoint } = closing({
      onOpen(connection) {
        const codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 1000.5, Number.NaN];
        errors.resolve([
          ...codes.map(code => attempt(connection, code)),
          attempt(connection, 1000, 'x'.repeat(124)),
          attempt(connection, 1000, '€'.repeat(42)),
          connection.isOpen,
          attempt(connection, 1000, `${'€'.repeat(40)}xyz`),
        ]);
      },
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    expect(await errors.promise).toEqual([...Array.from({ length: 13 }, () => 'RangeError'), true, undefined]);
    expect((await client.closed).reason).toBe(`${'€'.repeat(40)}xyz`);
  });

  test('a peer of ws gets code and reason, and we get its own', async () => {
    const { endpoint, ended } = closing();
    await using served = await serve(endpoint);
    const ours = new WebSocket(served.url);
    ours.on('open', () => ours.send('4001 enough'));
    const event = await new Promise(resolve => ours.on('close', (code, reason) => resolve([code, reason.toString()])));
    expect(event).toEqual([4001, 'enough']);
    expect(await ended).toEqual({ code: 4001, reason: 'enough', clean: true });
  });

  test('terminate cuts the connection without a close frame', async () => {
    const { endpoint, ended } = closing({ onMessage: connection => connection.terminate() });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    await client.ended();
    expect(client.frames).toEqual([]);
    expect(await ended).toEqual({ code: 1006, reason: '', clean: false });
  });
});

describe('the server stops', () => {
  test('with 1001 to everybody, and takes no more', async () => {
    const { endpoint } = closing({ path: '/a' });
    const other = closing({ path: '/b' });
    const served = await serve([endpoint, other.endpoint]);
    const clients = await Promise.all(['/a', '/a', '/b'].map(path => testClient(served.url + path)));
    await served.server.stop({ drain: '5s' });
    for (const client of clients)
      expect(await client.closed).toEqual({ code: 1001, reason: 'server is stopping', clean: true });
    await expect(testClient(`${served.url}/a`)).rejects.toMatchObject({ code: 'ERR_WS_CONNECTION_LOST' });
  });

  test('after the handlers that are running: what they send still arrives when it comes before the close', async () => {
    const entries: string[] = [];
    const working = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const { endpoint } = closing({
      async onMessage() {
        begun.resolve();
        await working.promise;
        entries.push('handler ends');
      },
      async onClose() {
        await new Promise(resolve => setImmediate(resolve));
        entries.push('close');
      },
      destroy: () => void entries.push('destroy'),
    });
    const served = await serve(endpoint);
    const client = await testClient(served.url);
    client.send('go');
    await begun.promise;
    const stopping = served.server.stop({ drain: '50ms' }).then(() => entries.push('stopped'));
    expect((await client.closed).code).toBe(1001);
    entries.push('client closed');
    working.resolve();
    await stopping;
    expect(entries).toEqual(['client closed', 'handler ends', 'close', 'destroy', 'stopped']);
  });

  test('and cuts who does not answer the close when the time is over', async () => {
    const { endpoint, ended } = closing({ closeTimeout: '1h' });
    const served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    await served.server.stop({ drain: '50ms' });
    expect(await client.closeCode()).toBe(1001);
    await client.ended();
    expect(await ended).toEqual({ code: 1001, reason: 'server is stopping', clean: false });
  });

  test('at once with drain 0, without a close frame', async () => {
    const { endpoint, ended } = closing();
    const served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    await served.server.stop({ drain: 0 });
    await client.ended();
    expect(client.frames).toEqual([]);
    expect(await ended).toMatchObject({ code: 1006 });
  });

  test('may be asked for twice', async () => {
    let destroyed = 0;
    const { endpoint } = closing({ destroy: () => void destroyed++ });
    const served = await serve(endpoint);
    await Promise.all([served.server.stop(), served.server.stop()]);
    await served.server.stop();
    expect(destroyed).toBe(1);
  });
});
