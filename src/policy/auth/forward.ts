import { createHmac, randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import { RecentMap } from '../../base/recent-map.ts';
import { forwardedHeaders, THROUGH_HEADER } from '../../http/forwarded-headers.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { headerName } from '../../http/header-name.ts';
import { foldNames, passedHeaders } from '../../http/hop-by-hop.ts';
import { refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { isFieldValue } from '../../http/token.ts';
import { type CredentialPlace, withoutCredentials } from '../../http/without-credentials.ts';
import { isTooLongUserName } from '../../session/identity/owner.ts';
import { isPersonal } from './personal.ts';
import type { RoleSource } from './roles.ts';
import type { Challenge, Principal, RequestScheme, Verdict } from './scheme.ts';
import { type ProviderAnswer, ProviderClient, ProviderUnavailable } from './tokens/provider-client.ts';
import { authUnavailable } from './unavailable.ts';
import { WaitingPlaces } from './waiting-places.ts';

/** Users whom a service finds that is asked about each request, as by nginx's `auth_request` or Traefik's ForwardAuth. */
export interface ForwardOptions {
  /** Where the service is asked, with GET. 2xx lets in, 401 and 403 refuse; anything else, or no answer, is 503. */
  url: string;
  /**
   * The header of an answer that names the user. Default: the first that is there of `X-Auth-Request-User`,
   * `X-Forwarded-User` and `Remote-User`.
   */
  userHeader?: string;
  /**
   * The header that names groups, with commas between them. Default: the first that is there of `X-Auth-Request-Groups`,
   * `X-Forwarded-Groups` and `Remote-Groups`.
   */
  groupsHeader?: string;
  /** The header that says when the credentials end: seconds since 1970, or a date of HTTP. Default: they do not. */
  expiresHeader?: string;
  /** Who is let in by an answer that names nobody. Default: nobody, and it is 503. */
  defaultUser?: string;
  /**
   * Headers of an answer that backends get, and handlers under these names, lower-case, in `user.claims`. A client's own
   * never get there. Default: none.
   */
  copyHeaders?: readonly string[];
  /** `pass`: a person is led to the `Location` of a 302, 303 or 307 of the service. Default: such an answer is 503. */
  redirects?: 'pass';
  /** Where a person is led who gets 401; `{url}` in it is the URL that was asked for. Default: nowhere. */
  loginPage?: string;
  /** Clients get the cookies that an answer of the service sets, with the answer to their request. Default false. */
  setCookies?: boolean;
  /** For how long an answer that lets in holds for the same URL, with the same `cacheBy`; at most `5m`. Default: not at all. */
  cacheFor?: Duration;
  /** Request headers that an answer depends on, beside method and URL. Default `[Cookie, Authorization]`. */
  cacheBy?: readonly string[];
  /** How often it is asked again about open sockets. Default: never. */
  recheck?: Duration;
  /** Lets `url` be `http:` on another machine: whoever is in between sees credentials. Default false. */
  allowHttp?: boolean;
  /** For the whole answer. Default `5s`. */
  timeout?: Duration;
}

interface Services {
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly roleSource: RoleSource;
  /** What is ours in a request, and no business of the service. */
  readonly own: {
    readonly cookies: Iterable<string>;
    readonly headers: Iterable<string>;
    readonly instance?: string | undefined;
  };
}

interface Question {
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly key: string;
}

const USER_HEADERS = ['x-auth-request-user', 'x-forwarded-user', 'remote-user'];
const GROUPS_HEADERS = ['x-auth-request-groups', 'x-forwarded-groups', 'remote-groups'];
const MOST_BYTES = 64 * 1024;
const MOST_CONNECTIONS = 32;
/** Requests that wait for an answer, and those of one network. */
const MOST_ASKED = 256;
const MOST_ASKED_OF_NETWORK = 64;
const MOST_KNOWN = 10_000;
const REDIRECTS: ReadonlySet<number> = new Set([302, 303, 307]);

/** What would make the service answer about a body, a part or a version, and not about who asks; and what we say ourselves. */
const NOT_PASSED = foldNames([
  ...['Host', 'Content-Length', 'Content-Encoding', 'Expect', 'Accept-Encoding', 'Range', 'If-Range'],
  ...['If-Match', 'If-None-Match', 'If-Modified-Since', 'If-Unmodified-Since'],
  ...['X-Forwarded-For', 'X-Forwarded-Proto', 'X-Forwarded-Host', 'X-Forwarded-Port', 'Forwarded', THROUGH_HEADER],
  ...['X-Forwarded-Method', 'X-Forwarded-Uri', 'X-Original-Method', 'X-Original-URI', 'X-Original-URL'],
  ...[
    'X-Auth-Request-Redirect',
    'X-Forwarded-User',
    'X-Forwarded-Groups',
    'X-Auth-Request-User',
    'X-Auth-Request-Groups',
  ],
  ...['Remote-User', 'Remote-Groups', 'X-Real-IP', 'Sec-WebSocket-Key', 'Sec-WebSocket-Extensions'],
]);

/** The scheme `forward`: a service is asked about each request. What is not a clear yes is a no. */
export class ForwardScheme implements RequestScheme {
  readonly isShownByRequest = true;
  readonly name: string;
  readonly places: readonly CredentialPlace[];
  readonly reviewEveryMs: number | undefined;
  readonly #options: ForwardOptions;
  readonly #services: Services;
  readonly #client: ProviderClient;
  readonly #cacheMs: number;
  readonly #copied: readonly string[];
  /** A client's own of what the service says, or we do. */
  readonly #notPassed: ReadonlySet<string>;
  readonly #hashKey = randomBytes(32);
  readonly #known = new RecentMap<string, { readonly principal: Principal; readonly at: number }>(MOST_KNOWN);
  /** For `review`; only where sockets are asked about again. */
  readonly #questions = new WeakMap<Principal, Question>();
  readonly #cookies = new WeakMap<Principal, readonly string[]>();
  readonly #challenges = new WeakMap<RequestHead, Challenge>();
  /** What stood in `Authorization` of requests that were let in, as a hash. */
  readonly #wereGood = new RecentMap<string, true>(MOST_KNOWN);
  readonly #places = new WaitingPlaces({ most: MOST_ASKED, mostOfNetwork: MOST_ASKED_OF_NETWORK });
  #isAvailable = true;

  constructor(options: ForwardOptions, services: Services) {
    this.name = services.name;
    this.#options = options;
    this.#services = services;
    this.#copied = options.copyHeaders ?? [];
    const { userHeader, groupsHeader, expiresHeader } = options;
    const said = [...this.#copied, ...[userHeader, groupsHeader, expiresHeader].filter(name => name !== undefined)];
    this.#notPassed = new Set([...NOT_PASSED, ...foldNames(said)]);
    this.#cacheMs = parseDuration(options.cacheFor ?? 0);
    this.reviewEveryMs = options.recheck === undefined ? undefined : parseDuration(options.recheck);
    // Nobody may say for the service what backends take from it.
    this.places = this.#copied.map(name => ({ kind: 'header', name, inAnySpelling: true }));
    this.#client = new ProviderClient({
      ...{ url: options.url, clock: services.clock, timeoutMs: parseDuration(options.timeout ?? '5s') },
      mostBytes: MOST_BYTES,
      mostConnections: MOST_CONNECTIONS,
    });
  }

  async authenticate(head: RequestHead): Promise<Verdict> {
    const question = this.#questionFor(head);
    const known = this.#cacheMs > 0 ? this.#known.get(question.key) : undefined;
    if (known && this.#services.clock.monotonic() - known.at < this.#cacheMs && !this.#isOver(known.principal))
      return { kind: 'authenticated', principal: known.principal };
    try {
      return this.#judge(head, question, await this.#ask(question, head.clientAddress));
    } catch (error) {
      if (!(error instanceof ProviderUnavailable)) throw error;
      return { kind: 'refused', refusal: authUnavailable(`nobody can be let in: ${error.message}`) };
    }
  }

  challenge(head: RequestHead): Challenge | undefined {
    const said = this.#challenges.get(head);
    const { loginPage } = this.#options;
    const location = loginPage?.replaceAll('{url}', encodeURIComponent(urlOf(head)));
    return { header: said?.header ?? `Forward realm="${this.name.replaceAll(/[^\x20-\x7e]|["\\]/g, '')}"`, location };
  }

  /** @throws {ProviderUnavailable} when the service cannot be asked. */
  async review(principal: Principal): Promise<Principal | undefined> {
    if (this.reviewEveryMs === undefined) return principal;
    const question = this.#questions.get(principal);
    if (!question) return undefined;
    const answer = await this.#ask(question);
    if (answer.status < 200 || answer.status > 299) return undefined;
    const now = this.#principalFrom(answer, question);
    return now.name === principal.name ? now : undefined;
  }

  /** Where sockets are asked about again: the question. */
  keep(principal: Principal): unknown {
    return this.#questions.get(principal);
  }

  recall(principal: Principal, kept: unknown): Principal | undefined {
    if (this.reviewEveryMs === undefined) return principal;
    if (kept === undefined) return undefined;
    this.#questions.set(principal, kept as Question);
    return principal;
  }

  onChange(listener: () => void): () => void {
    const { roleSource } = this.#services;
    return roleSource.onChange(() => {
      this.#known.clear();
      listener();
    });
  }

  /** Cookies for the client, of the answer that this user was let in by. */
  responseCookies(principal: Principal): readonly string[] {
    return this.#cookies.get(principal) ?? [];
  }

  close(): void {
    this.#client.close();
  }

  #isOver({ expiresAt = Number.POSITIVE_INFINITY }: Principal): boolean {
    return expiresAt <= this.#services.clock.now();
  }

  #judge(head: RequestHead, question: Question, answer: ProviderAnswer): Verdict {
    const { status, headers } = answer;
    if (status >= 200 && status <= 299) {
      const principal = this.#principalFrom(answer, question);
      if (this.#isOver(principal))
        return { kind: 'rejected', reason: 'the service says that the credentials are over', isOver: true };
      const { authorization } = head.headers;
      if (authorization !== undefined) this.#wereGood.set(this.#hashOf(authorization), true);
      const cookies = this.#options.setCookies ? (headers['set-cookie'] ?? []).filter(isFieldValue) : [];
      if (cookies.length > 0) this.#cookies.set(principal, cookies);
      else if (this.#cacheMs > 0) this.#known.set(question.key, { principal, at: this.#services.clock.monotonic() });
      return { kind: 'authenticated', principal };
    }
    if (REDIRECTS.has(status)) return this.#lead(head, answer);
    if (status === 403)
      return {
        kind: 'refused',
        refusal: refuse(403, 'ERR_AUTH_FORBIDDEN', `the service of "${this.name}" answered 403`, {
          body: 'Your account may not use this.\n',
        }),
      };
    const header = headers['www-authenticate'];
    if (header !== undefined && isFieldValue(header)) this.#challenges.set(head, { header });
    // Which cookie is a login is not known here; with this header there is no doubt.
    const { authorization } = head.headers;
    if (authorization === undefined) return { kind: 'absent' };
    // Nobody guesses what was good: it has ended.
    const isOver = this.#wereGood.has(this.#hashOf(authorization));
    return { kind: 'rejected', reason: `the service of "${this.name}" answered 401`, mayBeOfAnother: true, isOver };
  }

  /** To where the service signs people in. */
  #lead(head: RequestHead, { headers }: ProviderAnswer): Verdict {
    if (!isPersonal(head)) return { kind: 'absent' };
    const cookies = this.#options.setCookies ? (headers['set-cookie'] ?? []).filter(isFieldValue) : [];
    const refusal = refuse(head.method === 'GET' ? 302 : 303, 'ERR_AUTH_REQUIRED', 'the service asks for a login', {
      headers: {
        Location: headers.location!,
        'Cache-Control': 'no-store',
        ...(cookies.length > 0 && { 'Set-Cookie': cookies }),
      },
      body: '',
    });
    return { kind: 'refused', refusal };
  }

  /** @throws {ProviderUnavailable} for what is no clear yes or no. */
  async #ask({ headers }: Question, address: string = ''): Promise<ProviderAnswer> {
    const { logger, name } = this.#services;
    const leave = this.#places.take(address);
    if (typeof leave === 'number') throw new ProviderUnavailable(`${leave} requests wait for it already`);
    try {
      const answer = await this.#client.ask({ method: 'GET', headers });
      this.#check(answer);
      if (!this.#isAvailable)
        logger.info({ event: 'forward-auth-available', scheme: name }, 'the service that lets users in answers again');
      this.#isAvailable = true;
      return answer;
    } catch (error) {
      if (this.#isAvailable)
        logger.error(
          { event: 'forward-auth-unavailable', scheme: name },
          `nobody is let in (503): ${messageOf(error)}`,
        );
      this.#isAvailable = false;
      throw error;
    } finally {
      leave();
    }
  }

  #check(answer: ProviderAnswer): void {
    const { url, redirects } = this.#options;
    const { status, headers } = answer;
    const isGood = status >= 200 && status <= 299;
    if (isGood) {
      const user = this.#userIn(headers);
      if (user === undefined)
        throw new ProviderUnavailable(`${url} answered ${status} and named no user; set "userHeader" or "defaultUser"`);
      if (isTooLongUserName(user)) throw new ProviderUnavailable(`${url} named a user of more than 256 characters`);
    }
    const isLed = redirects === 'pass' && REDIRECTS.has(status) && isPlace(headers.location);
    if (isGood || status === 401 || status === 403 || isLed) return;
    const remedy = REDIRECTS.has(status) && !redirects ? '; set "redirects: pass" to lead people there' : '';
    throw new ProviderUnavailable(`${url} answered ${status} instead of 2xx, 401 or 403${remedy}`);
  }

  #userIn(headers: IncomingHttpHeaders): string | undefined {
    const { userHeader, defaultUser } = this.#options;
    return headerIn(headers, userHeader ? [userHeader] : USER_HEADERS) ?? defaultUser;
  }

  #principalFrom({ headers }: ProviderAnswer, question: Question): Principal {
    const { groupsHeader, expiresHeader } = this.#options;
    const name = this.#userIn(headers)!;
    const said = headerIn(headers, groupsHeader ? [groupsHeader] : GROUPS_HEADERS) ?? '';
    const groups = said
      .split(',')
      .map(group => group.trim())
      .filter(group => group !== '');
    const targetHeaders: HeaderLine[] = this.#copied.flatMap(copied => {
      const value = headerIn(headers, [copied]);
      return value === undefined ? [] : [{ name: copied, value }];
    });
    const claims = Object.fromEntries(targetHeaders.map(({ name: of, value }) => [of.toLowerCase(), value]));
    const end = expiresHeader === undefined ? undefined : endIn(headerIn(headers, [expiresHeader]));
    const principal: Principal = {
      ...{ name, scheme: this.name, claims, targetHeaders, expiresAt: end },
      roles: this.#services.roleSource.rolesOf({ name, claims, groups }),
    };
    if (this.reviewEveryMs !== undefined) this.#questions.set(principal, question);
    return principal;
  }

  #questionFor(head: RequestHead): Question {
    const { own } = this.#services;
    const ours: CredentialPlace[] = [
      ...Array.from(own.cookies, (name): CredentialPlace => ({ kind: 'cookie', name })),
      ...Array.from(own.headers, (name): CredentialPlace => ({ kind: 'header', name })),
    ];
    const { rawHeaders, host, method } = withoutCredentials(head, ours);
    const uri = uriOf(head);
    const url = urlOf(head);
    const lines = [
      ...passedHeaders(rawHeaders, this.#notPassed),
      ...forwardedHeaders(head),
      ...['X-Forwarded-Method', method, 'X-Forwarded-Uri', uri, 'X-Original-Method', method, 'X-Original-URI', uri],
      ...['X-Original-URL', url, 'X-Auth-Request-Redirect', uri, 'X-Real-IP', head.clientAddress],
      ...(own.instance === undefined ? [] : [THROUGH_HEADER, throughOf(head, own.instance)]),
    ];
    const headers: Record<string, string[]> = Object.create(null);
    for (let i = 0; i < lines.length; i += 2) {
      const { lower } = headerName(lines[i]!);
      headers[lower] ??= [];
      headers[lower].push(lines[i + 1]!);
    }
    headers.accept ??= ['*/*'];
    return { headers: single(headers), key: this.#cacheMs > 0 ? this.#keyOf(`${method} ${host} ${url}`, headers) : '' };
  }

  /** Nothing of a credential stays but a hash that only this process can make. */
  #keyOf(what: string, headers: Readonly<Record<string, readonly string[]>>): string {
    const by = (this.#options.cacheBy ?? ['Cookie', 'Authorization']).map(name => headers[name.toLowerCase()] ?? null);
    return this.#hashOf(JSON.stringify([what, by]));
  }

  #hashOf(text: string): string {
    return createHmac('sha256', this.#hashKey).update(text).digest('base64');
  }
}

