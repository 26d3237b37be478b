import type { Clock } from '../../base/clock.ts';
import { parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import { FORM_PATHS } from '../../base/sign-in-paths.ts';
import type { AuthConfig } from '../../config/auth-config.ts';
import type { Config } from '../../config/config.ts';
import { OwnNames } from '../../gateway/own-names.ts';
import { BasicScheme } from '../../policy/auth/basic.ts';
import { ClientCertificateScheme } from '../../policy/auth/client-certificate.ts';
import { FormScheme } from '../../policy/auth/form.ts';
import { ForwardScheme } from '../../policy/auth/forward.ts';
import { FunctionScheme } from '../../policy/auth/function.ts';
import { IntrospectionScheme } from '../../policy/auth/introspection.ts';
import { JwtScheme } from '../../policy/auth/jwt.ts';
import { OidcScheme } from '../../policy/auth/oidc.ts';
import { PasswordVerifier } from '../../policy/auth/passwords/password-verifier.ts';
import { RoleSource } from '../../policy/auth/roles.ts';
import type { Scheme } from '../../policy/auth/scheme.ts';
import { ApplicationLogin } from '../../policy/auth/session.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';

export interface SchemeServices {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where schemes report logins of their own pages. */
  readonly security: SecurityEvents;
  /** What is ours in requests, and stays with us. */
  readonly own?: OwnNames | undefined;
}

interface Made extends SchemeServices {
  readonly name: string;
  readonly roleSource: RoleSource;
  readonly verifier: PasswordVerifier;
}

const MAKE: { [T in AuthConfig['type']]: (config: Extract<AuthConfig, { type: T }>, made: Made) => Scheme } = {
  session: ({ loginPage }, made) => new ApplicationLogin({ ...made, loginPage }),
  basic: ({ file, realm, rememberFor = '10m', passCredentials = false }, made) =>
    new BasicScheme({ ...made, file, realm, rememberMs: parseDuration(rememberFor), passCredentials }),
  form: ({ timeout = '5s', page = {}, paths = {}, landingPage = '/', ...config }, made) =>
    new FormScheme({
      ...{ ...config, ...made, page, landingPage },
      timeoutMs: parseDuration(timeout),
      paths: { ...FORM_PATHS, ...paths },
    }),
  function: ({ authenticate, timeout = '5s', challenge }, made) =>
    new FunctionScheme({ ...made, authenticate, timeoutMs: parseDuration(timeout), challenge }),
  jwt: (options, made) => new JwtScheme(options, made),
  oidc: (options, made) => new OidcScheme(options, made),
  introspection: (options, made) => new IntrospectionScheme(options, made),
  forward: (options, made) => new ForwardScheme(options, { ...made, own: made.own ?? new OwnNames() }),
  'client-certificate': (options, made) => new ClientCertificateScheme(options, made),
};

/** The schemes of authentication of a server, with what they read. */
export class Schemes {
  readonly #schemes = new Map<string, Scheme>();
  readonly #sources: RoleSource[] = [];
  /** Has no thread before it is asked. */
  readonly #verifier: PasswordVerifier;

  constructor({ auth = {} }: Pick<Config, 'auth'>, services: SchemeServices) {
    this.#verifier = new PasswordVerifier(services);
    for (const [name, config] of Object.entries(auth)) {
      const roleSource = new RoleSource(config, { scheme: name, ...services });
      this.#sources.push(roleSource);
      this.#schemes.set(name, make(config, { ...services, name, roleSource, verifier: this.#verifier }));
    }
  }

  get(name: string): Scheme {
    return this.#schemes.get(name)!;
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when a file that they need cannot be used. */
  async start(): Promise<void> {
    for (const source of this.#sources) await source.start();
    for (const scheme of this.#schemes.values()) await scheme.start?.();
  }

  async close(): Promise<void> {
    for (const source of this.#sources) source.close();
    await Promise.allSettled([...this.#schemes.values()].map(async scheme => scheme.close?.()));
    await this.#verifier.close();
  }
}

function make<T extends AuthConfig['type']>(config: Extract<AuthConfig, { type: T }>, made: Made): Scheme {
  return MAKE[config.type as T](config, made);
}
