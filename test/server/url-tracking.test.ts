import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Config, RouteConfig } from '../../src/config/config.ts';
import { closing } from '../services/closing.ts';
import { type Answered, type Asked, ask, knock, Lines, type Wire, WiredServer, wires } from './wires.ts';

const open = closing();
const PAGE = {
  Accept: 'text/html',
  'Sec-Fetch-Dest': 'document',
  'Sec-Fetch-Mode': 'navigate',
  'Sec-Fetch-Site': 'none',
};
const TICKET = /;holdfast=v1\.[\w.-]+/;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A backend in front of which a server stands, with what it has been asked. */
async function backend(
  handler: Handler,
  {
    session = { tracking: 'url' },
    route = {},
    logger,
    upstream = {},
  }: {
    session?: Config['session'];
    route?: Partial<RouteConfig>;
    logger?: Lines;
    upstream?: object;
  } = {},
): Promise<{ server: WiredServer; seen: IncomingMessage[] }> {
  const seen: IncomingMessage[] = [];
  const behind = http.createServer((request, response) => {
    seen.push(request);
    handler(request, response);
  });
  behind.listen(0, '127.0.0.1');
  await once(behind, 'listening');
  open.push({
    close: () => {
      behind.closeAllConnections();
      return new Promise(resolve => behind.close(resolve));
    },
  });
  const { port } = behind.address() as AddressInfo;
  const server = await WiredServer.start(
    {
      session,
      upstreams: { app: { servers: [`http://127.0.0.1:${port}`], ...upstream } },
      routes: [{ path: '/*', upstream: 'app', ...route }],
    },
    logger,
  );
  open.push(server);
  return { server, seen };
}

const page = (server: WiredServer, wire: Wire, asked: Asked = {}): Promise<Answered> =>
  ask(server, wire, { ...asked, headers: { ...PAGE, ...asked.headers } });
const sidOf = ({ headers }: IncomingMessage) => headers['x-session-id'];
const ticketIn = (text: string | undefined) => TICKET.exec(text ?? '')?.[0];