/** As it is matched by routes: the service must not read another path out of it. */
function uriOf({ path, query }: RequestHead): string {
  return query === '' ? path : `${path}?${query}`;
}

function urlOf(head: RequestHead): string {
  return `${head.isSecure ? 'https' : 'http'}://${head.host}${uriOf(head)}`;
}

function throughOf({ headers }: RequestHead, instance: string): string {
  const before = headers[THROUGH_HEADER.toLowerCase()];
  return before === undefined ? instance : `${before}, ${instance}`;
}

/** A line each, but for cookies, which HTTP/1.1 has in one. */
function single(headers: Readonly<Record<string, readonly string[]>>): Question['headers'] {
  return Object.fromEntries(
    Object.entries(headers).map(([name, values]) => [
      name,
      values.length === 1 ? values[0]! : name === 'cookie' ? values.join('; ') : values,
    ]),
  );
}

/** The first of these that is there and says something. */
function headerIn(headers: IncomingHttpHeaders, names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = headers[name.toLowerCase()];
    // Node reads bytes as Latin-1, and names are UTF-8.
    const text = value === undefined ? '' : Buffer.from(String(value), 'latin1').toString('utf8').trim();
    if (text !== '' && !/\p{Cc}/u.test(text)) return text;
  }
  return undefined;
}

/** In ms since the epoch; what cannot be read is over. */
function endIn(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d{1,12}$/.test(text) ? Number(text) * 1_000 : Date.parse(text);
  return Number.isNaN(ms) ? 0 : ms;
}

/** A path of this site, or a page of the web. */
function isPlace(location: string | undefined): boolean {
  if (location === undefined || !isFieldValue(location)) return false;
  return /^\/(?![/\\])/.test(location) || /^https?:$/.test(URL.canParse(location) ? new URL(location).protocol : '');
}
