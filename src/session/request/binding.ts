import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import { HoldfastError } from '../../base/errors.ts';
import { type Logger, sidPrefix } from '../../base/logger.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import type { CookieLife } from '../identity/cookie.ts';
import { createSecret, createSid, hashSecret } from '../identity/ids.ts';
import { checkOwner, judgeOwner, UnauthorizedSessionRequestError } from '../identity/owner.ts';
import {
  isReplaced,
  ROTATED_MS,
  type SecretStanding,
  type Secrets,
  SUPERSEDED_MS,
} from '../identity/secret-standing.ts';
import type { SessionTicket } from '../identity/ticket.ts';
import { checkLogin, headerOfLogin } from '../life/login-times.ts';
import type { UserSessions } from '../life/user-sessions.ts';
import type { Use, Waiting } from '../process/access-times.ts';
import type { SessionRegistry } from '../process/registry.ts';
import type { SessionServices } from '../process/services.ts';
import type { SharedSession } from '../process/shared-sessions.ts';
import type { SocketSession } from '../process/socket-session.ts';
import { headersSent, outsideRequest, SessionHandle, type SessionView } from '../record/handle.ts';
import { Snapshot } from '../record/snapshot.ts';
import { isSessionEnded, isSuperseded, type SessionState, sessionEnded, superseded } from '../record/state.ts';
import { wholeMs } from '../record/times.ts';
import { isNoRoom } from '../room/cap.ts';
import type { RenewOptions, Session, SessionEndReason, SessionOwner, SignInOptions } from '../session.ts';
import type { SessionHeader } from '../store.ts';
import type { SessionRequest } from './session-request.ts';
import { type Found, latestOf, ShownSessions } from './shown-sessions.ts';

/** What the bindings of one manager share. */
export interface BindingServices extends SessionServices {
  readonly registry: SessionRegistry;
  readonly users: UserSessions;
}

interface Live {
  readonly state: SessionState;
  readonly handle: SessionHandle;
  /** Where changes are written behind the requests: what all requests of this process have in common. */
  readonly shared: SharedSession | undefined;
  /** What the client has, or will be told. */
  secret: string;
  /** The session's secrets when the request was let in. A new one replaces this current one and no other. */
  secrets: Secrets;
  isRetained: boolean;
  /** What counts the request as use of the session, if it is. */
  use: Use | undefined;
  /** Where changes are written behind the request: it has made some, and they are not known to be stored. */
  hasChanged: boolean;
  /** This request makes it: nobody knows of it who has not had its answer. */
  readonly isMade: boolean;
  /** This request signs a user in. */
  isLogin: boolean;
}

/** A session, and the secrets that it had when the client's ticket opened it. */
interface Opened {
  readonly sid: string;
  readonly secrets: Secrets;
}

interface OwnedByOther extends Opened {
  readonly owner: string;
}

/**
 * The session of one request, whatever carries it: nothing is read before the first `get`, `open` or `auto`.
 *
 * The carrier commits before its response headers leave, adds `responseHeaders()` to them, then says
 * `markHeadersSent()`, and `release()` when the request has ended.
 */
export class SessionBinding {
  readonly #services: BindingServices;
  readonly #request: SessionRequest;
  /** Who comes to own the session of the request without a login. */
  readonly #claimant: SessionOwner | undefined;
  readonly #shown: ShownSessions;
  #loading: Promise<void> | undefined;
  #creating: Promise<Session> | undefined;
  #live: Live | undefined;
  /** What the client has to be told, once it is true in the store. */
  #news: 'none' | 'ticket' | 'no ticket' = 'none';
  /**
   * What it is told otherwise: a nonce, from which the parts of this page make one and the same session, or what it
   * lacks of its cookies.
   */
  #asides: HeaderLine[] = [];
  /** The secret is old enough to be replaced, if the response can say so. */
  #isRotationDue = false;
  /** The session of another user, which this one may only replace. */
  #foreign: OwnedByOther | undefined;
  /** Live sessions that the request has shown at once: nobody can say which one of them was planted. */
  #rivals: readonly Found[] = [];
  /** Sids that the request has shown, of sessions that are over by its login. */
  #left: ReadonlySet<string> = new Set();
  /** While nobody has asked for the session. */
  #waiting: Waiting | undefined;
  #hasResponse = false;
  #areHeadersSent = false;
  #isClientGone = false;
  #isReleased = false;
  /** Why this client may begin no session now. */
  #refusedNew: Error | undefined;

  constructor(services: BindingServices, request: SessionRequest) {
    this.#services = services;
    this.#request = request;
    this.#shown = new ShownSessions(services, services.registry, request);
    if (request.user !== undefined && request.user !== null) checkOwner(request.user);
    this.#claimant = services.settings.ownerRule ? request.user : undefined;
  }

