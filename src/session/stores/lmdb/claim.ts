import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { HoldfastError } from '../../../base/errors.ts';

/** `holder-<namespace>-<pid>-<start>-<random>.sock` */
const NAME = /^holder-([\w-]+)-(\d+)-(\d+)-[0-9a-f]+\.sock$/;
/** Two that begin at the same moment see each other, and both step back. */
const TRIES = 4;
const LONGEST_PAUSE_MS = 200;
const ASK_TIMEOUT_MS = 10_000;

/** Where locks and shared memory are those of one machine, and others do not see them. */
const NETWORK_DISKS = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x564c, 'NCP'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
  [0x01161970, 'GFS2'],
  [0x7461636f, 'OCFS2'],
]);

/**
 * Says to others, for as long as this process lives and has the folder open, that it is there, and finds out whether a
 * process in another pid namespace, such as that of another container, is there.
 *
 * LMDB knows processes by their pid. In another namespace a pid means another process, or none: LMDB then takes living
 * processes for dead and dead ones for living, and may wait for ever for a lock whose holder is gone. So this comes
 * before it touches the folder.
 *
 * Who is there listens on a Unix socket in the folder: the kernel answers for the living, with a busy event loop too,
 * and refuses for those who have gone, however they went, across namespaces. Only Linux has pid namespaces.
 */
export class FolderClaim {
  readonly #folder: string;
  readonly #name: string;
  readonly #server: Server;

  /**
   * Undefined where it cannot be said that we are there: not on Linux, without `/proc`, on a file system without
   * sockets. Returns before anything asynchronous.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the folder is on a network disk, or a process in another
   * pid namespace has it open.
   */
  static take(folder: string): FolderClaim | undefined {
    if (process.platform !== 'linux') return undefined;
    refuseNetworkDisk(folder, statfsSync(folder).type);
    const namespace = namespaceId();
    if (namespace === undefined) return undefined;
    for (let tries = 1; ; tries++) {
      // First we are there, then we look: of two at the same moment one sees the other.
      const claim = FolderClaim.#put(folder, namespace);
      if (!isForeignerThere(folder, namespace)) return claim;
      claim?.release();
      if (tries === TRIES) throw inUse(folder);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.random() * LONGEST_PAUSE_MS);
    }
  }

  static #put(folder: string, namespace: string): FolderClaim | undefined {
    const start = startOf('self') ?? 0;
    const name = `holder-${namespace}-${process.pid}-${start}-${randomBytes(6).toString('hex')}.sock`;
    const server = createServer(socket => socket.on('error', ignore).destroy());
    server.on('error', ignore);
    // The socket is there when `listen` returns. In a worker of a cluster it must be this process' own.
    throughFolder(folder, path => server.listen({ path: join(path, name), exclusive: true }));
    server.unref();
    const claim = new FolderClaim(folder, name, server);
    if (existsSync(claim.#path)) {
      // The folder says who may come in; the socket itself is asked by whoever may.
      chmodSync(claim.#path, 0o666);
      return claim;
    }
    claim.release();
    return undefined;
  }

  private constructor(folder: string, name: string, server: Server) {
    this.#folder = folder;
    this.#name = name;
    this.#server = server;
  }

  release(): void {
    remove(this.#path);
    this.#server.close();
  }

  get #path(): string {
    return join(this.#folder, this.#name);
  }
}

/** @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE for the type of a network disk, as `statfs` says it. */
export function refuseNetworkDisk(folder: string, type: number): void {
  const disk = NETWORK_DISKS.get(type >>> 0);
  if (disk === undefined) return;
  throw unavailable(
    `${folder} is on a network disk (${disk}), where machines do not see each other's locks: sessions would be lost; use a folder of a local disk, or redis: or postgres:`,
  );
}

function inUse(folder: string): HoldfastError {
  return unavailable(
    `${folder} is in use by a process in another pid namespace, such as another container; both would damage it or wait for ever: stop the other one first (in a Deployment: strategy Recreate), let both share a pid namespace, or use redis: or postgres:`,
  );
}

function unavailable(what: string): HoldfastError {
  return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', `lmdb: ${what}`, { status: 503, closeCode: 1013 });
}

/** The pid namespace, of this start of the machine: numbers of namespaces are used again. */
function namespaceId(): string | undefined {
  try {
    const number = /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0];
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
      .replaceAll(/[^0-9a-f]/g, '')
      .slice(0, 12);
    return number && `${boot}-${number}`;
  } catch {
    return undefined;
  }
}

/** Removes what those have left who are gone. */
function isForeignerThere(folder: string, namespace: string): boolean {
  const foreign: string[] = [];
  for (const name of readdirSync(folder)) {
    const [, theirs, pid, start] = NAME.exec(name) ?? [];
    if (theirs === undefined) continue;
    if (theirs !== namespace) foreign.push(name);
    else if (isGone(Number(pid), start!)) remove(join(folder, name));
  }
  return foreign.length > 0 && ask(folder, foreign);
}

/** A name of somebody who is gone does no harm: it may be another user's. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // stays
  }
}

/** Another may have its pid by now: in a container that is started again, process 1 of a namespace of the same number. */
function isGone(pid: number, start: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
  const known = startOf(pid);
  return known !== undefined && known !== start;
}

/** When it was started, in ticks since the machine was; undefined where that is not to be seen. */
function startOf(pid: number | 'self'): string | undefined {
  try {
    // The name in front may have blanks and brackets in it.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')[19];
  } catch {
    return undefined;
  }
}

/** In a thread of its own, because a store opens without waiting for promises. */
const ASKING = `
  const { workerData: { paths, answer } } = require('node:worker_threads');
  const { rmSync } = require('node:fs');
  const { connect } = require('node:net');
  const gone = new Set(['ECONNREFUSED', 'ENOENT']);
  let left = paths.length;
  let isThere = false;
  const done = () => {
    if (--left > 0) return;
    Atomics.store(answer, 0, isThere ? 2 : 1);
    Atomics.notify(answer, 0);
  };
  for (const path of paths) {
    const socket = connect({ path });
    socket.on('connect', () => {
      isThere = true;
      socket.destroy();
      done();
    });
    socket.on('error', ({ code }) => {
      if (!gone.has(code)) isThere = true;
      else
        try {
          rmSync(path, { force: true });
        } catch {} // another user's: it does no harm
      done();
    });
  }
`;

function ask(folder: string, names: readonly string[]): boolean {
  const answer = new Int32Array(new SharedArrayBuffer(4));
  return throughFolder(folder, path => {
    const workerData = { answer, paths: names.map(name => join(path, name)) };
    const worker = new Worker(ASKING, { eval: true, workerData, execArgv: [], stdout: true, stderr: true });
    worker.on('error', ignore).unref();
    Atomics.wait(answer, 0, 0, ASK_TIMEOUT_MS);
    void worker.terminate();
    return answer[0] !== 1;
  });
}

/** A path to the folder that is short however deep the folder lies: that of a socket has 107 bytes at most. */
function throughFolder<T>(folder: string, work: (path: string) => T): T {
  const file = openSync(folder, 'r');
  try {
    return work(`/proc/self/fd/${file}`);
  } finally {
    closeSync(file);
  }
}

function ignore(): void {}
