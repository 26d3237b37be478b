import type { OptionNames } from '../base/options.ts';

/**
 * What sessions hold. Applications augment it: `declare module 'holdfast' { interface SessionData { cart: CartItem[] }
 * }`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: it exists to be augmented.
export interface SessionData {}

/**
 * A value as it is read from a session: it cannot be changed in place, because the change would be lost.
 *
 * Methods stay. Bytes, dates, errors, and instances of classes with private members keep their type, so that they can
 * be passed on as what they are; the others are assignable to their class unless it has arrays, Maps or Sets in it that
 * can be changed.
 */
export type DeepReadonly<T> = T extends Unchanging
  ? T
  : T extends Map<infer K, infer V>
    ? ReadonlyMap<DeepReadonly<K>, DeepReadonly<V>>
    : T extends Set<infer V>
      ? ReadonlySet<DeepReadonly<V>>
      : T extends object
        ? Public<T> extends T
          ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
          : T
        : T;

type Unchanging =
  | string
  | number
  | bigint
  | boolean
  | symbol
  | null
  | undefined
  | ((...args: never[]) => unknown)
  | ArrayBufferLike
  | ArrayBufferView
  | Date
  | RegExp
  | Error;

/** Without private members: what has some is not assignable from it. */
type Public<T> = { [K in keyof T]: T[K] };

type Key<D> = keyof D extends never ? string : keyof D & string;
type Value<D, K> = K extends keyof D ? D[K] : unknown;

/** What may stand before a `:` in a name: `shop` and `shop:eu` for `shop:eu:cart`. */
type PrefixOf<Name> = Name extends `${infer First}:${infer Rest}` ? First | `${First}:${PrefixOf<Rest>}` : never;
/** Every prefix of the declared attributes; any text where none are declared. */
type Prefix<D> = keyof D extends never ? string : string extends keyof D ? string : PrefixOf<keyof D>;
/** The attributes whose names begin with `P:`, under the rest of their names. */
type Scoped<D, P extends string> = string extends keyof D
  ? D
  : { [K in keyof D as K extends `${P}:${infer Rest}` ? Rest : never]: D[K] };

/** Some attributes of a session, by shorter names. As long as its session can be used, so can this. */
export type SessionScope<D = SessionData> = Pick<
  Session<D>,
  'get' | 'load' | 'set' | 'update' | 'delete' | 'has' | 'keys' | 'scope'
>;

/** Why a session ended. Each session ends exactly once. */
export type SessionEndReason = 'expired' | 'absolute' | 'logout' | 'evicted' | 'admin' | 'security';

const REASONS: readonly unknown[] = ['expired', 'absolute', 'logout', 'evicted', 'admin', 'security'];

/**
 * @throws {TypeError} when it is not a reason: what becomes of it must not be found out when the session has half
 * ended.
 */
export function checkEndReason(reason: SessionEndReason): void {
  if (REASONS.includes(reason)) return;
  throw new TypeError(`a session ends for one of the reasons ${REASONS.join(', ')}`);
}

/** Who owns a session: the first user who was authenticated in it. */
export interface SessionOwner {
  /** From 1 to 256 characters. */
  readonly name: string;
  readonly roles: readonly string[];
  /** By which scheme of the server (`auth`) they have signed in. Left out: by the application itself. */
  readonly scheme?: string;
  /** What names the credentials that they have signed in with, at most 256 characters: never their text. */
  readonly credential?: string;
}

/** What a login may ask for besides: "remember me". */
export interface SignInOptions {
  /**
   * The browser keeps the cookie when it is closed, until the session ends by age: each new one too, until the next login.
   * `false`: it does not. Default: as `cookie.persistent` of the manager.
   */
  readonly persistent?: boolean;
  /**
   * Milliseconds of silence after which the session ends. At most that of `rememberMe`, or without it the manager's, which are
   * also the defaults: with `persistent` the former, else the latter.
   */
  readonly idleTimeoutMs?: number;
  /** Milliseconds from now to its end, whatever happens. As `idleTimeoutMs`; with `persistent` at most 400 days. */
  readonly absoluteTimeoutMs?: number;
}

export interface RenewOptions extends SignInOptions {
  /** Whose the session is from now on. Default: as it was. */
  readonly owner?: SessionOwner;
}

export const SIGN_IN_OPTIONS: OptionNames<SignInOptions> = {
  persistent: 'flag',
  idleTimeoutMs: 'number',
  absoluteTimeoutMs: 'number',
};

export const RENEW_OPTIONS: OptionNames<RenewOptions> = { owner: true, ...SIGN_IN_OPTIONS };

