import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { RETRY_AFTER_S } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { SERVER_PARTS, type SessionManager } from '../../session/manager.ts';
import type { Session, SessionOwner } from '../../session/session.ts';
import type { SecurityEvents } from '../security-events.ts';
import { challengeOf } from './challenge.ts';
import { checkedStyle } from './page-frame.ts';
import { PasswordUsers } from './passwords/password-users.ts';
import type { PasswordVerifier } from './passwords/password-verifier.ts';
import type { RoleSource } from './roles.ts';
import type { Challenge, Principal, SchemePage, SchemePageContext, SessionScheme, SignInPlace } from './scheme.ts';
import { FormTokens, formCookies, formOrigin } from './sign-in/form-token.ts';
import {
  FileFormUsers,
  type FormUser,
  type FormUsers,
  FunctionFormUsers,
  unusable,
  type VerifyPassword,
} from './sign-in/form-users.ts';
import { pageAskedFor, pageBefore, returnPath } from './sign-in/return-path.ts';
import { keysOf } from './sign-in/session-keys.ts';
import { type Message, SignInPages } from './sign-in/sign-in-page.ts';
import { StaleLogins } from './sign-in/stale-logins.ts';
import { WatchedFile } from './watched-file.ts';

export interface FormSchemeOptions {
  readonly name: string;
  /** The password file; or else `verify`. */
  readonly file?: string | undefined;
  readonly verify?: VerifyPassword | undefined;
  readonly timeoutMs: number;
  /** Pages of the application, below the prefix of the place. Left out: ours. */
  readonly loginPage?: string | undefined;
  readonly errorPage?: string | undefined;
  /** On the page that offers several ways to sign in. */
  readonly label?: string | undefined;
  /** Of our pages; `style` is a file. */
  readonly page: { readonly title?: string | undefined; readonly style?: string | undefined };
  readonly paths: { readonly login: string; readonly check: string; readonly logout: string };
  /** Where a login leads that no page has asked for, below the prefix. */
  readonly landingPage: string;
  /** Where signing out leads, below the prefix. Left out: the page to sign in on. */
  readonly afterLogout?: string | undefined;
  readonly roleSource: RoleSource;
  /** Shared by all schemes of a server that have passwords. */
  readonly verifier: PasswordVerifier;
  readonly security: SecurityEvents;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** With what its roles are made of. */
interface FormPrincipal extends Principal {
  readonly groups: readonly string[];
}

/**
 * Users who sign in with a name and a password on a page, ours or the application's, as FORM of `web.xml`: the form posts
 * `j_username` and `j_password` to `j_security_check`. Their session keeps the login.
 */
export class FormScheme implements SessionScheme {
  readonly isShownByRequest = false;
  readonly name: string;
  readonly #options: FormSchemeOptions;
  readonly #file: PasswordUsers | undefined;
  readonly #users: FormUsers;
  readonly #style: WatchedFile<string> | undefined;
  readonly #pages: SignInPages;
  /** Of places, which each configuration has anew. */
  readonly #tokens = new WeakMap<SignInPlace, FormTokens>();
  /** Those that keep its logins. */
  #sessions: ReadonlySet<SessionManager> = new Set();
  readonly #stale: StaleLogins;

