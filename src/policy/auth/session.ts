import type { RequestHead } from '../../http/request-head.ts';
import type { SessionOwner } from '../../session/session.ts';
import { challengeOf } from './challenge.ts';
import { type RoleSource, withRolesOfNow } from './roles.ts';
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
    const known = { name, groups: roles };
    return { ...known, roles: this.#options.roleSource.rolesOf(known), scheme: this.name };
  }

  /** Whether they are signed in, their session knows. */
  review(principal: Principal): Principal {
    return withRolesOfNow(principal, this.#options.roleSource);
  }

  onChange(listener: () => void): () => void {
    return this.#options.roleSource.onChange(listener);
  }

  challenge({ path }: RequestHead): Challenge {
    const { loginPage } = this.#options;
    const header = challengeOf('Session', this.name);
    // A page that asks for a login itself cannot lead to itself, without end.
    return loginPage?.split(/[?#]/, 1)[0] === path ? { header } : { header, location: loginPage };
  }
}
