import { type Logger, sidPrefix } from '../base/logger.ts';
import type { SessionTicket } from './cookie.ts';
import { createSecret, createSid, equalInConstantTime, hashSecret } from './identity.ts';
import type { Session, SessionEndReason, SessionOwner } from './session.ts';
import type { SessionEnvironment } from './session-environment.ts';
import { headersSent, outsideRequest, SessionHandle } from './session-handle.ts';
import type { SessionState } from './session-state.ts';
import type { SessionRecord } from './store.ts';

/** What a binding needs to know of a request. */
export interface SessionRequest {
  readonly cookieHeader: string | undefined;
  /** True when the client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
  /** True when the request loads a page into a window: only such a request makes a session unasked. */
  readonly isDocumentNavigation: boolean;
}

interface Live {
  readonly state: SessionState;
  readonly handle: SessionHandle;
  secret: string;
}

/**
 * The session of one request, whatever carries it: nothing is read before the first `get`, `open` or `auto`.
 *
 * The carrier commits before its response headers leave, adds `setCookies()` to them, then says `markHeadersSent()`, and `release()` when
 * the request has ended.
 */
export class SessionBinding {
  readonly #environment: SessionEnvironment;
  readonly #request: SessionRequest;
  #loading: Promise<void> | undefined;
  #live: Live | undefined;
  /** What the client has to be told, once it is true in the store. */
  #news: 'none' | 'cookie' | 'no cookie' = 'none';
  #areHeadersSent = false;
  #isReleased = false;

  constructor(environment: SessionEnvironment, request: SessionRequest) {
    this.#environment = environment;
    this.#request = request;
  }

  /** Where carriers report what they cannot tell anybody else. */
  get logger(): Logger {
    return this.#environment.logger;
  }

  /** The session that `get` or `open` has found, without asking the store. */
  get current(): Session | undefined {
    return this.#live && !this.#live.state.isEnded ? this.#live.handle.session : undefined;
  }

  /** True when a commit would write something or the client has to be told something. */
  get hasNews(): boolean {
    return this.isDirty || this.setCookies().length > 0;
  }

  /** True when a commit would write something. */
  get isDirty(): boolean {
    return this.#live?.state.isDirty ?? false;
  }

  /**
   * The client's session, or undefined when it has none (servlets: `getSession(false)`).
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, status 503; ERR_SESSION_OUTSIDE_REQUEST.
   */
  async get(): Promise<Session | undefined> {
    await this.#load();
    return this.current;
  }

  /**
   * The client's session, made when it has none (servlets: `getSession(true)`). The store and the client learn of a new one at the commit.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, status 503; ERR_SESSION_OUTSIDE_REQUEST;
   * ERR_SESSION_HEADERS_SENT when one would have to be made and its cookie cannot be sent any more.
   */
  async open(): Promise<Session> {
    await this.#load();
    const { current } = this;
    if (current) return current;
    if (this.#areHeadersSent) throw headersSent('opened');
    return this.#create();
  }

  /** `open` when the request loads a page into a window, else `get`: the parts of a page do not race to make a session each. */
  async auto(): Promise<Session | undefined> {
    return this.#request.isDocumentNavigation ? this.open() : this.get();
  }

  /**
   * Writes what was changed. Resolves when it is in the store.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE and ERR_SESSION_NO_ROOM (status 503): the changes are kept for another try;
   * ERR_SESSION_ENDED: the session ended meanwhile, the changes are dropped.
   */
  async commit(): Promise<void> {
    await this.#live?.state.commit();
  }

  /** `Set-Cookie` values for the response, after a commit. Empty when the client has nothing to learn. */
  setCookies(): string[] {
    if (this.#areHeadersSent) return [];
    const { cookie } = this.#environment;
    const { cookieHeader, isSecure } = this.#request;
    const live = this.#live;
    if (this.#news === 'cookie' && live?.state.isStored && !live.state.isEnded) {
      return [cookie.write({ sid: live.state.sid, secret: live.secret }, isSecure)];
    }
    return this.#news === 'no cookie' && cookie.isIn(cookieHeader) ? [cookie.clear(isSecure)] : [];
  }

  /** The response headers are out: from now on no cookie can be sent. */
  markHeadersSent(): void {
    this.#areHeadersSent = true;
  }

  /** The request has ended: every later use of the binding or its session throws ERR_SESSION_OUTSIDE_REQUEST. */
  release(): void {
    this.#isReleased = true;
    this.#live?.handle.release();
  }

  #load(): Promise<void> {
    if (this.#isReleased) return Promise.reject(outsideRequest());
    this.#loading ??= this.#read().catch(error => {
      this.#loading = undefined; // an outage may be over at the next call
      throw error;
    });
    return this.#loading;
  }

  async #read(): Promise<void> {
    const found: { ticket: SessionTicket; record: SessionRecord }[] = [];
    for (const ticket of this.#environment.cookie.read(this.#request.cookieHeader)) {
      const record = await this.#environment.readLive(ticket.sid);
      if (record && equalInConstantTime(hashSecret(ticket.secret), record.header.secretHash))
        found.push({ ticket, record });
    }
    const [first, second] = found;
    if (!first) return;
    if (second) {
      // One of them was planted: there is no telling which (RFC 6265 §8.6), so neither counts.
      const sids = found.map(({ ticket }) => sidPrefix(ticket.sid));
      this.#environment.logger.warn(
        { event: 'two-live-sessions', sids },
        'request with two live session cookies treated as anonymous',
      );
      return;
    }
    const { ticket, record } = first;
    const { sid, secret } = ticket;
    const state = this.#environment.createState(sid, record, true);
    state.lastAccessedAt = this.#environment.accessTimes.latest(sid, record.lastAccessedAt);
    this.#environment.accessTimes.note(sid, record.header, record.lastAccessedAt);
    this.#hold(state, secret, false);
  }

  #create(): Session {
    const { clock, idleTimeoutMs, absoluteTimeoutMs } = this.#environment;
    const sid = createSid();
    const secret = createSecret();
    const now = clock.now();
    const header = {
      secretHash: hashSecret(secret),
      createdAt: now,
      ...(idleTimeoutMs < Number.POSITIVE_INFINITY && { idleTimeoutMs }),
      ...(absoluteTimeoutMs < Number.POSITIVE_INFINITY && { absoluteExpiresAt: now + absoluteTimeoutMs }),
    };
    const record = { header, version: 0, lastAccessedAt: now, attributes: new Map() };
    this.#news = 'cookie';
    return this.#hold(this.#environment.createState(sid, record, false), secret, true);
  }

  #hold(state: SessionState, secret: string, isNew: boolean): Session {
    const live: Live = {
      state,
      secret,
      handle: new SessionHandle(
        state,
        {
          onChanged: () => {},
          renew: owner => this.#renew(live, owner),
          invalidate: reason => this.#invalidate(live, reason),
        },
        isNew,
      ),
    };
    if (this.#isReleased) live.handle.release();
    this.#live = live;
    return live.handle.session;
  }

  async #renew(live: Live, owner: SessionOwner | undefined): Promise<void> {
    if (this.#areHeadersSent) throw headersSent('renewed');
    const secret = createSecret();
    await live.state.replaceSecret({ secretHash: hashSecret(secret), ...(owner && { owner }) });
    live.secret = secret;
    this.#news = 'cookie';
  }

  async #invalidate(live: Live, reason: SessionEndReason): Promise<void> {
    if (live.state.isStored) await this.#environment.end(live.state.sid, reason);
    live.state.markEnded();
    this.#news = 'no cookie';
  }
}
