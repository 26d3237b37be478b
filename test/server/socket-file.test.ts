import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isAnswered, SocketFile } from '../../src/server/listen/socket-file.ts';

let folder: string;
let path: string;
const nets: NetServer[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'socket-file-'));
  path = join(folder, 'a.sock');
});
afterEach(async () => {
  for (const net of nets.splice(0)) net.close();
  rmSync(folder, { recursive: true });
});

/** A server that says its name to whoever connects. */
async function listen(name = 'x', access: Parameters<typeof SocketFile.listen>[2] = { mode: 0o600 }) {
  const net = createServer(socket => socket.on('error', () => {}).end(name));
  nets.push(net);
  return { net, file: await SocketFile.listen(net, [path], access) };
}

/** The name of the server that answers. */
async function answer(at = path): Promise<string> {
  let text = '';
  for await (const chunk of connect(at)) text += chunk;
  return text;
}

async function leaveBehind(at: string): Promise<void> {
  const script = 'require("node:net").createServer().listen(process.argv[1], () => console.log("x"))';
  const child = spawn(process.execPath, ['-e', script, at]);
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'close');
}

describe('a socket file', () => {
  test('is had by exactly one of many servers that start at once, whatever was left behind', async () => {
    for (let round = 0; round < 5; round++) {
      if (round % 2 === 0) await leaveBehind(path);
      const all = await Promise.allSettled(Array.from({ length: 12 }, (_, index) => listen(String(index))));
      const winners = all.flatMap((one, index) => (one.status === 'fulfilled' ? [{ ...one.value, index }] : []));
      expect(winners.length).toBe(1);
      for (const one of all) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'EADDRINUSE' });
      expect(await answer()).toBe(String(winners[0]!.index));
      expect(readdirSync(folder)).toEqual(['a.sock']);
      winners[0]!.file.remove();
      winners[0]!.net.close();
    }
  });

  test('is never there without a server that listens, and never with another mode', async () => {
    let isOver = false;
    const modes = new Set<number>();
    const watching = (async () => {
      while (!isOver) {
        const found = lstatSync(path, { throwIfNoEntry: false });
        if (found) {
          modes.add(found.mode & 0o777);
          if (!(await isAnswered(path))) throw new Error('nobody listens');
        }
        await new Promise(resolve => setImmediate(resolve));
      }
    })();
    await listen('x', { mode: 0o666 });
    await answer();
    isOver = true;
    await watching;
    expect([...modes]).toEqual([0o666]);
  });

  test('changes nothing of the umask of the process', async () => {
    const before = process.umask;
    const calls: unknown[] = [];
    process.umask = ((...args: [number?]) => {
      calls.push(args);
      return Reflect.apply(before, process, args);
    }) as typeof process.umask;
    try {
      await listen();
    } finally {
      process.umask = before;
    }
    expect(calls).toEqual([]);
  });

  test('of another server, in the place of ours, stays when ours ends', async () => {
    const first = await listen('first');
    unlinkSync(path);
    await listen('second');
    first.file.remove();
    first.net.close();
    expect(await answer()).toBe('second');
  });

  test('is not changed when it is that of another server', async () => {
    const first = await listen('first');
    unlinkSync(path);
    await listen('second');
    await first.file.change({ mode: 0o666 });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('is removed once, and not that of a server that comes after', async () => {
    const first = await listen('first');
    first.file.remove();
    first.net.close();
    await listen('second');
    first.file.remove();
    expect(await answer()).toBe('second');
  });

  test('of a server that is too busy to answer stays', async () => {
    const busy =
      'require("node:net").createServer().listen({ path: process.argv[1], backlog: 1 }, () => { console.log("x"); for (;;); })';
    const child = spawn(process.execPath, ['-e', busy, path]);
    try {
      await once(child.stdout, 'data');
      const waiting = Array.from({ length: 8 }, () => connect(path).on('error', () => {}));
      await expect(listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
      for (const socket of waiting) socket.destroy();
    } finally {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
  });

  // Root may ask everybody.
  test.skipIf(process.geteuid!() === 0)('of a user that may not be asked stays', async () => {
    await listen();
    chmodSync(path, 0);
    await expect(listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  test('leaves a file that is not a socket, and nothing of itself', async () => {
    writeFileSync(path, 'mine');
    await expect(listen()).rejects.toMatchObject({ code: 'ENOTSOCK' });
    expect(readdirSync(folder)).toEqual(['a.sock']);
  });

  test('has the group that is asked for, and its first one again where none is', async () => {
    const own = process.getegid!();
    const other = process.geteuid!() === 0 ? 4242 : own;
    const { file } = await listen('x', { mode: 0o660, gid: other });
    expect(statSync(path).gid).toBe(other);
    await file.change({ mode: 0o606 });
    expect(statSync(path)).toMatchObject({ gid: own });
    expect(statSync(path).mode & 0o777).toBe(0o606);
  });

  test('may have a longer path than the system takes', async () => {
    path = join(folder, `${'x'.repeat(120)}.sock`);
    const { file, net } = await listen();
    expect(await isAnswered(path)).toBe(true);
    file.remove();
    net.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('that has another name beside is let go of by its own name only', async () => {
    const { file } = await listen('first');
    linkSync(path, join(folder, 'b.sock'));
    file.remove();
    expect(existsSync(path)).toBe(false);
    expect(await answer(join(folder, 'b.sock'))).toBe('first');
  });
});
