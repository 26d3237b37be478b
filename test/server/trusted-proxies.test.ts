import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { createServer } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { Http2Client } from './http2-client.ts';

interface Line {
  readonly event?: string;
  readonly text: string;
}

async function start(trustedProxies: string[]) {
  const warnings: Line[] = [];
  const ignore = () => {};
  const warn = (fields: object, text: string) => void warnings.push({ ...fields, text });
  const server = createServer(
    {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: 'self-signed' },
      ],
      session: false,
      trustedProxies,
      routes: [{ path: '/', fetch: (_, { clientAddress }) => new Response(clientAddress) }],
      log: { access: 'off' },
    },
    { logger: { debug: ignore, info: ignore, warn, error: ignore } },
  );
  await server.start();
  return { server, warnings };
}

async function ask(url: string, wire: 'http/1' | 'tls' | 'http/2'): Promise<string> {
  const headers = { 'x-forwarded-for': '203.0.113.9' };
  if (wire === 'http/2') {
    using client = new Http2Client(url);
    return (await client.get('/', headers)).body;
  }
  const { request } = wire === 'tls' ? https : http;
  const [answer] = await once(request(url, { rejectUnauthorized: false, agent: false, headers }).end(), 'response');
  return text(answer);
}

describe.each(['http/1', 'tls', 'http/2'] as const)('over %s', wire => {
  test.each([
    ['127.0.0.0/8', true],
    ['::ffff:127.0.0.0/104', true],
    ['0.0.0.0/0', true],
    ['::/0', false],
    ['::1', false],
  ])('a peer of IPv4 is believed with trustedProxies: [%s]: %s', async (entry, isBelieved) => {
    const { server } = await start([entry]);
    await using _ = server;
    const url = server.urls[wire === 'http/1' ? 0 : 1]!;
    expect(await ask(url, wire)).toBe(isBelieved ? '203.0.113.9' : '127.0.0.1');
  });
});

test('a start warns of entries that are probably not meant, and of no other', async () => {
  const { server, warnings } = await start(['127.0.0.1', '192.168.1.0/2', '::/0', '10.0.0.0/8']);
  await using _ = server;
  const doubts = warnings.filter(({ event }) => event === 'trusted-proxies-doubtful');
  expect(doubts).toHaveLength(1);
  expect(doubts[0]!.text).toMatch(/"192\.168\.1\.0\/2" is the block 192\.0\.0\.0\/2.*"::\/0" holds every IPv6 address/);
  expect(doubts[0]!.text).not.toMatch(/127\.0\.0\.1|10\.0\.0\.0/);
});
