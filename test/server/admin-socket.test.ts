import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AdminSocket, adminSocketsOf } from '../../src/server/admin/admin-socket.ts';
import { isAnswered } from '../../src/server/listen/socket-file.ts';
import { closing } from '../services/closing.ts';
import { AdminServer } from './admin-server.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-socket-'));
});
afterEach(() => rmSync(folder, { recursive: true }));
const open = closing();

async function socket(paths: readonly string[] = adminSocketsOf(folder)): Promise<AdminSocket> {
  const opened = await AdminSocket.open(paths, raw => raw.end('hello'));
  open.push(opened);
  return opened;
}

/** A process that listens on a Unix socket and is killed. */
async function leaveBehind(path: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('x'))`;
  const child = spawn(process.execPath, ['-e', script]);
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'close');
  expect(existsSync(path)).toBe(true);
}

describe('the admin socket', () => {
  test('is for its owner only, and leaves nothing behind', async () => {
    const opened = await socket();
    expect(opened.path).toBe(join(folder, 'admin.sock'));
    expect(lstatSync(opened.path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['admin.sock']);
    expect(await isAnswered(opened.path)).toBe(true);
    await opened.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('makes its folder for its owner only', async () => {
    const opened = await socket(adminSocketsOf(join(folder, 'a/b')));
    expect(statSync(join(folder, 'a/b')).mode & 0o777).toBe(0o700);
    expect(await isAnswered(opened.path)).toBe(true);
  });

  test('takes the place of what a killed server has left', async () => {
    await leaveBehind(join(folder, 'admin.sock'));
    const opened = await socket();
    expect(opened.path).toBe(join(folder, 'admin.sock'));
    expect(await isAnswered(opened.path)).toBe(true);
    expect(readdirSync(folder)).toEqual(['admin.sock']);
  });

  test('has another name for a second server, and leaves that of the first alone', async () => {
    const [first, second] = [await socket(), await socket()];
    expect([first.path, second.path].map(path => path.slice(folder.length))).toEqual(['/admin.sock', '/admin-2.sock']);
    await second.close();
    expect(await isAnswered(first.path)).toBe(true);
  });

  test('gives servers that start at once a name each', async () => {
    await leaveBehind(join(folder, 'admin.sock'));
    await leaveBehind(join(folder, 'admin-2.sock'));
    const all = await Promise.all(Array.from({ length: 12 }, () => socket()));
    expect(new Set(all.map(({ path }) => path)).size).toBe(12);
    for (const { path } of all) expect(await isAnswered(path)).toBe(true);
  });

  test('may have a path of any length', async () => {
    const deep = join(folder, 'x'.repeat(100), 'y'.repeat(100));
    const opened = await socket(adminSocketsOf(deep));
    expect(lstatSync(opened.path).isSocket()).toBe(true);
    expect(await isAnswered(opened.path)).toBe(true);
    await opened.close();
    expect(readdirSync(deep)).toEqual([]);
  });

  test('under a name of its own says that another server has it', async () => {
    const path = join(folder, 'own.sock');
    await socket([path]);
    await expect(socket([path])).rejects.toMatchObject({
      code: 'ERR_SERVER_LISTEN',
      message: expect.stringMatching(/own\.sock: another server answers there; stop it/),
    });
  });

  test('takes the place of no file', async () => {
    writeFileSync(join(folder, 'admin.sock'), 'precious');
    await expect(socket()).rejects.toThrow(/there is a file that is not a socket; move it away/);
    expect(readdirSync(folder)).toEqual(['admin.sock']);
  });

  test('that cannot be made is a clear error', async () => {
    writeFileSync(join(folder, 'file'), '');
    await expect(socket(adminSocketsOf(join(folder, 'file')))).rejects.toThrow(
      /cannot make the admin socket .*file\/admin\.sock: .*; let this user write to its folder, name another with "admin\.socket"/,
    );
  });
});

test('a server that is stopped takes its socket away, and another one has its name again', async () => {
  const server = await AdminServer.start();
  const path = server.server.adminSocket!;
  expect(existsSync(path)).toBe(true);
  await server.server.stop();
  expect(existsSync(path)).toBe(false);
  await server.close();
});

test('a server says that it is not ready from the moment it is told to stop', async () => {
  const { promise: isAsked, resolve: onAsked } = Promise.withResolvers<void>();
  const slow = () => {
    onAsked();
    return new Promise<Response>(() => {});
  };
  const server = await AdminServer.start({ routes: [{ path: '/slow', fetch: slow }] });
  open.push(server);
  const hanging = new AbortController();
  void fetch(`${server.server.urls[0]}/slow`, { signal: hanging.signal }).catch(() => {});
  await isAsked;
  const stopped = server.server.stop({ drain: '30s' });
  expect(await server.askSocket('/readyz')).toMatchObject({ status: 503, json: { ok: false, state: 'draining' } });
  expect(await server.askPlainly('/readyz')).toMatchObject({ status: 503 });
  expect(await server.askPlainly('/healthz')).toMatchObject({ status: 200, json: { ok: true, state: 'draining' } });
  hanging.abort();
  await stopped;
});

test('a program that serves nothing else has its socket by default, and only warns where it cannot have one', async () => {
  const blocked = join(folder, 'data');
  mkdirSync(blocked);
  writeFileSync(join(blocked, 'admin.sock'), '');
  const warnings: object[] = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (fields: object) => void warnings.push(fields) };
  const server = await AdminServer.start(
    { dataFolder: blocked, admin: {}, session: false },
    { logger, operations: {} },
  );
  open.push(server);
  expect(server.server.adminSocket).toBeUndefined();
  expect(warnings).toContainEqual({ event: 'admin-socket-missing', path: blocked, part: 'admin' });
});