describe.each(wires)('an upstream whose clients have no cookies, over %s', wire => {
  const origin = `${wire === 'http/1' ? 'http' : 'https'}://public.example`;

  test('five redirects are one session, from the first answer on', async () => {
    const { server, seen } = await backend((request, response) => {
      const next = Number(request.url!.slice(1)) + 1;
      response.writeHead(302, { Location: next % 2 ? `/${next}` : `${origin}/${next}` }).end();
    });
    let path = '/0';
    for (let i = 0; i < 5; i++) {
      const { headers } = await page(server, wire, { path });
      expect(headers.location).toMatch(new RegExp(`^(?:${origin})?/${i + 1};holdfast=v1\\.[\\w.-]+$`));
      path = headers.location!.replace(origin, '');
    }
    expect(seen.map(({ url }) => url)).toEqual(['/0', '/1', '/2', '/3', '/4']);
    expect(new Set(seen.map(sidOf)).size).toBe(1);
    expect(sidOf(seen[0]!)).toMatch(/^[\w-]{22}$/);
  });

  test('Location, Content-Location and Refresh carry the ticket to the own origin, and nowhere else', async () => {
    let answer: Record<string, string> = {};
    const { server } = await backend((_request, response) => void response.writeHead(200, answer).end());
    answer = { Location: '/a?x#y', 'Content-Location': '/b', Refresh: '5; url=/c', Link: '</d>; rel=next' };
    const { headers } = await page(server, wire);
    const ticket = ticketIn(headers.location);
    expect(headers).toMatchObject({
      location: `/a${ticket}?x#y`,
      'content-location': `/b${ticket}`,
      refresh: `5; url=/c${ticket}`,
      link: '</d>; rel=next',
    });
    for (const away of ['https://elsewhere.example/', '//elsewhere.example/', `${origin}:8443/`, 'mailto:a@b.c']) {
      answer = { Location: away, 'Content-Location': away, Refresh: `5; url=${away}` };
      const { headers: theirs } = await page(server, wire);
      expect([theirs.location, theirs['content-location'], theirs.refresh]).toEqual([away, away, `5; url=${away}`]);
    }
  });

  test('the ticket follows the rules of rewriting', async () => {
    const { server, seen } = await backend(
      (_request, response) => void response.writeHead(302, { Location: '/store/next' }).end(),
      { route: { path: '/shop/*', rewrite: '/store' } },
    );
    const { headers } = await page(server, wire, { path: '/shop/a' });
    expect(headers.location).toMatch(/^\/shop\/next;holdfast=v1\.[\w.-]+$/);
    await page(server, wire, { path: headers.location! });
    expect(seen.map(({ url }) => url)).toEqual(['/store/a', '/store/next']);
    expect(sidOf(seen[0]!)).toBe(sidOf(seen[1]!));
  });

  test('the backend gets the ticket for its own links, and no client can send it', async () => {
    const { server, seen } = await backend((_request, response) => void response.end());
    const forged = { 'Holdfast-Url-Ticket': ';holdfast=forged', Holdfast_Url_Ticket: ';holdfast=forged' };
    await page(server, wire, { headers: forged });
    const text = seen[0]!.headers['holdfast-url-ticket'] as string;
    expect(text).toMatch(/^;holdfast=v1\.[\w-]{22}\.[\w-]{43}\.[\w-]{8}\.[\w-]{43}$/);
    expect(JSON.stringify(seen[0]!.rawHeaders)).not.toContain('forged');
    await page(server, wire, { path: `/a${text}/b?x` });
    expect([seen[1]!.url, sidOf(seen[1]!)]).toEqual(['/a/b?x', sidOf(seen[0]!)]);
    // No session, no ticket.
    await ask(server, wire, { path: '/c', headers: forged });
    expect([sidOf(seen[2]!), seen[2]!.headers['holdfast-url-ticket']]).toEqual([undefined, undefined]);
    expect(JSON.stringify(seen[2]!.rawHeaders)).not.toContain('forged');
  });

  test('a handshake is let in by its ticket, and its backend gets the ticket, too', async () => {
    const { server, seen } = await backend(
      (_request, response) => void response.writeHead(302, { Location: '/x' }).end(),
    );
    const first = await page(server, wire);
    const ticket = ticketIn(first.headers.location)!;
    const declined = await knock(server, wire, { path: `/socket${ticket}`, headers: { Origin: origin } });
    expect(sidOf(seen[1]!)).toBe(sidOf(seen[0]!));
    expect(seen[1]!.headers['holdfast-url-ticket']).toBe(ticket);
    expect(declined.headers.location).toBe(`/x${ticket}`);
  });

  test('a login by the backend is told by the redirect that follows it, also where that has the old ticket', async () => {
    const { server, seen } = await backend(
      (request, response) => {
        const old = request.headers['holdfast-url-ticket'] ?? '';
        if (request.url === '/login')
          response.setHeader('Holdfast-Session', 'renew; user=ann').writeHead(303, { Location: `/home${old}` });
        if (request.url === '/logout')
          response.setHeader('Holdfast-Session', 'end').writeHead(303, { Location: '/bye' });
        response.end();
      },
      { upstream: { controlsSession: true } },
    );
    await page(server, wire);
    const before = seen[0]!.headers['holdfast-url-ticket'] as string;
    const login = await page(server, wire, { path: `/login${before}`, headers: { 'Sec-Fetch-Site': 'same-origin' } });
    const after = ticketIn(login.headers.location)!;
    expect(login.headers.location).toBe(`/home${after}`);
    expect(after).not.toBe(before);
    await page(server, wire, { path: `/home${after}` });
    expect([sidOf(seen[2]!), seen[2]!.headers['x-forwarded-user']]).toEqual([sidOf(seen[0]!), 'ann']);
    const logout = await page(server, wire, { path: `/logout${after}` });
    expect(logout.headers.location).toBe('/bye');
  });

  test('what may hold a ticket is for no shared cache, and its URL for no other site', async () => {
    let answer: Record<string, string> = {};
    const { server } = await backend((_request, response) => void response.writeHead(200, answer).end('x'));
    answer = {
      'Content-Type': 'text/html',
      'Cache-Control': 'public, max-age=60',
      'CDN-Cache-Control': 'max-age=60',
      Location: '/x',
    };
    const { headers } = await page(server, wire);
    expect(headers['cache-control']).toBe('private, no-cache');
    expect(headers['cdn-cache-control']).toBeUndefined();
    expect(headers['referrer-policy']).toBe('same-origin');
    const path = `/${ticketIn(headers.location)}`;
    answer = { 'Content-Type': 'text/html', 'Cache-Control': 'no-store' };
    expect((await page(server, wire, { path })).headers['cache-control']).toBe('no-store');
    answer = { 'Content-Type': 'image/png', 'Cache-Control': 'public, max-age=60' };
    expect((await ask(server, wire, { path })).headers['cache-control']).toBe('public, max-age=60');
    for (const [theirs, ours] of [
      ['no-referrer', 'no-referrer'],
      ['unsafe-url, no-referrer', 'no-referrer'],
      ['same-origin', 'same-origin'],
      ['unsafe-url', 'same-origin'],
      ['no-referrer, unsafe-url', 'same-origin'],
      ['strict-origin-when-cross-origin', 'same-origin'],
      ['no-referrer, made-up', 'no-referrer'],
    ]) {
      answer = { 'Referrer-Policy': theirs! };
      expect((await page(server, wire, { path })).headers['referrer-policy']).toBe(ours);
    }
  });

  test('under [cookie, url] a client has tickets in its links until it shows the cookie', async () => {
    const { server, seen } = await backend(
      (_request, response) => void response.writeHead(302, { Location: '/next', 'Cache-Control': 'public' }).end(),
      { session: { tracking: ['cookie', 'url'] } },
    );
    const first = await page(server, wire);
    const cookie = first.headers['set-cookie']!.split(';')[0]!;
    expect(cookie).toMatch(/^holdfast=v1\./);
    expect(first.headers.location).toBe(`/next;${cookie}`);
    // It keeps none.
    const second = await page(server, wire, { path: first.headers.location! });
    expect([second.headers.location, second.headers['set-cookie']]).toEqual([`/next;${cookie}`, undefined]);
    // It keeps the cookie.
    const third = await page(server, wire, { path: first.headers.location!, headers: { Cookie: cookie } });
    expect([third.headers.location, third.headers['set-cookie']]).toEqual(['/next', undefined]);
    expect(third.headers['cache-control']).toBe('public');
    expect(seen.map(({ headers }) => headers['holdfast-url-ticket'] !== undefined)).toEqual([true, true, false]);
    expect(new Set(seen.map(sidOf)).size).toBe(1);
    expect(seen.map(({ url }) => url)).toEqual(['/', '/next', '/next']);
  });

  test('a client with cookies that follows a link with a ticket says nothing of it to other sites', async () => {
    const { server, seen } = await backend((_request, response) => void response.end(), {
      session: { tracking: ['cookie', 'url'] },
    });
    const own = await page(server, wire);
    const other = await page(server, wire);
    const cookie = own.headers['set-cookie']!.split(';')[0]!;
    const planted = other.headers['set-cookie']!.split(';')[0]!;
    const answer = await page(server, wire, { path: `/;${planted}`, headers: { Cookie: cookie } });
    expect(sidOf(seen[2]!)).toBe(sidOf(seen[0]!));
    expect(answer.headers['referrer-policy']).toBe('same-origin');
    expect(answer.headers['set-cookie']).toBeUndefined();
  });
});

