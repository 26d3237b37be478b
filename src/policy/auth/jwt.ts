import { hash } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose';
import type { Awaitable } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { pinnedAlgorithms } from '../../http/token-algorithms.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import { type RoleSource, withRolesOfNow } from './roles.ts';
import type { Challenge, Principal, RequestScheme, Verdict } from './scheme.ts';
import { type BearerPlaces, bearerPlaces, findBearer } from './tokens/bearer.ts';
import { bearerChallenge } from './tokens/challenge.ts';
import { DeniedTokens } from './tokens/denied-tokens.ts';
import { KEY_FILES, type KeyHint, type VerificationKey } from './tokens/key-set.ts';
import { FileKeys, type KeySource, KeysUnavailable } from './tokens/key-source.ts';
import { ProviderClient } from './tokens/provider-client.ts';
import { RemoteKeys } from './tokens/remote-keys.ts';
import { bindingProblem, type Claims, freeze, LAST_DATE_MS, userNameIn } from './tokens/token-user.ts';
import { type VerifiedToken, VerifiedTokens } from './tokens/verified-tokens.ts';
import { authUnavailable } from './unavailable.ts';

/** Tokens that an issuer has signed: JSON Web Tokens (RFC 7519, RFC 8725). */
export interface JwtOptions extends BearerPlaces {
  /** Who has signed them: `iss` is exactly this. */
  issuer: string;
  /** Whom they are for: `aud` names one of these. `false`: for anybody, also for other services of the issuer. */
  audience: string | readonly string[] | false;
  /** URL of the issuer's keys. Exactly one of the four has to be there. */
  jwksUri?: string;
  /** File with the issuer's keys, a JSON Web Key Set. Watched, like the two below. */
  jwksFile?: string;
  /** PEM file with one public key or certificate. */
  publicKeyFile?: string;
  /** File with a secret that the issuer knows as well, for HS256 (at least 32 bytes), HS384 (48) and HS512 (64). */
  secretFile?: string;
  /** Default: RS, PS and ES with 256, 384 and 512 bits, and EdDSA; with `secretFile` HS256. */
  algorithms?: readonly string[];
  /** How far the clocks of issuer and server may differ. Default `30s`; at most `5m`. */
  clockSkew?: Duration;
  /** Claims that must be there, besides `exp` and the user's. Default: none. */
  requiredClaims?: readonly string[];
  /** How old a token may be by its `iat`, which it must have then. Without this it must have an `exp`. */
  maxTokenAge?: Duration;
  /** The `typ` that the header must have. Default: none, `JWT` and `at+jwt`, and nothing that is for something else. */
  tokenType?: string;
  /** The claim that names the user. Default `sub`. */
  userClaim?: string;
  /** File with a `jti` in each line: tokens that are refused before they expire. Watched. */
  revokedFile?: string;
  /** For `WWW-Authenticate`. Default: the name of the scheme, or `tokens` where that is not ASCII. */
  realm?: string;
  /** Lets `jwksUri` be `http:` on another machine: whoever is in between can sign tokens then. Default: false. */
  allowHttp?: boolean;
  /** How long a fetch of `jwksUri` may take. Default `5s`. */
  timeout?: Duration;
  /** How often `jwksUri` is fetched anew. Default `5m`. */
  refresh?: Duration;
  /** How old keys of `jwksUri` may become while it cannot be fetched. Default `1d`. */
  keepKeys?: Duration;
}

export interface SchemeServices {
  /** Of the scheme, in the configuration. */
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly roleSource: RoleSource;
}

/** As `typ` of a token that grants access; others are for something else, as `logout+jwt` (RFC 8725 §3.11). */
const ACCESS_TYPES = [undefined, 'jwt', 'at+jwt', 'application/at+jwt'];
const MOST_CREDENTIAL_CHARS = 128;
const DEFAULT_SKEW = '30s';

/** A token that was taken apart and not judged. */
interface ReadToken {
  readonly text: string;
  readonly hint: KeyHint;
  readonly typ: string | undefined;
  readonly claims: JWTPayload;
}

/** The scheme `jwt`: users show a token that an issuer has signed. */
export class JwtScheme implements RequestScheme {
  readonly isShownByRequest = true;
  readonly name: string;
  readonly places: readonly CredentialPlace[];
  readonly #options: JwtOptions;
  readonly #services: SchemeServices;
  readonly #realm: string;
  readonly #algorithms: readonly string[];
  readonly #skewMs: number;
  readonly #maxAgeMs: number;
  readonly #verifyOptions: JWTVerifyOptions;
  readonly #keys: KeySource;
  readonly #denied: DeniedTokens | undefined;
  readonly #verified = new VerifiedTokens();
  /** What clients are told of tokens that were refused. */
  readonly #descriptions = new WeakMap<RequestHead, string>();

