import { createHmac, randomBytes } from 'node:crypto';
import { type Duration, parseDuration } from '../../base/duration.ts';
import { messageOf } from '../../base/message-of.ts';
import { RecentMap } from '../../base/recent-map.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import type { SchemeServices } from './jwt.ts';
import type { Challenge, Principal, RequestScheme, Verdict } from './scheme.ts';
import { type BearerPlaces, bearerPlaces, findBearer } from './tokens/bearer.ts';
import { bearerChallenge } from './tokens/challenge.ts';
import { ProviderClient, ProviderUnavailable } from './tokens/provider-client.ts';
import { bindingProblem, type Claims, freeze, LAST_DATE_MS, userNameIn } from './tokens/token-user.ts';
import { authUnavailable } from './unavailable.ts';
import { WaitingPlaces } from './waiting-places.ts';
import { WatchedFile } from './watched-file.ts';

/** Tokens of which only their issuer knows what they are worth: it is asked (RFC 7662). */
export interface IntrospectionOptions extends BearerPlaces {
  /** URL of the issuer's introspection endpoint. */
  endpoint: string;
  /** Who we are to the issuer. */
  clientId: string;
  /** File with our secret there: its first line. Watched. */
  clientSecretFile: string;
  /** `iss` of the answers is this, where they have one. Default: not looked at. */
  issuer?: string;
  /** Whom tokens are for: `aud` names one of these. Default: not looked at, as the issuer knows who asks. */
  audience?: string | readonly string[];
  /** The claim that names the user. Default `sub`. */
  userClaim?: string;
  /** Also takes answers that do not say what kind of token it is. Default: they need `token_type: Bearer`. */
  allowUntyped?: boolean;
  /** How long an answer counts, and never beyond `exp`. Default `30s`; at most `5m`; 0: each request asks. */
  cacheFor?: Duration;
  /** How often the tokens of open sockets are asked for again. Default `30s`. */
  recheck?: Duration;
  /** Lets `endpoint` be `http:` on another machine: whoever is in between sees secret and tokens. Default: false. */
  allowHttp?: boolean;
  /** How long an answer may take. Default `5s`. */
  timeout?: Duration;
  /** For `WWW-Authenticate`. Default: the name of the scheme, or `tokens` where that is not ASCII. */
  realm?: string;
}

/** What the issuer says of a token, or why it is worth nothing. */
type Answer = { readonly claims: Claims; readonly endsAt: number } | Problem;

interface Problem {
  readonly problem: string;
  /** It was good once. */
  readonly isOver?: boolean | undefined;
}

interface Known {
  readonly answer: Answer;
  /** In the clock's monotonic time. */
  readonly askedAt: number;
}

const MOST_KNOWN = 10_000;
/** Tokens of which the issuer is being asked, and those that clients of one network have shown. */
const MOST_ASKED = 256;
const MOST_ASKED_OF_NETWORK = 64;
/** Opaque tokens are short. */
const MOST_TOKEN_CHARS = 4_096;
/** Many sockets of one token are one question. */
const REVIEW_FRESH_MS = 1_000;

/** The scheme `introspection`: users show a token, and its issuer is asked. */
export class IntrospectionScheme implements RequestScheme {
  readonly isShownByRequest = true;
  readonly name: string;
  readonly places: readonly CredentialPlace[];
  readonly reviewEveryMs: number;
  readonly #options: IntrospectionOptions;
  readonly #services: SchemeServices;
  readonly #realm: string;
  readonly #cacheMs: number;
  readonly #client: ProviderClient;
  readonly #secret: WatchedFile<string>;
  /** Good ones and bad ones apart: those that are made up do not push out those that are used. */
  readonly #good = new RecentMap<string, Known>(MOST_KNOWN);
  readonly #bad = new RecentMap<string, Known>(MOST_KNOWN);
  /** There is nothing of an opaque token but its text: it stands here under a hash that only this process can make. */
  readonly #hashKey = randomBytes(32);
  /** To ask again for those with open sockets. */
  readonly #tokens = new WeakMap<Principal, string>();
  readonly #descriptions = new WeakMap<RequestHead, string>();
  readonly #asked = new Map<string, Promise<Answer>>();
  readonly #places = new WaitingPlaces({ most: MOST_ASKED, mostOfNetwork: MOST_ASKED_OF_NETWORK });
  #isAvailable = true;

