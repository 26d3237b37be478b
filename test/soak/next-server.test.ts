import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeCode, connect, nextMessage, refusedWith } from '../examples/example-client.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
/** 340 MB, which is why it is not among the packages of this repository. */
const PACKAGES = ['next@16.4.6', 'react@19', 'react-dom@19'];
const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' };
let folder: string;
let server: ChildProcess;
const example = { origin: '', url: (path: string) => example.origin + path };

/** The programs of the guide, built, and its server. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-next-'));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const options = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'];
  await run('npm', ['install', ...options, ...PACKAGES], { cwd: folder, env: { ...env, NODE_ENV: 'development' } });
  await symlink(root, join(folder, 'node_modules/holdfast'), 'dir');
  const guide = await readFile(join(root, 'docs/guides/express-with-sessions-and-sockets.md'), 'utf8');
  const nextjs = guide.slice(guide.indexOf('\n## Next.js\n'));
  const layout = 'export default ({ children }) => <html><body>{children}</body></html>;';
  const programs = [...nextjs.matchAll(/^```(?:ts|jsx?)\n\/\/ (\S+)\n([\s\S]*?)^```$/gm)].map(match => match.slice(1));
  for (const [name, text] of [...programs, ['app/layout.jsx', layout]]) {
    await mkdir(dirname(join(folder, name!)), { recursive: true });
    await writeFile(join(folder, name!), text!);
  }
  await run(process.execPath, ['node_modules/next/dist/bin/next', 'build'], { cwd: folder, env });
  server = spawn(process.execPath, ['-C', 'holdfast-source', 'server.ts'], {
    cwd: folder,
    env: { ...env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  example.origin = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk;
      const origin = /open (http:\/\/localhost:\d+)/.exec(output)?.[1];
      if (origin) resolve(origin);
    };
    server.stdout!.on('data', read);
    server.stderr!.on('data', read);
    server.on('exit', code => reject(new Error(`the server ended with ${code}:\n${output}`)));
  });
}, 900_000);

afterAll(async () => {
  if (server?.exitCode === null) {
    server.kill('SIGKILL');
    await once(server, 'exit');
  }
  await rm(folder, { recursive: true, force: true });
});

async function visit(path: string, cookie = '') {
  const response = await fetch(example.url(path), { headers: { cookie, accept: 'text/html' } });
  const text = (await response.text()).replaceAll('<!-- -->', '');
  return { status: response.status, text, cookie: response.headers.getSetCookie()[0]?.split(';')[0] };
}

async function post(path: string, cookie = '', body?: URLSearchParams) {
  const headers = { cookie, origin: example.origin };
  const response = await fetch(example.url(path), {
    method: 'POST',
    redirect: 'manual',
    headers,
    ...(body && { body }),
  });
  expect([response.status, response.headers.get('location')]).toEqual([303, '/']);
  return response.headers.getSetCookie()[0]?.split(';')[0];
}

test('the programs of the guide for Next.js: one login for pages of both routers and for sockets, which a logout closes', async () => {
  const stranger = await visit('/');
  expect([stranger.status, stranger.text]).toEqual([200, expect.stringContaining('you are a stranger')]);
  expect(stranger.cookie).toMatch(/^holdfast=/);
  expect(await refusedWith(connect(example, '/live', { headers: { cookie: stranger.cookie! } }))).toBe(403);

  const cookie = (await post('/sign-in', stranger.cookie, new URLSearchParams({ name: 'ann' })))!;
  expect(cookie).not.toBe(stranger.cookie);
  expect((await visit('/', cookie)).text).toContain('you are ann');
  expect((await visit('/old', cookie)).text).toContain('old page of ann');
  // Requests at the same time do not see each other's sessions.
  const pages = await Promise.all(['', cookie, '', cookie].map(one => visit('/', one)));
  expect(pages.map(({ text }) => /you are (a stranger|ann)/.exec(text)?.[1])).toEqual([
    'a stranger',
    'ann',
    'a stranger',
    'ann',
  ]);

  const tabs = [1, 2].map(() => connect(example, '/live', { headers: { cookie } }));
  expect(await Promise.all(tabs.map(nextMessage))).toEqual(['hello ann', 'hello ann']);
  const closed = Promise.all(tabs.map(closeCode));
  await post('/sign-out', cookie);
  expect(await closed).toEqual([1008, 1008]);
  expect((await visit('/', cookie)).text).toContain('you are a stranger');

  const again = (await post('/sign-in', '', new URLSearchParams({ name: 'bob' })))!;
  const last = connect(example, '/live', { headers: { cookie: again } });
  expect(await nextMessage(last)).toBe('hello bob');
  const left = closeCode(last);
  const ended = once(server, 'exit');
  server.kill('SIGTERM');
  expect([await left, (await ended)[0]]).toEqual([1001, 0]);
});