  /** @throws {TypeError} for options that contradict each other. */
  constructor(options: JwtOptions, services: SchemeServices) {
    const { name } = services;
    this.name = name;
    this.#options = options;
    this.#services = services;
    this.#realm = options.realm ?? (/^[\x20-\x7e]+$/.test(name) ? name : 'tokens');
    this.places = bearerPlaces(options);
    this.#algorithms = pinnedAlgorithms(options.algorithms, options.secretFile === undefined ? 'public' : 'secret');
    this.#skewMs = parseDuration(options.clockSkew ?? DEFAULT_SKEW);
    this.#maxAgeMs = options.maxTokenAge === undefined ? Number.POSITIVE_INFINITY : parseDuration(options.maxTokenAge);
    this.#keys = keySource(options, services, this.#algorithms);
    this.#denied =
      options.revokedFile === undefined
        ? undefined
        : new DeniedTokens({ ...services, file: options.revokedFile, what: `auth.${name}.revokedFile:` });
    this.#verifyOptions = {
      algorithms: [...this.#algorithms],
      issuer: options.issuer,
      ...(options.audience !== false && { audience: [options.audience].flat() }),
      ...(options.tokenType !== undefined && { typ: options.tokenType }),
      requiredClaims: [
        ...(options.requiredClaims ?? []),
        ...(options.maxTokenAge === undefined ? ['exp'] : []),
        // One that has none could never be revoked.
        ...(options.revokedFile === undefined ? [] : ['jti']),
      ],
      clockTolerance: this.#skewMs / 1_000,
      ...(Number.isFinite(this.#maxAgeMs) && { maxTokenAge: this.#maxAgeMs / 1_000 }),
    };
  }

  async start(): Promise<void> {
    await this.#denied?.start();
    await this.#keys.start();
  }

  close(): void {
    this.#denied?.close();
    this.#keys.close();
  }

  authenticate(head: RequestHead): Awaitable<Verdict> {
    const shown = findBearer(head, this.#options, this.#realm);
    if (shown.kind === 'none') return { kind: 'absent' };
    if (shown.kind === 'refused') return shown;
    const keys = this.#keys.version;
    const known = this.#verified.get(shown.token, keys);
    return known ? this.#judge(head, known) : this.#authenticateUnknown(head, shown.token, keys);
  }

  async #authenticateUnknown(head: RequestHead, token: string, keys: number): Promise<Verdict> {
    const read = readToken(token);
    if (!read) return this.#reject(head, 'it is not a JSON Web Token');
    try {
      const verified = await this.#verify(read, credentialOf(read.claims));
      if ('problem' in verified) return this.#reject(head, verified.problem);
      this.#verified.add(read.text, verified, keys);
      return this.#judge(head, verified);
    } catch (error) {
      if (!(error instanceof KeysUnavailable)) throw error;
      return { kind: 'refused', refusal: authUnavailable(error.message) };
    }
  }

  challenge(head: RequestHead): Challenge {
    const description = this.#descriptions.get(head);
    const error = description === undefined ? undefined : 'invalid_token';
    return { header: bearerChallenge({ realm: this.#realm, error, description }) };
  }

  review(principal: Principal): Principal | undefined {
    const { expiresAt = Number.POSITIVE_INFINITY } = principal;
    if (expiresAt <= this.#services.clock.now() || this.#isDenied(principal)) return undefined;
    return withRolesOfNow(principal, this.#services.roleSource);
  }

  onChange(listener: () => void): () => void {
    const ends = [this.#denied?.onChange(listener), this.#services.roleSource.onChange(listener)];
    return () => {
      for (const end of ends) end?.();
    };
  }

  /** What may have changed since the signature was verified. */
  #judge(head: RequestHead, token: VerifiedToken): Verdict {
    const { name, claims, expiresAt, credential } = token;
    if (expiresAt <= this.#services.clock.now()) return this.#reject(head, EXPIRED, name);
    if (this.#isDenied(token)) return this.#reject(head, 'it was revoked', name);
    const problem = bindingProblem(claims, head);
    if (problem !== undefined) return this.#reject(head, problem, name);
    const roles = this.#services.roleSource.rolesOf({ name, claims });
    return {
      kind: 'authenticated',
      principal: { name, roles, scheme: this.name, expiresAt, credential, claims },
    };
  }

  #isDenied({ claims, credential }: Pick<Principal, 'claims' | 'credential'>): boolean {
    const { jti = credential } = (claims ?? {}) as { jti?: unknown };
    return this.#denied !== undefined && typeof jti === 'string' && this.#denied.has(jti);
  }

  /** @throws {KeysUnavailable} */
  async #verify(read: ReadToken, credential: string): Promise<VerifiedToken | { readonly problem: string }> {
    const { hint, text } = read;
    const early = this.#earlyProblem(read);
    if (early !== undefined) return { problem: early };
    const keys = await this.#keys.keysFor(hint);
    let problem = 'its key is none of the issuer';
    for (const key of keys) {
      const result = await this.#verifyBy(key, text);
      if (result === undefined) problem = 'its signature is wrong';
      else if (typeof result === 'string') return { problem: result };
      else return this.#verifiedToken(result, credential);
    }
    return { problem };
  }

  /** @returns undefined when another key has signed it, or a text that says what else is wrong. */
  async #verifyBy(key: VerificationKey, text: string): Promise<JWTPayload | string | undefined> {
    const currentDate = new Date(this.#services.clock.now());
    try {
      return (await jwtVerify(text, key, { ...this.#verifyOptions, currentDate })).payload;
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) return undefined;
      // Also what is no error of jose: a key that is too short, an option that a key contradicts.
      return error instanceof errors.JWTExpired ? EXPIRED : messageOf(error);
    }
  }

  #verifiedToken(payload: JWTPayload, credential: string): VerifiedToken | { readonly problem: string } {
    const user = userNameIn(payload, this.#options.userClaim ?? 'sub');
    if ('problem' in user) return user;
    const end = Math.min(
      (payload.exp ?? Number.POSITIVE_INFINITY) * 1_000,
      (payload.iat ?? Number.POSITIVE_INFINITY) * 1_000 + this.#maxAgeMs,
    );
    const expiresAt = Math.min(end + this.#skewMs, LAST_DATE_MS);
    return { name: user.name, claims: freeze(payload as Claims), expiresAt, credential };
  }

  /**
   * What needs no key: a token of another issuer, or one that has expired, must not send us to the issuer for a key that
   * it does not have. jose judges all of it again.
   */
  #earlyProblem({ hint, typ, claims }: ReadToken): string | undefined {
    const { issuer, tokenType } = this.#options;
    if (!this.#algorithms.includes(hint.alg)) return 'its algorithm is not one that is allowed';
    if (claims.iss !== issuer) return 'it is of another issuer';
    if (typeof claims.exp === 'number' && claims.exp * 1_000 + this.#skewMs <= this.#services.clock.now())
      return EXPIRED;
    if (tokenType === undefined && !ACCESS_TYPES.includes(typ?.toLowerCase()))
      return 'its "typ" is not that of a token for access';
    return undefined;
  }

  #reject(head: RequestHead, problem: string, user?: string): Verdict {
    this.#descriptions.set(head, `The token cannot be used: ${problem}`);
    const isOver = problem === EXPIRED;
    return { kind: 'rejected', reason: `bearer token: ${problem}`, user, mayBeOfAnother: true, isOver };
  }
}

const EXPIRED = 'it has expired';

function readToken(text: string): ReadToken | undefined {
  try {
    const { alg, kid, typ } = decodeProtectedHeader(text);
    if (typeof alg !== 'string') return undefined;
    return {
      text,
      hint: { alg, ...(typeof kid === 'string' && { kid }) },
      typ: typeof typ === 'string' ? typ : undefined,
      claims: decodeJwt(text),
    };
  } catch {
    return undefined;
  }
}

/**
 * What names a token, and not its text: its `jti`, or what else makes it one of its kind. It is asked for before anything
 * is verified: lists within lists, thousands deep, are not to be written out.
 */
function credentialOf({ jti, iss, sub, iat, exp }: JWTPayload): string {
  if (typeof jti === 'string' && jti !== '' && jti.length <= MOST_CREDENTIAL_CHARS) return jti;
  const plain = [jti, iss, sub, iat, exp].map(claim => (typeof claim === 'object' ? null : claim));
  return hash('sha256', JSON.stringify(plain), 'base64url');
}

function keySource(options: JwtOptions, services: SchemeServices, algorithms: readonly string[]): KeySource {
  const { jwksUri, timeout = '5s', refresh = '5m', keepKeys = '1d' } = options;
  const named = ['jwksUri', ...Object.keys(KEY_FILES)];
  const given = named.filter(option => options[option as keyof JwtOptions] !== undefined);
  if (given.length !== 1)
    throw new TypeError(`auth.${services.name}: name exactly one of ${named.join(', ')}, not ${given.length}`);
  for (const [option, parse] of Object.entries(KEY_FILES)) {
    const file = options[option as keyof typeof KEY_FILES];
    if (file === undefined) continue;
    const what = `auth.${services.name}.${option}:`;
    return new FileKeys({ ...services, file, what, parse: text => parse(text, algorithms) });
  }
  const client = new ProviderClient({ url: jwksUri!, clock: services.clock, timeoutMs: parseDuration(timeout) });
  return new RemoteKeys({
    ...services,
    url: jwksUri!,
    client,
    refreshMs: parseDuration(refresh),
    keepMs: parseDuration(keepKeys),
  });
}
