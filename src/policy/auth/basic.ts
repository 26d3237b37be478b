import { hash } from 'node:crypto';
import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { isRealm, readBasicCredentials } from '../../http/basic-credentials.ts';
import { refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import { challengeOf } from './challenge.ts';
import { type Login, PasswordUsers } from './passwords/password-users.ts';
import type { PasswordVerifier } from './passwords/password-verifier.ts';
import type { RoleSource } from './roles.ts';
import type { Challenge, Principal, RequestScheme, Verdict } from './scheme.ts';
import { authUnavailable } from './unavailable.ts';

export interface BasicSchemeOptions {
  readonly name: string;
  /** The password file. */
  readonly file: string;
  /** 1 to 256 visible ASCII characters and blanks. Default: the name, where it is such, else `users`. */
  readonly realm?: string | undefined;
  /** How long a password that was right is not compared again; 0: each time. */
  readonly rememberMs: number;
  readonly passCredentials: boolean;
  readonly roleSource: RoleSource;
  /** Shared by all schemes of a server that have passwords. */
  readonly verifier: PasswordVerifier;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Users with a password that is sent with each request (RFC 7617), from a file that `htpasswd` writes. */
export class BasicScheme implements RequestScheme {
  readonly isShownByRequest = true;
  readonly name: string;
  readonly passCredentials: boolean;
  readonly places: readonly CredentialPlace[] = [{ kind: 'header', name: 'authorization' }];
  readonly #users: PasswordUsers;
  readonly #roles: RoleSource;
  readonly #challenge: Challenge;

  constructor(options: BasicSchemeOptions) {
    const {
      name,
      file,
      realm = isRealm(name) ? name : 'users',
      rememberMs,
      passCredentials,
      roleSource,
      verifier,
    } = options;
    const { clock, logger } = options;
    this.name = name;
    this.passCredentials = passCredentials;
    this.#users = new PasswordUsers({ file, title: `auth.${name}`, rememberMs, verifier, clock, logger });
    this.#roles = roleSource;
    this.#challenge = { header: challengeOf('Basic', realm, { charset: 'UTF-8' }) };
  }

  challenge(): Challenge {
    return this.#challenge;
  }

  authenticate(head: RequestHead): Awaitable<Verdict> {
    const { authorization } = head.headers;
    if (authorization === undefined) return ABSENT;
    // Node takes the first, and a backend might take the other.
    const isOnly = countAuthorization(head.rawHeaders) <= 1;
    const known = isOnly ? this.#users.recall(authorization) : undefined;
    if (known !== undefined) return this.#verdict('right', known);
    const credentials = readBasicCredentials(authorization);
    if (credentials === undefined) return ABSENT;
    if (!isOnly) return TWO_HEADERS;
    if (typeof credentials === 'string') return { kind: 'rejected', reason: credentials };
    const { user, password } = credentials;
    const login = this.#users.login(user, password, head.clientAddress);
    return whenThere(login, said => {
      if (said === 'right') this.#users.keepText(authorization, user, password);
      return this.#verdict(said, user);
    });
  }

  #verdict(login: Login, user: string): Verdict {
    if (login === 'right') return { kind: 'authenticated', principal: this.#principal(user) };
    if (login === 'busy' || login === 'failed') return UNAVAILABLE[login];
    return { kind: 'rejected', reason: REASONS[login], user };
  }

  review({ name, credential }: Principal): Principal | undefined {
    const password = this.#users.passwordOf(name);
    return password !== undefined && password === credential ? this.#principal(name) : undefined;
  }

  /** Which line of the file it was: another process names it by another `credential`. */
  keep({ name, credential }: Principal): unknown {
    return credential === this.#users.passwordOf(name) ? this.#lineOf(name) : undefined;
  }

  recall({ name }: Principal, kept: unknown): Principal | undefined {
    return kept !== undefined && kept === this.#lineOf(name) ? this.#principal(name) : undefined;
  }

  onChange(listener: () => void): () => void {
    const ends = [this.#users.onChange(listener), this.#roles.onChange(listener)];
    return () => {
      for (const end of ends) end();
    };
  }

  /**
   * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be used; ERR_SERVER_FAILED when passwords cannot be
   * compared.
   */
  async start(): Promise<void> {
    await this.#users.start();
  }

  close(): void {
    this.#users.close();
  }

  /** Looks at the password file now. Never rejects. */
  async look(): Promise<void> {
    await this.#users.look();
  }

  #lineOf(name: string): string | undefined {
    return this.#users.signPasswordOf(name, text => hash('sha256', `${name}\0${text}`, 'base64'));
  }

  #principal(name: string): Principal {
    const credential = this.#users.passwordOf(name);
    return { name, roles: this.#roles.rolesOf({ name }), scheme: this.name, credential };
  }
}

const ABSENT: Verdict = { kind: 'absent' };

const REASONS: Readonly<Record<Exclude<Login, 'right' | 'busy' | 'failed'>, string>> = {
  wrong: 'the password is wrong',
  unknown: 'there is no such user',
  'too-long': 'the password is longer than the 72 bytes that bcrypt compares',
};

const TWO_HEADERS: Verdict = {
  kind: 'refused',
  refusal: refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request has several Authorization headers'),
};

const UNAVAILABLE: Readonly<Record<'busy' | 'failed', Verdict>> = {
  busy: { kind: 'refused', refusal: authUnavailable('too many passwords wait to be compared') },
  failed: { kind: 'refused', refusal: authUnavailable('the thread that compared the password has ended') },
};

function countAuthorization(rawHeaders: readonly string[]): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.length === 13 && rawHeaders[i]!.toLowerCase() === 'authorization') count++;
  return count;
}
