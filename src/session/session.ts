/** What sessions hold. Applications augment it: `declare module 'holdfast' { interface SessionData { cart: CartItem[] } }`. */
// biome-ignore lint/suspicious/noEmptyInterface: it exists to be augmented.
export interface SessionData {}

/** A value read from a session cannot be changed in place: the change would be lost. */
export type DeepReadonly<T> = T extends (...args: never[]) => unknown
  ? T
  : T extends Map<infer K, infer V>
    ? ReadonlyMap<DeepReadonly<K>, DeepReadonly<V>>
    : T extends Set<infer V>
      ? ReadonlySet<DeepReadonly<V>>
      : T extends object
        ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
        : T;

type Key<D> = keyof D extends never ? string : keyof D & string;
type Value<D, K> = K extends keyof D ? D[K] : unknown;

/** Why a session ended. Each session ends exactly once. */
export type SessionEndReason = 'expired' | 'absolute' | 'logout' | 'evicted' | 'admin' | 'security';

/** Who owns a session. */
export interface SessionOwner {
  readonly name: string;
  readonly roles: readonly string[];
}

/**
 * One visitor's state. The object belongs to the request (or socket, or `access` call) that it was given to.
 *
 * Reads are synchronous: the record is loaded before a handler runs. Writes are kept and committed before the response headers
 * leave; on a socket they are visible to every socket of the session at once and committed behind it.
 *
 * After the session ended every member but `id` throws `ERR_SESSION_ENDED`; after its request ended, `ERR_SESSION_OUTSIDE_REQUEST`.
 */
export interface Session<D = SessionData> {
  /** The `sid`: 128 random bits, never changes, not a secret. */
  readonly id: string;
  /** True until the client has sent the session back once. */
  readonly isNew: boolean;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly lastAccessedAt: number;
  /** Milliseconds of silence after which the session ends; `Infinity` never. Settable per session. */
  idleTimeoutMs: number;
  readonly owner: SessionOwner | undefined;

  /** The value, decoded once and deep-frozen: mutating it throws instead of being lost. */
  get<K extends Key<D>>(key: K): DeepReadonly<Value<D, K>> | undefined;
  /**
   * Takes a snapshot of the value at once; changing the object afterwards changes nothing.
   *
   * @throws {HoldfastError} ERR_SESSION_NOT_SERIALIZABLE with the path of what cannot be kept (`cart[3].onClick`), the same on every store;
   * ERR_SESSION_TOO_LARGE.
   */
  set<K extends Key<D>>(key: K, value: Value<D, K>): void;
  /**
   * Compare-and-swap: `change` gets the stored value and may run up to 5 times when others write the same key.
   * Resolves with the value written, once it is committed.
   *
   * @throws {HoldfastError} ERR_SESSION_CONFLICT after 5 tries.
   */
  update<K extends Key<D>>(
    key: K,
    change: (current: DeepReadonly<Value<D, K>> | undefined) => Value<D, K>,
  ): Promise<DeepReadonly<Value<D, K>>>;
  delete(key: Key<D>): void;
  has(key: Key<D>): boolean;
  keys(): string[];

  /** Commits what was changed so far, now. */
  sync(): Promise<void>;
  /**
   * Gives the same session a new secret and the client a new cookie: done at every login. The old secret is dead at once.
   * What was changed so far is committed with it, `owner` included.
   *
   * @throws {HoldfastError} ERR_SESSION_HEADERS_SENT when no response can carry the new cookie any more: after the headers, on a socket,
   * in `access`.
   */
  renew(options?: { readonly owner?: SessionOwner }): Promise<void>;
  /** Ends the session everywhere: its record is gone, its sockets close with 1008. */
  invalidate(reason?: SessionEndReason): Promise<void>;
}
