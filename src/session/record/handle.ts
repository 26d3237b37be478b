import type { Awaitable } from '../../base/awaitable.ts';
import { HoldfastError } from '../../base/errors.ts';
import { checkOptions, kindOf } from '../../base/options.ts';
import { UnauthorizedSessionRequestError } from '../identity/owner.ts';
import {
  RENEW_OPTIONS,
  type RenewOptions,
  type Session,
  type SessionEndReason,
  type SessionOwner,
} from '../session.ts';
import type { SessionEnder } from './expiry.ts';
import { notLoaded } from './loaded-attribute.ts';
import { type SessionState, sessionEnded, superseded } from './state.ts';
import { wholeMs } from './times.ts';

/** How much of the session its holder gets to see. */
export interface SessionView {
  /** The client has not sent it back yet. */
  readonly isNew: boolean;
  /**
   * It has an owner who proves who they are with each request, and this one did not ask: neither they nor the
   * attributes are seen.
   */
  readonly isVeiled: boolean;
  /** It is seen without its owner: without the owner rule, by a request that has not shown to be from them. */
  readonly isNameless: boolean;
  /** The name of its owner when the holder was let in. For another one, whom a login has made it since, it is closed. */
  readonly ownerName: string | undefined;
}

/** What a holder adds to the state: where changes go and how a session is renewed or ended from there. */
export interface SessionHolder {
  onChanged(): void;
  /** Under some write contents what was read is written. */
  onRead(): void;
  /** What was changed is in the store. */
  onSynced(): void;
  renew(options: RenewOptions): Promise<void>;
  invalidate(reason: SessionEndReason): Promise<void>;
}

const OPEN = { isNew: false, isVeiled: false, isNameless: false };

/**
 * The `Session` given to one request, socket or `access` call: usable until its holder releases it or the session ends.
 */
export class SessionHandle {
  readonly #state: SessionState;
  readonly #holder: SessionHolder;
  #view: Omit<SessionView, 'ownerName'>;
  /** Whose session it may be. Null: anybody's. */
  #ownerName: string | undefined | null;
  /** Whom a login by this holder is making the owner. */
  #nextOwnerName: string | undefined;
  #isReleased = false;
  /** What it has loaded or written of what lies apart: that can be read. */
  #loaded: Set<string> | undefined;

  /** @param view Default: all, whoever owns it. */
  constructor(state: SessionState, holder: SessionHolder, view?: SessionView) {
    this.#state = state;
    this.#holder = holder;
    this.#view = view ?? OPEN;
    this.#ownerName = view ? view.ownerName : null;
  }

  /**
   * As applications see it. The cast gives keys and values the types that they declared in `SessionData`; here they are
   * any texts and values.
   */
  get session(): Session {
    return this as unknown as Session;
  }

  get id(): string {
    return this.#state.sid;
  }

  get isNew(): boolean {
    this.#check();
    return this.#view.isNew;
  }

