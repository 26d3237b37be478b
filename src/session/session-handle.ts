import { HoldfastError } from '../base/errors.ts';
import type { Session, SessionEndReason, SessionOwner } from './session.ts';
import { type SessionState, sessionEnded } from './session-state.ts';

/** What a holder adds to the state: where changes go and how a session is renewed or ended from there. */
export interface SessionHolder {
  onChanged(): void;
  renew(owner: SessionOwner | undefined): Promise<void>;
  invalidate(reason: SessionEndReason): Promise<void>;
}

/** The `Session` given to one request, socket or `access` call: usable until its holder releases it or the session ends. */
export class SessionHandle {
  readonly id: string;
  readonly #state: SessionState;
  readonly #holder: SessionHolder;
  readonly #isNew: boolean;
  #isReleased = false;

  constructor(state: SessionState, holder: SessionHolder, isNew: boolean) {
    this.id = state.sid;
    this.#state = state;
    this.#holder = holder;
    this.#isNew = isNew;
  }

  /** As applications see it. The cast gives keys and values the types that they declared in `SessionData`; here they are any texts and values. */
  get session(): Session {
    return this as unknown as Session;
  }

  get isNew(): boolean {
    this.#check();
    return this.#isNew;
  }

  get createdAt(): number {
    return this.#check().header.createdAt;
  }

  get lastAccessedAt(): number {
    return this.#check().lastAccessedAt;
  }

  get owner(): SessionOwner | undefined {
    return this.#check().header.owner;
  }

  get idleTimeoutMs(): number {
    return this.#check().header.idleTimeoutMs ?? Number.POSITIVE_INFINITY;
  }

  set idleTimeoutMs(value: number) {
    const state = this.#check();
    if (!(value > 0)) throw new TypeError(`idleTimeoutMs must be more than 0, or Infinity for never; not ${value}`);
    state.changeHeader({ idleTimeoutMs: value === Number.POSITIVE_INFINITY ? undefined : value });
    this.#holder.onChanged();
  }

  get(key: string): unknown {
    return this.#check().get(key);
  }

  set(key: string, value: unknown): void {
    this.#check().set(key, value);
    this.#holder.onChanged();
  }

  async update(key: string, change: (current: unknown) => unknown): Promise<unknown> {
    return this.#check().update(key, change);
  }

  delete(key: string): void {
    this.#check().delete(key);
    this.#holder.onChanged();
  }

  has(key: string): boolean {
    return this.#check().has(key);
  }

  keys(): string[] {
    return this.#check().keys();
  }

  async sync(): Promise<void> {
    await this.#check().commit();
  }

  async renew(options: { readonly owner?: SessionOwner } = {}): Promise<void> {
    this.#check();
    await this.#holder.renew(options.owner);
  }

  async invalidate(reason: SessionEndReason = 'logout'): Promise<void> {
    this.#check();
    await this.#holder.invalidate(reason);
  }

  /** Every later use throws ERR_SESSION_OUTSIDE_REQUEST. */
  release(): void {
    this.#isReleased = true;
  }

  #check(): SessionState {
    if (this.#isReleased) throw outsideRequest();
    if (this.#state.isEnded) throw sessionEnded();
    return this.#state;
  }
}

export function outsideRequest(): HoldfastError {
  return new HoldfastError(
    'ERR_SESSION_OUTSIDE_REQUEST',
    'a session was used after its request or socket had ended, or where there is none; use sessions.access(sid, fn) there',
  );
}

export function headersSent(what: string): HoldfastError {
  return new HoldfastError(
    'ERR_SESSION_HEADERS_SENT',
    `a session cannot be ${what} here: no response headers are left to carry its cookie; do it before the first byte of a response`,
  );
}
