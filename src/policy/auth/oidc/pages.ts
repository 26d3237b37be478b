import { randomBytes } from 'node:crypto';
import type { Clock } from '../../../base/clock.ts';
import { isHoldfastError } from '../../../base/errors.ts';
import { randomId } from '../../../base/ids.ts';
import type { Logger } from '../../../base/logger.ts';
import { messageOf } from '../../../base/message-of.ts';
import { isDocumentNavigation } from '../../../http/navigation.ts';
import type { RequestHead } from '../../../http/request-head.ts';
import { requestSite } from '../../../http/request-site.ts';
import type { SessionManager } from '../../../session/manager.ts';
import type { SessionOwner } from '../../../session/session.ts';
import type { SecurityEvents } from '../../security-events.ts';
import type { SchemePage, SchemePageContext, SignInPlace } from '../scheme.ts';
import { KeysUnavailable } from '../tokens/key-source.ts';
import { AuthUnavailable } from '../unavailable.ts';
import { LOGIN_REQUEST_MS, type LoginRequest, type LoginRequests, placeOnSite } from './login-request.ts';
import { keptFor, type Login, type Logins } from './logins.ts';
import { LOGOUT_TOKEN_MS, type ProviderLogout, readLogoutToken } from './logout-token.ts';
import { failurePage, onwardPage, type SignInFailure, signOutPage } from './page.ts';
import { type Provider, SignInRefused, type Tokens } from './provider.ts';

/** Paths of the pages, below the prefix of their place. */
export interface OidcPaths {
  readonly login: string;
  readonly callback: string;
  readonly logout: string;
  readonly backchannelLogout: string;
}

export interface OidcPagesOptions {
  readonly scheme: string;
  readonly clientId: string;
  readonly scopes: readonly string[];
  readonly isForm: boolean;
  readonly asksUserInfo: boolean;
  readonly paths: OidcPaths;
  /** Path or URL where the provider sends users after a logout; undefined: it has a page of its own. */
  readonly afterLogout: string | undefined;
  /** Further parameters of the request to the provider. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly provider: Provider;
  /** Of the scheme, by the sessions that keep them. */
  readonly allLogins: () => ReadonlyMap<SessionManager, Logins>;
  /** What a login is, as the session and the Ledger keep it. */
  readonly loginOf: (tokens: Tokens) => { readonly login: Login; readonly owner: Omit<SessionOwner, 'credential'> };
  readonly security: SecurityEvents;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Of one place where users sign in. */
export interface OidcPlace {
  readonly place: SignInPlace;
  readonly requests: LoginRequests;
  readonly logins: Logins;
}

/** More characters name nothing that a URL for browsers could have. */
const MAX_ID_TOKEN_HINT = 4_096;
const VERIFIER_BYTES = 32;
const NO_STORE = { 'Cache-Control': 'no-store' };

/** The pages of a scheme at one place: to the provider and back, both ways. */
export class OidcPages {
  readonly #options: OidcPagesOptions;
  readonly #at: OidcPlace;

  constructor(options: OidcPagesOptions, at: OidcPlace) {
    this.#options = options;
    this.#at = at;
  }

  all(): SchemePage[] {
    const { paths, isForm } = this.#options;
    return [
      { path: paths.login, methods: ['GET'], handle: (request, context) => this.#logIn(request, context) },
      {
        path: paths.callback,
        methods: [isForm ? 'POST' : 'GET'],
        // The state says that this browser has begun it here.
        isCrossSiteSignIn: true,
        handle: (request, context) => this.#comeBack(request, context),
      },
      { path: paths.logout, methods: ['GET', 'POST'], handle: (request, context) => this.#logOut(request, context) },
      {
        path: paths.backchannelLogout,
        methods: ['POST'],
        handle: (request, { head }) => this.#hearLogout(request, head),
      },
    ];
  }

  /** Leads to the provider. */
  async #logIn(request: Request, { head }: SchemePageContext): Promise<Response> {
    const { provider, isForm, scopes, parameters } = this.#options;
    const url = new URL(request.url);
    const returnTo = placeOnSite(url.searchParams.get('return'), url.origin);
    const verifier = randomBytes(VERIFIER_BYTES).toString('base64url');
    const nonce = randomId(16);
    const { state, cookie } = this.#at.requests.begin({ returnTo, nonce, verifier }, clientOf(head));
    try {
      const location = await provider.authorizationUrl(
        {
          ...parameters,
          redirect_uri: this.#urlOf(url, this.#options.paths.callback),
          scope: scopes.join(' '),
          ...{ state, nonce },
          ...(isForm && { response_mode: 'form_post' }),
        },
        verifier,
      );
      return new Response(null, {
        status: 302,
        headers: { ...NO_STORE, Location: location.href, 'Set-Cookie': cookie, 'Referrer-Policy': 'no-referrer' },
      });
    } catch (error) {
      if (!(error instanceof AuthUnavailable)) throw error;
      return this.#fail('unavailable', returnTo, head);
    }
  }

  /** The provider has sent the user back, with a code or an error. */
  async #comeBack(request: Request, context: SchemePageContext): Promise<Response> {
    const { head } = context;
    const url = new URL(request.url);
    const answer = this.#options.isForm ? await formOf(request) : url.searchParams;
    const state = answer?.get('state') ?? '';
    const returned = this.#at.requests.returned(state, clientOf(head));
    if (returned.kind !== 'own') {
      const returnTo = returned.kind === 'stranger' ? returned.returnTo : '/';
      return this.#refuse(context, 'over', returnTo, 'the answer of the provider is for no login of this browser');
    }
    const { request: begun } = returned;
    const { logins } = this.#at;
    if (!(await logins.useOnce('state', begun.id, LOGIN_REQUEST_MS)))
      return this.#refuse(context, 'over', begun.returnTo, 'the answer of the provider was used before');
    try {
      return await this.#signIn(request, context, begun, this.#answerFor(url, answer!), state);
    } catch (error) {
      if (error instanceof AuthUnavailable) return this.#fail('unavailable', begun.returnTo, head);
      if (!(error instanceof SignInRefused)) throw error;
      const { cause } = error;
      const reason = `${messageOf(error)}${cause === undefined ? '' : ` (${messageOf(cause)})`}`;
      return this.#refuse(context, error.isAnswer ? 'denied' : 'failed', begun.returnTo, reason);
    }
  }

