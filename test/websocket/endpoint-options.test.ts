import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { testClient } from '../../src/testing/test-client.ts';
import { RawClient } from './raw-client.ts';
import { serve } from './serve.ts';

/** An endpoint that says its name and its parameters. */
const named = (name: string, path: string | string[]) =>
  defineEndpoint({
    path,
    onOpen: connection => void connection.send(`${name} ${JSON.stringify(connection.params)}`),
  });

async function answerAt(url: string): Promise<unknown> {
  await using client = await testClient(url);
  return client.receive();
}

describe('patterns', () => {
  test('serves an endpoint at each pattern of its list', async () => {
    await using served = await serve(named('a', ['/one', '/two/:id', '/three/*']));
    expect(await answerAt(`${served.url}/one`)).toBe('a {}');
    expect(await answerAt(`${served.url}/two/7`)).toBe('a {"id":"7"}');
    expect(await answerAt(`${served.url}/three/x/y`)).toBe('a {}');
    expect(await answerAt(`${served.url}/three`)).toBe('a {}');
    await expect(testClient(`${served.url}/one/more`)).rejects.toMatchObject({ status: 404 });
    await expect(testClient(`${served.url}/two/7/8`)).rejects.toMatchObject({ status: 404 });
  });

  test('prefers an exact pattern to a template, and a template to a prefix, in whatever order they are declared', async () => {
    await using served = await serve([
      named('prefix', '/chat/*'),
      named('template', '/chat/:room'),
      named('exact', '/chat/lobby'),
    ]);
    expect(await answerAt(`${served.url}/chat/lobby`)).toBe('exact {}');
    expect(await answerAt(`${served.url}/chat/kitchen`)).toBe('template {"room":"kitchen"}');
    expect(await answerAt(`${served.url}/chat/kitchen/sink`)).toBe('prefix {}');
  });

  test('decodes what a template has matched', async () => {
    await using served = await serve(named('a', '/chat/:room'));
    expect(await answerAt(`${served.url}/chat/caf%C3%A9%20noir`)).toBe('a {"room":"café noir"}');
  });

  test('does not start with the same pattern twice, and names both', async () => {
    const starting = serve([named('a', '/chat/:room'), named('b', ['/other', '/chat/:id'])]);
    await expect(starting).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(/\/chat\/:id.*\/chat\/:room/),
    });
  });

  test('does not start with the same pattern twice in one list', async () => {
    await expect(serve(named('a', ['/chat', '/chat']))).rejects.toMatchObject({ code: 'ERR_ROUTE_DUPLICATE' });
  });
});

describe('options', () => {
  test.each([
    ['path', { path: 'chat' }],
    ['path', { path: [] }],
    ['idleTimeout', { idleTimeout: 'soon' }],
    ['heartbeat', { heartbeat: '20 parsecs' }],
    ['maxMessageSize', { maxMessageSize: '64 kilos' }],
    ['maxInflatedSize', { maxInflatedSize: 'much' }],
    ['maxFragments', { maxFragments: 1.5 }],
    ['maxConnections', { maxConnections: -2 }],
    ['closeTimeout', { closeTimeout: 'x' }],
    ['handlerTimeout', { handlerTimeout: 'x' }],
    ['maxBufferedAmount', { maxBufferedAmount: 'x' }],
    ['slowReader', { slowReader: 'sleep' }],
    ['dispatch.concurrency', { dispatch: { concurrency: 0 } }],
    ['dispatch.queue', { dispatch: { concurrency: 1, queue: -1 } }],
    ['dispatch.whenFull', { dispatch: { concurrency: 1, whenFull: 'explode' } }],
    ['level', { compression: { level: 99 } }],
  ] as [string, object][])('throws a TypeError that names %s: %o', (name, wrong) => {
    const options = { path: '/', ...wrong } as EndpointOptions;
    expect(() => defineEndpoint(options)).toThrow(TypeError);
    expect(() => defineEndpoint(options)).toThrow(name);
  });

  test('has the documented defaults', () => {
    expect(defineEndpoint({ path: '/' }).limits).toEqual({
      idleTimeoutMs: 30_000,
      heartbeatMs: 20_000,
      maxMessageBytes: 65_536,
      maxInflatedBytes: 65_536,
      maxFragments: 1024,
      maxConnections: Number.POSITIVE_INFINITY,
      closeTimeoutMs: 2_000,
      handlerTimeoutMs: 60_000,
      maxBufferedBytes: 1024 * 1024,
      slowReader: 'wait',
    });
  });

  test('pings after two thirds of the idle timeout, and not later than 20 seconds', () => {
    expect(defineEndpoint({ path: '/', idleTimeout: '15s' }).limits.heartbeatMs).toBe(10_000);
    expect(defineEndpoint({ path: '/', idleTimeout: '10m' }).limits.heartbeatMs).toBe(20_000);
    expect(defineEndpoint({ path: '/', heartbeat: false }).limits.heartbeatMs).toBe(Number.POSITIVE_INFINITY);
  });

  test('lets an inflated message be as large as one on the wire, unless told otherwise', () => {
    expect(defineEndpoint({ path: '/', maxMessageSize: '1MiB' }).limits.maxInflatedBytes).toBe(1024 * 1024);
  });
});

test('an endpoint says where it is served and which versions of the protocol it speaks', async () => {
  const endpoint = named('a', ['/one', '/two/:id']);
  expect([endpoint.patterns, endpoint.supportedVersions]).toEqual([['/one', '/two/:id'], [13]]);
  await using served = await serve(endpoint);
  using other = await RawClient.dial(served.url);
  const lines = [
    'GET /one HTTP/1.1',
    'Host: a',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 8',
  ];
  other.socket.write(`${lines.join('\r\n')}\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n\r\n`);
  await other.answered();
  expect([other.status, other.header('Sec-WebSocket-Version')]).toEqual([426, ['13']]);
});

describe('init and destroy', () => {
  test('run once each, before the first connection and after the last callback', async () => {
    const calls: string[] = [];
    const endpoint = defineEndpoint({
      path: ['/a', '/b'],
      init: async () => void calls.push('init'),
      onOpen: () => void calls.push('open'),
      onClose: async () => {
        await new Promise(resolve => setImmediate(resolve));
        calls.push('close');
      },
      destroy: () => void calls.push('destroy'),
    });
    const served = await serve(endpoint);
    const client = await testClient(`${served.url}/b`);
    await served.server.stop();
    expect((await client.closed).code).toBe(1001);
    expect(calls).toEqual(['init', 'open', 'close', 'destroy']);
  });

  test('keep the server from starting when init fails, and destroy does not run then', async () => {
    const calls: string[] = [];
    const other = defineEndpoint({ path: '/other', destroy: () => void calls.push('other destroyed') });
    const broken = defineEndpoint({
      path: '/broken',
      init: () => Promise.reject(new Error('no database')),
      destroy: () => void calls.push('broken destroyed'),
    });
    await expect(serve([other, broken])).rejects.toThrow('no database');
    expect(calls).toEqual(['other destroyed']);
  });

  test('refuse a second server, and the first goes on serving', async () => {
    const calls: string[] = [];
    const endpoint = defineEndpoint({
      path: '/',
      destroy: () => void calls.push('destroy'),
      onOpen: connection => void connection.send('hello'),
    });
    await using served = await serve(endpoint);
    await expect(serve(endpoint)).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' });
    expect(calls).toEqual([]);
    expect(await answerAt(served.url)).toBe('hello');
  });
});
