import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { ask, RawBackend, WiredServer } from './wires.ts';

const NAMES = ['holdfast-form', '__Host-holdfast-form', 'holdfast-oidc', '__Host-holdfast-oidc'];

let server: WiredServer;
let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.listen();
});
afterEach(async () => {
  await server.close();
  await backend.close();
});

/** Which cookies the backend gets of those that a client shows, and the client of those that the backend sets. */
async function passing(config: Config): Promise<[string[], string[]]> {
  server = await WiredServer.start({
    session: {},
    upstreams: { app: { servers: [backend.url] } },
    ...config,
  });
  const lines = [...NAMES, 'mine'].map(name => `Set-Cookie: ${name}=x; Path=/; Secure\r\n`).join('');
  backend.answer = () => `HTTP/1.1 200 OK\r\n${lines}Content-Length: 0\r\n\r\n`;
  const Cookie = [...NAMES, 'mine'].map(name => `${name}=x`).join('; ');
  const { headers } = await ask(server, 'tls', { path: '/x', headers: { Cookie } });
  const got = /^cookie: (.*)\r$/im.exec(backend.requests[0]!)?.[1] ?? '';
  const namesIn = (text: string) => [...text.matchAll(/([\w-]+)=x/g)].map(([, name]) => name!);
  return [namesIn(got), namesIn(headers['set-cookie'] ?? '')];
}

test('a backend neither gets nor sets the cookies of pages to sign in on', async () => {
  const open = { path: '/*', upstream: 'app', policy: { auth: false } } as const;
  expect(
    await passing({
      auth: {
        staff: { type: 'form', verify: () => true },
        idp: { type: 'oidc', issuer: 'http://127.0.0.1:9/', clientId: 'us' },
      },
      routes: [open, { path: '/mine', fetch: () => new Response(), policy: { auth: ['staff', 'idp'] } }],
    }),
  ).toEqual([['mine'], ['mine']]);
});

test('where nobody signs in by such a page, their names are those of the application', async () => {
  expect(await passing({ routes: [{ path: '/*', upstream: 'app' }] })).toEqual([
    [...NAMES, 'mine'],
    [...NAMES, 'mine'],
  ]);
});