  /** As the library takes it, which compares the URL with the one that the login began with. */
  #answerFor(url: URL, answer: URLSearchParams): URL | Request {
    const callback = this.#urlOf(url, this.#options.paths.callback);
    if (!this.#options.isForm) return new URL(`${callback}${url.search}`);
    return new Request(callback, { method: 'POST', body: answer });
  }

  async #signIn(
    request: Request,
    { head, place }: SchemePageContext,
    begun: LoginRequest,
    answer: URL | Request,
    state: string,
  ): Promise<Response> {
    const { provider, asksUserInfo, loginOf, security, scheme } = this.#options;
    const tokens = await provider.exchange(answer, { ...begun, state }, asksUserInfo);
    const { login, owner } = loginOf(tokens);
    const credential = randomId(16);
    const session = await place.sessions.signIn(request, { ...owner, credential });
    await this.#at.logins.put(credential, login, keptFor(session.idleTimeoutMs));
    security.report({
      ...{ event: 'login-succeeded', address: head.clientAddress, user: owner.name, scheme },
      sid: session.id,
      reason: 'a user has signed in at the provider',
    });
    if (place.sessions.tracking.isStrict) return onwardPage(begun.returnTo, head.headers['accept-language']);
    return new Response(null, { status: 303, headers: { ...NO_STORE, Location: begun.returnTo } });
  }

