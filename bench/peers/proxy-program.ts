import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PeerNotFoundError } from '../comparison.ts';
import { freePort } from '../free-port.ts';
import { Program, type Server } from '../program.ts';

/** The files that a proxy is configured by, by name, and the arguments it is started with. */
export type ProxyFiles = { readonly arguments: readonly string[] } & Readonly<Record<string, unknown>>;

/**
 * Starts a proxy of the operating system in a process family of its own, and waits until it listens.
 *
 * @param paths Where distributions put its program; the first one that exists is taken.
 * @throws {PeerNotFoundError} when there is none.
 */
export async function startProxy(
  name: string,
  paths: readonly string[],
  configure: (port: number, folder: string) => ProxyFiles,
): Promise<Server> {
  const path = paths.find(existsSync);
  if (path === undefined)
    throw new PeerNotFoundError(
      `${name} is not installed: on Debian, apt-get install ${name}; there is no ${paths[0]}`,
    );
  const folder = await mkdtemp(join(tmpdir(), `holdfast-bench-${name}-`));
  const port = await freePort();
  const { arguments: args, ...files } = configure(port, folder);
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text as string);
  // The shell ends it when standard input ends, so that no proxy outlives its benchmark. It costs no time meanwhile.
  const script =
    'exec 3<&0; "$@" </dev/null & child=$!; cat <&3 >/dev/null; exec 2>/dev/null; kill $child; wait $child';
  const program = new Program(name, 'sh', ['-c', script, 'sh', path, ...args]);
  const server = {
    pid: program.pid,
    port,
    async collect() {},
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await listening(name, port);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function listening(name: string, port: number): Promise<void> {
  const end = performance.now() + 10_000;
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    if (performance.now() > end) throw new Error(`${name} does not listen on port ${port} after 10 s`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
