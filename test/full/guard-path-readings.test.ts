import http from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask } from '../guard/ask.ts';
import { isWithin, laxModels, models } from '../guard/path-models.ts';
import { SeeingBackend } from '../guard/seeing-backend.ts';
import { Served, type Wire, wires } from '../guard/served.ts';

let app: SeeingBackend;
let hard: SeeingBackend;
let server: Served;
beforeAll(async () => {
  app = await SeeingBackend.listen();
  hard = await SeeingBackend.listen();
  server = await Served.module(
    `
const confidential = { policy: { transport: 'confidential' } };
const app = { upstream: 'app', session: 'none', policy: { origins: 'any' } };
export default defineConfig({
  listen,
  session: { tracking: 'url' },
  upstreams: { app: { servers: ['${app.url}'] }, alias: { servers: ['${app.url}'] }, hard: { servers: ['${hard.url}'] } },
  routes: [
    { ...app, path: '/app/admin/*', ...confidential },
    { path: '/app/blocked/*', fetch: () => new Response('blocked', { status: 403 }) },
    { ...app, path: '/app/hard/*', upstream: 'hard' },
    { ...app, path: '/app/with-session/*', session: 'existing' },
    { ...app, path: '/app/only-get', methods: ['GET'] },
    { ...app, path: '/app/socket/*', policy: { origins: ['https://good.example'] } },
    { ...app, path: '/app/plain/*', websocket: false },
    { ...app, path: '/app/*' , websocket: true },
    { ...app, path: '/cars/:model/parts' },
    { path: '/cars/golf', redirect: '/' },
    { ...app, path: ['/pkg/:name', '/pkg/:scope/:name'] },
    { ...app, path: '/published/secret/*', ...confidential, rewrite: '/pub/secret' },
    { ...app, path: '/published/*', rewrite: '/pub' },
    { ...app, path: '/*', websocket: true },
    { ...app, path: '/open/public/*', host: 'other.example' },
    { path: '/files/private/*', files: 'site/private', ...confidential },
    { path: '/files/*', files: 'site' },
    { endpoint: defineEndpoint({ path: '/live/admin' }), ...confidential },
    { endpoint: defineEndpoint({ path: '/live/*' }), policy: { origins: 'any' } },
    { path: '/api/admin', fetch: () => new Response('admin'), ...confidential },
    { path: '/api/:name', fetch: (_, { params }) => new Response(params.name) },
  ].map(route => ({ host: 'localhost', ...route })),
});`,
    { files: Object.fromEntries(['page.txt', 'a;b.txt', 'private/secret.txt'].map(name => [`site/${name}`, name])) },
  );
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await app[Symbol.asyncDispose]();
  await hard[Symbol.asyncDispose]();
});

/** How a client may write that it wants `/app/NAME/x`, where a server takes off parameters or decodes. */
const aroundBy: readonly ((name: string) => string)[] = [
  name => `/app/${name};a=b/x`,
  name => `/app;a/${name}/x`,
  name => `/;x/app/${name}/x`,
  name => `/app/;a/${name};b;c/x;d`,
  name => `/app;a=%2F/${name}/x`,
  name => `/app%2F${name}/x`,
  name => `/app/${name}%2Fx`,
  name => `/app/y%2F..%2F${name}/x`,
  name => `/app/y/..%2F${name}/x`,
  name => `/app%252F${name}/x`,
  name => `/app/y/%252e%252e/${name}/x`,
  name => `/app%255C${name}/x`,
  name => `/app/${name}%3Ba=b/x`,
  name => `/app%3Bx/${name}/x`,
  name => `/app/y;a%2F..%2F${name}/x`,
  name => `/app/..;/app/${name}/x`,
  name => `/app/..;a=b/app/${name}/x`,
  name => `/app/y/..%3B/${name}/x`,
  name => `/app/y%5C..%5C${name}/x`,
  name => `/app/y\\..\\${name}/x`,
  name => `/app%C0%AF${name}/x`,
  name => `/app/${name.replace(/^./, first => `%25${first.charCodeAt(0).toString(16)}`)}/x`,
];

