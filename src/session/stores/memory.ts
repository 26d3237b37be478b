import type { Awaitable } from '../../base/awaitable.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import { SetMap } from '../../base/set-map.ts';
import { expiryOf } from '../record/expiry.ts';
import { nextVersion } from '../record/version.ts';
import { capReached, checkCap, checkShare, DEFAULT_ANONYMOUS_SHARE } from '../room/cap.ts';
import type {
  ApartAttribute,
  CommitResult,
  SessionChanges,
  SessionGlance,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from '../store.ts';

export interface MemoryStoreOptions {
  /**
   * Sessions held at most. At the cap a new one is refused; a living one is never dropped to make room. Default
   * 100,000.
   */
  readonly maxSessions?: number;
  /** Share of these, from 0 to 1, that may be anonymous, so that they leave room for logins. Default 0.8. */
  readonly anonymousShare?: number;
}

const OPTIONS: OptionNames<MemoryStoreOptions> = { maxSessions: 'number', anonymousShare: 'number' };

interface Entry {
  /** Replaced by each change and never changed in place, so that what was read stays a snapshot. */
  record: SessionRecord;
  /** The bucket it is in: that of the time it expires, or an earlier one. `Infinity`: in none. */
  bucket: number;
}

const BUCKET_MS = 1_000;

/**
 * Keeps sessions in this process, for as long as it lives.
 *
 * @example
 * import { MemoryStore } from 'holdfast/session';
 *
 * const store = new MemoryStore({ maxSessions: 1_000 });
 * await store.close();
 */
export class MemoryStore implements SessionStore {
  readonly name = 'memory';
  readonly #entries = new Map<string, Entry>();
  readonly #owned = new SetMap<string, string>();
  /**
   * Sids by the time that they expire at the earliest. A touch moves none: `expired` does, when the bucket's time has
   * come.
   */
  readonly #buckets = new SetMap<number, string>();
  #maxSessions!: number;
  #anonymousShare!: number;
  #anonymous = 0;

  constructor(options: MemoryStoreOptions = {}) {
    this.limit(options);
  }

  /** From now on it holds so many at most; what it holds already stays. @throws {TypeError} as the constructor. */
  limit(options: MemoryStoreOptions): void {
    checkOptions('MemoryStore', options, OPTIONS);
    const { maxSessions = 100_000, anonymousShare = DEFAULT_ANONYMOUS_SHARE } = options;
    this.#maxSessions = checkCap('memory store', maxSessions);
    this.#anonymousShare = checkShare('memory store', anonymousShare);
  }

  async create(sid: string, record: SessionRecord): Promise<boolean> {
    if (this.#entries.has(sid)) return false;
    const { owner } = record.header;
    if (!this.#hasRoom(owner === undefined)) {
      const isFull = this.#entries.size >= this.#maxSessions;
      throw capReached('memory', this.#maxSessions, isFull ? undefined : this.#anonymousShare);
    }
    const bucket = bucketOf(expiryAt(record));
    this.#entries.set(sid, { record, bucket });
    if (bucket < Number.POSITIVE_INFINITY) this.#buckets.add(bucket, sid);
    if (owner) this.#owned.add(owner.name, sid);
    else this.#anonymous++;
    return true;
  }

  async read(sid: string, without?: ReadonlySet<string>): Promise<SessionRecord | undefined> {
    const record = this.#entries.get(sid)?.record;
    return record && without ? leaveOut(record, without) : record;
  }

  async readAttributes(
    sid: string,
    names: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, StoredAttribute> | undefined> {
    const record = this.#entries.get(sid)?.record;
    return record && new Map(Array.from(record.attributes).filter(([name]) => names.has(name)));
  }

  glance(sid: string): Awaitable<SessionGlance | undefined> {
    return this.#entries.get(sid)?.record;
  }

  async commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    const entry = this.#entries.get(sid);
    if (!entry) return { status: 'gone' };
    const { record } = entry;
    const { expectedSecretHash = record.header.secretHash } = changes;
    if (record.header.secretHash !== expectedSecretHash) return { status: 'conflict' };
    for (const [name, version] of changes.expected ?? []) {
      if ((record.attributes.get(name)?.version ?? 0) !== version) return { status: 'conflict' };
    }
    const { version: previous } = record;
    const version = nextVersion(previous, changes.follows);
    const header = changes.header ? { ...record.header, ...changes.header } : record.header;
    const { lastAccessedAt } = record;
    entry.record = { header, version, lastAccessedAt, attributes: applyTo(record.attributes, changes, version) };
    if (!changes.header) return { status: 'committed', version, previous };
    this.#move(sid, entry, Math.min(entry.bucket, bucketOf(expiryAt(entry.record))));
    const before = record.header.owner?.name;
    const after = header.owner?.name;
    if (before !== after) {
      if (before !== undefined) this.#owned.remove(before, sid);
      else this.#anonymous--;
      if (after !== undefined) this.#owned.add(after, sid);
      else this.#anonymous++;
    }
    return { status: 'committed', version, previous };
  }

  async touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    for (const [sid, lastAccessedAt] of accesses) {
      const entry = this.#entries.get(sid);
      if (!entry || entry.record.lastAccessedAt >= lastAccessedAt) continue;
      entry.record = { ...entry.record, lastAccessedAt };
    }
  }

  async delete(sid: string, expiredBy = Number.POSITIVE_INFINITY): Promise<boolean> {
    const entry = this.#entries.get(sid);
    if (!entry || expiryAt(entry.record) > expiredBy) return false;
    this.#move(sid, entry, Number.POSITIVE_INFINITY);
    const { owner } = entry.record.header;
    if (owner) this.#owned.remove(owner.name, sid);
    else this.#anonymous--;
    return this.#entries.delete(sid);
  }

  async expired(now: number, limit: number): Promise<string[]> {
    const due: string[] = [];
    const last = Math.min(bucketOf(now), Number.MAX_SAFE_INTEGER);
    let bucket = this.#firstBucketFrom(Number.NEGATIVE_INFINITY);
    while (bucket <= last && due.length < limit) {
      for (const sid of this.#expiredIn(bucket, now)) due.push(sid);
      bucket = this.#firstBucketFrom(bucket + 1);
    }
    return due.slice(0, limit);
  }

  async *sids(): AsyncIterable<string> {
    yield* this.#entries.keys();
  }

  async sidsOf(owner: string): Promise<string[]> {
    return [...(this.#owned.get(owner) ?? [])];
  }

  async count(): Promise<number> {
    return this.#entries.size;
  }

  async countAnonymous(): Promise<number> {
    return this.#anonymous;
  }

  hasRoom(isAnonymous: boolean): boolean {
    return this.#hasRoom(isAnonymous);
  }

  async close(): Promise<void> {
    this.#entries.clear();
    this.#owned.clear();
    this.#anonymous = 0;
    this.#buckets.clear();
  }

  #hasRoom(isAnonymous: boolean): boolean {
    if (this.#entries.size >= this.#maxSessions) return false;
    return !isAnonymous || this.#anonymous < this.#maxSessions * this.#anonymousShare;
  }

  /**
   * Those of the bucket that have expired, the earliest first. What was touched or prolonged goes to its later bucket.
   */
  #expiredIn(bucket: number, now: number): string[] {
    const due: { readonly sid: string; readonly at: number }[] = [];
    for (const sid of [...this.#buckets.get(bucket)!]) {
      const entry = this.#entries.get(sid)!;
      const at = expiryAt(entry.record);
      this.#move(sid, entry, bucketOf(at));
      if (at <= now && entry.bucket === bucket) due.push({ sid, at });
    }
    return due.sort((a, b) => a.at - b.at).map(({ sid }) => sid);
  }

  /** `Infinity` when there is none. */
  #firstBucketFrom(earliest: number): number {
    let first = Number.POSITIVE_INFINITY;
    for (const bucket of this.#buckets.keys()) if (bucket >= earliest && bucket < first) first = bucket;
    return first;
  }

  #move(sid: string, entry: Entry, bucket: number): void {
    if (bucket === entry.bucket) return;
    if (entry.bucket < Number.POSITIVE_INFINITY) this.#buckets.remove(entry.bucket, sid);
    if (bucket < Number.POSITIVE_INFINITY) this.#buckets.add(bucket, sid);
    entry.bucket = bucket;
  }
}

function leaveOut(record: SessionRecord, without: ReadonlySet<string>): SessionRecord {
  const attributes = new Map<string, StoredAttribute>();
  const apart = new Map<string, ApartAttribute>();
  for (const [name, attribute] of record.attributes) {
    if (without.has(name)) apart.set(name, { version: attribute.version, bytes: attribute.value.length });
    else attributes.set(name, attribute);
  }
  return apart.size > 0 ? { ...record, attributes, apart } : record;
}

function expiryAt({ header, lastAccessedAt }: SessionRecord): number {
  return expiryOf(header, lastAccessedAt);
}

function bucketOf(at: number): number {
  return Math.floor(at / BUCKET_MS);
}

function applyTo(
  attributes: ReadonlyMap<string, StoredAttribute>,
  { set, deleted }: SessionChanges,
  version: number,
): ReadonlyMap<string, StoredAttribute> {
  if (!set?.size && !deleted?.size) return attributes;
  const next = new Map(attributes);
  for (const name of deleted ?? []) next.delete(name);
  for (const [name, value] of set ?? []) next.set(name, { value, version });
  return next;
}