/**
 * One visitor's state. The object belongs to the request (or socket, or `access` call) that it was given to.
 *
 * Reads are synchronous: the record is loaded before a handler runs. Writes are kept and committed before the response
 * headers leave; on a socket they are visible to every socket of the session at once and committed behind it.
 *
 * After the session ended every member but `id` throws `ERR_SESSION_ENDED`; after its request ended,
 * `ERR_SESSION_OUTSIDE_REQUEST`.
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

  /**
   * The value, decoded once and deep-frozen: mutating it throws instead of being lost.
   *
   * @throws {HoldfastError} ERR_SESSION_TYPE_UNKNOWN when it holds an instance of a class that this process has not
   * declared by `defineType`; ERR_SESSION_UNREADABLE when it is damaged, or its class cannot make an instance of it.
   * Everything else of the session still works. ERR_SESSION_NOT_LOADED when it lies apart (`attributes` of the
   * manager), and nothing was loaded, set or deleted under this name here, whether or not there is a value.
   *
   * @example
   * session.set('cart', ['pen']);
   * console.log(session.get('cart'), session.get('theme')); // [ 'pen' ] undefined
   */
  get<K extends Key<D>>(key: K): DeepReadonly<Value<D, K>> | undefined;
  /**
   * The value, also of an attribute that lies apart (`attributes` of the manager): that is fetched now, and from here
   * on `get` works in this request, on this socket, in this `access`. Of a list the values come in its order, fetched
   * together. What is read with the session, loaded already, or known to be absent costs no call to the store.
   *
   * What is fetched is of the same moment as the rest of the session: if others have changed it since the session was
   * read, all of it is read again. On a socket it follows what others commit, as everything there: at once within the
   * process, after the next refresh from other processes.
   *
   * @throws {HoldfastError} as `get`; ERR_SESSION_STORE_UNAVAILABLE, status 503; ERR_SESSION_CONFLICT, status 409, when
   * others have changed it at every try for as long as a call to the store may take (`storeTimeout`, 5 s);
   * ERR_SESSION_SUPERSEDED, status 409, when others have changed it and signed somebody in: nothing of that is seen.
   *
   * @example
   * session.set('cart', ['pen']);
   * console.log(await session.load('cart'), await session.load(['cart', 'theme'])); // [ 'pen' ] [ [ 'pen' ], undefined ]
   */
  load<K extends Key<D>>(key: K): Promise<DeepReadonly<Value<D, K>> | undefined>;
  load<const Ks extends readonly Key<D>[]>(
    keys: Ks,
  ): Promise<{ -readonly [I in keyof Ks]: DeepReadonly<Value<D, Ks[I]>> | undefined }>;
  /**
   * Takes a snapshot of the value at once; changing the object afterwards changes nothing.
   *
   * @throws {HoldfastError} ERR_SESSION_NOT_SERIALIZABLE with the path of what cannot be kept (`cart[3].onClick`), the
   * same on every store; ERR_SESSION_TOO_LARGE.
   *
   * @example
   * const cart = ['pen'];
   * session.set('cart', cart);
   * cart.push('paper'); // too late: what was kept is a snapshot
   * console.log(session.get('cart')); // [ 'pen' ]
   */
  set<K extends Key<D>>(key: K, value: DeepReadonly<Value<D, K>>): void;
  /**
   * Compare-and-swap: `change` gets the stored value, and runs again when others have written the same key meanwhile,
   * after a random pause that grows with each try. Resolves with the value written, once it is committed. Updates of
   * one session in one process run in the order of the calls. What `change` throws ends it, and nothing is written.
   *
   * @throws {HoldfastError} ERR_SESSION_CONFLICT when others were faster at every try for as long as a call to the store
   * may take (`storeTimeout`, 5 s); ERR_SESSION_ENDED when the session has ended, before or meanwhile.
   *
   * @example
   * await session.update('visits', visits => Number(visits ?? 0) + 1);
   * console.log(session.get('visits')); // 1
   */
  update<K extends Key<D>>(
    key: K,
    change: (current: DeepReadonly<Value<D, K>> | undefined) => DeepReadonly<Value<D, K>>,
  ): Promise<DeepReadonly<Value<D, K>>>;
  /**
   * @example
   * session.set('cart', ['pen']);
   * session.delete('cart');
   * console.log(session.has('cart')); // false
   */
  delete(key: Key<D>): void;
  /**
   * @example
   * session.set('cart', ['pen']);
   * console.log(session.has('cart'), session.has('theme')); // true false
   */
  has(key: Key<D>): boolean;
  /**
   * @example
   * session.set('cart', ['pen']);
   * session.set('theme', 'dark');
   * console.log(session.keys()); // [ 'cart', 'theme' ]
   */
  keys(): string[];
  /**
   * The attributes whose names begin with `<prefix>:`, named without it: `scope('shop').get('cart')` is
   * `get('shop:cart')`. So modules that share a session keep out of each other's way.
   *
   * @example
   * session.scope('shop').set('cart', ['pen']);
   * console.log(session.get('shop:cart')); // [ 'pen' ]
   */
  scope<P extends Prefix<D>>(prefix: P): SessionScope<Scoped<D, P>>;

  /**
   * Commits what was changed so far, now.
   *
   * @example
   * session.set('step', 'paid');
   * await session.sync(); // stored from here on, whatever happens to the rest of the request
   */
  sync(): Promise<void>;
  /**
   * Gives the same session a new secret and the client a new cookie: done at every login and whenever rights change.
   * The old secret is dead at once, and sockets that were opened with it close with 1012: whoever knew the secret
   * before the login must not be in the session after it. What was changed so far is committed with it, `owner`
   * included. With an `owner` it is a login: a session cookie and the usual times again, where an earlier one has asked for
   * others and this one does not.
   *
   * @throws {HoldfastError} ERR_SESSION_LIFETIME when it asks for longer times than `rememberMe` allows;
   * ERR_SESSION_UNAUTHORIZED when it belongs to another user (`sessions.signIn` begins a new
   * session for them), unless the owner rule is off; ERR_SESSION_USER_LIMIT when the user has as many sessions as allowed; ERR_SESSION_SUPERSEDED
   * when another request has renewed it at the same moment; ERR_SESSION_HEADERS_SENT when no response can carry the new
   * cookie any more: after the headers, on a socket, in `access`.
   *
   * @example
   * await session.renew({ owner: { name: 'alice', roles: ['admin'] }, persistent: true });
   * console.log(session.owner?.name); // alice
   */
  renew(options?: RenewOptions): Promise<void>;
  /**
   * Ends the session everywhere: its record is gone, its sockets close with 1008.
   *
   * @example
   * await session.invalidate('logout');
   * console.log(await sessions.info(sid)); // undefined
   */
  invalidate(reason?: SessionEndReason): Promise<void>;
}