describe.each(wires)('our own targets, over %s', wire => {
  const origin = `${wire === 'http/1' ? 'http' : 'https'}://public.example`;
  async function start(session: Config['session']): Promise<WiredServer> {
    const server = await WiredServer.start({
      session,
      routes: [
        { path: '/old', redirect: '/new' },
        { path: '/away', redirect: 'https://elsewhere.example/' },
        { path: '/go', fetch: () => Response.redirect(`${origin}/next?x`, 303) },
        {
          path: '/gone',
          fetch: () => new Response('', { headers: { Location: 'https://elsewhere.example/', Refresh: '1; url=/a' } }),
        },
        {
          path: '/stream',
          fetch: request => {
            const pull = async (body: ReadableStreamDefaultController) => {
              await server.server.sessions.open(request);
              body.enqueue(new TextEncoder().encode(server.server.sessions.encodeUrl(request, '/next')));
              body.close();
            };
            const headers = { 'Content-Type': 'text/html', 'Cache-Control': 'public' };
            return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), { headers });
          },
        },
        { path: '/id', fetch: (_request, { session: found }) => new Response(found?.id ?? 'none') },
        {
          path: '/login',
          fetch: async request => {
            await server.server.sessions.signIn(request, { name: 'ann', roles: [] });
            return new Response(null, { status: 303, headers: { Location: 'home' } });
          },
        },
      ],
    });
    open.push(server);
    return server;
  }

  test('redirects of handlers and routes carry the ticket to the own origin', async () => {
    const server = await start({ tracking: 'url' });
    const { headers } = await page(server, wire, { path: '/go' });
    const ticket = ticketIn(headers.location)!;
    expect(headers.location).toBe(`${origin}/next${ticket}?x`);
    expect(headers['cache-control']).toBe('private, no-cache');
    const { body: sid } = await page(server, wire, { path: `/id${ticket}` });
    expect(sid).not.toBe('none');
    const gone = await page(server, wire, { path: `/gone${ticket}` });
    expect([gone.headers.location, gone.headers.refresh]).toEqual(['https://elsewhere.example/', `1; url=/a${ticket}`]);
    expect(gone.headers['referrer-policy']).toBe('same-origin');
    expect((await page(server, wire, { path: `/old${ticket}` })).headers.location).toBe(`/new${ticket}`);
    expect((await page(server, wire, { path: `/away${ticket}` })).headers.location).toBe('https://elsewhere.example/');
    expect((await page(server, wire, { path: '/old' })).headers.location).toBe('/new');
    const login = await page(server, wire, { path: `/login${ticket}` });
    const after = ticketIn(login.headers.location)!;
    expect([login.headers.location, after === ticket]).toEqual([`home${after}`, false]);
    expect((await page(server, wire, { path: `/id${after}` })).body).toBe(sid);
  });

  test('a session that begins while its page streams keeps the page from shared caches', async () => {
    const server = await start({ tracking: 'url' });
    const { headers, body } = await ask(server, wire, { path: '/stream' });
    expect([ticketIn(body) !== undefined, headers['cache-control']]).toEqual([true, 'private, no-cache']);
  });

  test('by cookies they are as they are', async () => {
    const server = await start({});
    const { headers } = await page(server, wire, { path: '/go' });
    expect([headers.location, headers['referrer-policy']]).toEqual([`${origin}/next?x`, undefined]);
    expect((await page(server, wire, { path: '/old' })).headers).toMatchObject({ location: '/new' });
  });
});