  constructor(options: IntrospectionOptions, services: SchemeServices) {
    const { name, clock } = services;
    this.name = name;
    this.#options = options;
    this.#services = services;
    this.#realm = options.realm ?? (/^[\x20-\x7e]+$/.test(name) ? name : 'tokens');
    this.places = bearerPlaces(options);
    this.#cacheMs = parseDuration(options.cacheFor ?? '30s');
    this.reviewEveryMs = parseDuration(options.recheck ?? '30s');
    const timeoutMs = parseDuration(options.timeout ?? '5s');
    this.#client = new ProviderClient({ url: options.endpoint, clock, timeoutMs });
    this.#secret = new WatchedFile({
      ...services,
      file: options.clientSecretFile,
      what: `auth.${name}.clientSecretFile:`,
      parse: clientSecretIn,
    });
  }

  async start(): Promise<void> {
    await this.#secret.start();
  }

  close(): void {
    this.#secret.close();
    this.#client.close();
  }

  async authenticate(head: RequestHead): Promise<Verdict> {
    const shown = findBearer(head, this.#options, this.#realm);
    if (shown.kind === 'none') return { kind: 'absent' };
    if (shown.kind === 'refused') return shown;
    const { token } = shown;
    if (token.length > MOST_TOKEN_CHARS)
      return this.#reject(head, { problem: `it has more than ${MOST_TOKEN_CHARS} characters` });
    try {
      const answer = await this.#answerFor(token, this.#cacheMs, head.clientAddress);
      if ('problem' in answer) return this.#reject(head, answer);
      const problem = bindingProblem(answer.claims, head);
      if (problem !== undefined) return this.#reject(head, { problem });
      const principal = this.#principalOf(token, answer);
      return 'problem' in principal ? this.#reject(head, principal) : { kind: 'authenticated', principal };
    } catch (error) {
      if (!(error instanceof ProviderUnavailable)) throw error;
      return { kind: 'refused', refusal: authUnavailable(`tokens cannot be judged: ${error.message}`) };
    }
  }

  challenge(head: RequestHead): Challenge {
    const description = this.#descriptions.get(head);
    const error = description === undefined ? undefined : 'invalid_token';
    return { header: bearerChallenge({ realm: this.#realm, error, description }) };
  }

  /** Asks the issuer again. @throws {ProviderUnavailable} when it cannot be asked. */
  async review(principal: Principal): Promise<Principal | undefined> {
    const token = this.#tokens.get(principal);
    if (token === undefined) return undefined;
    const answer = await this.#answerFor(token, Math.min(REVIEW_FRESH_MS, this.#cacheMs));
    if ('problem' in answer) return undefined;
    const now = this.#principalOf(token, answer);
    return 'problem' in now || now.name !== principal.name ? undefined : now;
  }

  keep(principal: Principal): unknown {
    return this.#tokens.get(principal);
  }

  recall(principal: Principal, kept: unknown): Principal | undefined {
    if (typeof kept !== 'string') return undefined;
    this.#tokens.set(principal, kept);
    return principal;
  }

  onChange(listener: () => void): () => void {
    return this.#services.roleSource.onChange(listener);
  }

  /**
   * @param maxAgeMs How old an answer may be.
   * @param address Of the client that shows it.
   * @throws {ProviderUnavailable}
   */
  async #answerFor(token: string, maxAgeMs: number, address: string = ''): Promise<Answer> {
    const { clock } = this.#services;
    const key = createHmac('sha256', this.#hashKey).update(token).digest('base64');
    const known = this.#good.get(key) ?? this.#bad.get(key);
    const isFresh = known !== undefined && clock.monotonic() - known.askedAt < maxAgeMs;
    const answer = isFresh ? known.answer : await this.#askOnce(key, token, address);
    if ('endsAt' in answer && answer.endsAt <= clock.now()) return { problem: 'it has expired', isOver: true };
    return answer;
  }

  /** All who ask for a token at a time share one question. */
  #askOnce(key: string, token: string, address: string): Promise<Answer> {
    const asked = this.#asked.get(key);
    if (asked) return asked;
    const leave = this.#places.take(address);
    if (typeof leave === 'number')
      throw new ProviderUnavailable(`the issuer is being asked of ${leave} tokens already`);
    const answer = this.#ask(key, token).finally(() => {
      this.#asked.delete(key);
      leave();
    });
    this.#asked.set(key, answer);
    return answer;
  }

  async #ask(key: string, token: string): Promise<Answer> {
    const { name, logger, clock } = this.#services;
    const askedAt = clock.monotonic();
    let answer: Answer;
    try {
      answer = await this.#askIssuer(token);
      // Whoever guesses does not guess what was good: it has ended, or was withdrawn.
      if ('problem' in answer && this.#wasGood(key)) answer = { ...answer, isOver: true };
    } catch (error) {
      if (this.#isAvailable)
        logger.error(
          { event: 'introspection-unavailable', scheme: name },
          `tokens cannot be judged (503): ${messageOf(error)}`,
        );
      this.#isAvailable = false;
      throw error;
    }
    if (!this.#isAvailable)
      logger.info({ event: 'introspection-available', scheme: name }, 'the issuer can be asked of tokens again');
    this.#isAvailable = true;
    const [into, from] = 'problem' in answer ? [this.#bad, this.#good] : [this.#good, this.#bad];
    from.delete(key);
    if (this.#cacheMs > 0) into.set(key, { answer, askedAt });
    return answer;
  }

  #wasGood(key: string): boolean {
    const bad = this.#bad.get(key)?.answer;
    return this.#good.has(key) || (bad !== undefined && 'isOver' in bad && bad.isOver === true);
  }

  async #askIssuer(token: string): Promise<Answer> {
    const { clientId, endpoint } = this.#options;
    const { status, body } = await this.#client.ask({
      method: 'POST',
      headers: {
        Authorization: `Basic ${Buffer.from(`${encoded(clientId)}:${encoded(this.#secret.value)}`).toString('base64')}`,
        'Content-Type': 'application/x-www-form-urlencoded',
      },
      body: `token=${encoded(token)}&token_type_hint=access_token`,
    });
    const said = jsonObjectIn(body);
    // RFC 7009 §2.2.1: as one answers of a JWT, which it can look up nowhere.
    if (status === 400 && said?.error === 'unsupported_token_type') return { problem: INACTIVE };
    if (status === 401 || status === 403)
      throw new ProviderUnavailable(`${endpoint} answered ${status}: it does not take our clientId and secret`);
    if (status !== 200) throw new ProviderUnavailable(`${endpoint} answered ${status} instead of 200`);
    if (typeof said?.active !== 'boolean')
      throw new ProviderUnavailable(`${endpoint} answered without "active", which RFC 7662 §2.2 demands`);
    return this.#judge(said);
  }

  #judge(said: Claims): Answer {
    const { issuer, audience, allowUntyped } = this.#options;
    const { active, token_type: type, token_use: use, exp, iss, aud } = said;
    if (active !== true) return { problem: INACTIVE };
    // A refresh token is active as well, and whoever has it must not get in by it.
    if (type === undefined ? allowUntyped !== true : typeof type !== 'string' || type.toLowerCase() !== 'bearer')
      return { problem: `its token_type is not Bearer but ${JSON.stringify(type) ?? 'missing (allowUntyped)'}` };
    if (use !== undefined && use !== 'access_token') return { problem: 'its token_use is not access_token' };
    if (issuer !== undefined && iss !== undefined && iss !== issuer) return { problem: 'it is of another issuer' };
    if (audience !== undefined && ![aud].flat().some(one => [audience].flat().includes(one as string)))
      return { problem: 'it is for somebody else (aud)' };
    // No fault of the client's, who would be banned for it.
    if (exp !== undefined && typeof exp !== 'number')
      throw new ProviderUnavailable(`${this.#options.endpoint} answered with an "exp" that is not a number`);
    const endsAt = exp === undefined ? Number.POSITIVE_INFINITY : Math.min(exp * 1_000, LAST_DATE_MS);
    return { claims: freeze(said), endsAt };
  }

  #principalOf(
    token: string,
    { claims, endsAt }: Extract<Answer, { claims: Claims }>,
  ): Principal | { readonly problem: string } {
    const user = userNameIn(claims, this.#options.userClaim ?? 'sub');
    if ('problem' in user) return user;
    const { name } = user;
    const { jti } = claims;
    const principal: Principal = {
      name,
      roles: this.#services.roleSource.rolesOf({ name, claims }),
      scheme: this.name,
      ...(Number.isFinite(endsAt) && { expiresAt: endsAt }),
      ...(typeof jti === 'string' && jti !== '' && jti.length <= 128 && { credential: jti }),
      claims,
    };
    this.#tokens.set(principal, token);
    return principal;
  }

  #reject(head: RequestHead, { problem, isOver = false }: Problem): Verdict {
    this.#descriptions.set(head, `The token cannot be used: ${problem}`);
    return { kind: 'rejected', reason: `bearer token: ${problem}`, mayBeOfAnother: true, isOver };
  }
}

const INACTIVE = 'the issuer says that it is not active';

/** RFC 6749 §2.3.1 and appendix B. */
function encoded(text: string): string {
  return new URLSearchParams([['', text]]).toString().slice(1);
}

function jsonObjectIn(text: string): Claims | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Claims) : undefined;
  } catch {
    return undefined;
  }
}

/** @throws {TypeError} when there is none. */
export function clientSecretIn(text: string): string {
  const [line = ''] = text.split(/\r?\n/);
  if (line === '') throw new TypeError('its first line is empty; it is our secret at the issuer');
  return line;
}
