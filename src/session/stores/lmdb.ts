import { hash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { type Database, open, type RootDatabase } from 'lmdb';
import { HoldfastError } from '../../base/errors.ts';
import { expiryOf } from '../expiry.ts';
import type {
  CommitResult,
  SessionChanges,
  SessionHeader,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from '../store.ts';

export interface LmdbStoreOptions {
  /** A folder, made when it does not exist; its files are readable by their owner only. Any number of processes of one machine may share it; not a network disk. */
  readonly path: string;
}

/** A record without its attributes' values. Its LMDB entry carries the record's version: the condition of every change. */
interface Head {
  readonly sid: string;
  readonly header: SessionHeader;
  /** Name and version of each attribute. */
  readonly attributes: ReadonlyMap<string, number>;
}

const ignore = () => {};
const NOTHING = Buffer.alloc(0);
const ENVIRONMENT = {
  noSubdir: false,
  overlappingSync: false,
  encoding: 'binary',
  keyEncoding: 'binary',
  /** Missing in the library's types. */
  permissionsMode: 0o600,
} as const;
const TIME_BYTES = 8;
const PAGE = 256;

/**
 * Keeps sessions in a folder, in LMDB: memory-mapped, transactional, shared by the processes of a machine.
 *
 * A promise resolves after the transaction was written and synced to disk (`fdatasync` inside the commit: LMDB's default, without
 * `overlappingSync`). What is acknowledged therefore survives `kill -9` of every process, and loss of power as far as the disk keeps
 * what it says it has. Writes that wait for the disk at the same time share one sync.
 *
 * Layout: the head of a record, each attribute's value and the last access are entries of their own, so a commit writes the head (small) and the
 * values that changed, and a touch writes eight bytes. Every change is conditional on the version it was computed from, checked inside the
 * write transaction, and computed again when it lost: no lock is held while JavaScript runs.
 */
export class LmdbStore implements SessionStore {
  readonly name = 'lmdb';
  readonly #root: RootDatabase<Buffer, Buffer>;
  readonly #heads: Database<Buffer, Buffer>;
  readonly #values: Database<Buffer, Buffer>;
  /** No value: the time is the entry's version, so that "move forward" is one conditional write. */
  readonly #accesses: Database<Buffer, Buffer>;
  /**
   * Time and sid key. A hint: for every session that can expire there is at least one entry at or before the time it does. Entries that turn out
   * to be early, or whose session is gone, are moved or removed by `expired`; so neither a touch nor a delete has to find them.
   */
  readonly #expiries: Database<Buffer, Buffer>;

  /** @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the folder cannot be opened. */
  constructor({ path }: LmdbStoreOptions) {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      this.#root = open({ ...ENVIRONMENT, path });
      // The library makes one more promise for what is written in one turn and gives it to nobody: unhandled, its failure would end the process.
      this.#root.on('beforecommit', () => queueMicrotask(() => void this.#root.committed.then(ignore, ignore)));
      this.#heads = this.#open('heads', true);
      this.#values = this.#open('values', false);
      this.#accesses = this.#open('accesses', true);
      this.#expiries = this.#open('expiries', false);
    } catch (error) {
      const message = `session store "lmdb" could not open ${path}; check that it is a folder this user may write to`;
      throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, cause: error });
    }
  }

  async create(sid: string, record: SessionRecord): Promise<boolean> {
    const key = keyOf(sid);
    const { header, attributes, lastAccessedAt, version } = record;
    const head = encodeHead({ sid, header, attributes: versionsOf(attributes) });
    return this.#settle(
      this.#heads.ifNoExists(key, () => {
        void this.#heads.put(key, head, version);
        void this.#accesses.put(key, NOTHING, lastAccessedAt);
        for (const [name, { value }] of attributes) void this.#values.put(valueKey(key, name), toBuffer(value));
        this.#putExpiry(key, expiryOf(header, lastAccessedAt));
      }),
    );
  }

  async read(sid: string): Promise<SessionRecord | undefined> {
    this.#refresh();
    const key = keyOf(sid);
    const found = this.#head(key);
    if (!found) return undefined;
    const attributes = new Map<string, StoredAttribute>();
    for (const [name, version] of found.head.attributes) {
      attributes.set(name, { value: this.#values.getBinary(valueKey(key, name))!, version });
    }
    const { version, head } = found;
    return { header: head.header, version, lastAccessedAt: this.#accesses.getEntry(key)!.version!, attributes };
  }

  async readVersion(sid: string): Promise<number | undefined> {
    this.#refresh();
    return this.#heads.getEntry(keyOf(sid))?.version;
  }

  async commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    const key = keyOf(sid);
    for (;;) {
      this.#refresh();
      const found = this.#head(key);
      if (!found) return { status: 'gone' };
      for (const [name, expected] of changes.expected ?? []) {
        if ((found.head.attributes.get(name) ?? 0) !== expected) return { status: 'conflict' };
      }
      const version = found.version + 1;
      if (await this.#write(key, found.head, found.version, changes)) return { status: 'committed', version };
    }
  }

  async touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    const writes: Promise<void>[] = [];
    for (const [sid, at] of accesses) writes.push(this.#touchOne(keyOf(sid), at));
    await Promise.all(writes);
  }

  async delete(sid: string): Promise<boolean> {
    const key = keyOf(sid);
    for (;;) {
      this.#refresh();
      const found = this.#head(key);
      if (!found) return false;
      const isDeleted = await this.#settle(
        this.#heads.ifVersion(key, found.version, () => {
          void this.#heads.remove(key);
          void this.#accesses.remove(key);
          for (const name of found.head.attributes.keys()) void this.#values.remove(valueKey(key, name));
        }),
      );
      if (isDeleted) return true;
    }
  }

  async expired(now: number, limit: number): Promise<string[]> {
    const due: { sid: string; at: number }[] = [];
    const writes: Promise<unknown>[] = [];
    this.#refresh();
    for (const { key: entry } of this.#expiries.getRange({ end: expiryKey(now + 1, NOTHING) })) {
      const indexedAt = timeOf(entry);
      // Every session still to come expires at its entry's time or later.
      if (due.length >= limit && due[limit - 1]!.at <= indexedAt) break;
      const key = Buffer.from(entry.subarray(TIME_BYTES));
      const head = this.#head(key)?.head;
      const at = head && Math.ceil(expiryOf(head.header, this.#accesses.getEntry(key)!.version!));
      if (at !== indexedAt) writes.push(this.#moveExpiry(Buffer.from(entry), key, at));
      if (head && at! <= now && !due.some(({ sid }) => sid === head.sid)) insert(due, { sid: head.sid, at: at! });
    }
    await Promise.all(writes);
    return due.slice(0, limit).map(({ sid }) => sid);
  }

  async *sids(): AsyncIterable<string> {
    let after: Buffer | undefined;
    for (;;) {
      this.#refresh();
      const range = this.#heads.getRange({ start: after, exclusiveStart: after !== undefined, limit: PAGE });
      const page = Array.from(range, ({ key, value }) => ({ key: Buffer.from(key), sid: decodeHead(value).sid }));
      for (const { sid } of page) yield sid;
      if (page.length < PAGE) return;
      after = page.at(-1)!.key;
    }
  }

  async count(): Promise<number> {
    this.#refresh();
    return (this.#heads.getStats() as { entryCount: number }).entryCount;
  }

  async close(): Promise<void> {
    await this.#root.close();
  }

  #open(name: string, useVersions: boolean): Database<Buffer, Buffer> {
    return this.#root.openDB({ name, useVersions, encoding: 'binary', keyEncoding: 'binary' });
  }

  /** A read sees the moment it is made, also what another process has just committed: the snapshot otherwise lives until the event loop turns. */
  #refresh(): void {
    this.#root.resetReadTxn();
  }

  #head(key: Buffer): { readonly head: Head; readonly version: number } | undefined {
    const entry = this.#heads.getEntry(key);
    return entry && { head: decodeHead(entry.value), version: entry.version! };
  }

  /** False when somebody else changed the record since it had `version`. */
  #write(key: Buffer, head: Head, version: number, changes: SessionChanges): Promise<boolean> {
    const { set, deleted } = changes;
    const header = changes.header ? { ...head.header, ...changes.header } : head.header;
    const attributes = new Map(head.attributes);
    for (const name of deleted ?? []) attributes.delete(name);
    for (const name of set?.keys() ?? []) attributes.set(name, (head.attributes.get(name) ?? version) + 1);
    const lastAccessedAt = this.#accesses.getEntry(key)!.version!;
    return this.#settle(
      this.#heads.ifVersion(key, version, () => {
        void this.#heads.put(key, encodeHead({ sid: head.sid, header, attributes }), version + 1);
        for (const name of deleted ?? []) void this.#values.remove(valueKey(key, name));
        for (const [name, value] of set ?? []) void this.#values.put(valueKey(key, name), toBuffer(value));
        if (changes.header) this.#putExpiry(key, expiryOf(header, lastAccessedAt));
      }),
    );
  }

  async #touchOne(key: Buffer, at: number): Promise<void> {
    for (;;) {
      this.#refresh();
      const accessedAt = this.#accesses.getEntry(key)?.version;
      if (accessedAt === undefined || accessedAt >= at) return;
      const isWritten = await this.#settle(
        this.#accesses.ifVersion(key, accessedAt, () => void this.#accesses.put(key, NOTHING, at)),
      );
      if (isWritten) return;
    }
  }

  #putExpiry(key: Buffer, at: number): void {
    if (at < Number.POSITIVE_INFINITY) void this.#expiries.put(expiryKey(at, key), NOTHING);
  }

  /** Corrects an index entry: `at` is when its session really expires, `undefined` when it is gone. */
  #moveExpiry(entry: Buffer, key: Buffer, at: number | undefined): Promise<boolean> {
    const move = () => {
      if (at !== undefined) this.#putExpiry(key, at);
      void this.#expiries.remove(entry);
    };
    if (at !== undefined) return this.#settle(this.#expiries.batch(move));
    // Unless the same sid has been created again in between: then the entry may be its only one.
    return this.#settle(this.#heads.ifNoExists(key, move));
  }

  async #settle(write: Promise<boolean>): Promise<boolean> {
    try {
      return await write;
    } catch (error) {
      // The library reports the cause in a second promise; unhandled, it would end the process.
      const cause = await (error as { commitError?: Promise<never> }).commitError?.catch(reason => reason);
      throw cause ?? error;
    }
  }
}

