import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  type FileHandle,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  rename,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { connect, createServer, type Server as NetServer, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { HoldfastError } from '../../base/errors.ts';
import { messageOf } from '../../base/message-of.ts';

/** The name of the first server's socket in its data folder; others have `admin-2.sock` and so on. */
export const ADMIN_SOCKET = 'admin.sock';
/** Servers that share one data folder at most. */
const MOST_SERVERS = 16;
/** Of a path, with the zero byte at its end: 108 on Linux, 104 elsewhere. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103;
const ANSWER_MS = 1_000;
const MAX_CONNECTIONS = 128;
/** How long a server waits for its turn. */
const TURN_PAUSE_MS = 10;
const TURN_TRIES = 200;

/** The names that a server of this folder may have, in the order in which they are taken. */
export function adminSocketsOf(folder: string): string[] {
  const others = Array.from({ length: MOST_SERVERS - 1 }, (_, i) => `admin-${i + 2}.sock`);
  return [ADMIN_SOCKET, ...others].map(name => join(folder, name));
}

/**
 * A Unix socket that only its owner may connect to (mode 0600, from its first moment on), under a name that no other
 * living server has.
 *
 * What a server has left that was killed is replaced. Paths of any length work on Linux.
 */
export class AdminSocket {
  readonly path: string;
  readonly #server: NetServer;
  readonly #inode: bigint;
  #closed: Promise<void> | undefined;

  private constructor(server: NetServer, path: string, inode: bigint) {
    this.#server = server;
    this.path = path;
    this.#inode = inode;
  }

  /**
   * @param paths The first that is free is taken.
   * @throws {HoldfastError} ERR_SERVER_LISTEN when it cannot be had.
   */
  static async open(paths: readonly string[], take: (socket: Socket) => void): Promise<AdminSocket> {
    const [first = ''] = paths;
    try {
      const folder = dirname(first);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      // Nobody else comes into it, so that nobody connects before the mode of the socket is what it shall be.
      const workshop = await mkdtemp(join(folder, '.admin-'));
      const draft = join(workshop, randomBytes(8).toString('hex'));
      // No error of a socket leaves it, whoever takes it.
      const server = createServer(raw => take(raw.on('error', () => {})));
      server.maxConnections = MAX_CONNECTIONS;
      try {
        await listen(server, draft);
        await chmod(draft, 0o600);
        const { ino } = await lstat(draft, { bigint: true });
        const path = await inTurn(folder, () => claim(draft, paths));
        return new AdminSocket(server, path, ino);
      } catch (error) {
        server.close();
        throw error;
      } finally {
        await unlink(draft).catch(() => {}); // it may have another name by now
        await rmdir(workshop);
      }
    } catch (cause) {
      if ((cause as { code?: unknown }).code === 'ERR_SERVER_LISTEN') throw cause;
      const message = `cannot make the admin socket ${first}: ${messageOf(cause)}; let this user write to its folder, name another with "admin.socket", or do without: "admin: { socket: false }"`;
      throw new HoldfastError('ERR_SERVER_LISTEN', message, { cause });
    }
  }

  /** Takes no more connections. Resolves when its name is free; those that are open go on. */
  async letGo(): Promise<void> {
    const found = await lstat(this.path, { bigint: true }).catch(() => undefined);
    if (found?.ino === this.#inode) await unlink(this.path).catch(() => {});
    this.#closed ??= new Promise<void>(resolve => this.#server.close(() => resolve()));
  }

  /** As `letGo`, and resolves when the last connection is gone. */
  async close(): Promise<void> {
    await this.letGo();
    await this.#closed;
  }
}

/** Calls `use` with a path to this socket that is short enough for the operating system. */
export async function withShortPath<T>(path: string, use: (path: string) => T | Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES) return use(path);
  if (process.platform !== 'linux')
    throw new Error(`the path has ${Buffer.byteLength(path)} bytes, and a socket's has ${MAX_PATH_BYTES} at most`);
  const folder: FileHandle = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await use(`/proc/self/fd/${folder.fd}/${basename(path)}`);
  } finally {
    await folder.close();
  }
}

/** Is there a server behind a socket? One that may not be asked counts as one. */
export async function isAnswered(path: string): Promise<boolean> {
  return withShortPath(path, short => {
    return new Promise<boolean>(answered => {
      const socket = connect(short);
      const end = (isAlive: boolean): void => {
        clearTimeout(timer);
        socket.destroy();
        void answered(isAlive);
      };
      const timer = setTimeout(() => end(true), ANSWER_MS);
      socket.once('connect', () => end(true));
      socket.once('error', ({ code }: NodeJS.ErrnoException) => end(code !== 'ECONNREFUSED' && code !== 'ENOENT'));
    });
  });
}

function listen(server: NetServer, path: string): Promise<void> {
  return withShortPath(path, short => {
    return new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ path: short }, () => {
        server.off('error', reject).on('error', () => {});
        resolve();
      });
    });
  });
}

/**
 * One server at a time may look for a name: what one takes away as left behind could be what another has put there a
 * moment ago. The kernel keeps the turn, and ends it with the process.
 *
 * Where there is no such thing, or somebody else sits on it, it goes on without.
 */
async function inTurn<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const turn = process.platform === 'linux' ? await takeTurn(folder) : undefined;
  try {
    return await work();
  } finally {
    turn?.close();
  }
}

async function takeTurn(folder: string): Promise<NetServer | undefined> {
  const { dev, ino } = await stat(folder, { bigint: true });
  for (let tries = 0; tries < TURN_TRIES; tries++) {
    // Linux: a name that is in no file system (unix(7), "abstract").
    const turn = await listening(`\0holdfast-admin-${dev}-${ino}`);
    if (turn) return turn;
    await new Promise(resolve => setTimeout(resolve, TURN_PAUSE_MS));
  }
  return undefined;
}

function listening(path: string): Promise<NetServer | undefined> {
  return new Promise(done => {
    const server = createServer(socket => socket.destroy());
    server.once('error', () => done(undefined));
    server.listen({ path }, () => done(server));
  });
}

/** Gives a socket the first of these names that is free. */
async function claim(draft: string, paths: readonly string[]): Promise<string> {
  for (const path of paths) {
    // Twice: what nobody answers at any more is taken away the first time.
    for (let i = 0; i < 2; i++) {
      if (await isLinked(draft, path)) return path;
      if (!(await isFreed(path, `${draft}.old`))) break;
    }
  }
  const what = paths.length === 1 ? 'another server answers there' : `${paths.length} servers use this folder`;
  const message = `cannot make the admin socket ${paths[0]}: ${what}; stop it, or name another with "admin.socket"`;
  throw new HoldfastError('ERR_SERVER_LISTEN', message);
}

/** A link fails when the name is taken, where a rename would take it from another server. */
async function isLinked(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Takes away what a server has left that was killed. */
async function isFreed(path: string, aside: string): Promise<boolean> {
  const found = await lstat(path, { bigint: true }).catch(() => undefined);
  if (!found) return true;
  if (!found.isSocket()) throw new Error('there is a file that is no socket; move it away');
  if (await isAnswered(path)) return false;
  try {
    await rename(path, aside);
  } catch {
    return true; // another server has done it
  }
  // Another server may have put its own there meanwhile: that one goes back.
  const taken = await lstat(aside, { bigint: true });
  if (taken.ino !== found.ino) await link(aside, path).catch(() => {});
  await unlink(aside);
  return taken.ino === found.ino;
}