  /** Nobody is signed in by it. Who is already, as by a second tab or the button to go back, goes on. */
  #refuse({ head, session }: SchemePageContext, failure: SignInFailure, returnTo: string, reason: string): Response {
    const { scheme, security, logger } = this.#options;
    if (failure === 'over' && session?.owner?.scheme === scheme)
      return new Response(null, { status: 303, headers: { ...NO_STORE, Location: returnTo } });
    const address = head.clientAddress;
    // Who cancels or takes too long has guessed nothing: no jail counts it.
    if (failure === 'failed')
      security.report({ event: 'login-failed', address, scheme, reason: `at the provider: ${reason}` });
    else
      logger.info(
        { event: 'oidc-sign-in-refused', scheme, address, reason },
        'a sign-in at the provider came to nothing',
      );
    return this.#fail(failure, returnTo, head);
  }

  #fail(failure: SignInFailure, returnTo: string, { headers }: RequestHead): Response {
    return failurePage(failure, this.loginPath(returnTo), headers['accept-language']);
  }

  /** Where a login begins that ends at this place. */
  loginPath(returnTo: string): string {
    return loginPath(this.#at.place, this.#options.paths, returnTo);
  }

  /** Ends the session here, then the one at the provider. */
  async #logOut(request: Request, { head, session }: SchemePageContext): Promise<Response> {
    const { paths, scheme, security } = this.#options;
    const language = head.headers['accept-language'];
    if (head.method !== 'POST') return signOutPage(this.#at.place.prefix + paths.logout, language);
    const site = requestSite(head.headers, head);
    if (site === 'other' || site === 'opaque')
      return new Response('A page of another site cannot sign anybody out.\n', { status: 403, headers: NO_STORE });
    const owner = session?.owner?.scheme === scheme ? session.owner : undefined;
    const id = owner?.credential;
    const login = id === undefined ? undefined : await this.#at.logins.read(id);
    if (session && owner) {
      const sid = session.id;
      await session.invalidate('logout');
      if (id !== undefined) await this.#at.logins.drop(id);
      security.report({
        ...{ event: 'logout', address: head.clientAddress, user: owner.name, scheme, sid },
        reason: 'a user has signed out',
      });
    }
    const location = await this.#afterLogout(new URL(request.url), login);
    // What is no navigation cannot follow a redirect to another site.
    return isDocumentNavigation(head) || head.headers['sec-fetch-mode'] === undefined
      ? new Response(null, { status: 303, headers: { ...NO_STORE, Location: location } })
      : Response.json({ location }, { headers: NO_STORE });
  }

  async #afterLogout(url: URL, login: Login | undefined): Promise<string> {
    const { provider, afterLogout, clientId } = this.#options;
    const after = afterLogout === undefined ? undefined : new URL(afterLogout, url.origin).href;
    const idToken = login?.idToken;
    const parameters = {
      client_id: clientId,
      ...(idToken !== undefined && idToken.length <= MAX_ID_TOKEN_HINT && { id_token_hint: idToken }),
      ...(after !== undefined && { post_logout_redirect_uri: after }),
    };
    try {
      // Who was not signed in here is left alone there.
      const there = login && (await provider.logoutUrl(parameters));
      if (there) return there.href;
    } catch (error) {
      if (!(error instanceof AuthUnavailable)) throw error;
    }
    return after ?? `${this.#at.place.prefix}/`;
  }

  /** The provider says that a user is signed out (OpenID Connect Back-Channel Logout 1.0 §2.5). */
  async #hearLogout(request: Request, head: RequestHead): Promise<Response> {
    const token = (await formOf(request))?.get('logout_token');
    if (!token) return this.#refuseLogout(head, 'the form has no "logout_token"');
    try {
      const { provider, clientId, clock } = this.#options;
      const signing = await provider.signing();
      const logout = await readLogoutToken(token, {
        ...{ issuer: provider.issuer, clientId, now: clock.now() },
        ...signing,
      });
      if ('problem' in logout) return this.#refuseLogout(head, `the logout token is refused: ${logout.problem}`);
      if (!(await this.#at.logins.useOnce('logout', logout.id, 2 * LOGOUT_TOKEN_MS)))
        return this.#refuseLogout(head, 'the logout token was used before');
      await this.#endThose(logout, head);
      return new Response(null, { status: 200, headers: NO_STORE });
    } catch (error) {
      const isKnown = error instanceof AuthUnavailable || error instanceof KeysUnavailable || isHoldfastError(error);
      if (!isKnown) throw error;
      const { logger, scheme } = this.#options;
      logger.error({ event: 'oidc-logout-failed', scheme, err: error }, 'a logout of the provider could not be done');
      // §2.8: 400 for a logout that has failed, too.
      return Response.json({ error: 'temporarily_unavailable' }, { status: 400, headers: NO_STORE });
    }
  }

  #refuseLogout({ clientAddress: address }: RequestHead, reason: string): Response {
    const { scheme, logger } = this.#options;
    // It may be the provider, which no jail should bar.
    logger.warn({ event: 'oidc-logout-refused', scheme, address, reason }, 'a back-channel logout is refused');
    return Response.json({ error: 'invalid_request' }, { status: 400, headers: NO_STORE });
  }

  async #endThose(logout: ProviderLogout, { clientAddress: address }: RequestHead): Promise<void> {
    const { allLogins, scheme, security } = this.#options;
    try {
      for (const [sessions, logins] of allLogins())
        for await (const { sid, user } of this.#endedBy(logout, sessions, logins))
          security.report({
            event: 'logout',
            address,
            user,
            scheme,
            sid,
            reason: 'the provider has signed a user out',
          });
    } catch (error) {
      // It may come again.
      await this.#at.logins.unuse('logout', logout.id).catch(() => {});
      throw error;
    }
  }

  async *#endedBy(logout: ProviderLogout, sessions: SessionManager, logins: Logins) {
    const { provider, scheme } = this.#options;
    const { issuer } = provider;
    const subject = logout.subject ?? (await logins.subjectOf(issuer, logout.session!));
    if (subject === undefined) return;
    for (const user of await logins.namesOf(issuer, subject))
      for (const { sid } of await sessions.ofUser(user)) {
        const owner = (await sessions.peek(sid))?.owner;
        if (owner?.scheme !== scheme || owner.credential === undefined) continue;
        const login = await logins.read(owner.credential);
        if (login?.subject !== subject || login.issuer !== issuer) continue;
        if (logout.session !== undefined && login.providerSession !== logout.session) continue;
        await sessions.end(sid, 'logout');
        await logins.drop(owner.credential);
        yield { sid, user };
      }
  }

  #urlOf({ origin }: URL, path: string): string {
    return `${origin}${this.#at.place.prefix}${path}`;
  }
}

export function loginPath({ prefix }: SignInPlace, { login }: OidcPaths, returnTo: string): string {
  return returnTo === '/' ? prefix + login : `${prefix}${login}?return=${encodeURIComponent(returnTo)}`;
}

function clientOf({ headers, isSecure }: RequestHead) {
  return { cookieHeader: headers.cookie, isSecure };
}

async function formOf(request: Request): Promise<URLSearchParams | undefined> {
  const type = request.headers.get('content-type') ?? '';
  if (!/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(type)) return undefined;
  return new URLSearchParams(await request.text());
}
