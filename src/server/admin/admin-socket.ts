import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { HoldfastError } from '../../base/errors.ts';
import { messageOf } from '../../base/message-of.ts';
import { makeFolder } from '../../drivers/make-folder.ts';
import { SocketFile } from '../listen/socket-file.ts';

/** The name of the first server's socket in its data folder; others have `admin-2.sock` and so on. */
export const ADMIN_SOCKET = 'admin.sock';
/** Servers that share one data folder at most. */
const MOST_SERVERS = 16;
const MAX_CONNECTIONS = 128;
const FOR_ITS_OWNER = { mode: 0o600 };

/** The names that a server of this folder may have, in the order in which they are taken. */
export function adminSocketsOf(folder: string): string[] {
  const others = Array.from({ length: MOST_SERVERS - 1 }, (_, i) => `admin-${i + 2}.sock`);
  return [ADMIN_SOCKET, ...others].map(name => join(folder, name));
}

/** A Unix socket that only its owner may connect to, from its first moment on, under a name that no other living server has. */
export class AdminSocket {
  readonly path: string;
  readonly #server: NetServer;
  readonly #file: SocketFile;
  #closed: Promise<void> | undefined;

  private constructor(server: NetServer, file: SocketFile) {
    this.#server = server;
    this.#file = file;
    this.path = file.path;
  }

  /**
   * @param paths The first that is free is taken.
   * @throws {HoldfastError} ERR_SERVER_LISTEN when it cannot be had.
   */
  static async open(paths: readonly string[], take: (socket: Socket) => void): Promise<AdminSocket> {
    const [first = ''] = paths;
    // No error of a socket leaves it, whoever takes it.
    const server = createServer(raw => take(raw.on('error', () => {})));
    server.maxConnections = MAX_CONNECTIONS;
    try {
      makeFolder(dirname(first));
      const file = await SocketFile.listen(server, paths, FOR_ITS_OWNER);
      server.on('error', () => {});
      return new AdminSocket(server, file);
    } catch (cause) {
      const message = `cannot make the admin socket ${first}: ${remedyOf(cause, paths.length)}`;
      throw new HoldfastError('ERR_SERVER_LISTEN', message, { cause });
    }
  }

  /** Takes no more connections. Resolves when its name is free; those that are open go on. */
  async letGo(): Promise<void> {
    this.#file.remove();
    this.#closed ??= new Promise<void>(resolve => this.#server.close(() => resolve()));
  }

  /** As `letGo`, and resolves when the last connection is gone. */
  async close(): Promise<void> {
    await this.letGo();
    await this.#closed;
  }
}

function remedyOf(cause: unknown, count: number): string {
  if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE')
    return `${messageOf(cause)}; let this user write to its folder, name another with "admin.socket", or do without: "admin: { socket: false }"`;
  const what = count === 1 ? 'another server answers there' : `${count} servers use this folder`;
  return `${what}; stop it, or name another with "admin.socket"`;
}
