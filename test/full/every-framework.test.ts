import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createSite, FaultyStore, type Site } from '../session/fixture.ts';
import { type App, CHUNK, frameworks, type Stage } from '../session/frameworks/apps.ts';
import { Client } from '../session/frameworks/rig.ts';

const FILE = 'text of the file\n'.repeat(20_000);

let folder: string;
let store: FaultyStore;
let site: Site;
let stage: Stage;
let app: App;
let client: Client;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-frameworks-'));
  await writeFile(join(folder, 'file.txt'), FILE);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Holds writes back until it is called. */
function holdCommits(): () => void {
  const gate = Promise.withResolvers<void>();
  store.before = call => (call === 'create' || call === 'commit' ? gate.promise : undefined);
  return () => gate.resolve();
}

/** What the store holds of the only session. */
async function stored(name: string): Promise<unknown> {
  for await (const sid of store.sids()) {
    return site.manager.access(sid, session => (session.get as (name: string) => unknown)(name));
  }
  return undefined;
}

describe.each(frameworks)('$name', framework => {
  beforeEach(async () => {
    store = new FaultyStore();
    site = createSite(store);
    stage = {
      sessions: site.manager,
      file: join(folder, 'file.txt'),
      chunks: 0,
      taken: 0,
      go: Promise.withResolvers(),
      errors: [],
      late: Promise.withResolvers(),
    };
    app = await framework.start(stage);
    client = new Client(app.port);
  });
  afterEach(async () => {
    client.close();
    await app.close();
  });

  test('a session is made, sent with the response that made it, read and written', async () => {
    expect(await client.get('/read')).toMatchObject({ status: 200, body: '{"visits":null}', cookie: undefined });
    const first = await client.post('/write');
    expect(first).toMatchObject({ status: 200, body: '{"visits":1}', cookie: expect.stringMatching(/^sid=v1\./) });
    const second = await client.post('/write', first.cookie);
    expect(second).toMatchObject({ status: 200, body: '{"visits":2}', cookie: undefined, isReused: true });
    expect((await client.get('/read', first.cookie)).body).toBe('{"visits":2}');
  });

  test.each(['/write', '/redirect', '/file', '/stream', '/not-modified', '/throws'])(
    'nothing of %s leaves before the commit is done',
    async path => {
      stage.chunks = 3;
      const release = holdCommits();
      let isAnswered = false;
      const asked = client.ask({ path, headers: { 'if-none-match': '"a"' } }).finally(() => {
        isAnswered = true;
      });
      await expect.poll(() => store.calls).toContain('create');
      for (let turn = 0; turn < 20; turn++) await setImmediate();
      expect(isAnswered).toBe(false);
      release();
      const { cookie } = await asked;
      expect((await client.get('/read', cookie)).body).toBe('{"visits":1}');
    },
  );

  test('whoever follows a redirect sees what was written before it, however slow the store', async () => {
    const { cookie } = await client.post('/write');
    store.before = call => (call === 'commit' ? new Promise(resolve => setTimeout(resolve, 300)) : undefined);
    const answer = await client.post('/redirect', cookie);
    expect(answer).toMatchObject({ status: 303, headers: { location: '/read' } });
    expect((await client.get(answer.headers.location!, cookie)).body).toBe('{"visits":2}');
  });

  test('a file is sent whole', async () => {
    const answer = await client.get('/file');
    expect(answer).toMatchObject({ status: 200, body: FILE, cookie: expect.any(String) });
  });

  test('a large stream waits at its source, and arrives whole', async () => {
    stage.chunks = 256;
    const release = holdCommits();
    const request = client.request({ path: '/stream' });
    await expect.poll(() => store.calls).toContain('create');
    for (let turn = 0; turn < 50; turn++) await setImmediate();
    expect(stage.taken).toBeLessThanOrEqual(4);
    release();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let bytes = 0;
    for await (const chunk of response) bytes += (chunk as Buffer).length;
    expect(bytes).toBe(256 * CHUNK.length);
  });

  test('server-sent events: headers at once, what was set before them is there, what is set later at the end', async () => {
    const request = client.request({ path: '/events' });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    expect(response.headers).toMatchObject({ 'content-type': expect.stringContaining('text/event-stream') });
    expect(response.headers['set-cookie']).toEqual([expect.stringMatching(/^sid=/)]);
    expect(String((await once(response, 'data'))[0])).toContain('data: first');
    expect(await stored('visits')).toBe(1);
    expect(await stored('late')).toBeUndefined();
    let rest = '';
    response.on('data', chunk => {
      rest += chunk;
    });
    stage.go.resolve();
    await once(response, 'end');
    expect(rest).toContain('data: second');
    expect(await stored('late')).toBe('yes');
  });

  test('server-sent events: what is set before the client goes away is kept', async () => {
    const request = client.request({ path: '/events' });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    await once(response, 'data');
    request.destroy();
    stage.go.resolve();
    await expect.poll(() => stored('late')).toBe('yes');
    expect(stage.errors).toEqual([]);
  });

  test('HEAD and 304 carry the cookie and no body', async () => {
    const head = await client.ask({ method: 'HEAD', path: '/write' });
    expect(head).toMatchObject({ status: 200, body: '', cookie: expect.any(String) });
    const { cookie } = head;
    const answer = await client.ask({ path: '/not-modified', cookie, headers: { 'if-none-match': '"a"' } });
    expect(answer).toMatchObject({ status: 304, body: '' });
    expect((await client.get('/read', cookie)).body).toBe('{"visits":2}');
  });

  test('an async handler that throws still commits, and its error page carries the cookie', async () => {
    const answer = await client.get('/throws');
    expect(answer).toMatchObject({ status: 500, body: 'failed', cookie: expect.any(String) });
    expect((await client.get('/read', answer.cookie)).body).toBe('{"visits":1}');
    expect(stage.errors).toEqual([expect.objectContaining({ message: 'the handler failed' })]);
  });

  test.each([
    ['GET', '/write', ''],
    ['POST', '/write', 'x'.repeat(300_000)],
    ['POST', '/redirect', ''],
    ['GET', '/file', ''],
    ['GET', '/stream', ''],
    ['GET', '/not-modified', ''],
    ['GET', '/throws', ''],
    ['HEAD', '/write', ''],
  ])('%s %s: a commit that fails is 503, and the connection goes on', async (method, path, body) => {
    stage.chunks = 50;
    store.failing.add('create');
    const headers = { 'if-none-match': '"a"', 'content-type': 'text/plain' };
    const answer = await client.ask({ method, path, body, headers });
    expect(answer).toMatchObject({ status: 503, message: 'Service Unavailable', cookie: undefined });
    expect(answer.headers).toMatchObject({ 'retry-after': '5', 'cache-control': 'no-store' });
    for (const name of ['location', 'etag', 'last-modified']) expect(answer.headers).not.toHaveProperty(name);
    expect(answer.body).toBe(method === 'HEAD' ? '' : 'The session could not be saved. Please try again.\n');
    store.failing.clear();
    expect(await client.post('/write')).toMatchObject({ status: 200, body: '{"visits":1}' });
  });

  test('server-sent events that get 503 do not keep the next request waiting', async () => {
    store.failing.add('create');
    expect(await client.get('/events')).toMatchObject({ status: 503 });
    store.failing.clear();
    expect(await client.post('/write')).toMatchObject({ status: 200, body: '{"visits":1}', isReused: true });
  });

  test('a store that cannot be read is 503 and not "logged out"', async () => {
    const { cookie } = await client.post('/write');
    store.failing.add('*');
    expect((await client.get('/read', cookie)).status).toBe(503);
    store.failing.clear();
    expect((await client.get('/read', cookie)).body).toBe('{"visits":1}');
  });

  test('a client that goes away in the middle of a stream disturbs nobody', async () => {
    stage.chunks = 10_000;
    const request = client.request({ path: '/stream' });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    await once(response, 'data');
    request.destroy();
    const other = new Client(app.port);
    expect((await other.post('/write')).body).toBe('{"visits":1}');
    other.close();
    expect(await stored('visits')).toBe(1);
    expect(stage.taken).toBeLessThan(10_000);
  });

  test('a session is over for its handler when the response has ended', async () => {
    expect((await client.get('/late')).status).toBe(200);
    expect(await stage.late.promise).toBe('ERR_SESSION_OUTSIDE_REQUEST');
    expect(await stored('late')).toBeUndefined();
  });

  test('Expect: 100-continue is answered before the commit', async () => {
    const release = holdCommits();
    const request = client.request({
      method: 'POST',
      path: '/write',
      headers: { expect: '100-continue', 'content-type': 'text/plain', 'content-length': '4' },
      body: 'text',
    });
    await once(request, 'continue');
    release();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    expect(response.statusCode).toBe(200);
    response.resume();
  });

  test('pipelined requests are answered in order, the first one held back', async () => {
    const release = holdCommits();
    const socket = net.connect(app.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', chunk => {
      text += chunk;
    });
    socket.write(
      'GET /write HTTP/1.1\r\nHost: a\r\n\r\nGET /read HTTP/1.1\r\nHost: a\r\n\r\nGET /write HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    );
    await expect.poll(() => store.calls.filter(call => call === 'create')).toHaveLength(2);
    expect(text).toBe('');
    release();
    await once(socket, 'close');
    expect(text.match(/\{"visits":\w+\}/g)).toEqual(['{"visits":1}', '{"visits":null}', '{"visits":1}']);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(3);
  });
});
