import type { Clock, Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { SetMap } from '../base/set-map.ts';
import type { Authentication } from '../policy/auth/authentication.ts';
import type { Principal, Scheme } from '../policy/auth/scheme.ts';
import type { SecurityEvents } from '../policy/security-events.ts';
import { CloseCode } from '../wire/close-codes.ts';

/** A WebSocket of a user: a connection of an endpoint, or a relay. */
export interface UserSocket {
  close(code: number, reason: string): void;
  /** Called once for each `expiresAt`, some time before it. Left out: nobody wants to know. */
  onAuthExpiring?(until: number): void;
}

/** A socket, and by whose right it is open. */
interface Live {
  readonly socket: UserSocket;
  authentication: Authentication;
  scheme: Scheme;
  readonly sid: string | undefined;
  /** Of its client. */
  readonly address: string;
  principal: Principal;
  /** In ms since the epoch. */
  readonly openedAt: number;
  /** In the clock's monotonic time. */
  reviewAt: number;
  isToldOfEnd: boolean;
}

/** The handshake that a socket was opened by. */
interface OpenedBy {
  readonly authentication: Authentication;
  readonly sid: string | undefined;
  readonly address: string;
}

/** How often it is looked whose time is over. */
const LOOK_MS = 500;
/** How long before their end an endpoint hears that credentials end. */
const NOTICE_MS = 60_000;

/**
 * The users of open sockets. A socket closes with 1008 when its user's credentials end, and within a second of its user
 * being removed, disabled or losing the role that let them in.
 */
export class LiveUsers {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #security: SecurityEvents;
  readonly #live = new Map<UserSocket, Live>();
  readonly #bySession = new SetMap<string, Live>();
  readonly #watched = new Map<Scheme, () => void>();
  #timer: Timer | undefined;

  constructor(services: { readonly clock: Clock; readonly logger: Logger; readonly security: SecurityEvents }) {
    this.#clock = services.clock;
    this.#logger = services.logger;
    this.#security = services.security;
  }

  get size(): number {
    return this.#live.size;
  }

  /** The socket is open. Whatever changed since its request was judged counts as well. */
  join(socket: UserSocket, principal: Principal, { authentication, sid, address }: OpenedBy): void {
    const scheme = authentication.schemes.find(({ name }) => name === principal.scheme);
    if (!scheme) return;
    const live: Live = {
      ...{ socket, authentication, scheme, sid, address, principal },
      openedAt: this.#clock.now(),
      reviewAt: this.#nextReview(scheme),
      isToldOfEnd: false,
    };
    this.#live.set(socket, live);
    if (sid !== undefined) this.#bySession.add(sid, live);
    this.#watch(scheme);
    if (scheme.onChange) void this.#review(live);
    this.#plan();
  }

  #watch(scheme: Scheme): void {
    if (scheme.onChange && !this.#watched.has(scheme))
      this.#watched.set(
        scheme,
        scheme.onChange(() => this.#reviewAll(scheme)),
      );
  }

  /**
   * Others may use its route now.
   *
   * @param authentication Who may; undefined: everybody.
   * @returns why the socket may not stay.
   */
  judgeAgain(socket: UserSocket, authentication: Authentication | undefined): { readonly reason: string } | undefined {
    const live = this.#live.get(socket);
    if (!authentication) {
      this.leave(socket);
      return undefined;
    }
    if (!live) return { reason: 'a user is asked for now' };
    const scheme = authentication.schemes.find(({ name }) => name === live.principal.scheme);
    if (!scheme) return { reason: `its user came by ${live.principal.scheme}, which is not asked any more` };
    const missing = authentication.judgeRoles(live.principal);
    if (missing) return missing;
    live.authentication = authentication;
    if (scheme === live.scheme) return undefined;
    live.scheme = scheme;
    live.reviewAt = this.#nextReview(scheme);
    this.#watch(scheme);
    if (scheme.onChange) void this.#review(live);
    return undefined;
  }

  /** Lets go of schemes that no socket has come by. */
  forgetUnused(): void {
    const used = new Set([...this.#live.values()].map(({ scheme }) => scheme));
    for (const [scheme, stop] of this.#watched) {
      if (used.has(scheme)) continue;
      this.#watched.delete(scheme);
      stop();
    }
  }

  leave(socket: UserSocket): void {
    const live = this.#live.get(socket);
    if (!live) return;
    this.#live.delete(socket);
    if (live.sid !== undefined) this.#bySession.remove(live.sid, live);
  }

  /**
   * The user has shown other credentials with a request of the same session: its sockets go on by these, if they are
   * good for longer.
   */
  renew(sid: string, principal: Principal): void {
    for (const live of this.#ofUser(sid, principal)) {
      if (endOf(principal) > endOf(live.principal)) this.#judge(live, principal);
    }
  }

  /**
   * The same, as another process says it: for what is known of the user here. Where a service is asked again, it is asked
   * of the credentials that this process was shown: it says when they end, and the others are not known here.
   */
  extend(sid: string, renewal: { scheme: string; name: string; until: number; at: number }): void {
    const { until, at } = renewal;
    for (const live of this.#ofUser(sid, renewal)) {
      const { scheme, principal, openedAt } = live;
      const isAskedAgain = scheme.isShownByRequest && scheme.reviewEveryMs !== undefined;
      if (isAskedAgain || until <= endOf(principal) || at < openedAt) continue;
      live.principal = { ...principal, expiresAt: until };
      live.isToldOfEnd = false;
    }
  }

  #ofUser(sid: string, { scheme, name }: Pick<Principal, 'scheme' | 'name'>): Live[] {
    const ofSession = [...(this.#bySession.get(sid) ?? [])];
    return ofSession.filter(({ principal }) => principal.scheme === scheme && principal.name === name);
  }

  close(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const stop of this.#watched.values()) stop();
    this.#watched.clear();
    this.#live.clear();
    this.#bySession.clear();
  }

  #nextReview({ review, reviewEveryMs }: Scheme): number {
    return review && reviewEveryMs !== undefined ? this.#clock.monotonic() + reviewEveryMs : Number.POSITIVE_INFINITY;
  }

  #reviewAll(scheme: Scheme): void {
    for (const live of this.#live.values()) if (live.scheme === scheme) void this.#review(live);
  }

  /** What cannot be asked changes nothing: it is asked again. */
  async #review(live: Live): Promise<void> {
    const { scheme, socket, principal } = live;
    live.reviewAt = this.#nextReview(scheme);
    if (!scheme.review) return;
    try {
      const now = await scheme.review(principal);
      if (this.#live.get(socket) !== live || live.principal !== principal) return;
      if (now) this.#judge(live, now);
      else this.#end(live, 'user is not known any more');
    } catch (error) {
      this.#logger.warn(
        { event: 'auth-review-failed', scheme: scheme.name, err: error },
        'users of open sockets cannot be looked up; they stay, and it is tried again',
      );
    }
  }

  #judge(live: Live, principal: Principal): void {
    if (live.authentication.judgeRoles(principal)) return this.#end(live, 'role is missing');
    if (endOf(principal) > endOf(live.principal)) live.isToldOfEnd = false;
    live.principal = principal;
    this.#plan();
  }

  #end(live: Live, reason: string): void {
    const { socket, principal, sid, address } = live;
    this.leave(socket);
    const { scheme, name: user } = principal;
    this.#security.report({ event: 'user-gone', address, user, scheme, sid, reason: `a socket closes: ${reason}` });
    socket.close(CloseCode.policyViolation, reason);
  }

  #plan(): void {
    if (this.#timer !== undefined || this.#live.size === 0) return;
    this.#timer = this.#clock.setTimeout(() => this.#look(), LOOK_MS);
  }

  #look(): void {
    this.#timer = undefined;
    const [now, at] = [this.#clock.now(), this.#clock.monotonic()];
    for (const live of this.#live.values()) {
      const end = endOf(live.principal);
      if (end <= now) this.#end(live, 'authentication has expired');
      else if (live.reviewAt <= at) void this.#review(live);
      else if (!live.isToldOfEnd && end - now <= NOTICE_MS) {
        live.isToldOfEnd = true;
        live.socket.onAuthExpiring?.(end);
      }
    }
    this.#plan();
  }
}

function endOf({ expiresAt }: Principal): number {
  return expiresAt ?? Number.POSITIVE_INFINITY;
}