const HTML = '<!DOCTYPE html><a href="/next">next</a><a href="https://elsewhere.example/">away</a><form></form>';
const start = (handler: Handler, options: Parameters<typeof backend>[1] = {}) =>
  backend(handler, { ...options, route: { rewriteLinks: true, ...options.route } });
const html = (headers: http.OutgoingHttpHeaders = {}, body: string | Buffer = HTML): Handler => {
  return (_request, response) =>
    void response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', ...headers }).end(body);
};

describe.each(wires)('pages of an upstream with rewriteLinks, over %s', wire => {
  test('five links and forms are one session, from the first page on', async () => {
    const { server, seen } = await start(html());
    let path = '/start?x=1';
    for (let i = 0; i < 5; i++) {
      const answer = await page(server, wire, { path });
      const ticket = ticketIn(answer.body)!;
      const here = i === 0 ? ` action="/start${ticket}?x=1"` : '';
      expect(answer.body).toBe(HTML.replace('/next', `/next${ticket}`).replace('<form', `<form${here}`));
      path = /href="([^"]+)"/.exec(answer.body)![1]!;
    }
    expect(seen.map(({ url }) => url)).toEqual(['/start?x=1', '/next', '/next', '/next', '/next']);
    expect(new Set(seen.map(sidOf)).size).toBe(1);
  });

  test('are asked for plain and whole, and have no mark by which they could be mixed up', async () => {
    const body = Buffer.from(`${HTML}ä`);
    const { server, seen } = await start(
      html(
        {
          'Content-Length': body.length,
          ETag: '"x"',
          'Last-Modified': 'Sat, 28 Nov 2026 10:00:00 GMT',
          'Content-MD5': 'eA==',
          'Accept-Ranges': 'bytes',
          'Repr-Digest': 'sha-256=:eA==:',
          'Cache-Control': 'public',
        },
        body,
      ),
    );
    const asked = {
      'Accept-Encoding': 'gzip, br',
      Range: 'bytes=0-3',
      'If-Range': '"x"',
      'If-None-Match': '"x"',
      'If-Modified-Since': 'Sat, 28 Nov 2026 10:00:00 GMT',
      'If-Match': '"y"',
    };
    const answer = await page(server, wire, { headers: asked });
    expect(seen[0]!.headers).toMatchObject({ 'accept-encoding': 'identity', 'if-match': '"y"' });
    for (const name of ['range', 'if-range', 'if-none-match', 'if-modified-since'])
      expect(seen[0]!.headers[name]).toBeUndefined();
    for (const name of ['content-length', 'etag', 'last-modified', 'content-md5', 'accept-ranges', 'repr-digest'])
      expect(answer.headers[name]).toBeUndefined();
    expect(answer.headers).toMatchObject({ 'cache-control': 'private, no-cache', 'referrer-policy': 'same-origin' });
    expect(answer.body).toMatch(/next;holdfast=v1\.[^"]+">.*\u00c3\u00a4$/);
    const head = await page(server, wire, { method: 'HEAD', headers: asked });
    expect([head.body, head.headers['content-length'], head.headers.etag]).toEqual(['', undefined, undefined]);
  });

  test('have no trailers that are of their former bytes, nor one of ours', async () => {
    const names = 'Content-MD5, ETag, Digest, Repr-Digest, X-Sum, Holdfast-Url-Ticket';
    const { server } = await start((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', Trailer: names });
      response.write(HTML);
      const trailers = Object.fromEntries(names.split(', ').map(name => [name, 'x']));
      response.addTrailers(trailers);
      response.end();
    });
    const first = await page(server, wire, { headers: { TE: 'trailers' } });
    expect(ticketIn(first.body)).toBeDefined();
    expect([first.headers.trailer, Object.entries(first.trailers)]).toEqual(['X-Sum', [['x-sum', 'x']]]);
    const other = await ask(server, wire, { headers: { TE: 'trailers', Accept: '*/*' } });
    expect(Object.keys(other.trailers)).not.toContain('holdfast-url-ticket');
  });

  test.each(['image', 'video', 'audio', 'font', 'style', 'script', 'track', 'worker', 'manifest'])(
    'load a part for %s as it is asked for',
    async destination => {
      const { server, seen } = await start((_request, response) => {
        response.writeHead(206, { 'Content-Type': 'x/y', NEL: '{}', 'Referrer-Policy': 'origin', ETag: '"x"' });
        response.end('part');
      });
      const asked = {
        'accept-encoding': 'gzip, br',
        range: 'bytes=0-3',
        'if-range': '"x"',
        'if-none-match': '"y"',
        'if-modified-since': 'Sat, 28 Nov 2026 10:00:00 GMT',
      };
      const headers = { ...asked, 'Sec-Fetch-Dest': destination, 'Sec-Fetch-Site': 'same-origin' };
      const answer = await ask(server, wire, { headers });
      expect(seen[0]!.headers).toMatchObject(asked);
      expect(answer.headers).toMatchObject({ 'referrer-policy': 'origin', nel: '{}', etag: '"x"' });
    },
  );

  test.each([
    [undefined, '*/*'],
    [undefined, undefined],
    [undefined, 'image/avif,image/webp,*/*;q=0.8'],
    ['empty', '*/*'],
  ])('give a part of a body as it is asked for, by %j, to a client that takes %j', async (destination, accept) => {
    const { server, seen } = await start((_request, response) => {
      response.writeHead(206, { 'Content-Type': 'video/mp4', 'Content-Range': 'bytes 0-3/9', ETag: '"x"' }).end('part');
    });
    const asked = { range: 'bytes=0-3', 'if-range': '"x"', 'accept-encoding': 'gzip' };
    const answer = await ask(server, wire, {
      headers: {
        ...asked,
        ...(accept !== undefined && { Accept: accept }),
        ...(destination !== undefined && { 'Sec-Fetch-Dest': destination, 'Sec-Fetch-Site': 'same-origin' }),
      },
    });
    expect(seen[0]!.headers).toMatchObject(asked);
    expect([answer.status, answer.headers.etag]).toEqual([206, '"x"']);
    // What asks for HTML gets all of the page, with its links.
    await ask(server, wire, { headers: { ...asked, Accept: 'text/html,*/*;q=0.8' } });
    expect(seen[1]!.headers).toMatchObject({ 'accept-encoding': 'identity' });
    expect(seen[1]!.headers.range).toBeUndefined();
  });

  test('name no place to which browsers would report their URLs', async () => {
    const reports = { NEL: '{}', 'Report-To': '{}', 'Reporting-Endpoints': 'x="https://elsewhere.example/"' };
    for (const begin of [start, backend]) {
      const { server } = await begin(html({ ...reports, Refresh: '5; url=/x' }));
      const first = await page(server, wire);
      const second = await page(server, wire, { path: `/${ticketIn(first.headers.refresh)}` });
      for (const { headers } of [first, second])
        for (const name of Object.keys(reports)) expect(headers[name.toLowerCase()]).toBeUndefined();
    }
  });

  test('of a client that shows a cookie, and on other routes, pass as they are', async () => {
    const { server, seen } = await start(html({ ETag: '"x"' }), { session: { tracking: ['cookie', 'url'] } });
    const first = await page(server, wire);
    expect(ticketIn(first.body)).toBeDefined();
    const cookie = first.headers['set-cookie']!.split(';')[0]!;
    const second = await page(server, wire, {
      headers: { Cookie: cookie, 'Accept-Encoding': 'gzip', 'If-None-Match': '"x"' },
    });
    expect([second.body, second.headers.etag, second.headers['referrer-policy']]).toEqual([HTML, '"x"', undefined]);
    expect(seen[1]!.headers).toMatchObject({ 'accept-encoding': 'gzip', 'if-none-match': '"x"' });
    const other = await backend(html());
    expect((await page(other.server, wire)).body).toBe(HTML);
  });

  test('of a login have the new ticket, also where the backend has written the old one', async () => {
    const { server, seen } = await start(
      (request, response) => {
        response.setHeader('Content-Type', 'text/html').setHeader('Holdfast-Session', 'renew; user=ann');
        response.end(`<a href="/x${request.headers['holdfast-url-ticket']}?y">`);
      },
      { upstream: { controlsSession: true } },
    );
    const { body } = await page(server, wire);
    const ticket = ticketIn(body)!;
    expect(body).toBe(`<a href="/x${ticket}?y">`);
    expect(ticket).not.toBe(seen[0]!.headers['holdfast-url-ticket']);
  });

  test('a large page goes through as fast as its reader, byte for byte but for its links', async () => {
    const part = `<p title="${'x'.repeat(2_000)}">${'y'.repeat(2_000)}</p><a href="/z">z</a><script>${'<a href="/no">'.repeat(50)}</script>`;
    const { server } = await start(html({}, part.repeat(200)));
    const { body } = await page(server, wire);
    expect(body.split(TICKET)).toHaveLength(201);
    expect(body.split(TICKET).join('')).toBe(part.repeat(200));
  });
});

