import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { readConfig } from '../../src/config/load.ts';
import { freePort } from '../services/free-port.ts';

const PYTHON = '/usr/bin/python3';
const isMissing = !existsSync(PYTHON);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`${PYTHON} is not there`);
const example = fileURLToPath(new URL('../../examples/python-backend/', import.meta.url));

let folder: string;
let server: Server;
let python: ChildProcess;
let errors = '';

beforeAll(async () => {
  if (isMissing) return;
  folder = mkdtempSync(join(tmpdir(), 'python-backend-'));
  const { config } = await readConfig(join(example, 'holdfast.yaml'));
  const port = await freePort();
  // As it stands, but for ports and folders.
  server = createServer({
    ...config,
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: { store: `lmdb:${folder}/data` },
    dataFolder: folder,
    internal: { ...config.internal, port: 0 },
    upstreams: { app: { ...config.upstreams!.app!, servers: [`http://127.0.0.1:${port}`] } },
    log: { level: 'silent' },
  });
  await server.start();
  python = spawn(PYTHON, [join(example, 'backend.py')], {
    env: {
      PORT: String(port),
      HOLDFAST_API: server.internalUrl,
      HOLDFAST_TOKEN_FILE: join(folder, 'keys/session-api-app.token'),
      PYTHONIOENCODING: 'utf-8',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  python.stderr!.on('data', chunk => {
    errors += chunk;
  });
  await once(python.stdout!, 'data');
});
afterAll(async () => {
  python?.kill();
  await server?.stop({ drain: 0 });
  if (folder) rmSync(folder, { recursive: true });
});

/** What a browser does with cookies, and no more. */
class Visitor {
  cookie = '';

  async ask(path: string, form?: Record<string, string>, headers: Record<string, string> = {}) {
    const answer = await fetch(new URL(path, server.urls[0]), {
      ...(form && { method: 'POST', body: new URLSearchParams(form) }),
      headers: { accept: 'text/html', cookie: this.cookie, origin: server.urls[0]!, ...headers },
      redirect: 'manual',
    });
    for (const line of answer.headers.getSetCookie())
      if (line.startsWith('holdfast=')) this.cookie = line.split(';')[0]!;
    return { status: answer.status, location: answer.headers.get('location'), text: await answer.text() };
  }

  async socket() {
    const client = new WebSocket(new URL('/socket', server.urls[0]!.replace('http', 'ws')), {
      headers: { cookie: this.cookie, origin: server.urls[0]! },
    });
    const messages: string[] = [];
    client.on('message', data => messages.push(String(data)));
    const closed = once(client, 'close').then(([code]) => code as number);
    await once(client, 'message');
    return { client, messages, closed };
  }
}

test.skipIf(isMissing)(
  'an application in Python signs in and out by its answers, and counts in the session',
  async () => {
    const visitor = new Visitor();
    expect((await visitor.ask('/')).text).toContain('Sign in');
    const before = visitor.cookie;
    expect((await visitor.ask('/login', { name: 'alice', password: 'guess' })).status).toBe(403);
    const other = { origin: 'https://evil.example' };
    expect((await visitor.ask('/login', { name: 'alice', password: 'wonderland' }, other)).status).toBe(403);
    expect(visitor.cookie).toBe(before);

    expect(await visitor.ask('/login', { name: 'alice', password: 'wonderland' })).toMatchObject({
      status: 303,
      location: '/',
    });
    expect(visitor.cookie).not.toBe(before);
    expect((await visitor.ask('/')).text).toContain('hello alice, visit 1<');
    // Those that come together are counted one by one.
    await Promise.all(Array.from({ length: 8 }, () => visitor.ask('/')));
    expect((await visitor.ask('/')).text).toContain('hello alice, visit 10<');

    const one = await visitor.socket();
    const two = await visitor.socket();
    one.client.send('hi');
    await once(one.client, 'message');
    expect(one.messages).toEqual(['you are alice', 'hi']);

    expect((await visitor.ask('/logout', {})).status).toBe(303);
    expect(visitor.cookie).toBe('holdfast=');
    expect(await Promise.all([one.closed, two.closed])).toEqual([1008, 1008]);
    expect((await visitor.ask('/')).text).toContain('Sign in');
    expect(errors).toBe('');
  },
);

test.skipIf(isMissing)('a name of any letters arrives as it is, and a client cannot claim one', async () => {
  const visitor = new Visitor();
  expect(
    (await visitor.ask('/', undefined, { 'X-Forwarded-User': 'alice', 'X-Session-ID': 'x'.repeat(22) })).text,
  ).toContain('Sign in');
  await visitor.ask('/login', { name: 'Jürgen', password: 'käse' });
  expect((await visitor.ask('/')).text).toContain('hello Jürgen, visit 1<');
  const { messages, client } = await visitor.socket();
  expect(messages).toEqual(['you are Jürgen']);
  client.terminate();
  expect(errors).toBe('');
});
