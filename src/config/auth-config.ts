import type { Duration } from '../base/duration.ts';
import type { ClientCertificateOptions } from '../policy/auth/client-certificate.ts';
import type { ForwardOptions } from '../policy/auth/forward.ts';
import type { AuthenticateFunction } from '../policy/auth/function.ts';
import type { IntrospectionOptions } from '../policy/auth/introspection.ts';
import type { JwtOptions } from '../policy/auth/jwt.ts';
import type { OidcOptions } from '../policy/auth/oidc.ts';
import type { RolesOptions } from '../policy/auth/roles.ts';
import type { VerifyPassword } from '../policy/auth/sign-in/form-users.ts';

/** How users show who they are: one scheme, which routes name under `policy.auth`. */
export type AuthConfig =
  | SessionAuthConfig
  | BasicAuthConfig
  | FormAuthConfig
  | FunctionAuthConfig
  | JwtAuthConfig
  | IntrospectionAuthConfig
  | ClientCertificateAuthConfig
  | ForwardAuthConfig
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
   * a wrong one is shown for its user from the same network. At most `24h`; `0` compares each time. Default `10m`.
   */
  rememberFor?: Duration;
  /** The target gets the `Authorization` header all the same. Default `false`. */
  passCredentials?: boolean;
}

/**
 * Users who sign in with a name and a password on a page, and whose session keeps the login. Paths are below the mount of
 * the application whose sessions these are. One of `file` and `verify` says who they are.
 */
export interface FormAuthConfig extends RolesOptions {
  type: 'form';
  /** A password file, as of the type `basic`. A user whose line changes or goes is signed out everywhere. */
  file?: string;
  /**
   * Is this the password of this user? Returns `true` or the user; `false` or `undefined` where name or password is wrong. What
   * it throws, or does not answer in time, is 503.
   */
  verify?: VerifyPassword;
  /** Of `verify`. Default `5s`; -1 is refused. */
  timeout?: Duration;
  /** The application's page to sign in on, for example `/signin.html`, open to everybody. Default: a page of ours. */
  loginPage?: string;
  /** Its page for a login that has failed, with `loginPage`. Default: `loginPage` with `?failed`. */
  errorPage?: string;
  /** What it is called on the page that offers several ways to sign in. Default: the name of the scheme. */
  label?: string;
  /** How our pages look. */
  page?: FormPageConfig;
  /** Where our pages are. */
  paths?: FormPathsConfig;
  /** Where a login leads that no page has asked for. Default `/`. */
  landingPage?: string;
  /** Where signing out leads. Default: the page to sign in on. */
  afterLogout?: string;
}

export interface FormPageConfig {
  /** Title and heading. Default `Sign in`, in the language of the browser: English or Japanese. */
  title?: string;
  /** A CSS file in the place of our style: what it names of this site (images, fonts) is loaded. Read again when it changes. */
  style?: string;
}

export interface FormPathsConfig {
  /** Our page to sign in on. Default `/login`. */
  login?: string;
  /** Where forms post `j_username` and `j_password`. Default `/j_security_check`. */
  check?: string;
  /** GET asks, POST signs out. Default `/logout`. */
  logout?: string;
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

/** Users who show a certificate to our TLS. */
export interface ClientCertificateAuthConfig extends ClientCertificateOptions, RolesOptions {
  type: 'client-certificate';
}

/** Users whom a service finds that is asked about each request. */
export interface ForwardAuthConfig extends ForwardOptions, RolesOptions {
  type: 'forward';
}
