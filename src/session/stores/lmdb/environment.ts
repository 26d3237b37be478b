import { existsSync, realpathSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Database, RootDatabase } from 'lmdb';
import { HoldfastError, isHoldfastError } from '../../../base/errors.ts';
import { getOrInsert } from '../../../base/get-or-insert.ts';
import { makeFolder } from '../../../drivers/make-folder.ts';
import { FolderClaim } from './claim.ts';
import { dataFileProblem } from './data-file.ts';
import { prepareLayout } from './layout.ts';
import { open } from './library.ts';
import { LmdbRoom, type RoomOptions } from './room.ts';

const OPTIONS = {
  noSubdir: false,
  overlappingSync: false,
  encoding: 'binary',
  keyEncoding: 'binary',
  maxDbs: 16,
  /** Each process takes one or two; 64 bytes each. */
  maxReaders: 1_000,
  /** Missing in the library's types. */
  permissionsMode: 0o600,
} as const;

const CHECK_FOLDER_EVERY_MS = 1_000;
const ignore = () => {};

/** One open LMDB environment for each folder of this process, shared by the store and the ledger in it. */
export class LmdbEnvironment {
  static readonly #open = new Map<string, LmdbEnvironment>();

  /** The folder, without links. */
  readonly path: string;
  readonly root: RootDatabase<Buffer, Buffer>;
  /** Every write asks it first. */
  readonly room: LmdbRoom;
  readonly #databases = new Map<string, Database<Buffer, Buffer>>();
  readonly #file: Stats;
  readonly #claim: FolderClaim | undefined;
  #users = 1;
  #checkedAt = performance.now();
  #isLost = false;
  #isClosed = false;