/** How a client may write it for a server that makes a mistake, or that is lax with names. */
const mistakenBy: readonly ((name: string) => string)[] = [
  name => `/app/${name}%3Fx`,
  name => `/app/${name}%23/x`,
  name => `/app/${name}%253Fx`,
  name => `/app/${name}%0D%0AX-Y:%20z`,
  name => `/app/${name}%20HTTP/1.1%0D%0AX:`,
  name => `/app/${name.replace(/^./, '$&%0A')}/x`,
  name => `/%2Fhost/app/${name}/x`,
  name => `/app/${name.toUpperCase()}/x`,
  name => `/app/${name}%0A`,
  name => `/app/${name}%C2%A0/x`,
  name => `/app/${name}%0B`,
  name => `/app/%20${name}/x`,
  name => `/app/${name}+`,
  name => `/app/y/..%20/${name}`,
  name => `/app/${name}::$INDEX_ALLOCATION/x`,
  name => `/app/${name}%3A%3A%24DATA`,
  name => `/app/${name.replace(/^./, first => `%25u00${first.charCodeAt(0).toString(16)}`)}/x`,
  name =>
    `/app/${name.replace(/^./, first => encodeURIComponent(String.fromCharCode(first.charCodeAt(0) + 0xfe_e0)))}/x`,
  name => `/app%EF%BC%8F${name}/x`,
  name => `/app/y/%EF%BC%8E%EF%BC%8E/${name}/x`,
  name => `/app%F0%80%80%AF${name}/x`,
  name => `/app/${name}%E2%80%8B/x`,
];

/** Those who ask by HTTP/2 put what they want into `:path`. */
async function status(wire: Wire, path: string, more: Partial<Parameters<typeof ask>[2]> = {}): Promise<number> {
  return (await ask(server, wire, { path, ...more })).status;
}

test.each(wires)('no spelling of a path leads over %s round a route that leads elsewhere', async wire => {
  for (const around of aroundBy) {
    const path = around('blocked');
    expect([path, await status(wire, path)]).toEqual([
      path,
      expect.toSatisfy((got: number) => got === 400 || got === 403),
    ]);
    // Where it is the stricter route's by our own reading, it goes there as it is written.
    expect([around('hard'), await status(wire, around('hard'))]).toEqual([
      around('hard'),
      expect.toSatisfy((got: number) => got === 400 || got === 200),
    ]);
  }
  expect(app.take()).toEqual([]);
  for (const { url } of hard.take()) expect(url).toMatch(/^(?!.*(?:%2F|%25|%5C|%3B|%C0|\.\.)[^=]).*hard/i);
});

test('no spelling of a path leads round a stricter policy', async () => {
  for (const around of [...aroundBy, ...mistakenBy]) {
    for (const path of [around('admin'), around('secret').replaceAll('/app', '/published')])
      expect([path, await status('http/1', path)]).toEqual([
        path,
        expect.toSatisfy((got: number) => got === 400 || got === 403),
      ]);
  }
  for (const path of ['/app/ADMIN/x', '/APP/admin', '/app/admin./x', '/app/admin%20/x', '/app/Admin;a/x'])
    expect([path, await status('http/1', path)]).toEqual([path, 400]);
  expect(app.take()).toEqual([]);
  // Nor over TLS, where the stricter route takes what is its own.
  for (const path of ['/app/admin;a=b/x', '/app;a/admin/x', '/;x/app/admin/x', '/app/admin;jsessionid=A'])
    expect([path, await status('tls', path), app.take()]).toEqual([
      path,
      200,
      [expect.objectContaining({ url: path })],
    ]);
  const refusals = () => server.logged().filter(({ code }) => code === 'ERR_ROUTE_AMBIGUOUS');
  await expect.poll(() => refusals().length, { timeout: 15_000 }).toBeGreaterThan(0);
  expect(refusals()[0]).toMatchObject({ event: 'refused', status: 400, address: '127.0.0.1' });
});

