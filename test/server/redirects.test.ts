import { describe, expect, test } from 'vitest';
import { closing } from '../services/closing.ts';
import { ask, RawBackend, type Wire, WiredServer, wires } from './wires.ts';

const open = closing();

const HEADERS = ['Location', 'Content-Location', 'URI', 'Refresh'] as const;

/** What becomes of a link in each of the headers that have one: the same of all of them. */
async function linkFor(
  wire: Wire,
  link: string,
  { isTls = false, path = '/app/a', headers = {}, config = {}, method = 'GET' } = {},
): Promise<string> {
  const backend = await RawBackend.listen(isTls || undefined);
  open.push(backend);
  const named = link.replace('BACKEND', backend.url.replace(/^https?:\/\//, ''));
  backend.answer = () =>
    `HTTP/1.1 302 Found\r\n${HEADERS.map(name => `${name}: ${name === 'Refresh' ? '0; url=' : ''}${named}\r\n`).join('')}Content-Length: 0\r\n\r\n`;
  const server = await WiredServer.upstream(backend, config, { path: '/app/*', rewrite: '/inner' });
  open.push(server);
  const { headers: received } = await ask(server, wire, { path, headers, method });
  const links = HEADERS.map(name => received[name.toLowerCase()]!.replace('0; url=', ''));
  expect(new Set(links).size).toBe(1);
  return links[0]!;
}

describe('a link to the public host', () => {
  test.each(wires)('that a client of %s is sent to over TLS stays one over TLS', async wire => {
    for (const isTls of [false, true])
      for (const link of ['https://public.example/inner/b', 'https://PUBLIC.example:443/inner/b?x#y'])
        expect(await linkFor(wire, link, { isTls })).toBe(
          link.includes('443') ? 'https://public.example/app/b?x#y' : 'https://public.example/app/b',
        );
  });

  test('of a plain client is never sent back to where it came from', async () => {
    const redirect = 'https://public.example/inner/a';
    expect(await linkFor('http/1', redirect, { isTls: true })).toBe('https://public.example/app/a');
    const trusted = {
      config: { trustedProxies: ['127.0.0.1'] },
      headers: { 'X-Forwarded-Proto': 'http' },
      isTls: true,
    };
    for (const wire of wires) expect(await linkFor(wire, redirect, trusted)).toBe('https://public.example/app/a');
  });

  test('behind a proxy that ends TLS has the scheme of its client', async () => {
    const trusted = { config: { trustedProxies: ['127.0.0.1'] }, headers: { 'X-Forwarded-Proto': 'https' } };
    expect(await linkFor('http/1', 'http://public.example/inner/b', trusted)).toBe('https://public.example/app/b');
    expect(await linkFor('http/1', 'https://public.example/inner/b', trusted)).toBe('https://public.example/app/b');
  });

  test.each(['tls', 'http/2'] as const)('of a plain backend is one over TLS for a client of %s', async wire => {
    expect(await linkFor(wire, 'http://public.example/inner/b')).toBe('https://public.example/app/b');
    // A backend that speaks TLS itself knows what it says.
    expect(await linkFor(wire, 'http://public.example/inner/b', { isTls: true })).toBe('http://public.example/app/b');
  });

  test('has the public path whatever its scheme', async () => {
    expect(await linkFor('http/1', 'http://public.example/inner/b', { isTls: true })).toBe(
      'http://public.example/app/b',
    );
    expect(await linkFor('http/1', '//public.example/inner/b', { isTls: true })).toBe('//public.example/app/b');
    expect(await linkFor('http/1', '/inner/b', { isTls: true })).toBe('/app/b');
    expect(await linkFor('http/1', 'b', { isTls: true })).toBe('b');
  });

  test('on another port is another place', async () => {
    const link = 'https://public.example:8443/inner/b';
    for (const wire of wires) expect(await linkFor(wire, link, { isTls: true })).toBe(link);
  });
});

test.each(wires)('a link to the backend itself leads back to us, with the scheme of a client of %s', async wire => {
  const scheme = wire === 'http/1' ? 'http' : 'https';
  for (const isTls of [false, true]) {
    const own = isTls ? 'https' : 'http';
    expect(await linkFor(wire, `${own}://BACKEND/inner/b`, { isTls })).toBe(`${scheme}://public.example/app/b`);
    expect(await linkFor(wire, '//BACKEND/inner/b', { isTls })).toBe('//public.example/app/b');
    const other = `${isTls ? 'http' : 'https'}://BACKEND/inner/b`;
    expect(await linkFor(wire, other, { isTls })).toMatch(/^https?:\/\/localhost:\d+\/inner\/b$/);
  }
});

test('a redirect from TLS to plain http at the same place is meant, and leads nobody round in a circle', async () => {
  const backend = await RawBackend.listen();
  open.push(backend);
  backend.answer = request =>
    `HTTP/1.1 302 Found\r\nLocation: http://public.example${request.split(' ')[1]}\r\nContent-Length: 0\r\n\r\n`;
  const server = await WiredServer.upstream(backend);
  open.push(server);
  for (const wire of ['tls', 'http/2'] as const) {
    const location = async (method: string) => (await ask(server, wire, { path: '/a?b', method })).headers.location;
    expect(await location('GET')).toBe('http://public.example/a?b');
    expect(await location('HEAD')).toBe('http://public.example/a?b');
    // After a form the same place is asked for in another way.
    expect(await location('POST')).toBe('https://public.example/a?b');
  }
});
