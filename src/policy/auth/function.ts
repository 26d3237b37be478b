import type { IncomingHttpHeaders } from 'node:http';
import type { Awaitable } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { kindOf } from '../../base/options.ts';
import type { ClientCertificate } from '../../http/client-certificate.ts';
import { parseCookies } from '../../http/cookies.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { CredentialPlace } from '../../http/without-credentials.ts';
import { isTooLongUserName } from '../../session/identity/owner.ts';
import { challengeOf } from './challenge.ts';
import { inTime } from './in-time.ts';
import { type RoleSource, withRolesOfNow } from './roles.ts';
import type { Challenge, Principal, RequestScheme, Verdict } from './scheme.ts';
import { authUnavailable } from './unavailable.ts';

/** What a function that authenticates sees of a request. */
export interface AuthenticatedRequest {
  readonly method: string;
  /** Normalized, as routes match it. */
  readonly path: string;
  /** Without its `?`; `''` when there is none. */
  readonly query: string;
  /** Lower-case, with its port when it has one. */
  readonly host: string;
  readonly headers: Readonly<IncomingHttpHeaders>;
  /** The first of each name. */
  readonly cookies: Readonly<Record<string, string>>;
  readonly clientAddress: string;
  readonly isSecure: boolean;
  /** Does it ask for a WebSocket? */
  readonly isUpgrade: boolean;
  readonly clientCertificate: ClientCertificate | undefined;
}

/** A user that a function has found. */
export interface FoundUser {
  readonly name: string;
  /** Groups, of which `roles` of the scheme makes roles, or else the roles themselves. Default: none. */
  readonly roles?: readonly string[];
  /** When the credentials end, in ms since the epoch: sockets close then. Default: never. */
  readonly expiresAt?: number;
  /** What handlers get to know besides, as JSON can say it. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

/**
 * Undefined: the request shows nothing that the function knows, and the next scheme is asked. `false`: it shows something
 * that is wrong.
 */
export type AuthenticateFunction = (request: AuthenticatedRequest) => Awaitable<FoundUser | false | undefined>;

export interface FunctionSchemeOptions {
  readonly name: string;
  readonly authenticate: AuthenticateFunction;
  readonly timeoutMs: number;
  /** For `WWW-Authenticate`, where it is not `Custom realm="…"`. */
  readonly challenge?: string | undefined;
  readonly roleSource: RoleSource;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Users whom a function of the program finds. One that throws, or takes too long, lets nobody in: 503. */
export class FunctionScheme implements RequestScheme {
  readonly isShownByRequest = true;
  /** Where the function looks is not known: nothing is taken away. */
  readonly places: readonly CredentialPlace[] = [];
  readonly name: string;
  readonly #options: FunctionSchemeOptions;

  constructor(options: FunctionSchemeOptions) {
    this.name = options.name;
    this.#options = options;
  }

  async authenticate(head: RequestHead): Promise<Verdict> {
    try {
      const { authenticate, clock, timeoutMs } = this.#options;
      const found = await inTime(clock, timeoutMs, () => authenticate(requestOf(head)));
      if (found === undefined) return { kind: 'absent' };
      if (found === false) return { kind: 'rejected', reason: 'a function has refused the credentials' };
      const principal = this.#principalOf(found);
      const { expiresAt = Number.POSITIVE_INFINITY } = principal;
      if (expiresAt <= this.#options.clock.now())
        return {
          ...{ kind: 'rejected', reason: 'the credentials have ended ("expiresAt" is in ms)' },
          ...{ user: principal.name, isOver: true },
        };
      return { kind: 'authenticated', principal };
    } catch (error) {
      this.#options.logger.error({ event: 'auth-failed', scheme: this.name, err: error }, 'a function found no user');
      return { kind: 'refused', refusal: authUnavailable(`the function of "${this.name}" cannot tell who it is`) };
    }
  }

  /** What the function would say now, nobody knows without a request. */
  review(principal: Principal): Principal {
    return withRolesOfNow(principal, this.#options.roleSource);
  }

  onChange(listener: () => void): () => void {
    return this.#options.roleSource.onChange(listener);
  }

  challenge(): Challenge {
    return { header: this.#options.challenge ?? challengeOf('Custom', this.name) };
  }

  #principalOf(found: FoundUser): Principal {
    const { name, roles: groups = [], expiresAt, claims } = checked(found);
    const known = { name, groups, claims };
    return { ...known, roles: this.#options.roleSource.rolesOf(known), scheme: this.name, expiresAt };
  }
}

function requestOf(head: RequestHead): AuthenticatedRequest {
  const { method, path, query, host, headers, clientAddress, isSecure, isUpgrade, clientCertificate } = head;
  const cookies: Record<string, string> = Object.create(null);
  for (const { name, value } of parseCookies(headers.cookie)) cookies[name] ??= value;
  return { method, path, query, host, headers, cookies, clientAddress, isSecure, isUpgrade, clientCertificate };
}

/** In JavaScript anything may come: `true` is no user. @throws {TypeError} */
function checked(found: FoundUser): FoundUser {
  if (kindOf(found) !== 'an object')
    throw new TypeError(`"authenticate" returns a user, false or undefined, not ${kindOf(found)}`);
  const { name, roles, expiresAt, claims } = found;
  if (typeof name !== 'string' || name === '' || isTooLongUserName(name))
    throw new TypeError('"authenticate" returned a user whose name is not a text of 1 to 256 characters');
  if (roles !== undefined && !(Array.isArray(roles) && roles.every(role => typeof role === 'string')))
    throw new TypeError('"authenticate" returned a user whose roles are not a list of texts');
  if (expiresAt !== undefined && (typeof expiresAt !== 'number' || Number.isNaN(expiresAt)))
    throw new TypeError('"authenticate" returned a user whose expiresAt is not a number of milliseconds');
  // They go to threads and backends, and nobody may change them on the way.
  return { ...found, ...(claims !== undefined && { claims: JSON.parse(JSON.stringify(claims)) }) };
}
