import { defineEndpoint } from 'holdfast';
import { expect, test } from 'vitest';
import { confidential } from '../../src/policy/transport.ts';
import { ask, knock, WiredServer, wires } from '../server/wires.ts';
import { headWith } from './head.ts';

test('confidential takes a client that speaks TLS', () => {
  expect(confidential(headWith({ isSecure: true, isSchemeKnown: true }))).toBeUndefined();
});

test('confidential refuses a plain connection with 403', () => {
  expect(confidential(headWith())).toMatchObject({ allow: false, status: 403, code: 'ERR_POLICY_TRANSPORT' });
});

test('a route that is confidential serves requests and handshakes over TLS and HTTP/2, and refuses plain ones with 403', async () => {
  const policy = { transport: 'confidential' } as const;
  const server = await WiredServer.start({
    routes: [
      { path: '/page', policy, fetch: () => new Response('nobody else reads this') },
      { endpoint: defineEndpoint({ path: '/socket', origins: 'any' }), policy },
    ],
  });
  const seen = await Promise.all(
    wires.map(async wire => [
      wire,
      (await ask(server, wire, { path: '/page', headers: { 'X-Forwarded-Proto': 'https' } })).status,
      (await knock(server, wire, { path: '/socket', headers: { 'X-Forwarded-Proto': 'https' } })).status,
    ]),
  );
  await server.close();
  expect(seen).toEqual([
    ['http/1', 403, 403],
    ['tls', 200, 101],
    ['http/2', 200, 101],
  ]);
});
