import type { Duration } from '../base/duration.ts';
import type { AuthenticateFunction } from '../policy/auth/function.ts';
import type { IntrospectionOptions } from '../policy/auth/introspection.ts';
import type { JwtOptions } from '../policy/auth/jwt.ts';
import type { RolesOptions } from '../policy/auth/roles.ts';

/** How users show who they are: one scheme, which routes name under `policy.auth`. */
export type AuthConfig = SessionAuthConfig | FunctionAuthConfig | JwtAuthConfig | IntrospectionAuthConfig;

/** Users whom a handler (`sessions.signIn`) or a backend (`Holdfast-Session`) has signed in. */
export interface SessionAuthConfig extends RolesOptions {
  type: 'session';
  /** Path or URL of the application's page to sign in on, for pages that people open. Default: none, and they get 401. */
  loginPage?: string;
}

/** Users whom a function of the program finds in the request. */
export interface FunctionAuthConfig extends RolesOptions {
  type: 'function';
  /**
   * Returns the user, `undefined` where the request shows nothing that it knows (the next scheme is asked), `false` for
   * what is wrong. What it throws, or does not answer in time, is 503.
   */
  authenticate: AuthenticateFunction;
  /** Default `5s`; -1 is refused. */
  timeout?: Duration;
  /** For `WWW-Authenticate` in a 401. Default `Custom realm="NAME"`. */
  challenge?: string;
}

/** Users who show a token that an issuer has signed: a JSON Web Token. */
export interface JwtAuthConfig extends JwtOptions, RolesOptions {
  type: 'jwt';
}

/** Users who show a token of which only its issuer knows what it is worth (RFC 7662). */
export interface IntrospectionAuthConfig extends IntrospectionOptions, RolesOptions {
  type: 'introspection';
}
