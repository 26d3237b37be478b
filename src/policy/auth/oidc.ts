import type { Clock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import { getOrInsert } from '../../base/get-or-insert.ts';
import type { Logger } from '../../base/logger.ts';
import { oidcPaths } from '../../base/sign-in-paths.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { isTooLongUserName } from '../../session/identity/owner.ts';
import { SERVER_PARTS, type SessionManager } from '../../session/manager.ts';
import type { SessionOwner } from '../../session/session.ts';
import type { SecurityEvents } from '../security-events.ts';
import { challengeOf } from './challenge.ts';
import { clientSecretIn } from './introspection.ts';
import { LoginRequests, loginCookies } from './oidc/login-request.ts';
import { type Login, Logins } from './oidc/logins.ts';
import { loginPath, OidcPages, type OidcPaths, type OidcPlace } from './oidc/pages.ts';
import { Provider, SignInRefused, type Tokens } from './oidc/provider.ts';
import { Renewals } from './oidc/renewals.ts';
import { SealedText } from './oidc/sealed-text.ts';
import { secretIn } from './oidc/secret-variable.ts';
import { type RoleSource, withRolesOfNow } from './roles.ts';
import type { Challenge, Principal, SchemePage, SessionScheme, SignInPlace } from './scheme.ts';
import { type Claims, freeze, userNameIn } from './tokens/token-user.ts';
import { WatchedFile } from './watched-file.ts';

/** Users who sign in at a provider of OpenID Connect; their session keeps the login. */
export interface OidcOptions {
  /**
   * URL of the provider, as it names itself (`iss`). What it has is discovered below it
   * (`/.well-known/openid-configuration`).
   */
  issuer: string;
  /** Who we are to the provider. */
  clientId: string;
  /** File with our secret there: its first line. Watched. Without a secret we are a public client. */
  clientSecretFile?: string;
  /** Environment variable with our secret there. */
  clientSecretVariable?: string;
  /** How the secret is shown: in `Authorization`, or in the form. Default `basic`. */
  clientAuth?: 'basic' | 'post';
  /** What is asked for; `openid` is always. Default: `profile` and `email`. `offline_access` brings a refresh token. */
  scopes?: readonly string[];
  /** The claim that names the user. Default `sub`, which is unique for the provider. */
  userClaim?: string;
  /** Stands before the name of each user: users of two providers can have one name. Default: nothing. */
  userPrefix?: string;
  /** Asks for the claims of the user besides those of the ID token, where the provider has them. Default: true. */
  userInfo?: boolean;
  /**
   * `session`: a login holds as long as its session. `tokens`: as long as the provider says, too; tokens that end are
   * renewed where it has given a refresh token. Default `session`.
   */
  lifetime?: 'session' | 'tokens';
  /** How the provider sends the user back: by a link, or by a form, which needs https. Default `query`. */
  responseMode?: 'query' | 'form_post';
  /** What it is called on the page that offers several ways to sign in. Default: the name of the scheme. */
  label?: string;
  /** Further parameters of the request to the provider: `{ prompt: select_account }`. */
  parameters?: Readonly<Record<string, string>>;
  /** Path of the page that leads to the provider. Default `/oidc/NAME/login`. */
  login?: string;
  /** Path to which the provider sends users back: its URL is a redirect URI of ours there. Default `/oidc/NAME/callback`. */
  callback?: string;
  /** Path of the page that signs out, here and at the provider. Default `/oidc/NAME/logout`. */
  logout?: string;
  /** Path where the provider says that a user has signed out. Default `/oidc/NAME/backchannel-logout`. */
  backchannelLogout?: string;
  /**
   * Path or URL where the provider sends users after a logout: one of our post-logout redirect URIs there. Default: it
   * shows a page of its own.
   */
  afterLogout?: string;
  /** Lets `issuer` be `http:` on another machine: whoever is in between can sign in as anybody. Default: false. */
  allowHttp?: boolean;
  /** How long an answer of the provider may take. Default `5s`. */
  timeout?: Duration;
}

export interface OidcServices {
  /** Of the scheme, in the configuration. */
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly security: SecurityEvents;
  readonly roleSource: RoleSource;
}

/** In the Ledger there is one of each login. */
const MAX_CLAIMS_LENGTH = 16_384;
/** What claims say of their token, and not of the user. */
const OF_TOKEN: ReadonlySet<string> = new Set('aud exp iat nbf jti sid nonce at_hash c_hash s_hash'.split(' '));
/** How often it is looked whether the tokens of open sockets have to be renewed. */
const REVIEW_MS = 5_000;

/** The scheme `oidc`: users sign in at a provider, by a code with PKCE. */
export class OidcScheme implements SessionScheme {
  readonly isShownByRequest = false;
  readonly name: string;
  readonly reviewEveryMs: number | undefined;
  readonly #options: OidcOptions;
  readonly #services: OidcServices;
  readonly #paths: OidcPaths;
  readonly #provider: Provider;
  readonly #secret: WatchedFile<string> | undefined;
  /** Of the sessions that count now. */
  #logins: ReadonlyMap<SessionManager, Logins> = new Map();
  /** A manager goes on with a configuration that has it again, and so do these. */
  readonly #loginsOf = new WeakMap<SessionManager, Logins>();
  /** Undefined: tokens may end. */
  readonly #renewals: Renewals | undefined;
  /** Where the logins of principals are. */
  readonly #loginIds = new WeakMap<Principal, string>();

  constructor(options: OidcOptions, services: OidcServices) {
    const { name, clock } = services;
    this.name = name;
    this.#options = options;
    this.#services = services;
    const paths = oidcPaths(name);
    this.#paths = {
      login: options.login ?? paths.login,
      callback: options.callback ?? paths.callback,
      logout: options.logout ?? paths.logout,
      backchannelLogout: options.backchannelLogout ?? paths.backchannelLogout,
    };
    const { clientSecretFile: file, clientSecretVariable: variable } = options;
    if (file !== undefined)
      this.#secret = new WatchedFile({
        ...services,
        file,
        what: `auth.${name}.clientSecretFile:`,
        parse: clientSecretIn,
      });
    this.#provider = new Provider({
      ...services,
      issuer: options.issuer,
      clientId: options.clientId,
      clientAuth: options.clientAuth ?? 'basic',
      clientSecret: () => this.#secret?.value ?? (variable === undefined ? undefined : requiredSecret(variable, name)),
      timeoutMs: parseDuration(options.timeout ?? '5s'),
    });
    if (options.lifetime !== 'tokens') return;
    this.reviewEveryMs = REVIEW_MS;
    this.#renewals = new Renewals({
      clock,
      provider: this.#provider,
      asksUserInfo: this.#asksUserInfo,
      loginOf: tokens => this.#loginOf(tokens).login,
    });
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID without the secret. The provider may be away. */
  async start(): Promise<void> {
    const { clientSecretVariable } = this.#options;
    if (clientSecretVariable !== undefined) requiredSecret(clientSecretVariable, this.name);
    await this.#secret?.start();
    this.#secret?.onChange(() => this.#provider.start());
    this.#provider.start();
  }

  close(): void {
    this.#secret?.close();
    this.#provider.close();
  }

  pages(place: SignInPlace): readonly SchemePage[] {
    const { name: scheme, clock } = this.#services;
    const at: OidcPlace = {
      place,
      logins: this.#loginsIn(place.sessions),
      requests: new LoginRequests({
        ...{ clock, sealed: sealedFor(place.sessions, 'holdfast oidc state') },
        place: `${scheme} ${place.prefix}`,
        cookie: COOKIE,
        isForm: this.#isForm,
      }),
    };
    const { clientId, afterLogout, parameters = {} } = this.#options;
    const pages = new OidcPages(
      {
        ...this.#services,
        ...{ scheme, clientId, afterLogout, parameters },
        scopes: [...new Set(['openid', ...(this.#options.scopes ?? ['profile', 'email'])])],
        isForm: this.#isForm,
        asksUserInfo: this.#asksUserInfo,
        paths: this.#paths,
        provider: this.#provider,
        allLogins: () => this.#logins,
        loginOf: tokens => this.#loginOf(tokens),
      },
      at,
    );
    return pages.all();
  }

  usePlaces(places: readonly SignInPlace[]): void {
    this.#logins = new Map(places.map(({ sessions }) => [sessions, this.#loginsIn(sessions)]));
  }

  ownCookies(): readonly string[] {
    return loginCookies(COOKIE);
  }

  challenge(head: RequestHead, place: SignInPlace | undefined): Challenge {
    const header = challengeOf('OpenIdConnect', this.name);
    if (!place) return { header };
    const { method, path, query } = head;
    // What was posted would not be posted again.
    const returnTo = method === 'GET' ? path + (query === '' ? '' : `?${query}`) : '/';
    return { header, location: loginPath(place, this.#paths, returnTo), label: this.#options.label };
  }

  async recognize({ name, scheme, credential }: SessionOwner): Promise<Principal | undefined> {
    if (scheme !== this.name || credential === undefined) return undefined;
    const login = await this.#loginBy(credential);
    return login?.user === name ? this.#principalOf(credential, login) : undefined;
  }

  /** @throws {AuthUnavailable} when tokens have ended, and the provider cannot be asked for new ones. */
  async review(principal: Principal): Promise<Principal | undefined> {
    const id = this.#loginIds.get(principal);
    if (!this.#renewals || id === undefined) return withRolesOfNow(principal, this.#services.roleSource);
    const login = await this.#loginBy(id);
    return login && this.#principalOf(id, login);
  }

  onChange(listener: () => void): () => void {
    return this.#services.roleSource.onChange(listener);
  }

  get #isForm(): boolean {
    return this.#options.responseMode === 'form_post';
  }

  get #asksUserInfo(): boolean {
    return this.#options.userInfo !== false;
  }

  #loginsIn(sessions: SessionManager): Logins {
    const { name: scheme, clock } = this.#services;
    const { ledger } = sessions[SERVER_PARTS];
    const sealed = () => sealedFor(sessions, 'holdfast oidc login');
    return getOrInsert(this.#loginsOf, sessions, () => new Logins({ ledger, scheme, clock, sealed: sealed() }));
  }

  /** As it is now: with tokens that have not ended, where that counts. */
  async #loginBy(id: string): Promise<Login | undefined> {
    for (const logins of this.#logins.values()) {
      const login = logins.known(id) ?? (await logins.read(id));
      if (login) return this.#renewals ? this.#renewals.current(logins, id, login) : login;
    }
    return undefined;
  }

  #principalOf(id: string, { user: name, claims, endsAt }: Login): Principal {
    const roles = this.#services.roleSource.rolesOf({ name, claims });
    const expiresAt = this.#renewals ? endsAt : undefined;
    const principal: Principal = { name, roles, scheme: this.name, expiresAt, claims: freeze(claims) };
    this.#loginIds.set(principal, id);
    return principal;
  }

  /** @throws {SignInRefused} when the claims name nobody. */
  #loginOf(tokens: Tokens): { readonly login: Login; readonly owner: Omit<SessionOwner, 'credential'> } {
    const { userClaim = 'sub', userPrefix = '' } = this.#options;
    const found = userNameIn(tokens.claims, userClaim);
    if ('problem' in found) throw new SignInRefused(found.problem);
    const user = userPrefix + found.name;
    if (isTooLongUserName(user)) throw new SignInRefused('the name of the user has more than 256 characters');
    const claims = ofUser(tokens.claims);
    if (JSON.stringify(claims).length > MAX_CLAIMS_LENGTH)
      throw new SignInRefused(`the claims have more than ${MAX_CLAIMS_LENGTH} characters; ask for fewer scopes`);
    const { subject, providerSession, idToken, refreshToken, lifeMs } = tokens;
    const login: Login = {
      ...{ user, issuer: this.#provider.issuer, subject, providerSession, claims, idToken, lifeMs },
      // Nobody would use it.
      ...(this.#renewals && { refreshToken }),
      endsAt: lifeMs === undefined ? undefined : this.#services.clock.now() + lifeMs,
    };
    const roles = this.#services.roleSource.rolesOf({ name: user, claims });
    return { login, owner: { name: user, roles, scheme: this.name } };
  }
}

const COOKIE = 'holdfast-oidc';

/** With the keys that these sessions have by then. */
function sealedFor(sessions: SessionManager, purpose: string): SealedText {
  return new SealedText(() => sessions[SERVER_PARTS].keys, purpose);
}

function ofUser(claims: Claims): Claims {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !OF_TOKEN.has(name)));
}

function requiredSecret(variable: string, scheme: string): string {
  const { secret, fault } = secretIn(variable);
  if (secret !== undefined) return secret;
  throw new HoldfastError('ERR_CONFIG_INVALID', `auth.${scheme}.clientSecretVariable: ${fault}`);
}
