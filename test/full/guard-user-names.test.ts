import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';

// A user name has 256 characters at most, wherever one comes in: it is in every record, header, assertion and log line
// of its user.

const CONFIG = `
import { createServer as createBackend } from 'node:http';

const backend = createBackend(async (request, response) => {
  let name = '';
  for await (const chunk of request) name += chunk;
  response.setHeader('Holdfast-Session', \`renew; user=%"\${encodeURIComponent(name)}"\`);
  response.end();
});
await new Promise(resolve => backend.listen(0, '127.0.0.1', resolve));
backend.unref();

export default defineConfig({
  listen,
  session: { store: 'memory:' },
  upstreams: { app: { servers: [\`http://127.0.0.1:\${backend.address().port}\`], controlsSession: true } },
  routes: [
    { path: '/backend', session: 'create', upstream: 'app', policy: { origins: 'any' } },
    { path: '/renew', session: 'create', fetch: async (request, { session }) => answer(async () => session.renew({ owner: { name: await request.text(), roles: [] } })) },
    { path: '/whose', session: 'existing', fetch: (_, { session }) => Response.json([...(session?.owner?.name ?? '')].length) },
  ],
});

async function answer(work) {
  try {
    await work();
    return new Response();
  } catch (error) {
    return new Response(\`\${error.name}: \${error.message}\`, { status: 400 });
  }
}
`;

let server: Served;
beforeAll(async () => {
  server = await Served.module(CONFIG);
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

describe.each([
  ['/renew', 400],
  ['/backend', 502],
])('by %s', (path, refused) => {
  test.each([
    ['one character', 'a', 1],
    ['256 characters', 'a'.repeat(256), 256],
    ['256 characters that are two each for JavaScript', '😀'.repeat(256), 256],
    ['256 characters of three bytes each', '語'.repeat(256), 256],
    ['257 characters', 'a'.repeat(257), undefined],
    ['257 characters that are two each for JavaScript', '😀'.repeat(257), undefined],
    ['10,000 characters', 'a'.repeat(5_000) + '语'.repeat(100), undefined],
  ])('a name of %s', async (_, name, length) => {
    const answer = await fetch(server.url('http/1') + path, { method: 'POST', body: name });
    expect(answer.status).toBe(length === undefined ? refused : 200);
    const cookie = answer.headers.get('set-cookie')?.split(';')[0];
    const whose = await fetch(`${server.url('http/1')}/whose`, { headers: cookie ? { cookie } : {} });
    expect(await whose.json()).toBe(length ?? 0);
  });
});

test('the message says the limit and not the name', async () => {
  const answer = await fetch(`${server.url('http/1')}/renew`, { method: 'POST', body: 'secret'.repeat(50) });
  expect(await answer.text()).toMatch(/^TypeError: .*at most 256 characters, not 300/);
  await fetch(`${server.url('http/1')}/backend`, { method: 'POST', body: 'secret'.repeat(50) });
  await expect.poll(() => server.program.stderr, { timeout: 15_000 }).toMatch(/more than 256 characters/);
  expect(server.program.stderr).not.toContain('secretsecret');
});
