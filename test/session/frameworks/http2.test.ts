import { once } from 'node:events';
import type http from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { attachSession } from '../../../src/session/attach-session.ts';
import { createSite, FaultyStore, type Site } from '../fixture.ts';
import type { AnySession } from './rig.ts';

let store: FaultyStore;
let site: Site;
let server: http2.Http2Server;
let session: http2.ClientHttp2Session;
let handler: (res: http.ServerResponse, held: AnySession) => unknown;
let warnings: string[];
const note = (warning: Error) => void warnings.push(warning.message);

beforeEach(async () => {
  warnings = [];
  process.on('warning', note);
  store = new FaultyStore();
  site = createSite(store);
  server = http2.createServer(async (request, response) => {
    // The compatibility API: what a handler for node:http gets over HTTP/2.
    const req = request as unknown as http.IncomingMessage;
    const res = response as unknown as http.ServerResponse;
    attachSession(site.manager, req, res);
    const held = (await site.manager.open(req)) as AnySession;
    held.set('visits', ((held.get('visits') as number | undefined) ?? 0) + 1);
    await handler(res, held);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
afterEach(async () => {
  process.off('warning', note);
  session.destroy();
  server.close();
  await once(server, 'close');
});

async function get(cookie?: string) {
  const stream = session.request({ ':path': '/', ...(cookie && { cookie }) });
  const trailers = once(stream, 'trailers').then(([fields]) => fields as Record<string, string>);
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  const body = await text(stream);
  return { headers, body, trailers, cookie: headers['set-cookie']?.[0]?.split(';')[0] };
}

test.each([
  ['end', (res: http.ServerResponse) => void res.end('body'), 200, 'body'],
  ['writeHead and end', (res: http.ServerResponse) => void res.writeHead(201, { 'x-a': '1' }).end('body'), 201, 'body'],
  [
    'a pipe',
    (res: http.ServerResponse) => void Readable.from(Array(50).fill('y'.repeat(9999))).pipe(res),
    200,
    /^y{499950}$/,
  ],
  ['a redirect', (res: http.ServerResponse) => void res.writeHead(303, { location: '/' }).end(), 303, ''],
])('over HTTP/2, %s is sent after the commit', async (_what, respond, status, body) => {
  const gate = Promise.withResolvers<void>();
  store.before = call => (call === 'create' ? gate.promise : undefined);
  handler = respond;
  let isAnswered = false;
  const asked = get().finally(() => {
    isAnswered = true;
  });
  await expect.poll(() => store.calls).toContain('create');
  for (let turn = 0; turn < 20; turn++) await new Promise(resolve => setImmediate(resolve));
  expect(isAnswered).toBe(false);
  gate.resolve();
  const answer = await asked;
  expect(answer.headers[':status']).toBe(status);
  expect(answer.body).toMatch(body);
  expect(((await site.request(answer.cookie).get()) as AnySession).get('visits')).toBe(1);
  expect(warnings).toEqual([]);
});

test.each([
  ['end', (res: http.ServerResponse) => void res.end('secret')],
  ['writeHead and end', (res: http.ServerResponse) => void res.writeHead(200, { etag: '"a"' }).end('secret')],
  ['a pipe', (res: http.ServerResponse) => void Readable.from(Array(50).fill('secret'.repeat(999))).pipe(res)],
  ['no end at all', (res: http.ServerResponse) => void res.write('secret')],
])('over HTTP/2, a commit that fails before %s is 503', async (_what, respond) => {
  store.failing.add('create');
  handler = respond;
  const { headers, body } = await get();
  expect(headers).toMatchObject({ ':status': 503, 'retry-after': '5' });
  expect(headers).not.toHaveProperty('etag');
  expect(body).toBe('The session could not be saved. Please try again.\n');
  expect(warnings).toEqual([]);
});

test('over HTTP/2, what is set after the headers is committed at the end', async () => {
  handler = async (res, held) => {
    res.write('a');
    await expect.poll(() => res.headersSent && store.calls.includes('create')).toBe(true);
    await new Promise(resolve => setImmediate(resolve));
    held.set('late', 'yes');
    res.end('b');
  };
  const { cookie, body } = await get();
  expect(body).toBe('ab');
  expect(((await site.request(cookie).get()) as AnySession).get('late')).toBe('yes');
});

test('over HTTP/2, trailers are sent', async () => {
  handler = res => {
    res.write('body');
    res.addTrailers({ 'x-sum': '42' });
    res.end();
  };
  const answer = await get();
  expect(answer.body).toBe('body');
  expect((await answer.trailers)['x-sum']).toBe('42');
});
