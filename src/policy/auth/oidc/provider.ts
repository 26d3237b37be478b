import type * as Library from 'openid-client';
import type { Clock, Timer } from '../../../base/clock.ts';
import type { Logger } from '../../../base/logger.ts';
import { messageOf } from '../../../base/message-of.ts';
import { pinnedAlgorithms } from '../../../http/token-algorithms.ts';
import type { KeySource } from '../tokens/key-source.ts';
import { ProviderClient } from '../tokens/provider-client.ts';
import { RemoteKeys } from '../tokens/remote-keys.ts';
import { AuthUnavailable } from '../unavailable.ts';
import { providerFetch } from './provider-fetch.ts';

export interface ProviderOptions {
  /** The scheme, for the log. */
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  /** Read at each discovery; undefined: a public client. */
  readonly clientSecret: () => string | undefined;
  readonly clientAuth: 'basic' | 'post';
  /** For each request to it. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the provider says of a user, checked. */
export interface Tokens {
  readonly idToken: string | undefined;
  /** Of the ID token, and of userinfo where that was asked. */
  readonly claims: Readonly<Record<string, unknown>>;
  readonly subject: string;
  readonly providerSession: string | undefined;
  readonly refreshToken: string | undefined;
  /** How long the access token is good for, else the ID token. */
  readonly lifeMs: number | undefined;
}

/** What is needed to check an answer by which a user comes back. */
export interface ExpectedAnswer {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
}

/** The provider, or the answer that the browser has brought, says no. The message is for the log and holds no token. */
export class SignInRefused extends Error {
  /** The user, or the provider's rules, and no fault of anybody's: `access_denied` and the like. */
  readonly isAnswer: boolean;

  constructor(message: string, options: { readonly isAnswer?: boolean; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.isAnswer = options.isAnswer ?? false;
  }
}

interface Discovered {
  readonly library: typeof Library;
  readonly client: Library.Configuration;
}

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;
/** Endpoints of a provider may move. */
const REDISCOVER_MS = 3_600_000;
const KEEP_KEYS_MS = 86_400_000;
/** `none`, and those of a secret that both know, prove nothing here. */
const PUBLIC_KEY_ALGORITHMS: ReadonlySet<string> = new Set(pinnedAlgorithms(undefined, 'public'));
/** Of its clock from ours. */
const TOLERANCE_S = 30;

/**
 * A provider of OpenID Connect, by `openid-client`: what it has, is discovered, again and again until it answers. Nothing
 * of it is needed to start a server; until it is known, nobody can sign in.
 */
export class Provider {
  readonly #options: ProviderOptions;
  #discovered: Discovered | undefined;
  #attempt: Promise<void> | undefined;
  #failures = 0;
  #timer: Timer | undefined;
  #isClosed = false;
  #keys: { readonly url: string; readonly source: KeySource } | undefined;
  readonly #fetch: ReturnType<typeof providerFetch>;

  constructor(options: ProviderOptions) {
    this.#options = options;
    this.#fetch = providerFetch(options.timeoutMs);
  }

  get issuer(): string {
    return this.#options.issuer;
  }

  /** Begins to look for the provider. */
  start(): void {
    if (this.#isClosed) return;
    this.#options.clock.clearTimeout(this.#timer);
    this.#attempt ??= this.#discover().finally(() => {
      this.#attempt = undefined;
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#keys?.source.close();
    this.#options.clock.clearTimeout(this.#timer);
  }

  /** @throws {AuthUnavailable} */
  async authorizationUrl(parameters: Readonly<Record<string, string>>, verifier: string): Promise<URL> {
    const { library, client } = await this.#ready();
    return library.buildAuthorizationUrl(client, {
      ...parameters,
      response_type: 'code',
      code_challenge: await library.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    });
  }

  /**
   * The user whom an answer of the provider's stands for.
   *
   * @param answer The request by which the browser has brought it: a URL, or a form.
   * @throws {SignInRefused} for an error, and for what is not for this login; {AuthUnavailable}.
   */
  async exchange(answer: URL | Request, expected: ExpectedAnswer, asksUserInfo: boolean): Promise<Tokens> {
    const { library, client } = await this.#ready();
    return this.#asking(library, async () => {
      const tokens = await library.authorizationCodeGrant(client, answer, {
        expectedState: expected.state,
        expectedNonce: expected.nonce,
        pkceCodeVerifier: expected.verifier,
        idTokenExpected: true,
      });
      return this.#tokensOf({ library, client }, tokens, {}, asksUserInfo);
    });
  }

