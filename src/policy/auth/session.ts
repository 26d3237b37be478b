import type { RequestHead } from '../../http/request-head.ts';
import type { SessionOwner } from '../../session/session.ts';
import { challengeOf } from './challenge.ts';
import type { RoleSource } from './roles.ts';
import type { Challenge, Principal, SessionScheme } from './scheme.ts';

export interface ApplicationLoginOptions {
  readonly name: string;
  /** Path or URL of the application's page to sign in on. Left out: it has none, and everybody else gets 401. */
  readonly loginPage?: string | undefined;
  readonly roleSource: RoleSource;
}

/**
 * Users whom the application has signed in itself: a handler by `sessions.signIn` or `renew`, a backend by
 * `Holdfast-Session`. Their roles are those that the login gave, and what `roles` of the scheme makes of them.
 */
export class ApplicationLogin implements SessionScheme {
  readonly isShownByRequest = false;
  readonly name: string;
  readonly #options: ApplicationLoginOptions;

  constructor(options: ApplicationLoginOptions) {
    this.name = options.name;
    this.#options = options;
  }

  recognize({ name, roles, scheme }: SessionOwner): Principal | undefined {
    if (scheme !== undefined) return undefined;
    return { name, roles: this.#options.roleSource.rolesOf({ name, groups: roles }), scheme: this.name };
  }

  challenge(_head: RequestHead): Challenge {
    return { header: challengeOf('Session', this.name), location: this.#options.loginPage };
  }
}
