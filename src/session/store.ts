import type { Awaitable } from '../base/awaitable.ts';

/**
 * What a session is apart from its attributes. Times are milliseconds since the epoch.
 *
 * A store looks at `owner.name`, `idleTimeoutMs` and `absoluteExpiresAt` only. It keeps every other field as it is,
 * also one that it does not know: a newer version may have written it. All are what JSON can say.
 */
export interface SessionHeader {
  /** SHA-256 of the secret, base64url. The secret itself is never stored. */
  readonly secretHash: string;
  /** When the secret was made, if that was not with the session. */
  readonly secretAt?: number;
  /** The secret before this one. */
  readonly former?: FormerSecret;
  readonly createdAt: number;
  /** The user who owns it; absent while anonymous. */
  readonly owner?: {
    readonly name: string;
    readonly roles: readonly string[];
    /** The owner proves who they are with each request (basic, token, certificate); the session alone does not. */
    readonly isShownByRequest?: true;
    /** The scheme of the server by which they have signed in; absent: by the application itself. */
    readonly scheme?: string;
    /** What names the credentials that they have signed in with. */
    readonly credential?: string;
  };
  /** Milliseconds of silence after which it ends; absent: never. */
  readonly idleTimeoutMs?: number;
  /** When it ends whatever happens; absent: never. */
  readonly absoluteExpiresAt?: number;
  /** The login has asked for the two times before this, or for a cookie that is or is not kept when the browser is closed. */
  readonly login?: { readonly isPersistent?: boolean };
}

/** A secret that was replaced, so that whoever still sends it can be told from a thief. */
export interface FormerSecret {
  readonly secretHash: string;
  /**
   * `rotated`: by time, for the same user; it works until `until`. `renewed`: at a login; it is dead, and harmless to
   * send, until then.
   */
  readonly kind: 'rotated' | 'renewed';
  /** Absent: until the secret that replaced it has been used, which says that the client has got it. */
  readonly until?: number;
}

/** One attribute as stored: opaque bytes with a version of their own. */
export interface StoredAttribute {
  readonly value: Uint8Array;
  /**
   * The record's version since the commit that wrote it, so that none ever returns: a compare-and-swap cannot mistake a
   * new value for an old one.
   */
  readonly version: number;
}

/** An attribute that a read has left out: what is known of it without its value. */
export interface ApartAttribute {
  /** As of `StoredAttribute`. */
  readonly version: number;
  /** How long its value is. */
  readonly bytes: number;
}

export interface SessionRecord {
  readonly header: SessionHeader;
  /**
   * Which of its states this is, from 1 to 2⁵³ − 1; each commit gives it another one, a touch does not. Make it with
   * `firstVersion` and `nextVersion`.
   */
  readonly version: number;
  /**
   * In milliseconds. Keep its fraction, to 1/2048 ms: it says which process has used the session last. What is rounded to
   * whole milliseconds says nothing, and what is rounded otherwise (to microseconds) says that it was another process.
   */
  readonly lastAccessedAt: number;
  readonly attributes: ReadonlyMap<string, StoredAttribute>;
  /** Those that `read` was asked to leave out, and has left out: they are not in `attributes`. Absent: none. */
  readonly apart?: ReadonlyMap<string, ApartAttribute>;
}

/** What a record's validity can be judged by without reading it. */
export interface SessionGlance {
  readonly version: number;
  readonly lastAccessedAt: number;
}

/** What one commit changes. Attributes that are not named stay as they are. */
export interface SessionChanges {
  /**
   * Header fields to replace; a field that is present with `undefined` is removed. Fields not named stay as they are,
   * so that a new idle limit from one request never brings back the secret that another request has just replaced.
   */
  readonly header?: Partial<SessionHeader>;
  readonly set?: ReadonlyMap<string, Uint8Array>;
  readonly deleted?: ReadonlySet<string>;
  /**
   * Compare-and-swap: the commit happens only if each named attribute still has this version (0: is absent).
   * Attributes not named here are last-wins.
   */
  readonly expected?: ReadonlyMap<string, number>;
  /** The commit happens only if the header's `secretHash` is still this: of two logins at the same moment one wins. */
  readonly expectedSecretHash?: string;
  /**
   * The version that the caller itself has written last, and has not followed with another commit yet. Where the record
   * still has it, the new version goes on counting in its lineage; in any other case, also without it, the new version
   * is the first of a new lineage. It is not a condition. For `nextVersion`.
   */
  readonly follows?: number;
}

