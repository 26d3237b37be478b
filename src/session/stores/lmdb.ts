import { setImmediate } from 'node:timers/promises';
import type { Database } from 'lmdb';
import { checkNeeded, checkOptions, type OptionNames } from '../../base/options.ts';
import { Rounds, type Waiting } from '../../base/rounds.ts';
import { expiryOf } from '../record/expiry.ts';
import { nextVersion } from '../record/version.ts';
import { DEFAULT_ANONYMOUS_SHARE } from '../room/cap.ts';
import type {
  ApartAttribute,
  CommitResult,
  SessionChanges,
  SessionGlance,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from '../store.ts';
import { SessionCap, type SessionCounts } from './lmdb/cap.ts';
import { LmdbEnvironment } from './lmdb/environment.ts';
import { Head, type HeadAttribute, HeadChange } from './lmdb/head.ts';
import {
  afterTime,
  decodeText,
  encodeText,
  joinKeys,
  keyOf,
  keysBelow,
  NOTHING,
  splitTimeKey,
  timeKey,
} from './lmdb/keys.ts';
import { getLastVersion } from './lmdb/library.ts';
import { ROOM_OPTIONS, type RoomOptions } from './lmdb/room.ts';

export { LmdbLedger, type LmdbLedgerOptions } from '../ledgers/lmdb.ts';

export interface LmdbStoreOptions extends RoomOptions {
  /**
   * A folder, made when it does not exist; its files are readable by their owner only. Any number of processes of one
   * machine and one pid namespace may share it: not two containers, and not a network disk, which are refused.
   */
  readonly path: string;
  /**
   * Sessions held at most, by all processes together. At the cap a new one is refused; a living one is never dropped to
   * make room. Default 1,000,000.
   */
  readonly maxSessions?: number | undefined;
}

const OPTIONS: OptionNames<LmdbStoreOptions> = { path: 'text', maxSessions: 'number', ...ROOM_OPTIONS };

interface Found {
  readonly head: Head;
  readonly version: number;
}

/** One that waits for its turn. */
interface Creation {
  readonly key: Buffer;
  readonly isAnonymous: boolean;
  readonly write: () => void;
}

/** Entries looked at in one turn of the event loop, which costs it some milliseconds. */
const PAGE = 256;
const DEFAULT_MAX_SESSIONS = 1_000_000;
/** Its version changes with each creation near the cap. */
const TURN = keyOf('create-turn');

/**
 * Keeps sessions in a folder, in LMDB: memory-mapped, transactional, shared by the processes of a machine.
 *
 * A promise resolves after the transaction was written and synced to disk (`fdatasync` inside the commit: LMDB's
 * default, without `overlappingSync`). What is acknowledged therefore survives `kill -9` of every process, and loss of
 * power as far as the disk keeps what it says it has. Writes that wait for the disk at the same time share one sync:
 * many at once are far cheaper than one after the other.
 *
 * Layout: the head of a record with its small values, each larger value, and the last access are entries of their own,
 * so a commit writes the head (small) and the larger ones of the values that changed, and a touch writes eight bytes.
 * Every change is conditional on the version it was computed from, checked inside the write transaction, and computed
 * again when it lost: no lock is held while JavaScript runs.
 *
 * Where there is no room (`reserveBytes` of the disk, `maxBytes`, `maxSessions`) creations and commits are refused with
 * ERR_SESSION_NO_ROOM; reads, ends, touches and sweeps go on.
 *
 * A folder of an older version is brought up to date when it is opened; one of a newer version is refused. A folder
 * that is deleted or replaced while it is open is noticed within a second: from then on every call rejects with
 * ERR_SESSION_STORE_UNAVAILABLE.
 *
 * @example
 * import { LmdbStore } from 'holdfast/session/lmdb';
 *
 * const store = new LmdbStore({ path: folder });
 * await store.close();
 */
export class LmdbStore implements SessionStore {
  readonly name = 'lmdb';
  readonly #environment: LmdbEnvironment;
  readonly #heads: Database<Buffer, Buffer>;
  readonly #values: Database<Buffer, Buffer>;
  /** No value: the time is the entry's version, so that "move forward" is one conditional write. */
  readonly #accesses: Database<Buffer, Buffer>;
  /** Owner key and sid key; the value is the sid. Written with the head that names the owner. */
  readonly #owners: Database<Buffer, Buffer>;
  /**
   * Time and sid key. A hint: for every session that can expire there is at least one entry at or before the time it
   * does. Entries that turn out to be early, or whose session is gone, are moved or removed by `expired`; so a touch
   * has not to find them.
   */
  readonly #expiries: Database<Buffer, Buffer>;
  readonly #meta: Database<Buffer, Buffer>;
  readonly #cap: SessionCap;
  /**
   * Near the cap: those of one process together, and one process after the other, so that the count is still true when
   * they are written.
   */
  readonly #creations = new Rounds<Creation, boolean>(round => this.#createAll(round), PAGE);
  #closing: Promise<void> | undefined;

  /**
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the folder cannot be opened, a newer version has written
   * it, a process in another pid namespace (another container) has it open, or it is on a network disk;
   * ERR_SESSION_NO_ROOM when its disk is too full. @throws {TypeError} when an option cannot work.
   */
  constructor(options: LmdbStoreOptions) {
    checkOptions('LmdbStore', options, OPTIONS);
    checkNeeded('LmdbStore', options, ['path'], "{ path: './data/sessions' }");
    const { path, maxSessions = DEFAULT_MAX_SESSIONS, ...room } = options;
    const { anonymousShare = DEFAULT_ANONYMOUS_SHARE } = room;
    this.#cap = new SessionCap(maxSessions, anonymousShare, () => this.#environment.read(() => this.#counts()));
    this.#environment = LmdbEnvironment.acquire(path, room);
    this.#heads = this.#environment.database('heads', true);
    this.#values = this.#environment.database('values', false);
    this.#accesses = this.#environment.database('accesses', true);
    this.#owners = this.#environment.database('owners', false);
    this.#expiries = this.#environment.database('expiries', false);
    this.#meta = this.#environment.database('meta', true);
  }

  async create(sid: string, record: SessionRecord): Promise<boolean> {
    const key = keyOf(sid);
    if (this.#environment.read(() => versionIn(this.#heads, key)) !== undefined) return false;
    const { header, attributes, lastAccessedAt, version } = record;
    const isAnonymous = header.owner === undefined;
    const change = new HeadChange(new Map());
    for (const [name, attribute] of attributes) change.set(name, attribute.value, attribute.version);
    const head = Head.of(sid, header, change.attributes).encode();
    this.#environment.room.take(head.length + change.putBytes, isAnonymous ? 'anonymous' : 'owned');
    const write = () => {
      void this.#heads.put(key, head, version);
      void this.#accesses.put(key, NOTHING, lastAccessedAt);
      this.#writeValues(key, change);
      if (header.owner) this.#putOwner(header.owner.name, key, sid);
      this.#putExpiry(key, expiryOf(header, lastAccessedAt));
    };
    if (this.#cap.isFar(isAnonymous))
      return this.#cap.watch(this.#environment.settle(this.#heads.ifNoExists(key, write)));
    return this.#creations.add({ key, isAnonymous, write });
  }

  async read(sid: string, without?: ReadonlySet<string>): Promise<SessionRecord | undefined> {
    const key = keyOf(sid);
    return this.#environment.read(() => {
      const found = this.#find(key);
      if (!found) return undefined;
      const { head, version } = found;
      const attributes = new Map<string, StoredAttribute>();
      let apart: Map<string, ApartAttribute> | undefined;
      for (const [name, attribute] of head.attributes) {
        if (without?.has(name)) (apart ??= new Map()).set(name, this.#sizeOf(key, name, attribute));
        else attributes.set(name, this.#valueOf(key, name, attribute));
      }
      const lastAccessedAt = this.#lastAccess(key);
      return { header: head.header, version, lastAccessedAt, attributes, ...(apart && { apart }) };
    });
  }

  async readAttributes(
    sid: string,
    names: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, StoredAttribute> | undefined> {
    const key = keyOf(sid);
    return this.#environment.read(() => {
      const found = this.#find(key);
      if (!found) return undefined;
      const attributes = new Map<string, StoredAttribute>();
      for (const name of names) {
        const attribute = found.head.attributes.get(name);
        if (attribute) attributes.set(name, this.#valueOf(key, name, attribute));
      }
      return attributes;
    });
  }

  glance(sid: string): SessionGlance | undefined {
    const key = keyOf(sid);
    return this.#environment.read(() => {
      const version = versionIn(this.#heads, key);
      return version === undefined ? undefined : { version, lastAccessedAt: this.#lastAccess(key) };
    });
  }

  async commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    const key = keyOf(sid);
    for (;;) {
      const found = this.#environment.read(() => this.#find(key));
      if (!found) return { status: 'gone' };
      const { head } = found;
      const { expectedSecretHash } = changes;
      if (expectedSecretHash !== undefined && expectedSecretHash !== head.header.secretHash)
        return { status: 'conflict' };
      for (const [name, expected] of changes.expected ?? []) {
        if ((head.attributes.get(name)?.version ?? 0) !== expected) return { status: 'conflict' };
      }
      const version = nextVersion(found.version, changes.follows);
      if (await this.#write(key, found, changes, version))
        return { status: 'committed', version, previous: found.version };
    }
  }

  async touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    let writes: Promise<void>[] = [];
    for (const [sid, at] of accesses) {
      if (writes.length === 0) this.#environment.room.take(0, 'upkeep');
      writes.push(this.#touchOne(keyOf(sid), at));
      if (writes.length < PAGE) continue;
      await Promise.all(writes);
      writes = [];
    }
    await Promise.all(writes);
  }

  async delete(sid: string, expiredBy = Number.POSITIVE_INFINITY): Promise<boolean> {
    const key = keyOf(sid);
    this.#environment.room.take(0, 'upkeep');
    for (;;) {
      const found = this.#environment.read(() => this.#find(key));
      if (!found) return false;
      const lastAccessedAt = this.#lastAccess(key);
      const expiresAt = expiryOf(found.head.header, lastAccessedAt);
      if (expiresAt > expiredBy) return false;
      const remove = () => {
        const { header, attributes } = found.head;
        void this.#heads.remove(key);
        void this.#accesses.remove(key);
        for (const [name, { value }] of attributes) if (!value) void this.#values.remove(valueKey(key, name));
        if (header.owner) void this.#owners.remove(joinKeys(keyOf(header.owner.name), key));
        if (isIndexed(expiresAt)) void this.#expiries.remove(timeKey(expiresAt, key));
      };
      if (expiredBy === Number.POSITIVE_INFINITY) {
        if (await this.#environment.settle(this.#heads.ifVersion(key, found.version, remove))) return true;
        continue;
      }
      // Of nested conditions the inner one tells whether both were met.
      let write!: Promise<boolean>;
      const outer = this.#accesses.ifVersion(key, lastAccessedAt, () => {
        write = this.#heads.ifVersion(key, found.version, remove);
      });
      const [isDeleted] = await Promise.all([this.#environment.settle(write), this.#environment.settle(outer)]);
      if (isDeleted) return true;
    }
  }

  async expired(now: number, limit: number): Promise<string[]> {
    this.#environment.checkFolder();
    this.#environment.forgetDeadReaders();
    const due = new Map<string, number>();
    let inPlace = 0;
    const mayMove = this.#environment.room.hasRoomFor('upkeep');
    let after: Buffer | undefined;
    // In the order of the index: what has not been seen expires later than all that was found in its place. The others
    // are sorted in.
    while (inPlace < limit) {
      const writes: Promise<boolean>[] = [];
      const page = this.#environment.read(() => {
        const range = { start: after, exclusiveStart: after !== undefined, end: afterTime(now), limit: PAGE };
        const entries = Array.from(this.#expiries.getRange(range), entry => Buffer.from(entry.key));
        for (const entry of entries) {
          const { at: indexedAt, key } = splitTimeKey(entry);
          const found = this.#find(key);
          const at = found && Math.ceil(expiryOf(found.head.header, this.#lastAccess(key)));
          if (at !== indexedAt && mayMove) writes.push(this.#moveExpiry(entry, key, found?.version, at));
          if (found && at! <= now) due.set(found.head.sid, at!);
          if (at === indexedAt && ++inPlace >= limit) break;
        }
        return entries;
      });
      await (writes.length > 0 ? Promise.all(writes) : setImmediate());
      if (page.length < PAGE) break;
      after = page.at(-1);
    }
    return [...due]
      .sort(([, a], [, b]) => a - b)
      .slice(0, limit)
      .map(([sid]) => sid);
  }

  async *sids(): AsyncIterable<string> {
    for await (const { value } of this.#pages(this.#heads)) yield Head.decode(value).sid;
  }

  async sidsOf(owner: string): Promise<string[]> {
    const sids: string[] = [];
    for await (const { value } of this.#pages(this.#owners, keysBelow(keyOf(owner)))) sids.push(decodeText(value));
    return sids;
  }

  async count(): Promise<number> {
    return this.#environment.read(() => entriesOf(this.#heads));
  }

  async countAnonymous(): Promise<number> {
    return this.#environment.read(() => this.#counts().anonymous);
  }

  hasRoom(isAnonymous: boolean): boolean {
    return this.#cap.hasRoom(isAnonymous) && this.#environment.room.hasRoomFor(isAnonymous ? 'anonymous' : 'owned');
  }

  close(): Promise<void> {
    this.#closing ??= this.#environment.release();
    return this.#closing;
  }

  /** Entries of a range, a page in each turn of the event loop. */
  async *#pages(
    database: Database<Buffer, Buffer>,
    { start, end }: { start?: Buffer; end?: Buffer } = {},
  ): AsyncIterable<{ key: Buffer; value: Buffer }> {
    let after = start;
    for (;;) {
      const range = { start: after, exclusiveStart: after !== start, ...(end && { end }), limit: PAGE };
      const page = this.#environment.read(() =>
        Array.from(database.getRange(range), ({ key, value }) => ({
          key: Buffer.from(key),
          value: Buffer.from(value),
        })),
      );
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1)!.key;
      await setImmediate();
    }
  }

  /** Each session that is owned has one entry of its owner, and no other has. */
  #counts(): SessionCounts {
    const sessions = entriesOf(this.#heads);
    return { sessions, anonymous: sessions - entriesOf(this.#owners) };
  }

  async #createAll(creations: readonly Waiting<Creation, boolean>[]): Promise<void> {
    for (let left = creations; left.length > 0; ) left = await this.#tryToCreate(left);
  }

  /** Returns those whose turn another process has taken. */
  async #tryToCreate(creations: readonly Waiting<Creation, boolean>[]): Promise<Waiting<Creation, boolean>[]> {
    const { turn, counts } = this.#environment.read(() => ({
      turn: versionIn(this.#meta, TURN),
      counts: this.#counts(),
    }));
    const items = creations.map(({ item }) => item);
    const refusals = this.#cap.refusals(counts, items);
    for (const [index, { reject }] of creations.entries()) if (refusals[index]) reject(refusals[index]);
    const admitted = creations.filter((_, index) => refusals[index] === undefined);
    // A chain that begins where the count was made, and that nobody else can be in. One for each, because where an
    // outer condition is not met, what stands behind an inner one is written all the same.
    const first = 1 + Math.floor(Math.random() * 2 ** 52);
    const writes = admitted.map(({ item: { key, write } }, index) => {
      let creation!: Promise<boolean>;
      const take = () => {
        void this.#meta.put(TURN, NOTHING, first + index);
        creation = this.#heads.ifNoExists(key, write);
      };
      const expected = index > 0 ? first + index - 1 : turn;
      const taken = this.#environment.writeIf(this.#meta, TURN, expected, take);
      return Promise.all([this.#environment.settle(creation), taken]);
    });
    const written = await Promise.all(writes);
    return admitted.filter((creation, index) => {
      const [isCreated, isMine] = written[index]!;
      // Where the outer condition is not met, the inner one says nothing: that of absence says true.
      if (isMine) creation.resolve(isCreated);
      return !isMine;
    });
  }

  #find(key: Buffer): Found | undefined {
    const bytes = this.#heads.getBinaryFast(key);
    if (!bytes) return undefined;
    return { version: getLastVersion(), head: Head.decode(bytes) };
  }

  #valueOf(key: Buffer, name: string, { version, value }: HeadAttribute): StoredAttribute {
    return { value: value ?? this.#values.getBinary(valueKey(key, name))!, version };
  }

  /** Without touching its value, unless an older version has not said how long that is. */
  #sizeOf(key: Buffer, name: string, { version, value, bytes }: HeadAttribute): ApartAttribute {
    return { version, bytes: value?.length ?? bytes ?? this.#lengthOf(key, name)! };
  }

  /** Of a value of its own; undefined when it is not there any more. */
  #lengthOf(key: Buffer, name: string): number | undefined {
    return this.#values.getBinaryFast(valueKey(key, name))?.length;
  }

  #lastAccess(key: Buffer): number {
    return versionIn(this.#accesses, key)!;
  }

  /** False when somebody else changed the record since it was found. */
  #write(key: Buffer, { head, version: previous }: Found, changes: SessionChanges, version: number): Promise<boolean> {
    const change = new HeadChange(head.attributes);
    for (const name of changes.deleted ?? []) change.delete(name);
    for (const [name, value] of changes.set ?? []) change.set(name, value, version);
    // From here on it is known: what has changed since the head was found is not written.
    change.learnSizes(name => this.#environment.read(() => this.#lengthOf(key, name)));
    const header = changes.header && { ...head.header, ...changes.header };
    const bytes = head.with(header, change.attributes).encode();
    const { room } = this.#environment;
    if (!header && !changes.set?.size) room.take(0, 'upkeep');
    else {
      const size = bytes.length + change.putBytes;
      // Whose it is has to be read only where that matters.
      const isAnonymous = !room.hasRoomFor('anonymous', size) && (header ?? head.header).owner === undefined;
      room.take(size, isAnonymous ? 'anonymous' : 'owned');
    }
    if (!header && change.isHeadOnly) return this.#environment.settle(this.#heads.put(key, bytes, version, previous));
    const expiresAt = header && expiryOf(header, this.#lastAccess(key));
    return this.#environment.settle(
      this.#heads.ifVersion(key, previous, () => {
        void this.#heads.put(key, bytes, version);
        this.#writeValues(key, change);
        if (!header) return;
        this.#putExpiry(key, expiresAt!);
        const [before, after] = [head.header.owner?.name, header.owner?.name];
        if (before === after) return;
        if (before !== undefined) void this.#owners.remove(joinKeys(keyOf(before), key));
        if (after !== undefined) this.#putOwner(after, key, head.sid);
      }),
    );
  }

  #writeValues(key: Buffer, { put, removed }: HeadChange): void {
    for (const name of removed) void this.#values.remove(valueKey(key, name));
    for (const [name, value] of put) void this.#values.put(valueKey(key, name), toBuffer(value));
  }

  async #touchOne(key: Buffer, at: number): Promise<void> {
    for (;;) {
      const accessedAt = this.#environment.read(() => versionIn(this.#accesses, key));
      if (accessedAt === undefined || accessedAt >= at) return;
      const write = this.#accesses.ifVersion(key, accessedAt, () => void this.#accesses.put(key, NOTHING, at));
      if (await this.#environment.settle(write)) return;
    }
  }

  #putOwner(name: string, key: Buffer, sid: string): void {
    void this.#owners.put(joinKeys(keyOf(name), key), encodeText(sid));
  }

  #putExpiry(key: Buffer, at: number): void {
    if (isIndexed(at)) void this.#expiries.put(timeKey(at, key), NOTHING);
  }

  /**
   * Corrects an index entry: `at` is when its session really expires, `undefined` when it is gone. Not if the session
   * has changed or was created again in between: then the entry may be its only one.
   */
  #moveExpiry(entry: Buffer, key: Buffer, version: number | undefined, at: number | undefined): Promise<boolean> {
    const move = () => {
      if (at !== undefined) this.#putExpiry(key, at);
      void this.#expiries.remove(entry);
    };
    return this.#environment.writeIf(this.#heads, key, version, move);
  }
}

function entriesOf(database: Database<Buffer, Buffer>): number {
  return (database.getStats() as { entryCount: number }).entryCount;
}

/** False for a time that will never come: no date is as late, and no key could say it. */
function isIndexed(at: number): boolean {
  return at < Number.MAX_SAFE_INTEGER;
}

function valueKey(sidKey: Buffer, name: string): Buffer {
  return joinKeys(sidKey, keyOf(name));
}

/** The version of an entry, without a copy of its value. */
function versionIn(database: Database<Buffer, Buffer>, key: Buffer): number | undefined {
  return database.getBinaryFast(key) === undefined ? undefined : getLastVersion();
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
