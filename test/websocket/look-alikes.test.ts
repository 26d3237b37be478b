import { createServer, defineEndpoint, type Endpoint, type EndpointOptions, isEndpoint } from 'holdfast';
import { expect, test } from 'vitest';
import { testClient } from '../../src/testing/test-client.ts';
import { serve } from './serve.ts';

const path = '/chat';
const real = () => defineEndpoint({ path, onOpen: connection => void connection.send('hello') });
const brand = Symbol.for('holdfast.endpoint');

// What the compiler takes for an endpoint, or is made to take, and what a server could not keep its connections in.
test.each<[string, () => object]>([
  ['a copy of one', () => ({ ...real() })],
  ['a copy at another path', () => ({ ...real(), patterns: ['/talk'] })],
  ['an object that inherits from one', () => Object.create(real())],
  ['a proxy of one', () => new Proxy(real(), {})],
  ['an object with the mark alone', () => ({ [brand]: true })],
  ['an object with the mark and all public members', () => ({ ...membersOf(real()), [brand]: true })],
])('%s is a TypeError at start that names the route and says what to pass', async (_what, make) => {
  const starting = serve([], { routes: [{ path, endpoint: make() as Endpoint<unknown> }] });
  await expect(starting).rejects.toSatisfy(error => error instanceof TypeError);
  await expect(starting).rejects.toThrow(/^route "\/chat": .*defineEndpoint/);
});

test('an object without the mark is refused by the configuration', () => {
  const endpoint = membersOf(real());
  expect(isEndpoint(endpoint)).toBe(false);
  expect(() => createServer({ routes: [{ endpoint }] })).toThrow(/routes\[0\]\.endpoint: expected what defineEndpoint/);
});

test('an endpoint of another loaded copy of the package is served', async () => {
  const specifier = '../../src/websocket/endpoint.ts?copy';
  const copy: { defineEndpoint: typeof defineEndpoint; isEndpoint: typeof isEndpoint } = await import(specifier);
  expect(copy.defineEndpoint).not.toBe(defineEndpoint);
  const endpoint = copy.defineEndpoint({ path, onOpen: connection => void connection.send('hello') });
  expect([isEndpoint(endpoint), copy.isEndpoint(real())]).toEqual([true, true]);
  await using served = await serve(endpoint as Endpoint<unknown>);
  await using client = await testClient(`${served.url}${path}`);
  expect(await client.receive()).toBe('hello');
});

function membersOf({ options, patterns, subprotocols, supportedVersions, limits }: Endpoint): Endpoint<unknown> {
  return {
    options: options as EndpointOptions<unknown>,
    patterns,
    subprotocols,
    supportedVersions,
    limits,
    connections: new Set(),
    isEmpty: true,
    broadcast: () => ({ sent: 0, skipped: 0, failed: 0 }),
  };
}