  constructor(options: FormSchemeOptions) {
    const { name, file, verify, timeoutMs, page, verifier, clock, logger } = options;
    this.name = name;
    this.#options = options;
    // A login is once: nothing is gained by remembering the password.
    if (file !== undefined)
      this.#file = new PasswordUsers({ file, title: `auth.${name}`, rememberMs: 0, verifier, clock, logger });
    this.#users = this.#file
      ? new FileFormUsers(this.#file)
      : new FunctionFormUsers({ scheme: name, verify: verify!, timeoutMs, clock, logger });
    if (page.style !== undefined)
      this.#style = new WatchedFile({
        ...{ file: page.style, what: `auth.${name}: the style`, clock, logger },
        parse: checkedStyle,
      });
    this.#pages = new SignInPages(() => ({ title: page.title, style: this.#style?.value }));
    this.#stale = new StaleLogins({
      ...{ scheme: name, logger, sessions: () => this.#sessions },
      isStale: ({ name: user, credential }, sessions) =>
        !this.#sessions.has(sessions) || !this.#users.isCurrent(user, credential, keysOf(sessions)),
    });
  }

  async start(): Promise<void> {
    await this.#file?.start();
    await this.#style?.start();
    if (!this.#file) return;
    this.#file.onPasswordsChanged(users => this.#stale.end(users));
  }

  close(): void {
    this.#stale.close();
    this.#file?.close();
    this.#style?.close();
  }

  onChange(listener: () => void): () => void {
    const ends = [this.#file?.onChange(listener), this.#options.roleSource.onChange(listener)];
    return () => {
      for (const end of ends) end?.();
    };
  }

  challenge(head: RequestHead, place: SignInPlace | undefined): Challenge {
    const header = challengeOf('Form', this.name);
    if (!place) return { header };
    const page = this.#loginPage(place);
    // Where the application's own page asks for a login, it cannot lead to itself.
    if (head.path === pathOf(page)) return { header };
    const next = this.#nextBut(place, pageAskedFor(head));
    return { header, location: withQuery(page, { next }), label: this.#options.label };
  }

  recognize({ name, roles, scheme, credential }: SessionOwner): Principal | undefined {
    if (scheme !== this.name) return undefined;
    if (this.#isCurrent(name, credential)) return this.#principal({ name, groups: roles }, credential);
    this.#stale.end([name]);
    return undefined;
  }

  review(principal: Principal): Principal | undefined {
    const { name, credential, groups } = principal as FormPrincipal;
    return this.#isCurrent(name, credential) ? this.#principal({ name, groups }, credential) : undefined;
  }

  pages(place: SignInPlace): readonly SchemePage[] {
    this.#tokens.set(place, new FormTokens(place));
    const { loginPage, paths } = this.#options;
    const login: SchemePage = {
      path: paths.login,
      methods: ['GET'],
      handle: async (request, context) => this.#showLogin(request, context),
    };
    return [
      ...(loginPage === undefined ? [login] : []),
      { path: paths.check, methods: ['POST'], handle: (request, context) => this.#check(request, context) },
      { path: paths.logout, methods: ['GET'], handle: async (_request, context) => this.#showLogout(context) },
      { path: paths.logout, methods: ['POST'], handle: (request, context) => this.#logout(request, context) },
    ];
  }

  usePlaces(places: readonly SignInPlace[]): void {
    this.#sessions = new Set(places.map(({ sessions }) => sessions));
  }

  ownCookies(place: SignInPlace): readonly string[] {
    return formCookies(place);
  }

  #isCurrent(name: string, credential: string | undefined): boolean {
    return [...this.#sessions].some(sessions => this.#users.isCurrent(name, credential, keysOf(sessions)));
  }

  #principal({ name, groups }: FormUser, credential: string | undefined): FormPrincipal {
    const roles = this.#options.roleSource.rolesOf({ name, groups });
    return { name, roles, scheme: this.name, credential, groups };
  }

  #showLogin(request: Request, { head, place }: SchemePageContext): Response {
    const query = new URL(request.url).searchParams;
    const message = SHOWN.find(one => query.has(one));
    return this.#loginForm(head, place, returnPath(query.get('next')), message);
  }

  #loginForm(
    head: RequestHead,
    place: SignInPlace,
    next: string | undefined,
    message: Message | undefined,
    status = 200,
    headers: Readonly<Record<string, string>> = {},
  ): Response {
    const { paths, clock } = this.#options;
    const { token, cookie } = this.#tokens.get(place)!.issue(head, clock.now());
    const canBeRemembered = place.sessions[SERVER_PARTS].remembers;
    const form = { action: place.prefix + paths.check, token, next, canBeRemembered };
    const response = this.#pages.show(
      { kind: 'sign-in', ...form },
      { acceptLanguage: head.headers['accept-language'], message, status, headers },
    );
    if (cookie !== undefined) response.headers.append('Set-Cookie', cookie);
    return response;
  }

  async #check(request: Request, context: SchemePageContext): Promise<Response> {
    const { head, place } = context;
    const form = await readForm(request);
    if (!form) return plain(415, 'Send the form as application/x-www-form-urlencoded.\n');
    const next = this.#nextAfter(request, form, context);
    const standing = this.#judgeForm(form, context);
    if (standing === 'foreign') return this.#refuseForeign(head);
    if (standing === 'old') return this.#again(context, 'expired', next);
    const name = form.get('j_username') ?? '';
    const password = form.get('j_password') ?? '';
    const { clientAddress: address, method, path } = head;
    const about = { address, scheme: this.name, method, path };
    const useless = unusable(name, password);
    const login = useless === undefined ? await this.#users.login(name, password, address) : { wrong: useless };
    if (login === 'unavailable') return this.#unavailable(context, next);
    if ('wrong' in login) {
      // A name that no user can have may be a password.
      const user = useless === undefined ? name : undefined;
      this.#options.security.report({ event: 'login-failed', ...about, user, reason: login.wrong });
      return this.#again(context, 'failed', next);
    }
    const session = await this.#signIn(request, login, place, form.get('remember') === 'yes');
    if (session === 'too many') return this.#again(context, 'too-many', next);
    const who = { user: login.name, sid: session.id };
    this.#options.security.report({ event: 'login-succeeded', ...about, ...who, reason: 'a user has signed in' });
    const location = next ?? this.#landing(place);
    // With `tracking: url` the only place in which a script finds its session.
    if (isScripted(head)) return new Response(null, { status: 204, headers: { ...NO_STORE, Location: location } });
    return seeOther(location);
  }

  async #signIn(
    request: Request,
    user: FormUser,
    place: SignInPlace,
    isToBeRemembered: boolean,
  ): Promise<Session | 'too many'> {
    const { name, groups } = user;
    const { sessions } = place;
    const credential = this.#users.credentialOf(name, keysOf(sessions));
    const roles = this.#file ? this.#principal(user, credential).roles : groups;
    const owner = { name, roles, scheme: this.name, ...(credential !== undefined && { credential }) };
    const persistent = isToBeRemembered && sessions[SERVER_PARTS].remembers;
    try {
      return await sessions.signIn(request, owner, persistent ? { persistent } : {});
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'ERR_SESSION_USER_LIMIT') return 'too many';
      throw error;
    }
  }

  #showLogout({ head, place }: SchemePageContext): Response {
    const { paths, clock } = this.#options;
    const { token, cookie } = this.#tokens.get(place)!.issue(head, clock.now());
    const form = { kind: 'sign-out', action: place.prefix + paths.logout, token } as const;
    const response = this.#pages.show(form, { acceptLanguage: head.headers['accept-language'] });
    if (cookie !== undefined) response.headers.append('Set-Cookie', cookie);
    return response;
  }

  async #logout(request: Request, context: SchemePageContext): Promise<Response> {
    const { head, session, place } = context;
    const form = await readForm(request);
    if (!form) return plain(415, 'Send the form as application/x-www-form-urlencoded.\n');
    const standing = this.#judgeForm(form, context);
    if (standing === 'foreign') return this.#refuseForeign(head);
    if (standing === 'old') return seeOther(place.prefix + this.#options.paths.logout);
    if (session) {
      const user = session.owner?.name;
      const { clientAddress: address, method, path } = head;
      await session.invalidate('logout');
      const who = { user, sid: session.id, scheme: this.name };
      this.#options.security.report({
        event: 'logout',
        address,
        method,
        path,
        ...who,
        reason: 'a user has signed out',
      });
    }
    if (isScripted(head)) return new Response(null, { status: 204, headers: NO_STORE });
    const { afterLogout, loginPage } = this.#options;
    if (afterLogout !== undefined) return seeOther(place.prefix + afterLogout);
    const page = this.#loginPage(place);
    return seeOther(loginPage === undefined ? withQuery(page, { 'signed-out': '' }) : page);
  }

  /**
   * Is a form one of this site? Ours bring a token; the application's own need none where the browser says whose page
   * has sent them.
   */
  #judgeForm(form: URLSearchParams, { head, place }: SchemePageContext): 'good' | 'old' | 'foreign' {
    const origin = formOrigin(head);
    if (origin === 'other') return 'foreign';
    const token = form.get('token');
    if (token === null) return origin === 'same' ? 'good' : 'foreign';
    return this.#tokens.get(place)!.verify(token, head, this.#options.clock.now()) ? 'good' : 'old';
  }

  #refuseForeign({ clientAddress: address, method, path }: RequestHead): Response {
    const reason = 'a form to sign in or out was not sent by a page of this site';
    this.#options.security.report({ event: 'refused', address, scheme: this.name, method, path, status: 403, reason });
    return plain(403, 'This form has to be sent by a page of this site: with its token, or with the Origin header.\n');
  }

  #again(context: SchemePageContext, message: 'failed' | 'expired' | 'too-many', next: string | undefined): Response {
    const { head, place } = context;
    if (isScripted(head)) {
      const status = message === 'failed' ? 401 : 403;
      const challenge: Record<string, string> =
        status === 401 ? { 'WWW-Authenticate': challengeOf('Form', this.name) } : {};
      return plain(status, `${TOLD[message]}\n`, challenge);
    }
    const { errorPage, loginPage } = this.#options;
    if (loginPage === undefined) return seeOther(withQuery(this.#loginPage(place), { [message]: '', next }));
    const page = place.prefix + ((message === 'failed' ? errorPage : undefined) ?? loginPage);
    return seeOther(withQuery(page, { ...(page === this.#loginPage(place) && { [message]: '' }), next }));
  }

  #unavailable({ head, place }: SchemePageContext, next: string | undefined): Response {
    const headers = { 'Retry-After': RETRY_AFTER_S };
    if (this.#options.loginPage === undefined && !isScripted(head))
      return this.#loginForm(head, place, next, 'busy', 503, headers);
    return plain(503, 'Nobody can be signed in at the moment.\n', headers);
  }

  #loginPage({ prefix }: SignInPlace): string {
    return prefix + (this.#options.loginPage ?? this.#options.paths.login);
  }

  #landing({ prefix }: SignInPlace): string {
    return prefix + this.#options.landingPage;
  }

  /** What every login leads to need not be said. */
  #nextBut(place: SignInPlace, next: string | undefined): string | undefined {
    return next === this.#landing(place) ? undefined : next;
  }

  /**
   * Where a login leads: as the form says, or the URL that it was sent to; else as the URL of the page says that has sent
   * it, since a page of the application that is only a file cannot put it into its form.
   */
  #nextAfter(request: Request, form: URLSearchParams, { head }: SchemePageContext): string | undefined {
    const said = form.get('next') ?? new URL(request.url).searchParams.get('next');
    if (said !== null) return returnPath(said);
    const page = pageBefore(head);
    return page === undefined ? undefined : returnPath(new URL(page, request.url).searchParams.get('next'));
  }
}

/** Messages that a URL can ask for. */
const SHOWN = ['failed', 'expired', 'too-many', 'signed-out'] as const satisfies readonly Message[];

const TOLD = {
  failed: 'The user name or the password is not right.',
  expired: 'The form is too old, or comes without its cookie.',
  'too-many': 'This user has as many sessions as may be.',
} as const;

const NO_STORE = { 'Cache-Control': 'no-store' } as const;

function seeOther(location: string): Response {
  return new Response(null, { status: 303, headers: { ...NO_STORE, Location: location } });
}

function plain(status: number, body: string, headers: Readonly<Record<string, string>> = {}): Response {
  const type = { 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' };
  return new Response(body, { status, headers: { ...NO_STORE, ...type, ...headers } });
}

/** Undefined: it is none, as `enctype` of a form may be another. */
async function readForm(request: Request): Promise<URLSearchParams | undefined> {
  const type = (request.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
  const text = await request.text();
  if (type === '' && text === '') return new URLSearchParams();
  return type === 'application/x-www-form-urlencoded' ? new URLSearchParams(text) : undefined;
}

/** `fetch` and the like cannot do anything with a page. */
function isScripted({ headers }: RequestHead): boolean {
  const mode = headers['sec-fetch-mode'];
  return mode !== undefined && mode !== 'navigate';
}

function withQuery(page: string, query: Readonly<Record<string, string | undefined>>): string {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [value === '' ? name : `${name}=${encodeURIComponent(value)}`],
  );
  if (pairs.length === 0) return page;
  return `${page}${page.includes('?') ? '&' : '?'}${pairs.join('&')}`;
}

function pathOf(page: string): string {
  return page.split('?')[0]!;
}
