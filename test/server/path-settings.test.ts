import { once } from 'node:events';
import net from 'node:net';
import { describe, expect, test } from 'vitest';
import type { RouteConfig } from '../../src/config/config.ts';
import { createServer } from '../../src/index.ts';
import { closing } from '../services/closing.ts';
import { ask, knock, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();

async function serve(routes: RouteConfig[]): Promise<{ backend: RawBackend; server: WiredServer; seen(): string[] }> {
  const backend = await RawBackend.listen();
  open.push(backend);
  const server = await WiredServer.start({ upstreams: { app: { servers: [backend.url] } }, routes });
  open.push(server);
  return { backend, server, seen: () => backend.requests.splice(0).map(request => request.split(' ')[1]!) };
}

const IMAGE = '/img/https://example.com//a/b.png';

describe.each(wires)('over %s', wire => {
  test('slashes that follow each other are one, unless the route says otherwise', async () => {
    const { server, seen } = await serve([
      { path: '/img/*', upstream: 'app', paths: { mergeSlashes: false } },
      { path: '/*', upstream: 'app' },
    ]);
    for (const path of [
      IMAGE,
      '/img//x',
      '/img//',
      '/img/a//',
      '/IMG/a//b',
      '/other//a',
      '//img///a//b',
      '/img/a/./b//c?x=//y',
    ])
      await ask(server, wire, { path });
    expect(seen()).toEqual([
      ...[IMAGE, '/img//x', '/img//', '/img/a//', '/IMG/a/b', '/other/a', '/img///a//b', '/img/a/b//c?x=//y'],
    ]);
    await knock(server, wire, { path: IMAGE });
    expect(seen()).toEqual([IMAGE]);
  });

  test('a rewritten path has them behind what the route says, and never at its own beginning', async () => {
    const { backend, server, seen } = await serve([
      { path: '/img/*', upstream: 'app', rewrite: '/resize', paths: { mergeSlashes: false } },
      { path: '/root/*', upstream: 'app', rewrite: '/', paths: { mergeSlashes: false } },
      { path: '/*', upstream: 'app', paths: { mergeSlashes: false } },
    ]);
    for (const path of [IMAGE, '//img//x', '/root//evil.example/x', '//evil.example/x', '///a//b'])
      await ask(server, wire, { path });
    expect(seen()).toEqual([
      '/resize/https://example.com//a/b.png',
      '/resize//x',
      '/evil.example/x',
      '/evil.example/x',
      '/a//b',
    ]);
    backend.answer = () =>
      'HTTP/1.1 302 Found\r\nLocation: /resize/https://example.com/c.png\r\nContent-Length: 0\r\n\r\n';
    expect((await ask(server, wire, { path: IMAGE })).headers.location).toBe('/img/https://example.com/c.png');
  });

  test('an escaped backslash is refused, unless the route says otherwise', async () => {
    const { server, seen } = await serve([
      { path: '/users/*', upstream: 'app', paths: { backslash: 'pass' } },
      { path: '/*', upstream: 'app' },
    ]);
    const statuses: number[] = [];
    for (const path of ['/users/DOMAIN%5Cuser', '/users/a%5c', '/users%5Ca', '/other/DOMAIN%5Cuser'])
      statuses.push((await ask(server, wire, { path })).status);
    expect(statuses).toEqual([200, 200, 400, 400]);
    expect(seen()).toEqual(['/users/DOMAIN%5Cuser', '/users/a%5C']);
    await knock(server, wire, { path: '/users/DOMAIN%5Cuser' });
    expect(seen()).toEqual(['/users/DOMAIN%5Cuser']);
  });

  test('a path that could be one of a stricter route is refused all the same', async () => {
    const { server, seen } = await serve([
      {
        path: '/app/admin/*',
        upstream: 'app',
        policy: { transport: 'confidential', origins: ['https://admin.example'] },
      },
      { path: '/app/*', upstream: 'app', paths: { mergeSlashes: false, backslash: 'pass' } },
      { path: '/secret', fetch: () => new Response('secret') },
    ]);
    // These are of the stricter route, which takes nobody over a plain connection.
    const plain = ['/app//admin/x', '/app/admin//x', '/x//../app/admin/x'];
    const expected = wire === 'http/1' ? 403 : 200;
    for (const path of plain) expect([path, (await ask(server, wire, { path })).status]).toEqual([path, expected]);
    seen();
    for (const path of [
      ...[
        '/app/%5Cadmin/x',
        '/app/admin%5Cx',
        '/app/x%5C..%5Cadmin%5Cx',
        '/app/..%5Csecret',
        '/app/..%5C..%5Csecret',
        '/app%5Cadmin/x',
      ],
      ...['/app/a//..//admin//../../x', '/app//../../secret', '/app/x//%252e%252e//admin/y'],
      ...['/app/%2F%2Fadmin/x', '/app//%2e%2e%2fadmin/x'],
    ]) {
      const { status } = await ask(server, wire, { path });
      const [asked] = seen();
      // What is resolved in one way only may be another path by now, and is then the other route's.
      if (status === 200)
        expect([path, asked ?? 'none']).toEqual([path, expect.not.stringMatching(/admin|secret|%5C/i)]);
      else expect([path, [400, 403, 404].includes(status), asked]).toEqual([path, true, undefined]);
    }
  });

  test('a fetch handler sees the same path', async () => {
    const { server } = await serve([
      {
        path: '/img/*',
        fetch: request => new Response(new URL(request.url).pathname),
        paths: { mergeSlashes: false, backslash: 'pass' },
      },
    ]);
    expect((await ask(server, wire, { path: `${IMAGE}%5C` })).body).toBe(`${IMAGE}%5C`);
  });
});

test('a backslash that is not escaped stays refused', async () => {
  const { server } = await serve([{ path: '/*', upstream: 'app', paths: { backslash: 'pass' } }]);
  const socket = net.connect(server.port('http/1'), '127.0.0.1');
  socket.write('GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n');
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1\.1 400 /);
  socket.destroy();
});

test.each([
  ['files', { path: '/a/*', files: '.' }],
  ['a redirect', { path: '/a', redirect: '/b' }],
] as const)('only an upstream or a fetch handler has a use for it: not %s', (_, route) => {
  const routes = [{ ...route, paths: { backslash: 'pass' as const } }];
  expect(() => createServer({ listen: [{ port: 8080 }], routes })).toThrow(/"paths"/);
});