  /**
   * The same user's next tokens.
   *
   * @returns undefined when the provider gives none any more: the login is over.
   * @throws {AuthUnavailable} when that cannot be said.
   */
  async refresh(refreshToken: string, before: Readonly<Record<string, unknown>>, asksUserInfo: boolean) {
    const { library, client } = await this.#ready();
    try {
      return await this.#asking(library, async () => {
        const tokens = await library.refreshTokenGrant(client, refreshToken);
        const { sub = before.sub } = tokens.claims() ?? {};
        if (sub !== before.sub) throw new SignInRefused('the refreshed ID token is of another subject');
        return this.#tokensOf({ library, client }, tokens, before, asksUserInfo);
      });
    } catch (error) {
      if (!(error instanceof SignInRefused)) throw error;
      const { name: scheme, logger } = this.#options;
      logger.info(
        { event: 'oidc-login-over', scheme, err: error },
        'the provider has not renewed the tokens of a login',
      );
      return undefined;
    }
  }

  /** Where the provider signs a user out; undefined where it does not do that. @throws {AuthUnavailable} */
  async logoutUrl(parameters: Readonly<Record<string, string>>): Promise<URL | undefined> {
    const { library, client } = await this.#ready();
    if (client.serverMetadata().end_session_endpoint === undefined) return undefined;
    return library.buildEndSessionUrl(client, parameters);
  }

  /** By which its logout tokens are signed. @throws {AuthUnavailable} */
  async signing(): Promise<{ readonly keys: KeySource; readonly algorithms: readonly string[] }> {
    const { client } = await this.#ready();
    const { jwks_uri: url, id_token_signing_alg_values_supported: supported = ['RS256'] } = client.serverMetadata();
    if (url === undefined) throw new AuthUnavailable('the provider does not say where its keys are (jwks_uri)');
    const algorithms = supported.filter(name => PUBLIC_KEY_ALGORITHMS.has(name));
    return { keys: this.#keysAt(url), algorithms };
  }

  #keysAt(url: string): KeySource {
    if (this.#keys?.url === url) return this.#keys.source;
    this.#keys?.source.close();
    const { name, clock, timeoutMs, logger } = this.#options;
    const client = new ProviderClient({ url, clock, timeoutMs });
    const source = new RemoteKeys({ name, url, client, clock, logger, refreshMs: REDISCOVER_MS, keepMs: KEEP_KEYS_MS });
    this.#keys = { url, source };
    return source;
  }

  async #ready(): Promise<Discovered> {
    if (!this.#discovered) await this.#attempt;
    if (!this.#discovered) throw new AuthUnavailable(`the provider ${this.#options.issuer} could not be discovered`);
    return this.#discovered;
  }

  /** Never rejects. */
  async #discover(): Promise<void> {
    const { name: scheme, issuer, clientId, clientAuth, clientSecret, logger, timeoutMs } = this.#options;
    try {
      const library = await import('openid-client');
      const secret = clientSecret();
      const auth =
        secret === undefined
          ? library.None()
          : clientAuth === 'post'
            ? library.ClientSecretPost(secret)
            : library.ClientSecretBasic(secret);
      const client = await library.discovery(
        new URL(issuer),
        clientId,
        { [library.clockTolerance]: TOLERANCE_S },
        auth,
        {
          execute: [
            // A token that came over TLS need not be signed; ours must.
            library.enableNonRepudiationChecks,
            ...(issuer.startsWith('http:') ? [library.allowInsecureRequests] : []),
          ],
          [library.customFetch]: this.#fetch,
          timeout: Math.ceil(timeoutMs / 1000),
        },
      );
      if (this.#failures > 0)
        logger.info({ event: 'oidc-provider-found', scheme, issuer }, 'the provider answers: users can sign in');
      this.#failures = 0;
      this.#discovered = { library, client };
      this.#startIn(REDISCOVER_MS);
    } catch (error) {
      const retryMs = Math.min(FIRST_RETRY_MS * 2 ** this.#failures++, LONGEST_RETRY_MS);
      logger.warn(
        { event: 'oidc-provider-unavailable', scheme, issuer, err: withoutBody(error) },
        `the provider cannot be discovered (${issuer}/.well-known/openid-configuration); ${
          this.#discovered ? 'what is known of it stays' : 'nobody can sign in'
        }, and it is tried again`,
      );
      this.#startIn(retryMs);
    }
  }

  #startIn(ms: number): void {
    if (!this.#isClosed) this.#timer = this.#options.clock.setTimeout(() => this.start(), ms);
  }

  async #tokensOf(
    { library, client }: Discovered,
    tokens: Library.TokenEndpointResponse & Library.TokenEndpointResponseHelpers,
    before: Readonly<Record<string, unknown>>,
    asksUserInfo: boolean,
  ): Promise<Tokens> {
    const ofToken = tokens.claims();
    const subject = String(ofToken?.sub ?? before.sub);
    const isThere = client.serverMetadata().userinfo_endpoint !== undefined;
    const userInfo = asksUserInfo && isThere ? await library.fetchUserInfo(client, tokens.access_token, subject) : {};
    const { sid, exp }: Record<string, unknown> = ofToken ?? {};
    const now = this.#options.clock.now();
    const seconds = tokens.expires_in ?? (typeof exp === 'number' ? exp - now / 1000 : undefined);
    return {
      idToken: tokens.id_token,
      claims: ofToken ? { ...userInfo, ...ofToken } : { ...before, ...userInfo },
      subject,
      providerSession: typeof sid === 'string' && sid !== '' ? sid : undefined,
      refreshToken: tokens.refresh_token,
      lifeMs: seconds === undefined ? undefined : Math.max(0, seconds * 1000),
    };
  }

  /** Tells what is refused from what cannot be asked. */
  async #asking<T>(library: typeof Library, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof SignInRefused) throw error;
      if (error instanceof library.AuthorizationResponseError)
        throw new SignInRefused(`the provider answers ${JSON.stringify(error.error.slice(0, 64))}`, { isAnswer: true });
      const code = (error as { code?: unknown }).code;
      if (error instanceof library.ResponseBodyError) {
        // `invalid_client` is our configuration, and not the user.
        if (error.status >= 400 && error.status < 500 && error.status !== 429 && error.error !== 'invalid_client')
          throw new SignInRefused(`the provider answers ${JSON.stringify(error.error.slice(0, 64))} for the code`);
        this.#logTrouble(`answers ${error.status} ${JSON.stringify(error.error.slice(0, 64))}`);
        throw new AuthUnavailable('the provider gives no tokens');
      }
      if (error instanceof library.ClientError && !UNAVAILABLE.has(String(code)))
        throw new SignInRefused(`${error.message} (${code})`, { cause: withoutBody(error) });
      this.#logTrouble(messageOf(withoutBody(error)));
      throw new AuthUnavailable('the provider cannot be asked');
    }
  }

  #logTrouble(why: string): void {
    const { name: scheme, issuer, logger } = this.#options;
    logger.warn({ event: 'oidc-provider-unavailable', scheme, issuer }, `the provider gives no tokens: it ${why}`);
  }
}

/** Codes of errors that say nothing of the user. */
const UNAVAILABLE: ReadonlySet<string> = new Set([
  'OAUTH_TIMEOUT',
  'OAUTH_ABORT',
  'OAUTH_RESPONSE_IS_NOT_CONFORM',
  'OAUTH_RESPONSE_IS_NOT_JSON',
  'OAUTH_PARSE_ERROR',
  'undefined',
]);

/** What errors of the library carry besides may hold tokens. */
function withoutBody(error: unknown): Error {
  const { cause } = error as { cause?: unknown };
  const why = cause instanceof Error ? `: ${messageOf(cause)}` : '';
  return new Error(`${messageOf(error)}${why}`);
}
