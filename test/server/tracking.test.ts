import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http, { type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { closeFrame, RawClient } from '../websocket/raw-client.ts';

let dataFolder: string;
let backend: http.Server;
let seen: IncomingMessage[];
let logged: string;
let server: Server;
const write = (fields: object, message: string) => {
  logged += `${JSON.stringify(fields)} ${message}\n`;
};
const logger: Logger = { debug: write, info: write, warn: write, error: write };

beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-tracking-'));
  seen = [];
  logged = '';
  backend = http.createServer((request, response) => {
    seen.push(request);
    response.setHeader('X-Ticket', 'forged');
    response.end('from the backend');
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
});
afterEach(async () => {
  await server.stop({ drain: 0 });
  backend.close();
  await rm(dataFolder, { recursive: true });
});

async function start(session: Config['session']): Promise<string> {
  const { port } = backend.address() as AddressInfo;
  server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session,
      dataFolder,
      upstreams: { app: { servers: [`http://127.0.0.1:${port}`] } },
      routes: [
        {
          endpoint: defineEndpoint({
            path: '/socket',
            accept: async handshake => {
              await server.sessions.open(handshake);
              return true;
            },
          }),
        },
        { path: '/app/*', upstream: 'app' },
        {
          path: '/count',
          fetch: async request => {
            const session = await server.sessions.open(request);
            const count = ((session.get('count' as never) as number | undefined) ?? 0) + 1;
            session.set('count' as never, count as never);
            await session.sync();
            return Response.json({ count, link: server.sessions.encodeUrl(request, '/count?a=1#top') });
          },
        },
        {
          path: '/in',
          fetch: async request => {
            await server.sessions.signIn(request, { name: 'ann', roles: [] });
            return new Response();
          },
        },
      ],
      log: { access: 'off' },
    },
    { logger },
  );
  await server.start();
  return server.urls[0]!.replace(/\/$/, '').replace('localhost', '127.0.0.1');
}

describe('sessions tracked by a header', () => {
  test('are not in the access log, also where its format names the header', async () => {
    const lines: string[] = [];
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: { store: 'memory:', tracking: 'header', header: 'X-Ticket' },
        dataFolder,
        routes: [{ path: '/*', session: 'create', fetch: () => new Response('') }],
        log: { access: '%{X-Ticket}o %{X-Ticket}i %>s' },
      },
      { logger, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    const first = await fetch(server.urls[0]!);
    const ticket = first.headers.get('x-ticket')!;
    await fetch(server.urls[0]!, { headers: { 'X-Ticket': ticket } });
    await expect.poll(() => lines).toEqual(['*** - 200\n', '- *** 200\n']);
  });

  test('are told in the header, and a new secret in the same', async () => {
    const url = await start({ tracking: 'header', header: 'X-Ticket' });
    const first = await fetch(`${url}/count`);
    const ticket = first.headers.get('x-ticket')!;
    expect(first.headers.getSetCookie()).toEqual([]);
    expect(first.headers.get('cache-control')).toBe('private, no-cache');
    const again = await fetch(`${url}/count`, { headers: { 'X-Ticket': ticket } });
    expect(await again.json()).toMatchObject({ count: 2 });
    expect(again.headers.get('x-ticket')).toBeNull();
    const login = await fetch(`${url}/in`, { headers: { 'X-Ticket': ticket } });
    const renewed = login.headers.get('x-ticket')!;
    expect(renewed).not.toBe(ticket);
    expect(await (await fetch(`${url}/count`, { headers: { 'X-Ticket': renewed } })).json()).toMatchObject({
      count: 3,
    });
    expect((await fetch(`${url}/count`, { headers: { 'X-Ticket': ticket } })).status).toBe(409);
  });

  test('are told on the 101 too', async () => {
    const url = await start({ tracking: 'header', header: 'X-Ticket' });
    using client = await RawClient.connect(`${url.replace('http', 'ws')}/socket`);
    expect(client.status).toBe(101);
    const [, ticket] = /^X-Ticket: (\S+)/im.exec(client.head)!;
    expect(await (await fetch(`${url}/count`, { headers: { 'X-Ticket': ticket! } })).json()).toMatchObject({
      count: 1,
    });
    client.send(closeFrame());
  });

  test('show no ticket to a backend, and take none from it', async () => {
    const url = await start({ tracking: 'header', header: 'X-Ticket' });
    const ticket = (await fetch(`${url}/count`)).headers.get('x-ticket')!;
    const answer = await fetch(`${url}/app/x`, { headers: { 'X-Ticket': ticket } });
    expect(await answer.text()).toBe('from the backend');
    expect(answer.headers.get('x-ticket')).toBeNull();
    expect(JSON.stringify(seen[0]!.rawHeaders)).not.toContain(ticket);
    expect(seen[0]!.headers['x-session-id']).toMatch(/^[\w-]{22}$/);
  });
});

