import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import { getOrInsert } from '../../base/get-or-insert.ts';
import { messageOf } from '../../base/message-of.ts';
import { isRefusal, type Refusal, type RefusalHeaders, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import type { SessionOwner } from '../../session/session.ts';
import type { SecurityEvents } from '../security-events.ts';
import { pageHeaders, pageOf } from './page-frame.ts';
import { isPersonal } from './personal.ts';
import type { Challenge, Principal, RequestScheme, Scheme, SessionScheme, SignInPlace } from './scheme.ts';
import { type SignInChoice, signInChoicePage } from './sign-in-choice.ts';
import { AuthUnavailable, authUnavailable } from './unavailable.ts';

/** In a list of roles: whoever has signed in. */
export const VALID_USER = 'valid-user';

export interface AuthenticationOptions {
  /** Tried in this order. At least one. */
  readonly schemes: readonly Scheme[];
  /** One of them is needed. Left out: whoever has signed in may come in; empty: nobody. */
  readonly roles?: readonly string[] | undefined;
  /** Where the sessions of the route are; left out: it has none. */
  readonly place?: SignInPlace | undefined;
  readonly security: SecurityEvents;
  /** Of the route, for the log. */
  readonly route: string;
}

/** What a request has shown by itself. */
export interface Shown {
  /** Undefined: nobody, and its session may know. */
  readonly principal: Principal | undefined;
  /** It has shown something that is not good: the answer, where its session knows nobody either. */
  readonly rejection?: Refusal | undefined;
}

/** What the schemes asked so far have said, none of which knows the user. */
interface Found {
  failure: Refusal | 'rejected' | undefined;
  /** Failed logins, unless another scheme knows the user. */
  readonly inDoubt: (() => void)[];
}

/** Who may use a route: by which schemes they show who they are, and which roles they need. */
export class Authentication {
  readonly schemes: readonly Scheme[];
  /** What stands here does not reach the target: it could take for checked what is not. */
  readonly takenPlaces: readonly CredentialPlace[];
  readonly #options: AuthenticationOptions;
  /** One of each is needed. */
  readonly #roles: readonly ReadonlySet<string>[];
  readonly #others: readonly Authentication[];
  readonly #joined = new Map<Authentication, Authentication>();
  readonly #elsewhere = new Map<SignInPlace | undefined, Authentication>();
  readonly #byRequest: readonly RequestScheme[];
  readonly #bySession: readonly SessionScheme[];
  readonly #place: SignInPlace | undefined;
  readonly #security: SecurityEvents;
  readonly #route: string;

  /** @param others Hold as well: what they ask for is asked for here, too. */
  constructor(options: AuthenticationOptions, others: readonly Authentication[] = []) {
    const { schemes, roles, place, security, route } = options;
    this.#options = options;
    this.schemes = schemes;
    this.#others = others;
    const own = roles === undefined || roles.includes(VALID_USER) ? [] : [new Set(roles)];
    this.#roles = [...own, ...others.flatMap(other => other.#roles)];
    this.#byRequest = schemes.filter(scheme => scheme.isShownByRequest);
    this.#bySession = schemes.filter(scheme => !scheme.isShownByRequest);
    const ownPlaces = this.#byRequest.flatMap(scheme => (scheme.passCredentials ? [] : scheme.places));
    this.takenPlaces = [...ownPlaces, ...others.flatMap(other => other.takenPlaces.filter(isOfScheme))];
    this.#place = place;
    this.#security = security;
    this.#route = route;
  }

  /** The same schemes, for users who have the roles that another asks for as well. */
  also(other: Authentication | undefined): Authentication {
    if (!other || other === this) return this;
    return getOrInsert(this.#joined, other, () => new Authentication(this.#options, [...this.#others, other]));
  }

  /** The same for a route whose sessions are elsewhere: there its users sign in. */
  at(place: SignInPlace | undefined): Authentication {
    if (place === this.#place) return this;
    return getOrInsert(this.#elsewhere, place, () => new Authentication({ ...this.#options, place }, this.#others));
  }

  /** Cookies that the client gets with its answer, from what has found this user. */
  responseCookies(principal: Principal): readonly string[] {
    return this.#byRequest.find(({ name }) => name === principal.scheme)?.responseCookies?.(principal) ?? [];
  }

  /** Does a session say who somebody is? */
  get asksSession(): boolean {
    return this.#bySession.length > 0;
  }

  /**
   * Before any session is looked for: what the request itself shows.
   *
   * @returns a user with a role that is needed; nobody where the session has to say; or a refusal: 401 (ERR_AUTH_REQUIRED
   * for nothing, ERR_AUTH_FAILED for what is not good) or 302 to a page to sign in on, 403 (ERR_AUTH_FORBIDDEN) for
   * missing roles, 503 (ERR_AUTH_UNAVAILABLE) where nobody can tell.
   */
  authenticate(head: RequestHead): Awaitable<Shown | Refusal> {
    return this.#ask(head, 0, { failure: undefined, inDoubt: [] });
  }

  /** The schemes from this one on. Answers at once where they do, as with most requests. */
  #ask(head: RequestHead, index: number, found: Found): Awaitable<Shown | Refusal> {
    const scheme = this.#byRequest[index];
    if (!scheme) return this.#conclude(head, found);
    return whenThere(scheme.authenticate(head), verdict => {
      if (verdict.kind === 'authenticated') {
        const principal = this.#mayUse(head, verdict.principal);
        return isRefusal(principal) ? principal : { principal };
      }
      if (verdict.kind === 'rejected') {
        const { reason, user, mayBeOfAnother, isOver } = verdict;
        const event = isOver ? 'credentials-expired' : 'login-failed';
        const report = () => this.#report(head, event, reason, { scheme: scheme.name, user });
        if (mayBeOfAnother) found.inDoubt.push(report);
        else report();
        found.failure ??= 'rejected';
      } else if (verdict.kind === 'refused') {
        // What is wrong with the request itself is wrong for every scheme.
        if (verdict.refusal.status === 400) return verdict.refusal;
        found.failure = verdict.refusal;
      }
      return this.#ask(head, index + 1, found);
    });
  }

  #conclude(head: RequestHead, { failure, inDoubt }: Found): Shown | Refusal {
    for (const report of inDoubt) report();
    // What the request shows cannot be judged: its session does not speak for it.
    if (failure !== undefined && failure !== 'rejected') return failure;
    if (failure === undefined && this.asksSession) return NOTHING_SHOWN;
    const challenge = this.#challenge(head, failure === 'rejected');
    // A program with an expired token is to learn that, and not that it has shown nothing.
    return this.asksSession ? { principal: undefined, rejection: challenge } : challenge;
  }

  /** What a ticket for this user keeps, for `judgeTicket`. */
  keep(principal: Principal): unknown {
    return this.#byRequest.find(({ name }) => name === principal.scheme)?.keep?.(principal);
  }

  /**
   * The user of a ticket, whom another request has shown, as their scheme finds them now.
   *
   * @returns undefined for one of a scheme that does not count here; `over` when their credentials do not count any more;
   * or a refusal: 403, 503.
   */
  async judgeTicket(
    head: RequestHead,
    principal: Principal,
    kept: unknown,
  ): Promise<Principal | undefined | Refusal | 'over'> {
    const scheme = this.#byRequest.find(({ name }) => name === principal.scheme);
    if (!scheme) return undefined;
    const recalled = scheme.recall ? scheme.recall(principal, kept, head) : principal;
    if (!recalled) return 'over';
    try {
      const now = scheme.review ? await scheme.review(recalled) : recalled;
      return now ? this.#mayUse(head, now) : 'over';
    } catch (error) {
      return authUnavailable(`the user of a ticket cannot be looked up: ${messageOf(error)}`);
    }
  }

  /**
   * Then, with the session: whom does it keep?
   *
   * @param rejection Of what the request has shown by itself.
   * @returns as `authenticate`.
   */
  async identify(
    head: RequestHead,
    owner: SessionOwner | undefined,
    rejection?: Refusal | undefined,
  ): Promise<Principal | Refusal> {
    if (owner)
      for (const scheme of this.#bySession) {
        let principal = recognized(scheme, owner);
        if (principal instanceof Promise) principal = await principal;
        if (isRefusal(principal)) return principal;
        if (principal) return this.#mayUse(head, principal);
      }
    return rejection ?? this.#challenge(head, false);
  }

  #mayUse(head: RequestHead, principal: Principal): Principal | Refusal {
    const refusal = this.judgeRoles(principal);
    if (!refusal) return principal;
    this.#report(head, 'role-missing', refusal.reason, { scheme: principal.scheme, user: principal.name });
    return refusal;
  }

  #report(
    { clientAddress: address, method, path }: RequestHead,
    event: 'login-failed' | 'credentials-expired' | 'role-missing',
    reason: string,
    who: { readonly scheme: string; readonly user: string | undefined },
  ): void {
    this.#security.report({ event, address, ...who, route: this.#route, method, path, reason });
  }

  /** 403 without one of the roles that are needed. */
  judgeRoles({ name, roles }: Principal): Refusal | undefined {
    const missing = this.#roles.find(needed => !roles.some(role => needed.has(role)));
    if (!missing) return undefined;
    const needed = missing.size === 0 ? 'nobody may' : `it takes one of the roles ${[...missing].join(', ')}`;
    return refuse(403, 'ERR_AUTH_FORBIDDEN', `the user ${JSON.stringify(name)} may not use this route: ${needed}`, {
      body: 'Your account may not use this.\n',
    });
  }

  /** What the client has to show. A page that a person opens leads to a page to sign in on, where there is one. */
  #challenge(head: RequestHead, wasRejected: boolean): Refusal {
    const challenges = this.schemes.flatMap(scheme => scheme.challenge(head, this.#place) ?? []);
    const choices = isPersonal(head) ? this.#choices(head) : [];
    if (choices.length > 1) {
      const page = signInChoicePage(choices, head.headers['accept-language']);
      const headers = { ...this.#headersOf(challenges), ...pageHeaders(page) };
      return refuse(401, 'ERR_AUTH_REQUIRED', 'nobody has signed in', { headers, body: pageOf(page) });
    }
    const location = choices[0]?.location;
    if (location !== undefined)
      return refuse(head.method === 'GET' ? 302 : 303, 'ERR_AUTH_REQUIRED', 'nobody has signed in', {
        headers: { Location: location, 'Cache-Control': 'no-store' },
        body: '',
      });
    return refuse(
      401,
      wasRejected ? 'ERR_AUTH_FAILED' : 'ERR_AUTH_REQUIRED',
      wasRejected ? 'the credentials are not good' : 'the request shows no credentials',
      {
        headers: { ...this.#headersOf(challenges), 'Cache-Control': 'no-store' },
        body: 'Sign in to use this.\n',
      },
    );
  }

  /** The pages to sign in on, each once. */
  #choices(head: RequestHead): SignInChoice[] {
    const choices = new Map<string, SignInChoice>();
    for (const scheme of this.schemes) {
      const { location, label = scheme.name } = scheme.challenge(head, this.#place) ?? {};
      if (location !== undefined && !choices.has(location)) choices.set(location, { label, location });
    }
    return [...choices.values()];
  }

  #headersOf(challenges: readonly Challenge[]): RefusalHeaders {
    const lines = challenges.flatMap(({ header }) => header ?? []);
    return lines.length > 0 ? { 'WWW-Authenticate': lines } : {};
  }
}

/** What a scheme says to backends there, no client may say, whoever lets it in. */
function isOfScheme(place: CredentialPlace): boolean {
  return place.kind === 'header' && place.inAnySpelling === true;
}

const NOTHING_SHOWN: Shown = { principal: undefined };

/** @returns 503 where the scheme cannot tell. */
function recognized(scheme: SessionScheme, owner: SessionOwner): Awaitable<Principal | Refusal | undefined> {
  try {
    const principal = scheme.recognize(owner);
    return principal instanceof Promise ? principal.catch(unavailable) : principal;
  } catch (error) {
    return unavailable(error);
  }
}

/** @throws what else it is. */
function unavailable(error: unknown): Refusal {
  if (error instanceof AuthUnavailable) return authUnavailable(error.message);
  throw error;
}