test.each(wires)(
  'no spelling of a path leads over %s round a session, or to a method that is not declared',
  async wire => {
    // The others are the route's own paths, with parameters.
    for (const around of aroundBy.slice(5))
      expect([around('with-session'), await status(wire, around('with-session'))]).toEqual([
        around('with-session'),
        400,
      ]);
    expect(await status(wire, '/app%2Fonly-get', { method: 'POST' })).toBe(400);
    expect(await status(wire, '/app/x%2F..%2Fonly-get', { method: 'POST' })).toBe(400);
    expect(await status(wire, '/app/only-get;a', { method: 'POST' })).toBe(405);
    expect(app.take()).toEqual([]);
  },
);

test.each(wires)('no spelling of a path leads an upgrade over %s round a stricter WebSocket policy', async wire => {
  const headers = ['Origin', 'https://evil.example'];
  const upgrade = { headers, isUpgrade: true };
  for (const around of [...aroundBy, ...mistakenBy])
    for (const path of [around('socket'), around('plain')])
      expect([path, await status(wire, path, upgrade)]).toEqual([
        path,
        expect.toSatisfy((got: number) => got === 400 || got === 403),
      ]);
  expect(app.take()).toEqual([]);
  expect(await status(wire, '/app/socket;a/x', { headers: ['Origin', 'https://good.example'], isUpgrade: true })).toBe(
    101,
  );
  expect(await status(wire, '/app/chat;jsessionid=A', upgrade)).toBe(101);
  expect(app.take().map(({ url }) => url)).toEqual(['/app/socket;a/x', '/app/chat;jsessionid=A']);
});

test.each(wires)('no spelling of a path leads over %s to where nothing is declared', async wire => {
  const out = [
    '/open/public/x%2F..%2F..%2F..%2Fadmin',
    '/open/public/%252e%252e/x',
    '/open/public%2F..%2Fx',
    '/open/public/..;/x',
  ];
  for (const path of out)
    expect([path, await status(wire, path, { host: 'other.example' })]).toEqual([
      path,
      expect.toSatisfy((got: number) => got === 400 || got === 404),
    ]);
  expect(app.take()).toEqual([]);
});

test('files, endpoints and handlers have no way round a stricter one either', async () => {
  for (const path of [
    '/files/private;a/secret.txt',
    '/files;a/private/secret.txt',
    '/files/private%2Fsecret.txt',
    '/files/PRIVATE/secret.txt',
    '/files/x%2F..%2Fprivate/secret.txt',
  ])
    expect([path, await status('http/1', path)]).toEqual([
      path,
      expect.toSatisfy((got: number) => got === 400 || got === 403),
    ]);
  for (const path of [
    '/live/admin;a',
    '/live;a/admin',
    '/live/x%2F..%2Fadmin',
    '/live/ADMIN',
    '/live/admin/',
    '/live/%2561dmin',
  ])
    expect([path, await status('http/1', path, { isUpgrade: true })]).toEqual([
      path,
      expect.toSatisfy((got: number) => got === 400 || got === 403),
    ]);
  for (const path of ['/api/admin;a', '/api;a/admin', '/api/x%2F..%2Fadmin', '/api/Admin'])
    expect([path, await status('http/1', path)]).toEqual([
      path,
      expect.toSatisfy((got: number) => got === 400 || got === 403),
    ]);
  expect(await status('http/1', '/live/a%2Fb;c', { isUpgrade: true })).toBe(101);
  expect(await ask(server, 'http/1', { path: '/api/group%2Fproject' })).toMatchObject({
    status: 200,
    body: expect.stringContaining('group/project'),
  });
  expect(await ask(server, 'http/1', { path: '/files/a;b.txt' })).toMatchObject({ status: 200, body: 'a;b.txt' });
  expect(await ask(server, 'tls', { path: '/files/private;a/secret.txt' })).toMatchObject({
    status: 200,
    body: 'private/secret.txt',
  });
});

