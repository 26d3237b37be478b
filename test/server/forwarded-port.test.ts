import { describe, expect, test } from 'vitest';
import type { Config } from '../../src/index.ts';
import { closing } from '../services/closing.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();
const PROXY: Config = { trustedProxies: ['127.0.0.1'] };

async function serve(config: Config = PROXY, log?: Lines): Promise<{ backend: RawBackend; server: WiredServer }> {
  const backend = await RawBackend.listen();
  open.push(backend);
  const server = await WiredServer.start(
    {
      upstreams: { app: { servers: [backend.url] } },
      routes: [
        { path: '/fetch', fetch: request => new Response(request.url) },
        { path: '/*', upstream: 'app' },
      ],
      ...config,
    },
    log,
  );
  open.push(server);
  return { backend, server };
}

/** What the backend is told of the place that the client came to. */
function place(request: string): string[] {
  return ['Host', 'X-Forwarded-Proto', 'X-Forwarded-Host', 'X-Forwarded-Port', 'Forwarded'].map(
    name => new RegExp(`^${name}: (.*)\r$`, 'm').exec(request)?.[1]?.replace('for=127.0.0.1;', '') ?? 'none',
  );
}

const told = (proto: string, host: string, port: string) => [
  host,
  proto,
  host,
  port,
  `host=${host.includes(':') ? `"${host}"` : host};proto=${proto}`,
];

describe.each(wires)('over %s, the port that a trusted proxy forwards', wire => {
  const own = wire === 'http/1' ? 'http' : 'https';

  test.each([
    ['8443', 'https', 'public.example:8443', '8443'],
    ['8080', 'http', 'public.example:8080', '8080'],
    ['8080', undefined, 'public.example:8080', '8080'],
    ['443', 'https', 'public.example', '443'],
    ['80', 'http', 'public.example', '80'],
    // Proxies of before may have written theirs: the last one counts, as of scheme and host.
    ['9000, 8443', 'https', 'public.example:8443', '8443'],
    // The port of the other scheme is that of a hop behind the one that ends TLS.
    ['80', 'https', 'public.example', '443'],
    ['443', 'http', 'public.example', '80'],
    // No ports.
    ...['0', '65536', '-1', '8443x', '0x50', '+80', '', ' ', '99999999999', 'https', '[::1]:80', ':8443'].map(
      port => [port, 'https', 'public.example', '443'] as const,
    ),
  ] as const)('%j with the scheme %s is that of the public place', async (port, proto, host, seen) => {
    const { backend, server } = await serve();
    const headers = { 'X-Forwarded-Port': port, ...(proto && { 'X-Forwarded-Proto': proto }) };
    await ask(server, wire, { headers });
    await ask(server, wire, { host: 'internal', headers: { ...headers, 'X-Forwarded-Host': 'public.example' } });
    const expected = told(proto ?? own, host, seen);
    expect(backend.requests.map(place)).toEqual([expected, expected]);
    expect((await ask(server, wire, { path: '/fetch', headers })).body).toBe(`${expected[1]}://${host}/fetch`);
  });

  test('does not count beside a host that has one', async () => {
    const { backend, server } = await serve();
    const headers = { 'X-Forwarded-Port': '9000', 'X-Forwarded-Proto': 'https' };
    await ask(server, wire, { host: 'public.example:8443', headers });
    await ask(server, wire, { headers: { ...headers, 'X-Forwarded-Host': 'public.example:8443' } });
    // RFC 7239 has the port in its host, and no other.
    await ask(server, wire, {
      headers: { 'X-Forwarded-Port': '9000', Forwarded: 'for=1.2.3.4;proto=https;host="public.example:8443"' },
    });
    const expected = told('https', 'public.example:8443', '8443');
    for (const request of backend.requests) expect(place(request.replace('for=1.2.3.4, ', ''))).toEqual(expected);
  });

  test('makes the origin of the page the own one', async () => {
    const { backend, server } = await serve();
    backend.answer = () => 'HTTP/1.1 403 No\r\nX-From: backend\r\nContent-Length: 0\r\n\r\n';
    const came = async (headers: Record<string, string>) =>
      (await knock(server, wire, { headers })).headers['x-from'] ?? 'refused';
    const proto = { 'X-Forwarded-Proto': 'https' };
    const origin = { Origin: 'https://public.example:8443' };
    expect(await came({ ...proto, ...origin, 'X-Forwarded-Port': '8443' })).toBe('backend');
    expect(await came({ ...proto, ...origin, 'X-Forwarded-Port': '9443' })).toBe('refused');
    expect(await came({ ...proto, ...origin })).toBe('refused');
    expect(await came({ ...proto, Origin: 'https://public.example', 'X-Forwarded-Port': '443' })).toBe('backend');
    expect(await came({ ...proto, Origin: 'https://public.example', 'X-Forwarded-Port': '80' })).toBe('backend');
  });

  test('is not believed from anybody else', async () => {
    const { backend, server } = await serve({});
    await ask(server, wire, { headers: { 'X-Forwarded-Port': '8443' } });
    expect(backend.requests.map(place)).toEqual([told(own, 'public.example', own === 'http' ? '80' : '443')]);
  });

  test('is in the links that are rewritten', async () => {
    const { backend, server } = await serve();
    backend.answer = () => `HTTP/1.1 302 Found\r\nLocation: ${backend.url}/a\r\nContent-Length: 0\r\n\r\n`;
    const { headers } = await ask(server, wire, {
      headers: { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Port': '8443' },
    });
    expect(headers.location).toBe('https://public.example:8443/a');
  });
});

test('a page that was refused for its port alone is one whose proxy drops the port: the log says what to do', async () => {
  const log = new Lines();
  const { server } = await serve(PROXY, log);
  const refusal = async (host: string, origin: string) => {
    expect((await knock(server, 'http/1', { host, headers: { Origin: origin } })).status).toBe(403);
    return log.all.filter(({ fields }) => fields.code === 'ERR_POLICY_ORIGIN').at(-1)?.message ?? '';
  };
  const hint = /only the port differs.*proxy_set_header Host \$http_host.*X-Forwarded-Port/s;
  expect(await refusal('public.example', 'http://public.example:8080')).toMatch(hint);
  // Others are pages of elsewhere.
  expect(await refusal('public.example', 'http://evil.example:8080')).not.toMatch(hint);
  expect(await refusal('public.example:8080', 'http://public.example:9090')).not.toMatch(hint);
});

test('a page that was refused for a port that its proxy forwards, and browsers do not use: the log names the header', async () => {
  const log = new Lines();
  const { server } = await serve(PROXY, log);
  const refusal = async (headers: Record<string, string>) => {
    expect((await knock(server, 'http/1', { headers: { 'X-Forwarded-Proto': 'https', ...headers } })).status).toBe(403);
    return log.all.filter(({ fields }) => fields.code === 'ERR_POLICY_ORIGIN').at(-1)?.message ?? '';
  };
  // A proxy in a container: it listens on 8443, which the world reaches as 443.
  const inner = { 'X-Forwarded-Port': '8443' };
  const hint = /only the port differs: the proxy in front says 8443 in X-Forwarded-Port/;
  expect(await refusal({ Origin: 'https://public.example', ...inner })).toMatch(hint);
  expect(await refusal({ Origin: 'https://public.example:9443', ...inner })).toMatch(hint);
  expect(await refusal({ Origin: 'https://evil.example', ...inner })).not.toMatch(hint);
  expect(await refusal({ Origin: 'https://public.example', 'X-Forwarded-Host': 'public.example:8443' })).toMatch(hint);
});