describe('sessions tracked by the URL', () => {
  test('are warned of at the start, those by other means are not', async () => {
    await start({ tracking: 'header' });
    expect(logged).not.toContain('URLs');
    await server.stop({ drain: 0 });
    await start({ tracking: 'url' });
    expect(logged).toContain('sessions in URLs are seen in logs, histories and Referer headers');
  });

  test('are in links that the application encodes, and nowhere else', async () => {
    const url = await start({ tracking: 'url' });
    const first = await fetch(`${url}/count`);
    expect(first.headers.getSetCookie()).toEqual([]);
    const { link } = (await first.json()) as { link: string };
    expect(link).toMatch(/^\/count;holdfast=v1\.[\w.-]+\?a=1#top$/);
    const again = await fetch(`${url}${link}`);
    expect(await again.json()).toMatchObject({ count: 2, link: link });
  });

  test('are seen by no route, backend or log', async () => {
    const url = await start({ tracking: 'url' });
    const { link } = (await (await fetch(`${url}/count`)).json()) as { link: string };
    const [ticket] = /v1\.[\w.-]+/.exec(link)!;
    await fetch(`${url}/app/x;holdfast=${ticket};v=1?q=2`, {
      headers: { Referer: `${url}/count;holdfast=${ticket}?a` },
    });
    expect(seen[0]!.url).toBe('/app/x;v=1?q=2');
    expect(seen[0]!.headers.referer).toBe(`${url}/count?a`);
    expect(seen[0]!.headers['x-session-id']).toMatch(/^[\w-]{22}$/);
    await fetch(`${url}/nowhere;holdfast=${ticket}`);
    expect(logged).not.toContain(ticket.slice(30));
  });

  test.each([
    ['an escaped semicolon', (ticket: string) => `%3Bholdfast=${ticket}`],
    ['an escaped semicolon and equals sign', (ticket: string) => `%3bholdfast%3D${ticket}`],
    ['an escaped letter', (ticket: string) => `;h%6Fldfast=${ticket}`],
    ['another one behind it', (ticket: string) => `;holdfast=${ticket}%3Bholdfast%3D${ticket}`],
    ['more of the path behind it', (ticket: string) => `%3Bholdfast=${ticket}%3Bv=1`],
  ])('are found and taken out with %s, as some programs write links', async (_what, spell) => {
    const url = await start({ tracking: 'url' });
    const { link } = (await (await fetch(`${url}/count`)).json()) as { link: string };
    const [ticket] = /v1\.[\w.-]+/.exec(link)!;
    await fetch(`${url}/app/x${spell(ticket!)}`, { headers: { Referer: `${url}/count${spell(ticket!)}?a` } });
    expect(seen[0]!.headers['x-session-id']).toBe(ticket!.split('.')[1]);
    expect(seen[0]!.url).toMatch(/^\/app\/x(%3Bv=1)?$/);
    const { 'holdfast-url-ticket': forLinks, ...others } = seen[0]!.headers;
    expect(forLinks).toBe(`;holdfast=${ticket}`);
    expect(JSON.stringify(others)).not.toContain(ticket!.slice(30));
    expect(logged).not.toContain(ticket.slice(30));
  });

  test('that are made up are nobody', async () => {
    const url = await start({ tracking: 'url' });
    for (const ticket of ['', 'x', `v1.${'a'.repeat(22)}.${'b'.repeat(43)}.${'c'.repeat(8)}.${'d'.repeat(43)}`])
      expect(await (await fetch(`${url}/count;holdfast=${ticket}`)).json()).toMatchObject({ count: 1 });
  });
});