export type CommitResult =
  | {
      readonly status: 'committed';
      readonly version: number;
      /** What it was before. */
      readonly previous: number;
    }
  /**
   * The session does not exist (any more): nothing was written. This is what keeps an ended session from coming back.
   */
  | { readonly status: 'gone' }
  /** An `expected` version or the `expectedSecretHash` did not match: nothing was written. */
  | { readonly status: 'conflict' };

/**
 * Where sessions are kept. The contract that `holdfast/testing` checks on every store.
 *
 * The sid comes from the network: treat it as untrusted. A store MUST make each call atomic per sid, and MUST NOT
 * return from `create`, `commit` or `delete` before the change would survive the loss of the process (memory: as long
 * as the process). A store that cannot be reached rejects with `ERR_SESSION_STORE_UNAVAILABLE`, never with an empty
 * answer.
 */
export interface SessionStore {
  readonly name: string;
  /**
   * Put-if-absent, with the version that the record has. Returns false, and writes nothing, when the sid exists.
   *
   * @throws ERR_SESSION_NO_ROOM at a hard cap, or where there is no room for it.
   *
   * @example
   * console.log(await store.create(sid, record), await store.create(sid, record)); // true false
   */
  create(sid: string, record: SessionRecord): Promise<boolean>;
  /**
   * The whole record, or undefined. MUST return it also when it is past its expiry: expiry is the manager's judgement.
   *
   * @param without Names of attributes whose values are not needed. One that the store leaves out is in `apart` of the
   * record, with its version and size; a store may as well return all values, and then costs what they cost. Names that
   * the session does not have make no difference.
   *
   * @example
   * await store.create(sid, record);
   * console.log((await store.read(sid))?.version === record.version); // true
   */
  read(sid: string, without?: ReadonlySet<string>): Promise<SessionRecord | undefined>;
  /**
   * The attributes of these names, as they are at one moment; those that the session does not have are missing.
   * Undefined when the session is gone. Optional: without it the whole record is read.
   *
   * @example
   * await store.create(sid, record);
   * await store.commit(sid, { set: new Map([['theme', new Uint8Array([1])]]) });
   * console.log((await store.readAttributes?.(sid, new Set(['theme', 'cart'])))?.size); // 1
   */
  readAttributes?(sid: string, names: ReadonlySet<string>): Promise<ReadonlyMap<string, StoredAttribute> | undefined>;
  /**
   * Version and last access only, as cheaply as the store can: this is asked on every request. A store that knows them
   * at once returns them without a promise. Undefined when the session is gone.
   *
   * @example
   * await store.create(sid, record);
   * console.log((await store.glance(sid))?.lastAccessedAt === record.lastAccessedAt); // true
   */
  glance(sid: string): Awaitable<SessionGlance | undefined>;
  /**
   * Applies the changes if the session still exists. Merges: two commits that change different attributes both survive.
   *
   * @throws ERR_SESSION_NO_ROOM where there is no room for them.
   *
   * @example
   * await store.create(sid, record);
   * const { status } = await store.commit(sid, { set: new Map([['theme', new Uint8Array([1])]]) });
   * console.log(status); // committed
   */
  commit(sid: string, changes: SessionChanges): Promise<CommitResult>;
  /**
   * Moves last access forward for many sessions at once; ignores the ones that are gone; changes no version.
   *
   * @example
   * await store.create(sid, record);
   * await store.touch(new Map([[sid, record.lastAccessedAt + 1_000]]));
   */
  touch(accesses: ReadonlyMap<string, number>): Promise<void>;
  /**
   * Deletes the session. True for exactly one caller in the whole cluster: who gets true has ended it and tells the
   * others.
   *
   * @param expiredBy Delete it only if its idle or absolute limit, as they are at the moment of deleting, is then or
   * earlier: a touch or a longer limit that came in between saves it.
   *
   * @example
   * await store.create(sid, record);
   * console.log(await store.delete(sid), await store.delete(sid)); // true false
   */
  delete(sid: string, expiredBy?: number): Promise<boolean>;
  /**
   * Sessions whose idle or absolute limit is `now` or earlier, the earliest limit first, at most `limit`. Deletes
   * nothing.
   *
   * @example
   * await store.create(sid, record);
   * const tomorrow = record.header.createdAt + 86_400_000;
   * console.log((await store.expired(tomorrow, 100)).length); // 1
   */
  expired(now: number, limit: number): Promise<string[]>;
  /**
   * Every sid, without loading everything at once. What is created or deleted meanwhile may be missing or there;
   * nothing comes twice.
   *
   * @example
   * await store.create(sid, record);
   * for await (const one of store.sids()) console.log(one === sid); // true
   */
  sids(): AsyncIterable<string>;
  /**
   * The sids of the sessions that `header.owner.name` owns, in no order. Follows `create`, `commit` and `delete` at
   * once.
   *
   * @example
   * await store.create(sid, record);
   * console.log((await store.sidsOf('alice')).length); // 1
   */
  sidsOf(owner: string): Promise<string[]>;
  /**
   * @example
   * await store.create(sid, record);
   * console.log(await store.count()); // 1
   */
  count(): Promise<number>;
  /**
   * How many sessions have no owner. Optional: without it a cap takes every session for anonymous.
   *
   * @example
   * await store.create(sid, record);
   * console.log(await store.countAnonymous?.()); // 0
   */
  countAnonymous?(): Promise<number>;
  /**
   * For a store that keeps a cap of its own: false when `create` would refuse a session now, `isAnonymous` one without
   * an owner. Asked often, and no promise: `create` decides. Optional: without it the manager keeps the cap.
   *
   * @example
   * console.log(store.hasRoom?.(true)); // true
   */
  hasRoom?(isAnonymous: boolean): boolean;
  /**
   * Which share (0 to 1) is in use of the memory that the store may take; undefined: there is no limit. Optional.
   *
   * @example
   * console.log(await store.fullness?.()); // undefined
   */
  fullness?(): Promise<number | undefined>;
  /**
   * Tells what other processes commit and delete (its own too, if that is easier). Optional: without it a process can
   * only ask.
   *
   * Delivery is at most once, but a gap MUST be visible: `isCurrent` false from the moment that something may have been
   * missed, and no later than 1 s after the connection has become silent. Resolves when everything from now on is told.
   *
   * @example
   * const feed = await store.watch?.(changed => console.log(changed === sid));
   * await feed?.close();
   */
  watch?(onChange: (sid: string) => void): Promise<SessionFeed>;
  /**
   * How often the connection to the data was lost so far. What was read before a loss may be an old state by now
   * although its version is still there (somebody else took over, and did not have the latest writes), so it is read
   * again. Absent: that cannot happen.
   */
  readonly interruptions?: number;
  /**
   * What the store's own clock says, in milliseconds since the epoch. Sessions begin and end by it, so that processes
   * whose machines have different times judge alike. Absent: by the clock of this machine, which all its users then
   * have to share.
   *
   * @example
   * const offset = ((await store.time?.()) ?? Date.now()) - Date.now();
   * console.log(Math.abs(offset) < 5_000); // true
   */
  time?(): Promise<number>;
  /**
   * @example
   * await store.close();
   */
  close(): Promise<void>;
}

/** A running `watch`. */
export interface SessionFeed {
  /** True while nothing has been missed. It may become true again: then what was known before must be asked anew. */
  readonly isCurrent: boolean;
  /** Grows whenever something may have been missed. */
  readonly gaps: number;
  close(): Promise<void>;
}
