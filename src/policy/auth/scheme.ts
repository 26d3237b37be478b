import type { Awaitable } from '../../base/awaitable.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import type { Refusal } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import type { SessionManager } from '../../session/manager.ts';
import type { Session, SessionOwner } from '../../session/session.ts';

/** A user, as a scheme of authentication has found them. */
export interface Principal {
  /** At most 256 characters, at least one. */
  readonly name: string;
  readonly roles: readonly string[];
  /** Which groups the scheme itself has found them in, where it makes roles of these (`KnownUser`). */
  readonly groups?: readonly string[] | undefined;
  /** Which scheme of the configuration has found them. */
  readonly scheme: string;
  /** When their credentials end, in ms since the epoch: sockets are closed then, unless others are shown before. */
  readonly expiresAt?: number | undefined;
  /** What names the credentials (`jti`, a serial number): never their text. */
  readonly credential?: string | undefined;
  /** What else is known of them, for handlers: the claims of a token, for example. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
  /** What backends get besides, in the place of a client's own. */
  readonly targetHeaders?: readonly HeaderLine[] | undefined;
}

/** What a scheme says of the credentials that a request shows. */
export type Verdict =
  | { readonly kind: 'authenticated'; readonly principal: Principal }
  /** The request shows nothing that is for this scheme. */
  | { readonly kind: 'absent' }
  /**
   * It shows something that is not good: counted as a failed login, unless it is what was good until it ended (`isOver`).
   * `reason` is for the log and has nothing secret; `user` is the name that was tried, where there is one.
   */
  | {
      readonly kind: 'rejected';
      readonly reason: string;
      readonly user?: string | undefined;
      /** Another scheme may know it: it is a failed login only when none does. */
      readonly mayBeOfAnother?: boolean | undefined;
      /** As of a page that was asleep: nobody guesses by credentials that have ended. */
      readonly isOver?: boolean | undefined;
    }
  /** It cannot be judged (503), or not as it is (400). */
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** What credentials a client could show. At least one of the two is there. */
export interface Challenge {
  /** For `WWW-Authenticate` (RFC 9110 §11.6.1). */
  readonly header?: string | undefined;
  /** Of a page to sign in on, for document navigations only: path and query, or the URL of a provider's. */
  readonly location?: string | undefined;
  /** What that page is called where there are several. Default: the name of the scheme. */
  readonly label?: string | undefined;
}

/** Where users sign in by a scheme: the sessions that keep them, and the pages of the scheme beside these. */
export interface SignInPlace {
  readonly sessions: SessionManager;
  /** Below it lie the pages: `''`, or `/shop`. */
  readonly prefix: string;
}

/** A page of a scheme's own. Whoever the policies of its application let in may use it, signed in or not. */
export interface SchemePage {
  /** Below the prefix of the place: `/login`. */
  readonly path: string;
  /** Others get 405. GET includes HEAD. */
  readonly methods: readonly string[];
  /** A page of another site may send a login here: the callback of a provider, by `form_post`. Default false. */
  readonly isCrossSiteSignIn?: boolean | undefined;
  /**
   * As a fetch handler: what it throws is 500, or 503 where the session store cannot be asked. `place.sessions.signIn`
   * takes the request. A body has at most 64 KiB.
   */
  handle(request: Request, context: SchemePageContext): Awaitable<Response>;
}

export interface SchemePageContext {
  /** The facts of the request: who the client is, whose page has sent it, whether it is secure. */
  readonly head: RequestHead;
  /** Undefined: the client has none. */
  readonly session: Session | undefined;
  readonly place: SignInPlace;
}

/** What all schemes of authentication are to the flow, one file each. */
interface SchemeBase {
  /** Its name in the configuration. */
  readonly name: string;
  /** @param place Where the sessions of the route are; undefined: it has none. */
  challenge(head: RequestHead, place: SignInPlace | undefined): Challenge | undefined;
  /**
   * Is it still so? Asked of users with open sockets, after each `onChange`, and every `reviewEveryMs`.
   *
   * @returns the user with the roles of now; undefined for nobody: their sockets close with 1008. One that cannot be
   * asked rejects, and nothing changes.
   */
  review?(principal: Principal): Awaitable<Principal | undefined>;
  readonly reviewEveryMs?: number | undefined;
  /** Calls `listener` when what `review` would say may have changed. @returns ends that. */
  onChange?(listener: () => void): () => void;
  /** Reads files and begins to watch them. @throws {HoldfastError} ERR_CONFIG_INVALID when it cannot work. */
  start?(): Promise<void>;
  close?(): Awaitable<void>;
}

/** A scheme by which users prove who they are with each request: basic, token, certificate. */
export interface RequestScheme extends SchemeBase {
  readonly isShownByRequest: true;
  /** Never throws for what a client sends. */
  authenticate(head: RequestHead): Awaitable<Verdict>;
  /** Where it looks for credentials: what stands there does not reach the target, whatever came of it. */
  readonly places: readonly CredentialPlace[];
  /** Cookies that the client gets with the answer to its request: whole `Set-Cookie` lines. */
  responseCookies?(principal: Principal): readonly string[];
  /**
   * What a one-time ticket has to keep of a user beside the principal, as JSON can say it, so that `recall` can tell
   * whether the credentials still count: also in another process. It is encrypted. Left out: nothing.
   */
  keep?(principal: Principal): unknown;
  /**
   * The user of a ticket, as `review` takes it. Left out: the principal itself.
   *
   * @param kept What `keep` has returned.
   * @param head The handshake that shows the ticket.
   * @returns undefined when the credentials do not count any more, or not for this handshake.
   */
  recall?(principal: Principal, kept: unknown, head: RequestHead): Principal | undefined;
  /** The backend gets the credentials all the same. */
  readonly passCredentials?: boolean | undefined;
}

/** A scheme by which users sign in once, and their session keeps it: form, OIDC. */
export interface SessionScheme extends SchemeBase {
  readonly isShownByRequest: false;
  /**
   * Is the owner of the session a user of this scheme (`owner.scheme`)? Undefined: no, or no longer. Rejects when that
   * cannot be found out: with `AuthUnavailable` for 503.
   */
  recognize(owner: SessionOwner): Awaitable<Principal | undefined>;
  /**
   * Called once for each place whose routes take the scheme, while a configuration is put together. Nothing may be kept
   * of it: the configuration may be refused. @returns the pages that it has there.
   */
  pages?(place: SignInPlace): readonly SchemePage[];
  /** The places that count from now on, in the place of those before. */
  usePlaces?(places: readonly SignInPlace[]): void;
  /** Names of the cookies that these pages set and read: no backend gets or sets one. */
  ownCookies?(place: SignInPlace): readonly string[];
}

export type Scheme = RequestScheme | SessionScheme;
