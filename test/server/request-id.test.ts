import { describe, expect, test } from 'vitest';
import { RequestIds } from '../../src/http/request-id.ts';
import { createServer } from '../../src/index.ts';
import { closing } from '../services/closing.ts';

const open = closing();

/** A backend that answers with the id that it was given, and a server in front with an access log. */
async function serve(config: { requestId?: string | false; trustedProxies?: string[] }) {
  const backend = createServer({
    ...{ session: false, listen: [{ port: 0, host: '127.0.0.1' }], log: { level: 'silent' }, requestId: false },
    routes: [{ path: '/*', fetch: ({ headers }) => new Response(JSON.stringify([...headers])) }],
  });
  await backend.start();
  open.push({ close: () => backend.stop({ drain: 0 }) });
  const lines: Record<string, unknown>[] = [];
  const server = createServer(
    {
      ...{ session: false, listen: [{ port: 0, host: '127.0.0.1' }], log: { level: 'silent', access: 'json' } },
      upstreams: { app: { servers: [backend.urls[0]!] } },
      routes: [{ path: '/*', upstream: 'app' }],
      ...config,
    },
    { accessLog: { write: line => lines.push(JSON.parse(line)) } },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  const ask = async (headers: Record<string, string> = {}) => {
    const answer = await fetch(server.urls[0]!, { headers });
    const seen = new Headers((await answer.json()) as [string, string][]);
    await expect.poll(() => lines.length).toBeGreaterThan(0);
    return { seen, line: lines.shift()! };
  };
  return ask;
}

describe('the id of a request', () => {
  test('is made, stands in the access log, and goes to the backend in the place of one of the client', async () => {
    const ask = await serve({});
    const { seen, line } = await ask({ 'X-Request-ID': 'of-the-client' });
    expect(seen.get('X-Request-ID')).toMatch(/^[\w-]{13,}$/);
    expect(line.requestId).toBe(seen.get('X-Request-ID'));
    expect((await ask()).line.requestId).not.toBe(line.requestId);
  });

  test('is that of a trusted proxy when it is valid', async () => {
    const ask = await serve({ trustedProxies: ['127.0.0.1'] });
    const { seen, line } = await ask({ 'X-Request-ID': 'proxy:4711' });
    expect([seen.get('X-Request-ID'), line.requestId]).toEqual(['proxy:4711', 'proxy:4711']);
    for (const invalid of ['a b', 'x'.repeat(129), '"'])
      expect((await ask({ 'X-Request-ID': invalid })).line.requestId).not.toBe(invalid);
  });

  test('has the header that the configuration names, or goes to no backend', async () => {
    const named = await serve({ requestId: 'Correlation-ID' });
    const { seen, line } = await named({ 'X-Request-ID': 'passed', 'Correlation-ID': 'removed' });
    expect(seen.get('Correlation-ID')).toBe(line.requestId);
    expect(seen.get('X-Request-ID')).toBe('passed');
    const off = await serve({ requestId: false });
    expect((await off({ 'X-Request-ID': 'passed' })).seen.get('X-Request-ID')).toBe('passed');
  });

  test('is another one for each request, also of another process', () => {
    const [one, other] = [new RequestIds(), new RequestIds()];
    const ids = [one, one, other, other].map(source => source.of({ headers: {} }, false));
    expect(new Set(ids).size).toBe(4);
  });
});