test.each(wires)('what leads round nothing goes over %s to the backend as it is written', async wire => {
  const forwarded: Record<string, string> = {
    ...Object.fromEntries(
      [
        ...['/app/page;jsessionid=X', '/app;jsessionid=X', '/app/;jsessionid=X', '/app/a;b=c/d;e=f', '/app/a%2Fb'],
        ...['/app/a%20b', '/app/100%25', '/app/caf%C3%A9;v=1/x', '/app/A/B', '/app/dir/', '/app/a%3Bb', '/app/a%3Ab@c'],
        ...[
          '/app/admins;a/x',
          '/app/a%2520b',
          '/app/;v/x',
          '/app/x%2F..%2Fy',
          '/app/x%3Fy',
          '/app/a%23b',
          '/app/a%253Fb',
        ],
        ...['/app/%C3%84pfel', '/app/%E6%97%A5%E6%9C%AC', '/app/x%0Ay', '/app/a+b', '/app/v1:list', '/app/a::$b'],
        ...['/cars/golf;color=red/parts', '/cars/golf%3Bred/parts', '/cars/a%3Fb/parts', '/pkg/@scope%2Fname'],
      ].map(path => [path, path]),
    ),
    '/published/page;jsessionid=X': '/pub/page;jsessionid=X',
    '/published;jsessionid=X': '/pub;jsessionid=X',
    '/published/a%2Fb;c': '/pub/a%2Fb;c',
    '/published/a;b/c%3Fd': '/pub/a;b/c%3Fd',
    // Ours is for us.
    '/app/page;holdfast=abc': '/app/page',
    '/app/page;holdfast=abc;jsessionid=X': '/app/page;jsessionid=X',
    '/published;holdfast=abc/page': '/pub/page',
  };
  for (const [path, url] of Object.entries(forwarded))
    expect([path, await status(wire, path), app.take().map(seen => seen.url)]).toEqual([path, 200, [url]]);
});

/** The same numbers at each run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('of what the backend is sent over an open connection no modelled server reads anything of a stricter route', async () => {
  const pieces = [
    ...[
      'app',
      'admin',
      'blocked',
      'hard',
      'x',
      'Admin',
      '/',
      '/',
      '/',
      '%2F',
      '%252F',
      '%5C',
      '%255c',
      '..',
      '%2e%2e',
      ';',
    ],
    ...[';a=b', '%3B', '..;', '%2F..%2F', '/../', '%20', '.', '%2561dmin', '%3F', '%23', '%0A', '%C2%A0', '%EF%BC%8F'],
    ...['%EF%BD%81dmin', '::$DATA', '%253F', '%F0%80%80%AF', '+', 'adm%C4%B1n', '/admin', '/blocked', '/hard'],
  ];
  const next = random(8);
  const paths = Array.from({ length: 900 }, () => {
    let path = ['/app/', '/app', '/published/', '/open/public/'][next(4)]!;
    for (let n = 1 + next(6); n > 0; n--) path += pieces[next(pieces.length)]!;
    return path;
  });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const asked = await Promise.all(
    paths.map(
      path =>
        new Promise<number>((resolve, reject) => {
          const to = { host: '127.0.0.1', port: server.port('http/1'), headers: { Host: 'localhost' } };
          const sent = http.request({ ...to, path, agent }, response => {
            response.resume().on('end', () => resolve(response.statusCode!));
          });
          sent.on('error', reject).end();
        }),
    ),
  );
  agent.destroy();
  const seen = app.take();
  hard.take();
  expect(new Set(asked)).toEqual(new Set([200, 400, 403]));
  expect(seen.length).toBeGreaterThan(50);
  for (const { url } of seen)
    for (const [model, read] of [...Object.entries(models), ...Object.entries(laxModels)]) {
      // By a lax server only what has a stricter policy counts.
      const strict = model in laxModels ? ['/app/admin'] : ['/app/admin', '/app/blocked', '/app/hard'];
      for (const area of strict) if (isWithin(read(url), area)) expect.fail(`${url} is ${read(url)} to ${model}`);
    }
});
