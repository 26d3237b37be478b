import { HoldfastError } from '../../base/errors.ts';
import { expiryOf } from '../expiry.ts';
import type { CommitResult, SessionChanges, SessionRecord, SessionStore, StoredAttribute } from '../store.ts';

export interface MemoryStoreOptions {
  /** Sessions held at most. At the cap a new one is refused; a living one is never dropped to make room. Default 100,000. */
  readonly maxSessions?: number;
}

/** Keeps sessions in this process, for as long as it lives. */
export class MemoryStore implements SessionStore {
  readonly name = 'memory';
  /** A record is replaced by each change and never changed in place, so that what was read stays a snapshot. */
  readonly #records = new Map<string, SessionRecord>();
  readonly #maxSessions: number;

  constructor(options: MemoryStoreOptions = {}) {
    const { maxSessions = 100_000 } = options;
    if (!(maxSessions > 0)) throw new TypeError(`memory store: maxSessions must be more than 0, not ${maxSessions}`);
    this.#maxSessions = maxSessions;
  }

  async create(sid: string, record: SessionRecord): Promise<boolean> {
    if (this.#records.has(sid)) return false;
    if (this.#records.size >= this.#maxSessions) {
      throw new HoldfastError(
        'ERR_SESSION_NO_ROOM',
        `memory store: ${this.#maxSessions} sessions are held already; raise maxSessions, or use a store on disk`,
        { status: 503 },
      );
    }
    this.#records.set(sid, record);
    return true;
  }

  async read(sid: string): Promise<SessionRecord | undefined> {
    return this.#records.get(sid);
  }

  async readVersion(sid: string): Promise<number | undefined> {
    return this.#records.get(sid)?.version;
  }

  async commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    const record = this.#records.get(sid);
    if (!record) return { status: 'gone' };
    for (const [name, version] of changes.expected ?? []) {
      if ((record.attributes.get(name)?.version ?? 0) !== version) return { status: 'conflict' };
    }
    const version = record.version + 1;
    this.#records.set(sid, {
      header: changes.header ? { ...record.header, ...changes.header } : record.header,
      version,
      lastAccessedAt: record.lastAccessedAt,
      attributes: applyTo(record.attributes, changes, version),
    });
    return { status: 'committed', version };
  }

  async touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    for (const [sid, lastAccessedAt] of accesses) {
      const record = this.#records.get(sid);
      if (record && record.lastAccessedAt < lastAccessedAt) this.#records.set(sid, { ...record, lastAccessedAt });
    }
  }

  async delete(sid: string): Promise<boolean> {
    return this.#records.delete(sid);
  }

  async expired(now: number, limit: number): Promise<string[]> {
    const due: { sid: string; at: number }[] = [];
    for (const [sid, record] of this.#records) {
      const at = expiryOf(record.header, record.lastAccessedAt);
      if (at <= now) due.push({ sid, at });
    }
    due.sort((a, b) => a.at - b.at);
    return due.slice(0, limit).map(({ sid }) => sid);
  }

  async *sids(): AsyncIterable<string> {
    yield* this.#records.keys();
  }

  async count(): Promise<number> {
    return this.#records.size;
  }

  async close(): Promise<void> {
    this.#records.clear();
  }
}

function applyTo(
  attributes: ReadonlyMap<string, StoredAttribute>,
  { set, deleted }: SessionChanges,
  recordVersion: number,
): ReadonlyMap<string, StoredAttribute> {
  if (!set?.size && !deleted?.size) return attributes;
  const next = new Map(attributes);
  for (const name of deleted ?? []) next.delete(name);
  for (const [name, value] of set ?? []) {
    const before = attributes.get(name);
    next.set(name, { value, version: before ? before.version + 1 : recordVersion });
  }
  return next;
}