/** Sids and names are anybody's text: short plain ones are kept as they are, others as their hash. No key is the beginning of another. */
function keyOf(text: string): Buffer {
  if (/^[\w-]{1,63}$/.test(text)) {
    const key = Buffer.allocUnsafe(1 + text.length);
    key[0] = text.length;
    key.write(text, 1, 'latin1');
    return key;
  }
  // UTF-16, because UTF-8 makes one of all unpaired surrogates.
  return Buffer.concat([Buffer.from([0]), hash('sha256', Buffer.from(text, 'utf16le'), 'buffer')]);
}

function valueKey(sidKey: Buffer, name: string): Buffer {
  return Buffer.concat([sidKey, keyOf(name)]);
}

function expiryKey(at: number, sidKey: Buffer): Buffer {
  const key = Buffer.allocUnsafe(TIME_BYTES + sidKey.length);
  key.writeBigUInt64BE(BigInt(Math.max(0, Math.ceil(at))), 0);
  key.set(sidKey, TIME_BYTES);
  return key;
}

function timeOf(entry: Buffer): number {
  return Number(entry.readBigUInt64BE(0));
}

function encodeHead({ sid, header, attributes }: Head): Buffer {
  return Buffer.from(JSON.stringify([sid, header, [...attributes]]));
}

function decodeHead(bytes: Buffer): Head {
  const [sid, header, attributes] = JSON.parse(bytes.toString()) as [string, SessionHeader, [string, number][]];
  return { sid, header, attributes: new Map(attributes) };
}

function versionsOf(attributes: ReadonlyMap<string, StoredAttribute>): Map<string, number> {
  return new Map(Array.from(attributes, ([name, { version }]) => [name, version]));
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Keeps the list sorted by time. */
function insert(list: { sid: string; at: number }[], item: { sid: string; at: number }): void {
  let index = list.length;
  while (index > 0 && list[index - 1]!.at > item.at) index--;
  list.splice(index, 0, item);
}