describe('pages of an upstream with rewriteLinks', () => {
  const wire = 'http/1';

  test.each([
    ['an encoded page', { 'Content-Encoding': 'gzip' }, 'encoded'],
    ['no page', { 'Content-Type': 'text/plain' }, undefined],
    ['XHTML', { 'Content-Type': 'application/xhtml+xml' }, undefined],
    ['a page in UTF-16', { 'Content-Type': 'text/html; charset="UTF-16LE"' }, 'charset'],
    ['a page in ISO-2022-JP', { 'Content-Type': 'text/html;charset=iso-2022-jp' }, 'charset'],
    ['a file to be saved', { 'Content-Disposition': 'Attachment; filename="report.html"' }, undefined],
    ['a page that must not be changed', { 'Cache-Control': 'no-transform' }, undefined],
    ['a page that must be neither changed nor stored', { 'Cache-Control': 'no-transform, no-store' }, undefined],
    ['a public page that must not be changed', { 'Cache-Control': 'public, No-Transform, max-age=60' }, undefined],
  ])('%s passes as it is', async (_what, headers, reason) => {
    const logger = new Lines();
    const { server } = await start(html({ ...headers, ETag: '"x"', 'Content-Length': Buffer.byteLength(HTML) }), {
      logger,
    });
    for (let i = 0; i < 2; i++) {
      const answer = await page(server, wire);
      expect([answer.body, answer.headers.etag, answer.headers['content-length']]).toEqual([
        HTML,
        '"x"',
        String(HTML.length),
      ]);
    }
    const lines = logger.all.filter(({ fields }) => fields.event === 'links-not-rewritten');
    expect(lines.map(({ fields }) => fields.reason)).toEqual(reason === undefined ? [] : [reason]);
  });

  test.each([['url'], ['cookie', 'url']] as const)('of a client with %s keep no-transform', async (...tracking) => {
    const { server } = await start(html({ 'Cache-Control': 'public, no-transform' }), { session: { tracking } });
    const { headers } = await page(server, wire);
    expect(headers['cache-control']).toBe('private, no-cache, no-transform');
  });

  test.each(['shift_jis', 'EUC-JP', 'windows-1252', 'ISO-8859-1', 'gbk', 'US-ASCII'])(
    'in %s is a page',
    async charset => {
      const { server } = await start(
        html(
          { 'Content-Type': `text/html; charset=${charset}` },
          Buffer.from('\x83\x5c<a href="/\x83\x5c">', 'latin1'),
        ),
      );
      expect((await page(server, wire)).body).toMatch(/^\x83\x5c<a href="\/\x83\x5c;holdfast=v1\.[\w.-]+">$/);
    },
  );

  test.each([204, 206, 304])('with %i passes as it is', async status => {
    const { server } = await start((_request, response) => {
      response.writeHead(status, { 'Content-Type': 'text/html', ETag: '"x"' }).end(status === 206 ? HTML : undefined);
    });
    const answer = await page(server, wire);
    expect([answer.status, answer.headers.etag, answer.body]).toEqual([status, '"x"', status === 206 ? HTML : '']);
  });

  test('stream: each part leaves as it comes, and what breaks off does not look complete', async () => {
    let go: (part: string) => void = () => {};
    const { server } = await start((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html' });
      response.write('<p>one</p><a hr');
      go = part => (part === '' ? response.destroy() : response.write(part));
    });
    const client = http.get({ host: '127.0.0.1', port: server.port('http/1'), headers: PAGE, agent: false });
    const [answer] = (await once(client, 'response')) as [IncomingMessage];
    answer.setEncoding('latin1');
    const [one] = await once(answer, 'data');
    expect(one).toBe('<p>one</p><a hr');
    go('ef="/x">y');
    const [two] = await once(answer, 'data');
    expect(two).toMatch(/^ef="\/x;holdfast=v1\.[\w.-]+">y$/);
    go('');
    await expect(once(answer, 'end')).rejects.toThrow(/aborted/);
  });
});
