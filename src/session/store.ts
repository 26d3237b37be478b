/** What a session is apart from its attributes. Times are milliseconds since the epoch. */
export interface SessionHeader {
  /** SHA-256 of the secret, base64url. The secret itself is never stored. */
  readonly secretHash: string;
  readonly createdAt: number;
  /** The user who owns it; absent while anonymous. */
  readonly owner?: { readonly name: string; readonly roles: readonly string[] };
  /** Milliseconds of silence after which it ends; absent: never. */
  readonly idleTimeoutMs?: number;
  /** When it ends whatever happens; absent: never. */
  readonly absoluteExpiresAt?: number;
}

/** One attribute as stored: opaque bytes with a version of their own. */
export interface StoredAttribute {
  readonly value: Uint8Array;
  /**
   * Grows by one with each write of this attribute. An attribute that a commit adds starts at the record's new version, so that no
   * version ever returns, not even after a delete: a compare-and-swap cannot mistake a new attribute for an old one.
   */
  readonly version: number;
}

export interface SessionRecord {
  readonly header: SessionHeader;
  /** Grows by one with each commit that changes the header or an attribute. Never with a touch. */
  readonly version: number;
  readonly lastAccessedAt: number;
  readonly attributes: ReadonlyMap<string, StoredAttribute>;
}

/** What one commit changes. Attributes that are not named stay as they are. */
export interface SessionChanges {
  /**
   * Header fields to replace; a field that is present with `undefined` is removed. Fields not named stay as they are, so that a new
   * idle limit from one request never brings back the secret that another request has just replaced.
   */
  readonly header?: Partial<SessionHeader>;
  readonly set?: ReadonlyMap<string, Uint8Array>;
  readonly deleted?: ReadonlySet<string>;
  /**
   * Compare-and-swap: the commit happens only if each named attribute still has this version (0: is absent).
   * Attributes not named here are last-wins.
   */
  readonly expected?: ReadonlyMap<string, number>;
}

export type CommitResult =
  | { readonly status: 'committed'; readonly version: number }
  /** The session does not exist (any more): nothing was written. This is what keeps an ended session from coming back. */
  | { readonly status: 'gone' }
  /** An `expected` version did not match: nothing was written. */
  | { readonly status: 'conflict' };

/**
 * Where sessions are kept. The contract that `holdfast/testing` checks on every store.
 *
 * The sid comes from the network: treat it as untrusted. A store MUST make each call atomic per sid, and MUST NOT return
 * from `create`, `commit` or `delete` before the change would survive the loss of the process (memory: as long as the process).
 * A store that cannot be reached rejects with `ERR_SESSION_STORE_UNAVAILABLE`, never with an empty answer.
 */
export interface SessionStore {
  readonly name: string;
  /** Put-if-absent. Returns false, and writes nothing, when the sid exists. @throws ERR_SESSION_NO_ROOM at a hard cap. */
  create(sid: string, record: SessionRecord): Promise<boolean>;
  /** The whole record, or undefined. MUST return it also when it is past its expiry: expiry is the manager's judgement. */
  read(sid: string): Promise<SessionRecord | undefined>;
  /** The record's version only, as cheaply as the store can: this is asked on every request. Undefined when the session is gone. */
  readVersion(sid: string): Promise<number | undefined>;
  /** Applies the changes if the session still exists. Merges: two commits that change different attributes both survive. */
  commit(sid: string, changes: SessionChanges): Promise<CommitResult>;
  /** Moves last access forward for many sessions at once; ignores the ones that are gone; changes no version. */
  touch(accesses: ReadonlyMap<string, number>): Promise<void>;
  /** Deletes the session. True for exactly one caller in the whole cluster: who gets true has ended it and tells the others. */
  delete(sid: string): Promise<boolean>;
  /** Sessions whose idle or absolute limit is `now` or earlier, the earliest limit first, at most `limit`. Deletes nothing. */
  expired(now: number, limit: number): Promise<string[]>;
  /** Every sid, without loading everything at once. */
  sids(): AsyncIterable<string>;
  count(): Promise<number>;
  close(): Promise<void>;
}