  /**
   * Opens the folder, or joins who has it open. Everybody who has acquired it releases it once.
   *
   * @param limits Of what is not given, what others have set who have it open counts.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the folder cannot be opened or a newer version has
   * written it; ERR_SESSION_NO_ROOM when its disk is too full for that.
   */
  static acquire(path: string, limits: RoomOptions): LmdbEnvironment {
    try {
      makeFolder(path);
      const realPath = realpathSync(path);
      const shared = LmdbEnvironment.#open.get(realPath);
      if (shared && !shared.#isGone()) {
        shared.#users++;
        shared.room.limit(limits);
        return shared;
      }
      const environment = new LmdbEnvironment(realPath, limits);
      LmdbEnvironment.#open.set(realPath, environment);
      return environment;
    } catch (error) {
      if (isHoldfastError(error)) throw error;
      const message = `lmdb could not open ${path}; check that it is a folder this user may write to`;
      throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, cause: error });
    }
  }

  private constructor(path: string, limits: RoomOptions) {
    this.path = path;
    this.room = new LmdbRoom(path, () => this.#usedBytes());
    this.room.limit(limits);
    // To open writes, too: much in a new folder, hardly anything in one that was there.
    this.room.take(0, existsSync(this.#dataFile) ? 'upkeep' : 'owned');
    const problem = dataFileProblem(this.#dataFile);
    if (problem !== undefined)
      throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', `lmdb: ${problem}`, { status: 503, closeCode: 1013 });
    this.#claim = FolderClaim.take(path);
    this.root = this.#openRoot();
    try {
      // The library makes one more promise for what is written in one turn and gives it to nobody: unhandled, its
      // failure would end the process.
      this.root.on('beforecommit', () => queueMicrotask(() => void this.root.committed.then(ignore, ignore)));
      this.#file = statSync(this.#dataFile);
      prepareLayout(this, path);
    } catch (error) {
      void this.root.close();
      this.#claim?.release();
      throw error;
    }
  }

  #openRoot(): RootDatabase<Buffer, Buffer> {
    try {
      return open<Buffer, Buffer>({ ...OPTIONS, path: this.path });
    } catch (error) {
      this.#claim?.release();
      throw error;
    }
  }

  database(name: string, useVersions: boolean): Database<Buffer, Buffer> {
    return getOrInsert(this.#databases, name, () =>
      this.root.openDB<Buffer, Buffer>({ name, useVersions, encoding: 'binary', keyEncoding: 'binary' }),
    );
  }

  /**
   * Reads that follow in the same turn see the moment of this call, also what another process has just committed: the
   * snapshot otherwise lives until the event loop turns.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when it is closed, or the folder was deleted or replaced;
   * that is noticed within a second.
   */
  refresh(): void {
    if (this.#isClosed) {
      // A late write into a closed environment would end the process.
      const message = `${this.path} is closed; close the store after the last call`;
      throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013 });
    }
    if (this.#isLost || performance.now() - this.#checkedAt >= CHECK_FOLDER_EVERY_MS) this.checkFolder();
    this.root.resetReadTxn();
  }

  /**
   * Reads the moment of this call. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, as `refresh`, and whatever
   * the library may say.
   */
  read<T>(work: () => T): T {
    this.refresh();
    try {
      return work();
    } catch (error) {
      const options = { status: 503, closeCode: 1013, cause: error };
      throw new HoldfastError(
        'ERR_SESSION_STORE_UNAVAILABLE',
        `lmdb could not read ${this.path}; see the cause`,
        options,
      );
    }
  }

  /**
   * As `refresh` does once a second. An open file outlives its folder: everything would go on, into a file that nobody
   * else sees and that is lost.
   */
  checkFolder(): void {
    this.#checkedAt = performance.now();
    this.#isLost ||= this.#isGone();
    if (!this.#isLost) return;
    const message = `${this.path} was deleted or replaced while in use: what was in it is gone; restart this process`;
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013 });
  }

  /** Frees what killed processes still hold: a snapshot of theirs would keep old pages from being used again. */
  forgetDeadReaders(): void {
    this.root.readerCheck();
  }

  /**
   * Waits for a write. True when its condition was met. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when it
   * could not be written.
   */
  settle(write: Promise<boolean>): Promise<boolean> {
    return write.catch(this.#fail);
  }

  /** Writes if the entry has this version; undefined: if there is none. As `settle`. */
  writeIf(
    database: Database<Buffer, Buffer>,
    key: Buffer,
    version: number | undefined,
    write: () => void,
  ): Promise<boolean> {
    return this.settle(
      version === undefined ? database.ifNoExists(key, write) : database.ifVersion(key, version, write),
    );
  }

  /** One for all writes: there are many at once. */
  readonly #fail = async (error: unknown): Promise<never> => {
    // The library reports the cause in a second promise; unhandled, it would end the process.
    const cause = await (error as { commitError?: Promise<never> }).commitError?.catch(reason => reason);
    const message = `lmdb could not write to ${this.path}; check that the disk is not full`;
    const options = { status: 503, closeCode: 1013, cause: cause ?? error };
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, options);
  };

  /** Closes it after the last one. Resolves when what was written before is on disk. */
  async release(): Promise<void> {
    if (--this.#users > 0) return;
    if (LmdbEnvironment.#open.get(this.path) === this) LmdbEnvironment.#open.delete(this.path);
    this.#isClosed = true;
    await this.root.close();
    this.#claim?.release();
  }

  /** What is in use of the file: pages that are free in it can be written again. */
  #usedBytes(): number {
    if (this.#databases.size === 0) return 0;
    this.root.resetReadTxn();
    let bytes = 0;
    for (const database of this.#databases.values()) {
      const stats = database.getStats() as Record<
        'pageSize' | 'treeBranchPageCount' | 'treeLeafPageCount' | 'overflowPages',
        number
      >;
      bytes += (stats.treeBranchPageCount + stats.treeLeafPageCount + stats.overflowPages) * stats.pageSize;
    }
    return bytes;
  }

  get #dataFile(): string {
    return join(this.path, 'data.mdb');
  }

  #isGone(): boolean {
    const file = statSync(this.#dataFile, { throwIfNoEntry: false });
    return file?.ino !== this.#file.ino || file.dev !== this.#file.dev;
  }
}