  /** Where carriers report what they cannot tell anybody else. */
  get logger(): Logger {
    return this.#services.logger;
  }

  /** The request is use of its session, and with it what goes on with that session after it. */
  get touches(): boolean {
    return this.#request.touch !== false;
  }

  /** The session that `get` or `open` has found, without asking the store. */
  get current(): Session | undefined {
    return this.#live && !this.#live.state.isEnded ? this.#live.handle.session : undefined;
  }

  /** True when a commit would write something or the client has to be told something. */
  get hasNews(): boolean {
    return this.isDirty || this.#willRotate || this.responseHeaders().length > 0;
  }

  /** True when a commit would write something, or fail. */
  get isDirty(): boolean {
    const live = this.#live;
    return live !== undefined && (this.#hasLost(live) || (live.shared === undefined && live.state.isDirty));
  }

  /** The session has ended, by somebody else or by its time, and with it what this request has changed. */
  #hasLost({ state, shared, hasChanged }: Live): boolean {
    return state.isEnded && this.#news !== 'no ticket' && (shared ? hasChanged : state.hasLost);
  }

  get #willRotate(): boolean {
    return this.#isRotationDue && !this.#areHeadersSent && this.#news === 'none' && this.current !== undefined;
  }

  /**
   * The client's session, or undefined when it has none (servlets: `getSession(false)`).
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, status 503; ERR_SESSION_UNAUTHORIZED, status 403: it belongs
   * to another user than the request's; ERR_SESSION_OUTSIDE_REQUEST.
   */
  async get(): Promise<Session | undefined> {
    await this.#load();
    return this.current;
  }

  /**
   * The client's session, made when it has none (servlets: `getSession(true)`). The store and the client learn of a new
   * one at the commit. What a preflight opens can be used, and is not kept; nor is what is opened for a client that has
   * gone before its answer.
   *
   * @throws {HoldfastError} as `get`; ERR_SESSION_HEADERS_SENT when one would have to be made and its cookie cannot be
   * sent any more; ERR_SESSION_SUPERSEDED, status 409: the client has another one, by a login that was answered while
   * this request was on its way, and the request has no user of its own; ERR_SESSION_CROSS_SITE, status 403: a page of another site has made the browser send
   * it without the cookie that it may have.
   */
  async open(): Promise<Session> {
    await this.#load();
    const { current } = this;
    if (current) return current;
    if (this.#isToldNothing) throw superseded();
    if (this.#mayBeHidden) throw fromOtherSite();
    if (this.#areHeadersSent) throw headersSent('opened');
    const user = this.#claimant;
    if (user) await this.#leaveRivals(user);
    this.#creating ??= this.#create(user && { ...user, isShownByRequest: true }).finally(() => {
      this.#creating = undefined;
    });
    return this.#creating;
  }

  /**
   * `open` when the request loads a page into a window, else `get`: the parts of a page do not race to make a session
   * each. Where anonymous sessions fill all the room that they may, or the client may begin no more of them now, a page
   * gets none, so that it can still lead to a login.
   */
  async auto(): Promise<Session | undefined> {
    await this.#load();
    if (!this.#isNewHere || this.current) return this.current;
    if (!this.#claimant && !(await this.#services.registry.capacity.mayBeginUnasked())) return undefined;
    try {
      return await this.open();
    } catch (error) {
      if (this.#refusedNew === undefined || error !== this.#refusedNew) throw error;
      return undefined;
    }
  }

  /**
   * `get`, and a page without a session gives its parts what they need to make one and the same.
   *
   * @see sessions without frames that undo each other: the parts of a page are requested at once, and each of them
   * finds no cookie.
   */
  async existing(): Promise<Session | undefined> {
    const session = await this.get();
    const { tracking, clock } = this.#services;
    if (!session && this.#isNewHere && this.#asides.length === 0)
      this.#asides = tracking.tellNonce(createSid(), clock.now(), this.#request);
    return session;
  }

  /**
   * The session of this user from now on, with a new secret: the client's own when it is nobody's or theirs; otherwise
   * the other user's ends and a new one begins (without the owner rule it is taken over, with what is in it). A new one begins also where another login has replaced the secret that
   * the client has shown: its answer was lost, or somebody has clicked twice. Of that other session nothing is given
   * away, and it lives on. Where the client has shown several live sessions, which count as none until then, the latest
   * one that is this user's already stays, and the others end.
   *
   * @throws {HoldfastError} as `get`, but never for the session of another user; ERR_SESSION_LIFETIME; ERR_SESSION_USER_LIMIT;
   * ERR_SESSION_HEADERS_SENT; ERR_SESSION_CROSS_SITE.
   */
  async signIn(owner: SessionOwner, options: SignInOptions = {}): Promise<Session> {
    checkOwner(owner);
    checkLogin('signIn', options, this.#services.settings);
    await this.#load().catch(error => {
      if (this.#foreign === undefined) throw error;
    });
    if (this.#mayBeHidden && !this.#request.isCrossSiteSignIn) throw fromOtherSite();
    if (this.#areHeadersSent) throw headersSent('opened');
    await this.#leaveRivals(owner);
    await this.#leaveOtherUser(owner);
    const session = this.current;
    if (session) {
      try {
        await session.renew({ ...options, owner });
        return session;
      } catch (error) {
        if (!isSuperseded(error) && !isSessionEnded(error)) throw error;
        await this.#leave(this.#live!);
      }
    }
    // What the parts of a page make together may have been signed in by another of them.
    const fresh = await this.#create(undefined, true).catch(error => {
      if (!isSuperseded(error)) throw error;
      return this.#begin({ sid: createSid(), secret: createSecret() }, undefined);
    });
    await fresh.renew({ ...options, owner });
    return fresh;
  }

  /** Ends the live sessions that the request has shown at once, but for one that is this user's already. */
  async #leaveRivals({ name }: SessionOwner): Promise<void> {
    const rivals = this.#rivals;
    if (rivals.length === 0) return;
    this.#rivals = [];
    const own = latestOf(rivals, name);
    const others = rivals.filter(rival => rival !== own);
    for (const { ticket, loaded } of others) {
      const { sid } = ticket;
      const { header } = loaded.snapshot;
      const { owner } = header;
      if (await this.#isStillOpen({ sid, secrets: header })) await this.#endBySignIn(sid, owner?.name, name);
    }
    this.#left = new Set(others.map(({ ticket }) => ticket.sid));
    if (own) await this.#take(own, false);
  }

  /** The session of somebody else than who signs in ends, if what the client has shown still opens it. */
  async #leaveOtherUser({ name }: SessionOwner): Promise<void> {
    const live = this.current && this.#live;
    const before = live?.state.header.owner;
    const foreign = this.#foreign;
    if (foreign !== undefined) {
      if (await this.#isStillOpen(foreign)) await this.#endBySignIn(foreign.sid, foreign.owner, name);
      this.#foreign = undefined;
      this.#loading = Promise.resolve();
    } else if (live && before && before.name !== name && this.#services.settings.ownerRule) {
      const { sid } = live.state;
      if (await this.#isStillOpen({ sid, secrets: live.secrets })) {
        await this.#endBySignIn(sid, before.name, name);
        live.state.markEnded();
        this.#news = 'no ticket';
      } else await this.#leave(live);
    }
  }

  async #endBySignIn(sid: string, owner: string | undefined, user: string): Promise<void> {
    const isEndedHere = await this.#services.registry.end(sid, 'logout');
    if (!isEndedHere || owner === undefined || owner === user) return;
    this.#logOwners('session-replaced', sid, owner, user, 'a sign-in by another user has ended a session');
  }

  #logOwners(event: string, sid: string, owner: string, user: string, message: string): void {
    this.logger.info({ event, sid: sidPrefix(sid), owner, user, address: this.#request.clientAddress }, message);
  }

  /** By what the store says now: a login may have replaced the secret since the request was let in. */
  async #isStillOpen({ sid, secrets }: Opened): Promise<boolean> {
    const loaded = await this.#services.registry.validate(sid);
    return loaded !== undefined && !isReplaced(secrets, loaded.snapshot.header);
  }

  /** The session is another's from now on. What this request has changed in it before is kept. */
  async #leave(live: Live): Promise<void> {
    if (!live.shared)
      await live.state.commit().catch(error => {
        if (!isSessionEnded(error)) throw error;
      });
    live.handle.release();
    this.#dropLive(live);
    this.#live = undefined;
  }

  /**
   * Writes what was changed. Resolves when it is in the store.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE and ERR_SESSION_NO_ROOM (status 503): the changes are kept
   * for another try; ERR_SESSION_CONFLICT (409), under the policy `reject`: the changes are dropped; ERR_SESSION_ENDED:
   * the session ended meanwhile, the changes are dropped.
   */
  commit(): Promise<void> {
    const live = this.#live;
    if (!live) return Promise.resolve();
    if (this.#hasLost(live)) return Promise.reject(sessionEnded());
    if (this.#willRotate) return this.#rotate(live).then(() => this.commit());
    if (live.shared) return Promise.resolve();
    return live.isLogin && !live.state.isStored ? this.#commitLogin(live) : live.state.commit();
  }

  /** Of the parts of a page that make one session together, another may have signed in first. */
  async #commitLogin(live: Live): Promise<void> {
    const { state } = live;
    try {
      await state.commit();
    } catch (error) {
      if (!isSuperseded(error)) throw error;
      this.#endUse(live);
      state.beginApart(createSid());
      live.use = this.#beginUse(state);
      await state.commit();
    }
  }

  /** Headers for the response, after a commit. Empty when the client has nothing to learn. */
  responseHeaders(): HeaderLine[] {
    if (this.#areHeadersSent) return [];
    const { tracking } = this.#services;
    const request = this.#request;
    const live = this.#live;
    switch (this.#news) {
      case 'ticket':
        if (!live?.state.isStored || live.state.isEnded) return [];
        return tracking.tell(
          { sid: live.state.sid, secret: live.secret },
          request,
          this.#left,
          live.isMade,
          this.#cookieLife(live.state.header),
        );
      case 'no ticket':
        return tracking.isIn(request) ? tracking.forget(request) : [];
      case 'none':
        return this.#asides;
    }
  }

  /** For how long browsers are to keep the cookie of such a session. */
  #cookieLife({ login, absoluteExpiresAt = Number.POSITIVE_INFINITY }: SessionHeader): CookieLife {
    const { clock, tracking } = this.#services;
    const { life } = tracking.cookie;
    if (!login) return life;
    return (login.isPersistent ?? life !== 'browser') ? absoluteExpiresAt - clock.now() : 'browser';
  }

  /** The URL with the client's ticket in it, where links tell this client; otherwise as it is. */
  encodeUrl(url: string): string {
    const ticket = this.#ticketOfLinks;
    return ticket ? this.#services.tracking.encodeUrl(url, ticket) : url;
  }

  /**
   * What links of this client have at the end of their path, `;holdfast=v1…`; undefined without a session, and where
   * the client is told it by other means.
   */
  get urlParameter(): string | undefined {
    const ticket = this.#ticketOfLinks;
    return ticket && this.#services.tracking.parameterOf(ticket);
  }

  /** True when links tell this client its ticket, or would tell it that of a session that begins now. */
  get isToldByLinks(): boolean {
    const { tracking } = this.#services;
    if (!tracking.kinds.includes('url')) return false;
    return tracking.toldBy(this.#request, this.#live === undefined || this.#live.isMade).includes('url');
  }

  /** True when the answer may hold a ticket in its links: that of its session, or of one that is read while it streams. */
  get mayTellByLinks(): boolean {
    if (!this.isToldByLinks) return false;
    return this.#request.urlTicket !== undefined || this.#ticketOfLinks !== undefined;
  }

  /** What the client shows its session by from now on; undefined without one. Whoever has it has the session. */
  get ticketText(): string | undefined {
    const live = this.#live;
    if (!live || live.state.isEnded) return undefined;
    return this.#services.tracking.textOf({ sid: live.state.sid, secret: live.secret });
  }

  get #ticketOfLinks(): SessionTicket | undefined {
    const live = this.#live;
    if (!live || live.state.isEnded || !this.isToldByLinks) return undefined;
    return { sid: live.state.sid, secret: live.secret };
  }

  /**
   * Holds the session for the socket of this handshake, after the commit; the socket sees of it what the handshake may
   * see. Undefined when there is no session, when it has ended, or when a login has replaced its secret since the
   * handshake was let in.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   */
  async attach(): Promise<SocketSession | undefined> {
    const live = this.#live;
    if (!live || live.state.isEnded) return undefined;
    const { secrets, handle, state } = live;
    const { isVeiled, isNameless } = handle;
    const { attributes } = this.#request;
    return this.#services.registry.attach(state.sid, { secrets, isVeiled, isNameless, attributes, state });
  }

  /** The response headers are out: from now on no cookie can be sent. */
  markHeadersSent(): void {
    this.#areHeadersSent = true;
  }

  /** A response answers the request: it has not ended before that has closed, which `markClientGone` says. */
  followResponse(): void {
    this.#hasResponse = true;
    const { accessTimes, settings, tracking } = this.#services;
    if (this.touches && !this.#loading && tracking.isIn(this.#request))
      this.#waiting = accessTimes.wait(this, settings.idleTimeoutMs);
  }

  /** It runs for long, and nobody has asked for its session: that is in use all the same. */
  onLong(): void {
    this.#shown.beginUse().catch(error => this.logger.warn({ err: error }, 'a running request does not count as use'));
  }

  /**
   * The client has gone. Whoever works for it may go on, but it counts no longer, and nothing is kept for it if its end
   * is never told.
   */
  markClientGone(): void {
    this.#isClientGone = true;
    if (this.#waiting) this.#services.accessTimes.stopWaiting(this.#waiting);
    this.#shown.endUse();
    if (!this.#live) return;
    this.withdraw();
    this.#endUse(this.#live);
    this.#releaseLive(this.#live);
  }

  /** The response headers did not leave after all. */
  takeBack(): void {
    this.#areHeadersSent = false;
    this.withdraw();
    this.#areHeadersSent = true;
  }

  /** The client is not told of a new session: it is not kept. Does nothing once the headers are sent. */
  withdraw(): void {
    if (this.#areHeadersSent) return;
    const live = this.#live;
    if (!live) this.#asides = [];
    if (!live?.isMade) return;
    this.#news = 'none';
    const { state } = live;
    if (!state.isStored) return state.detach();
    // Other parts of the page may have it.
    if (state.isDerived || state.isEnded) return;
    this.#services.registry.end(state.sid, 'expired').catch(error => {
      this.logger.warn({ err: error, sid: sidPrefix(state.sid) }, 'a session that nobody was told of ends by silence');
    });
  }

  /** The request has ended: every later use of the binding or its session throws ERR_SESSION_OUTSIDE_REQUEST. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    const live = this.#live;
    if (!live) return;
    live.handle.release();
    // What is sent still, to a client that may be slow, is its request.
    if (!this.#hasResponse) this.#endUse(live);
    this.#releaseLive(live);
  }

  #beginUse(state: SessionState): Use | undefined {
    return this.touches ? this.#services.accessTimes.begin(state.sid, state, state.lastAccessedAt) : undefined;
  }

  #endUse({ use }: Live): void {
    if (use) this.#services.accessTimes.end(use);
  }

  #dropLive(live: Live): void {
    this.#endUse(live);
    this.#releaseLive(live);
  }

  #releaseLive(live: Live): void {
    if (!live.isRetained) return;
    live.isRetained = false;
    live.shared?.release().catch(error => this.logger.error({ err: error }, 'session not saved'));
    this.#services.meters.letGo();
  }

  /** A page that a person opens, without a session as far as can be known. */
  get #isNewHere(): boolean {
    const { isDocumentNavigation, isPreflight } = this.#request;
    return isDocumentNavigation && isPreflight !== true && !this.#isToldNothing && !this.#mayBeHidden;
  }

  /** Whatever it is told could undo the login that it does not know of. Who shows a user is signed in by that. */
  get #isToldNothing(): boolean {
    return this.#shown.isSuperseded && this.#claimant === undefined;
  }

  /** The client has shown no session, and may have one all the same. */
  get #mayBeHidden(): boolean {
    const hasShown = this.#live !== undefined || this.#foreign !== undefined || this.#rivals.length > 0;
    return !hasShown && this.#services.tracking.mayBeHidden(this.#request);
  }

  #load(): Promise<void> {
    if (this.#isReleased) return Promise.reject(outsideRequest());
    this.#loading ??= this.#read();
    return this.#loading;
  }

  async #read(): Promise<void> {
    const settling = this.#services.clock.settle();
    if (settling) await settling;
    try {
      const choosing = this.#choose(await this.#shown.open());
      if (choosing) await choosing;
    } catch (error) {
      if (this.#foreign === undefined) this.#loading = undefined; // an outage may be over at the next call
      throw error;
    }
  }

  /** Of the sessions that the request's tickets open. */
  #choose(live: readonly Found[]): Awaitable<void> {
    const [first, second] = live;
    if (!first) return;
    if (second) {
      const own = this.#claimant && latestOf(live, this.#claimant.name);
      if (own) return this.#take(own, false);
      this.#rivals = live;
      // One of them was planted: there is no telling which (RFC 6265 §8.6), so neither counts.
      const sids = live.map(({ ticket }) => sidPrefix(ticket.sid));
      this.logger.warn(
        { event: 'two-live-sessions', sids, address: this.#request.clientAddress },
        'request with two live session cookies treated as anonymous',
      );
      return;
    }
    return this.#take(first, false);
  }

  #take({ ticket, loaded, standing }: Found, isNew: boolean): Awaitable<void> {
    const { accessTimes, meters, clock, settings } = this.#services;
    const { sid, secret } = ticket;
    const { header } = loaded.snapshot;
    const { user } = this.#request;
    const view = judgeOwner(header, user, settings.ownerRule);
    if (view === 'nothing') {
      meters.unauthorized++;
      this.#foreign = { sid, secrets: header, owner: header.owner!.name };
      this.logger.warn(
        {
          event: 'unauthorized-session-request',
          sid: sidPrefix(sid),
          user: user!.name,
          address: this.#request.clientAddress,
        },
        'request for the session of another user refused',
      );
      throw new UnauthorizedSessionRequestError(
        `the session belongs to another user than ${JSON.stringify(user!.name)}; sign in, which begins a new one, or sign out first`,
      );
    }
    const shared = this.#services.registry.share(sid, loaded);
    const state = shared?.state ?? this.#services.registry.createState({ sid, ...loaded, isStored: true });
    const lastAccessedAt = accessTimes.latest(sid, loaded.lastAccessedAt);
    state.lastAccessedAt = lastAccessedAt;
    let takingOver: Promise<void> | undefined;
    if (this.touches) {
      meters.sinceLastAccessMs.add(Math.max(0, clock.now() - wholeMs(lastAccessedAt)));
      accessTimes.note(sid, header, loaded.lastAccessedAt);
      takingOver = accessTimes.takeOver(sid, loaded.lastAccessedAt);
    }
    const { tracking } = this.#services;
    if (tracking.lacksMarker(this.#request)) this.#asides = tracking.mark(this.#request, this.#cookieLife(header));
    const live = this.#retainLive(
      state,
      shared,
      { secret, secrets: header },
      { isNew, isVeiled: view === 'little', isNameless: view === 'nameless', ownerName: header.owner?.name },
    );
    const isClaim = view === 'claim';
    const owned = takingOver
      ? this.#takeOver(live, takingOver, isClaim, standing)
      : isClaim
        ? this.#claim(live, user!)
        : this.#considerRotation(live, header, standing);
    const { attributes } = this.#request;
    return attributes ? whenThere(owned, () => this.#loadAttributes(attributes)) : owned;
  }

  /**
   * The session may be over by now, and then there is none. What cannot be decoded, or only in another thread, fails
   * where it is read.
   */
  async #loadAttributes(attributes: readonly string[]): Promise<void> {
    const live = this.#live;
    if (!live || live.state.isEnded) return;
    await live.handle.fetch(attributes).catch(error => {
      if (isSuperseded(error)) return this.#lookAgain(live);
      if (!isSessionEnded(error)) throw error;
    });
  }

  /** Another request has given the session a new secret meanwhile. What it has become may be for this one, too. */
  async #lookAgain(live: Live): Promise<void> {
    this.#dropLive(live);
    this.#live = undefined;
    this.#news = 'none';
    this.#isRotationDue = false;
    const { sid } = live.state;
    const loaded = await this.#services.registry.validate(sid);
    const found = loaded && (await this.#shown.judge([{ sid, secret: live.secret }], loaded));
    if (found) await this.#take(found, false);
  }

  /** Another process has had it. */
  async #takeOver(live: Live, takingOver: Promise<void>, isClaim: boolean, standing: SecretStanding): Promise<void> {
    const { sid, header } = live.state;
    await takingOver;
    this.#services.registry.onTakenOver(sid);
    if (isClaim) await this.#claim(live, this.#request.user!);
    else await this.#considerRotation(live, header, standing);
  }

  /** The first authenticated user owns the session. */
  async #claim(live: Live, user: SessionOwner): Promise<void> {
    try {
      if (this.#areHeadersSent) throw headersSent('given to its user');
      await this.#replaceSecret(live, { ...user, isShownByRequest: true }, {});
    } catch (error) {
      if (isSuperseded(error)) return this.#lookAgain(live); // another request has claimed it at the same moment
      this.#dropLive(live);
      this.#live = undefined;
      throw error;
    }
  }

  #considerRotation(live: Live, header: SessionHeader, standing: SecretStanding): Awaitable<void> {
    const { clock, settings, tracking } = this.#services;
    const now = clock.now();
    const { createdAt, secretAt = createdAt, former } = header;
    if (standing === 'current') {
      // Links cannot be told.
      const isDue = this.touches && now - secretAt >= settings.renewalTimeoutMs;
      this.#isRotationDue = isDue && tracking.shownBy(this.#request) !== 'url';
      // The client has got the new secret: the one before may end.
      if (former?.kind !== 'rotated' || former.until !== undefined) return;
      return live.state.limitFormer({ ...former, until: now + ROTATED_MS }, header.secretHash).catch(error => {
        this.logger.warn({ err: error }, 'a former session secret works on; the next request tries again');
      });
    } else if (standing === 'rotated') {
      // The new secret has not been used: the response that carried it was lost, or is still on its way.
      this.#isRotationDue = this.touches && former!.until === undefined && now - secretAt >= ROTATED_MS;
    }
  }

  /** @param isLogin Whoever signs in is not held to what others may begin. */
  async #create(owner: SessionHeader['owner'], isLogin = false): Promise<Session> {
    const { clock, tracking } = this.#services;
    const derived = tracking.ticketOfNonce(this.#request, clock.now());
    const mayBegin = () => {
      this.#refusedNew = owner || isLogin ? undefined : this.#request.refuseNew?.();
      if (this.#refusedNew) throw this.#refusedNew;
    };
    const session = derived && (await this.#createFrom(derived, owner, mayBegin));
    if (session) return session;
    mayBegin();
    return this.#begin({ sid: createSid(), secret: createSecret() }, owner);
  }

  /** The session that the parts of a page make together. Undefined: it was made before and is over, which it stays. */
  async #createFrom(
    derived: SessionTicket,
    owner: SessionHeader['owner'],
    mayBegin: () => void,
  ): Promise<Session | undefined> {
    const { registry } = this.#services;
    const { sid } = derived;
    if (registry.hasEnded(sid)) return undefined;
    // `load` would take what does not exist yet for what has ended.
    if (!(await registry.validate(sid)) && !(await registry.hasLived(sid))) {
      mayBegin();
      return this.#begin(derived, owner, () => registry.beginLife(sid));
    }
    const loaded = await registry.load(sid);
    if (!loaded) return undefined;
    // Another part of the page has made it already.
    const found = await this.#shown.judge([derived], loaded);
    if (!found) throw superseded();
    await this.#take(found, true);
    const live = this.#live;
    if (!live || live.state.isEnded) throw superseded();
    // Unless a login has replaced the secret that the parts derive: then its response tells the client.
    if (live.secrets.secretHash === hashSecret(live.secret)) this.#news = 'ticket';
    return live.handle.session;
  }

  async #begin(
    { sid, secret }: SessionTicket,
    owner: SessionHeader['owner'],
    isFirstLife?: () => Promise<boolean>,
  ): Promise<Session> {
    const { accessTimes, clock, settings, users } = this.#services;
    const { idleTimeoutMs, absoluteTimeoutMs } = settings;
    const now = clock.now();
    const secretHash = hashSecret(secret);
    const header: SessionHeader = {
      secretHash,
      createdAt: now,
      ...(owner && { owner: ownerOnly(owner) }),
      ...(idleTimeoutMs < Number.POSITIVE_INFINITY && { idleTimeoutMs }),
      ...(absoluteTimeoutMs < Number.POSITIVE_INFINITY && { absoluteExpiresAt: now + absoluteTimeoutMs }),
    };
    const snapshot = new Snapshot({ header, version: 0, attributes: new Map() }, settings.apart);
    const state = this.#services.registry.createState({
      sid,
      snapshot,
      lastAccessedAt: accessTimes.marked(now),
      isStored: false,
      isFirstLife,
      isDetached: this.#request.isPreflight === true || (this.#isClientGone && !this.#areHeadersSent),
    });
    if (owner && users.isLimited && !state.isDetached) await users.admit(owner.name, sid, () => state.commit());
    this.#news = 'ticket';
    const view = { isNew: true, isVeiled: false, isNameless: false, ownerName: owner?.name };
    const { session } = this.#retainLive(state, undefined, { secret, secrets: { secretHash } }, view, true).handle;
    const { attributes } = this.#request;
    if (attributes) await this.#loadAttributes(attributes);
    return session;
  }

  #retainLive(
    state: SessionState,
    shared: SharedSession | undefined,
    secret: Pick<Live, 'secret' | 'secrets'>,
    view: SessionView,
    isMade = false,
  ): Live {
    const live: Live = {
      state,
      shared,
      ...secret,
      isRetained: true,
      use: this.#beginUse(state),
      hasChanged: false,
      isMade,
      isLogin: false,
      handle: new SessionHandle(
        state,
        {
          onChanged: () => {
            live.hasChanged = true;
            shared?.schedule();
          },
          onRead: () => shared?.schedule(),
          onSynced: () => {
            live.hasChanged = false;
          },
          renew: options => this.#renew(live, options),
          invalidate: reason => this.#invalidate(live, reason),
        },
        view,
      ),
    };
    if (this.#live) this.#dropLive(this.#live);
    shared?.retain();
    this.#services.meters.hold();
    this.#live = live;
    if (this.#isReleased) live.handle.release();
    if (this.#isReleased || this.#isClientGone) this.#dropLive(live);
    return live;
  }

  async #renew(live: Live, { owner, ...options }: RenewOptions): Promise<void> {
    if (this.#areHeadersSent) throw headersSent('renewed');
    if (owner !== undefined) checkOwner(owner);
    checkLogin('renew', options, this.#services.settings);
    const before = live.state.header.owner;
    const isOther = owner !== undefined && before !== undefined && before.name !== owner.name;
    if (isOther && this.#services.settings.ownerRule) {
      throw new UnauthorizedSessionRequestError(
        'the session belongs to another user; use sessions.signIn(request, owner), which ends it and begins a new one',
      );
    }
    await this.#replaceSecret(live, owner, options);
    if (isOther)
      this.#logOwners('session-taken-over', live.state.sid, before.name, owner.name, 'a session has another owner now');
  }

  /** A login: the old secret is dead at once, and so are the sockets that were opened with it. */
  async #replaceSecret(live: Live, owner: SessionHeader['owner'], options?: SignInOptions): Promise<void> {
    const { accessTimes, clock, settings, store, users } = this.#services;
    const { state } = live;
    const expected = live.secrets.secretHash;
    const wasStored = state.isStored;
    const secret = createSecret();
    const secretHash = hashSecret(secret);
    const replace = async () => {
      const now = clock.now();
      const wishes = options && headerOfLogin(options, owner !== undefined, state.header, settings, now);
      // Others judge by the last access that the store knows: that may be too long ago for a shorter time.
      if (state.isStored && wishes && 'idleTimeoutMs' in wishes)
        await store.touch(new Map([[state.sid, accessTimes.marked(now)]]));
      await state.replaceSecret(
        {
          ...wishes,
          secretHash,
          secretAt: now,
          former: { secretHash: expected, kind: 'renewed', until: now + SUPERSEDED_MS },
          ...(owner && { owner: ownerOnly(owner) }),
        },
        expected,
      );
      // One more is counted when it is in the store.
      if (owner && users.isLimited && !state.isDetached)
        await (state.isStored ? state.commit() : this.#commitLogin(live));
    };
    if (owner && !state.isDetached && state.header.owner?.name !== owner.name)
      await users.admit(owner.name, state.sid, replace);
    else await replace();
    live.secret = secret;
    live.secrets = { secretHash };
    live.hasChanged = false; // written with it
    if (owner) {
      live.isLogin = true;
      live.handle.unveil();
      if (wasStored) this.#noteLogin(state);
    }
    this.#news = 'ticket';
    this.#isRotationDue = false;
    if (wasStored) this.#services.registry.onRenewed(state.sid, 'renewed');
  }

  /** Whatever its request is, and by the times that the session has since. */
  #noteLogin({ sid, header, lastAccessedAt }: SessionState): void {
    this.#services.accessTimes.note(sid, header, lastAccessedAt);
  }

  /** By time: the same user with a new secret, and the old one works until the client has got it. */
  async #rotate(live: Live): Promise<void> {
    const { clock } = this.#services;
    const secret = createSecret();
    const secretHash = hashSecret(secret);
    const secrets: Secrets = { secretHash, former: { secretHash: hashSecret(live.secret), kind: 'rotated' } };
    this.#isRotationDue = false;
    try {
      await live.state.replaceSecret({ ...secrets, secretAt: clock.now() }, live.secrets.secretHash);
    } catch (error) {
      if (isSuperseded(error)) return; // another request does it
      // A request that only reads does not fail because of it: a later one rotates.
      if (isNoRoom(error)) return;
      throw error;
    }
    live.secret = secret;
    live.secrets = secrets;
    this.#news = 'ticket';
    this.#services.registry.onRenewed(live.state.sid, 'rotated');
  }

  async #invalidate(live: Live, reason: SessionEndReason): Promise<void> {
    if (live.state.isStored) await this.#services.registry.end(live.state.sid, reason);
    live.state.markEnded();
    this.#news = 'no ticket';
  }
}

/** Nothing of ours is set over a cookie that the client may have: another site could sign its visitors out. */
function fromOtherSite(): HoldfastError {
  const message =
    'a page of another site has sent the request, so that it brings no cookie although there may be one, and a new session would take its place; ' +
    'answer with a redirect to a page of your own, or give the callback of a login by form_post "crossSiteSignIn: true"';
  return new HoldfastError('ERR_SESSION_CROSS_SITE', message, { status: 403, closeCode: 1008 });
}

/** What is kept of an owner, whatever else the application has passed. */
function ownerOnly(owner: NonNullable<SessionHeader['owner']>): SessionHeader['owner'] {
  const { name, roles, isShownByRequest, scheme, credential } = owner;
  return {
    ...{ name, roles },
    ...(isShownByRequest && { isShownByRequest }),
    ...(scheme !== undefined && { scheme }),
    ...(credential !== undefined && { credential }),
  };
}