  get createdAt(): number {
    return wholeMs(this.#check().header.createdAt);
  }

  get lastAccessedAt(): number {
    return wholeMs(this.#check().lastAccessedAt);
  }

  get owner(): SessionOwner | undefined {
    const { owner } = this.#check().header;
    const { isVeiled, isNameless } = this.#view;
    if (!owner || isVeiled || isNameless) return undefined;
    const { name, roles, scheme, credential } = owner;
    return { name, roles, ...(scheme !== undefined && { scheme }), ...(credential !== undefined && { credential }) };
  }

  get idleTimeoutMs(): number {
    return this.#check().header.idleTimeoutMs ?? Number.POSITIVE_INFINITY;
  }

  set idleTimeoutMs(value: number) {
    const state = this.#checkChange();
    if (typeof value !== 'number' || !(value > 0)) {
      const what = typeof value === 'number' ? value : `a value of the type ${typeof value}`;
      throw new TypeError(`idleTimeoutMs must be a number above 0, or Infinity for never; not ${what}`);
    }
    state.changeHeader({ idleTimeoutMs: value === Number.POSITIVE_INFINITY ? undefined : value });
    this.#holder.onChanged();
  }

  get(key: string): unknown {
    const state = this.#check();
    if (this.#view.isVeiled) return undefined;
    if (state.isApart(key) && !this.#loaded?.has(key)) throw notLoaded(key);
    const value = state.get(key);
    if (state.isDirty) this.#holder.onRead();
    return value;
  }

  async load(keys: string | readonly string[]): Promise<unknown> {
    const names = typeof keys === 'string' ? [keys] : checkNames(keys);
    await this.fetch(names);
    const values = names.map(name => this.get(name));
    return typeof keys === 'string' ? values[0] : values;
  }

  set(key: string, value: unknown): void {
    const state = this.#checkChange();
    state.set(key, value);
    this.#noteLoaded(state, key);
    this.#holder.onChanged();
  }

  async update(key: string, change: (current: unknown) => unknown): Promise<unknown> {
    if (typeof change !== 'function')
      throw new TypeError(`update: it takes a function from the old value to the new one, not ${kindOf(change)}`);
    const state = this.#checkChange();
    const value = await state.update(key, change);
    this.#noteLoaded(state, key);
    return value;
  }

  // ---- for handlers in other threads, which decode and encode there (EncodedSession)

  get maxAttributeBytes(): number {
    return this.#state.maxAttributeBytes;
  }

  /** As `load`, without the values. */
  async fetch(keys: readonly string[]): Promise<void> {
    const state = this.#check();
    if (this.#view.isVeiled) return;
    await state.load(keys);
    for (const key of keys) this.#noteLoaded(state, key);
  }

  /** @throws {HoldfastError} ERR_SESSION_NOT_LOADED as `get`. */
  getEncoded(key: string): Uint8Array | undefined {
    const state = this.#check();
    if (this.#view.isVeiled) return undefined;
    if (state.isApart(key) && !this.#loaded?.has(key)) throw notLoaded(key);
    const bytes = state.getEncoded(key);
    if (state.isDirty) this.#holder.onRead();
    return bytes;
  }

  setEncoded(key: string, bytes: Uint8Array): void {
    const state = this.#checkChange();
    state.setEncoded(key, bytes);
    this.#noteLoaded(state, key);
    this.#holder.onChanged();
  }

  async updateEncoded(
    key: string,
    change: (current: Uint8Array | undefined) => Awaitable<Uint8Array | undefined>,
  ): Promise<Uint8Array | undefined> {
    const state = this.#checkChange();
    const written = await state.updateEncoded(key, change);
    this.#noteLoaded(state, key);
    return written;
  }

  // ----

  delete(key: string): void {
    const state = this.#checkChange();
    const isThere = state.has(key);
    state.delete(key);
    this.#noteLoaded(state, key);
    if (isThere) this.#holder.onChanged();
  }

  has(key: string): boolean {
    const state = this.#check();
    return !this.#view.isVeiled && state.has(key);
  }

  keys(): string[] {
    const state = this.#check();
    return this.#view.isVeiled ? [] : state.keys();
  }

  scope(prefix: string): object {
    return new ScopedSession(this, prefix);
  }

  async sync(): Promise<void> {
    await this.#check().commit();
    this.#holder.onSynced();
  }

  async renew(options: RenewOptions = {}): Promise<void> {
    this.#check();
    checkOptions('renew', options, RENEW_OPTIONS);
    this.#nextOwnerName = options.owner?.name;
    try {
      await this.#holder.renew(options);
    } finally {
      this.#nextOwnerName = undefined;
    }
  }

  async invalidate(reason: SessionEndReason = 'logout'): Promise<void> {
    this.#check();
    await this.#holder.invalidate(reason);
  }

  get isVeiled(): boolean {
    return this.#view.isVeiled;
  }

  get isNameless(): boolean {
    return this.#view.isNameless;
  }

  /** The owner that it has now has shown who they are. */
  unveil(): void {
    this.#view = { isNew: this.#view.isNew, isVeiled: false, isNameless: false };
    if (this.#ownerName !== null) this.#ownerName = this.#state.ownerName;
  }

  /** Every later use throws ERR_SESSION_OUTSIDE_REQUEST. */
  release(): void {
    this.#isReleased = true;
  }

  #noteLoaded(state: SessionState, key: string): void {
    if (state.isApart(key)) (this.#loaded ??= new Set()).add(key);
  }

  #checkChange(): SessionState {
    const state = this.#check();
    if (this.#view.isVeiled) {
      throw new UnauthorizedSessionRequestError(
        'the session has an owner, and this route does not ask who the request is from; protect the route like the others that use the session',
      );
    }
    return state;
  }

  #check(): SessionState {
    if (this.#isReleased) throw outsideRequest();
    const state = this.#state;
    if (state.isEnded) throw sessionEnded();
    // Those of this process who share the state see a login of another of them at once.
    if (this.#ownerName !== null && state.ownerName !== this.#ownerName && !this.#isSigningIn) throw superseded();
    return state;
  }

  get #isSigningIn(): boolean {
    return this.#nextOwnerName !== undefined && this.#state.ownerName === this.#nextOwnerName;
  }
}

/** Without the types that an application gives its attributes. */
type Anything = Record<string, unknown>;
type Attributes = Pick<SessionHandle, 'get' | 'load' | 'set' | 'update' | 'delete' | 'has' | 'keys'>;

/** The attributes of a session whose names begin with `<prefix>:`, named without it. */
class ScopedSession {
  readonly #handle: Attributes;
  readonly #start: string;

  constructor(handle: Attributes, prefix: string) {
    if (typeof prefix !== 'string' || prefix === '')
      throw new TypeError('a session scope must be a text of at least one character');
    this.#handle = handle;
    this.#start = `${prefix}:`;
  }

  get(key: string): unknown {
    return this.#handle.get(this.#start + key);
  }

  async load(keys: string | readonly string[]): Promise<unknown> {
    const whole = typeof keys === 'string' ? this.#start + keys : checkNames(keys).map(key => this.#start + key);
    return this.#handle.load(whole);
  }

  set(key: string, value: unknown): void {
    this.#handle.set(this.#start + key, value);
  }

  update(key: string, change: (current: unknown) => unknown): Promise<unknown> {
    return this.#handle.update(this.#start + key, change);
  }

  delete(key: string): void {
    this.#handle.delete(this.#start + key);
  }

  has(key: string): boolean {
    return this.#handle.has(this.#start + key);
  }

  keys(): string[] {
    const names = this.#handle.keys().filter(name => name.startsWith(this.#start));
    return names.map(name => name.slice(this.#start.length));
  }

  scope(prefix: string): object {
    return new ScopedSession(this.#handle, this.#start + prefix);
  }
}

/** @throws {TypeError} when it is not a list of names. */
export function checkNames(keys: readonly string[]): readonly string[] {
  if (Array.isArray(keys) && keys.every(key => typeof key === 'string')) return keys;
  const given = Array.isArray(keys) ? `a list with ${kindOf(keys.find(key => typeof key !== 'string'))}` : kindOf(keys);
  throw new TypeError(`load: it takes the name of an attribute, or a list of names, not ${given}`);
}

/** The attributes of a session whose names begin with `<prefix>:`. */
export function scopeOf(session: Attributes, prefix: string): object {
  return new ScopedSession(session, prefix);
}

/** @see {@link sessionUntilSignIn} */
class SupersededSession {
  readonly #find: () => Session<Anything> | undefined;

  constructor(find: () => Session<Anything> | undefined) {
    this.#find = find;
  }

  get #needed(): Session<Anything> {
    const session = this.#find();
    if (!session) throw superseded();
    return session;
  }

  get id(): string {
    return this.#needed.id;
  }

  get isNew(): boolean {
    return this.#find()?.isNew ?? true;
  }

  get createdAt(): number {
    return this.#needed.createdAt;
  }

  get lastAccessedAt(): number {
    return this.#needed.lastAccessedAt;
  }

  get owner(): SessionOwner | undefined {
    return this.#find()?.owner;
  }

  get idleTimeoutMs(): number {
    return this.#needed.idleTimeoutMs;
  }

  set idleTimeoutMs(value: number) {
    this.#needed.idleTimeoutMs = value;
  }

  get(key: string): unknown {
    return this.#find()?.get(key);
  }

  async load(keys: string | readonly string[]): Promise<unknown> {
    const names = typeof keys === 'string' ? keys : checkNames(keys);
    const session = this.#find();
    if (session) return typeof names === 'string' ? session.load(names) : session.load(names);
    return typeof names === 'string' ? undefined : names.map(() => undefined);
  }

  set(key: string, value: unknown): void {
    this.#needed.set(key, value);
  }

  async update(key: string, change: (current: unknown) => unknown): Promise<unknown> {
    return this.#needed.update(key, change);
  }

  delete(key: string): void {
    this.#needed.delete(key);
  }

  has(key: string): boolean {
    return this.#find()?.has(key) ?? false;
  }

  keys(): string[] {
    return this.#find()?.keys() ?? [];
  }

  scope(prefix: string): object {
    return new ScopedSession(this, prefix);
  }

  async sync(): Promise<void> {
    await this.#needed.sync();
  }

  async renew(options?: RenewOptions): Promise<void> {
    await this.#needed.renew(options);
  }

  async invalidate(reason?: SessionEndReason): Promise<void> {
    await this.#needed.invalidate(reason);
  }
}

keepsOnlyWhatIsSet(SessionHandle);
keepsOnlyWhatIsSet(ScopedSession);
keepsOnlyWhatIsSet(SupersededSession);

/**
 * `session.cart = …` would be lost with the request, so it is an error. Behind the prototype stands one whose properties
 * cannot be assigned to: what the class has itself is found before.
 */
export function keepsOnlyWhatIsSet({ prototype }: { readonly prototype: object }): void {
  const refuse = (_: object, name: string | symbol): never => {
    const shown = JSON.stringify(String(name));
    throw new TypeError(`a session keeps what is set and nothing else; write session.set(${shown}, value)`);
  };
  Object.setPrototypeOf(prototype, new Proxy(Object.create(Object.prototype) as object, { set: refuse }));
  Object.freeze(prototype);
}

/**
 * Stands in the place of a session that a request cannot have, because a login has replaced the secret that it shows.
 * Whoever only reads finds nothing, as in a new one; what needs a session throws ERR_SESSION_SUPERSEDED. Once the
 * request has signed in it is the session of that.
 *
 * @param find That session.
 */
export function sessionUntilSignIn(find: () => Session | undefined): Session {
  return new SupersededSession(find as () => Session<Anything> | undefined) as object as Session;
}

/**
 * Holds a session where there is no response: on a socket, in background work.
 *
 * @param sessions Ends it in the store.
 */
export function holderWithoutResponse(
  state: SessionState,
  sessions: SessionEnder,
  onChanged: () => void,
): SessionHolder {
  return {
    onChanged,
    onRead: onChanged,
    onSynced: () => {},
    renew: async () => {
      throw headersSent('renewed');
    },
    invalidate: async reason => {
      await sessions.end(state.sid, reason);
      state.markEnded();
    },
  };
}

export function outsideRequest(): HoldfastError {
  const message =
    'a session was used after its request or socket had ended, or where there is none; use sessions.access(sid, fn) there, and attachSocket(sessions, request) for a socket of another library';
  return new HoldfastError('ERR_SESSION_OUTSIDE_REQUEST', message);
}

export function headersSent(what: string): HoldfastError {
  const message = `a session cannot be ${what} here: no response headers are left to carry its cookie; do it before the first byte of a response`;
  return new HoldfastError('ERR_SESSION_HEADERS_SENT', message);
}
