import type { Duration } from '../base/duration.ts';
import type { AuthenticateFunction } from '../policy/auth/function.ts';
import type { IntrospectionOptions } from '../policy/auth/introspection.ts';
import type { JwtOptions } from '../policy/auth/jwt.ts';
import type { OidcOptions } from '../policy/auth/oidc.ts';
import type { RolesOptions } from '../policy/auth/roles.ts';

/** How users show who they are: one scheme, which routes name under `policy.auth`. */
export type AuthConfig =
  | SessionAuthConfig
  | BasicAuthConfig
  | FunctionAuthConfig
  | JwtAuthConfig
  | IntrospectionAuthConfig
  | OidcAuthConfig;

/** Users whom a handler (`sessions.signIn`) or a backend (`Holdfast-Session`) has signed in. */
export interface SessionAuthConfig extends RolesOptions {
  type: 'session';
  /** Path or URL of the application's page to sign in on, for pages that people open. Default: none, and they get 401. */
  loginPage?: string;
}

/** Users with a password that is sent with each request (RFC 7617), from a file that `htpasswd` writes. */
export interface BasicAuthConfig extends RolesOptions {
  type: 'basic';
  /**
   * The password file. Hashes of bcrypt (`htpasswd -B`), SHA-512-crypt, SHA-256-crypt, APR1 and SHA-1 are verified; a line
   * of another form is an error. Read again when it changes.
   */
  file: string;
  /**
   * What browsers show when they ask for a password: visible ASCII characters and blanks, at most 256. Default: the name
   * of the scheme, or `users` where that is not ASCII.
   */
  realm?: string;
  /**
   * How long a password that was right is not compared again. It is forgotten at once when its line in the file changes, or
   * a wrong one is shown for its user. At most `24h`; `0` compares each time. Default `10m`.
   */
  rememberFor?: Duration;
  /** The target gets the `Authorization` header all the same. Default `false`. */
  passCredentials?: boolean;
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

/** Users who sign in at a provider of OpenID Connect. */
export interface OidcAuthConfig extends OidcOptions, RolesOptions {
  type: 'oidc';
}
