import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants, lstatSync, unlinkSync } from 'node:fs';
import {
  chmod,
  chown,
  type FileHandle,
  link,
  lstat,
  mkdtemp,
  open,
  readFile,
  readlink,
  rename,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { connect, createServer, type Server as NetServer } from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';

/** Of a path, with the zero byte at its end: 108 on Linux, 104 elsewhere. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103;
const ANSWER_MS = 1_000;
/** How long a server waits for its turn. */
const TURN_PAUSE_MS = 10;
const TURN_TRIES = 200;

/** Who may connect. */
export interface SocketAccess {
  /** As for `chmod`: who may write, may connect. */
  readonly mode: number;
  /** The number of its group. Default: as the system gives it, the one of the process or of a setgid folder. */
  readonly gid?: number | undefined;
}

/**
 * The name of a listening socket in the file system, which no other living server has.
 *
 * The socket listens before it has the name, and has its mode and group from the first moment of it. What a server has
 * left that was killed is replaced; a socket on which somebody listens, and a file that is not a socket, stay, and so
 * does, at the end, what somebody else has put in the place of ours. Paths of any length work on Linux.
 */
export class SocketFile {
  readonly path: string;
  /** It cannot be that of another file while its server listens. */
  readonly #inode: bigint;
  readonly #firstGid: number;
  #isRemoved = false;

  private constructor(path: string, { ino, gid }: BigIntStats) {
    this.path = path;
    this.#inode = ino;
    this.#firstGid = Number(gid);
  }

  /**
   * Makes a server listen.
   *
   * @param paths In one folder. The first that is free is taken.
   * @throws The error of the system. `EADDRINUSE`: a server listens at each of them. `ENOTSOCK`: there is another file.
   */
  static async listen(
    net: NetServer,
    paths: readonly string[],
    access: SocketAccess,
    backlog?: number,
  ): Promise<SocketFile> {
    const names = paths.map(path => resolve(path));
    const folder = dirname(names[0]!);
    // Nobody else comes into it, so that nobody connects before the mode of the socket is what it shall be.
    const workshop = await mkdtemp(join(folder, '.socket-'));
    // Of a name that is nowhere else: the server takes it away as it closes, by a path that leads elsewhere by then.
    const draft = join(workshop, randomBytes(8).toString('hex'));
    try {
      await listening(net, draft, backlog);
      try {
        const made = await lstat(draft, { bigint: true });
        await give(draft, access);
        return new SocketFile(await inTurn(folder, () => claim(draft, names)), made);
      } catch (error) {
        net.close();
        throw error;
      }
    } finally {
      await unlink(draft).catch(() => {}); // it may have another name by now
      await rmdir(workshop).catch(() => {});
    }
  }

  /** From now on these may connect. */
  async change({ mode, gid = this.#firstGid }: SocketAccess): Promise<void> {
    if (this.#isOurs()) await give(this.path, { mode, gid });
  }

  /** Takes the name away, before its server stops to listen. */
  remove(): void {
    try {
      if (this.#isOurs()) unlinkSync(this.path);
    } catch {
      // Its folder may not be written any more; what is left there is replaced by the next server.
    }
    this.#isRemoved = true;
  }

  #isOurs(): boolean {
    if (this.#isRemoved) return false;
    return lstatSync(this.path, { bigint: true, throwIfNoEntry: false })?.ino === this.#inode;
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

/** Is there a server behind a socket? Only a refused connection proves that there is none. */
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

/**
 * The file of an inherited socket, which Node does not know: `fd/N` for one that has no name. Undefined for a socket of
 * another kind, and where there is no `/proc`.
 */
export async function socketPathOf(fd: number): Promise<string | undefined> {
  try {
    const inode = /^socket:\[(\d+)\]$/.exec(await readlink(`/proc/self/fd/${fd}`))?.[1];
    const lines = (await readFile('/proc/net/unix', 'utf8')).split('\n').map(line => line.split(/\s+/));
    const found = inode === undefined ? undefined : lines.find(columns => columns[6] === inode);
    return found && (found[7] ?? `fd/${fd}`);
  } catch {
    return undefined;
  }
}

function listening(net: NetServer, path: string, backlog: number | undefined): Promise<void> {
  return withShortPath(path, short => {
    return new Promise<void>((resolve, reject) => {
      net.once('error', reject);
      net.listen({ path: short, backlog }, () => {
        net.off('error', reject);
        resolve();
      });
    });
  });
}

/** The group first: the old one may not get the rights of the new one. */
async function give(path: string, { mode, gid }: SocketAccess): Promise<void> {
  if (gid !== undefined) await chown(path, -1, gid);
  await chmod(path, mode);
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
    const turn = await turnAt(`\0holdfast-sockets-${dev}-${ino}`);
    if (turn) return turn;
    await new Promise(resolve => setTimeout(resolve, TURN_PAUSE_MS));
  }
  return undefined;
}

function turnAt(path: string): Promise<NetServer | undefined> {
  return new Promise(done => {
    const server = createServer(socket => socket.destroy());
    server.once('error', () => done(undefined));
    server.listen({ path, exclusive: true }, () => done(server));
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
  throw refusal('EADDRINUSE', paths.length === 1 ? 'another server answers there' : 'servers answer at all of them');
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
  if (!found.isSocket()) throw refusal('ENOTSOCK', 'there is a file that is not a socket; move it away');
  if (await isAnswered(path)) return false;
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true; // another server has done it
    throw error;
  }
  // Another server may have put its own there meanwhile: that one goes back.
  const taken = await lstat(aside, { bigint: true });
  if (taken.ino !== found.ino) await link(aside, path).catch(() => {});
  await unlink(aside);
  return taken.ino === found.ino;
}

function refusal(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code });
}
