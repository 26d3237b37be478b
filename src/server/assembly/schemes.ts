import type { Awaitable } from '../../base/awaitable.ts';
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
import { PasswordVerifier } from '../../policy/auth/passwords/password-verifier.ts';
import { RoleSource } from '../../policy/auth/roles.ts';
import type { Scheme } from '../../policy/auth/scheme.ts';
import { ApplicationLogin } from '../../policy/auth/session.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';
import type { Parts } from './parts.ts';

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

/** What brings a library of its own, or a client of other servers, is loaded where it is used. */
const MAKE: {
  [T in AuthConfig['type']]: (config: Extract<AuthConfig, { type: T }>, made: Made) => Awaitable<Scheme>;
} = {
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
  jwt: async (options, made) => new (await import('../../policy/auth/jwt.ts')).JwtScheme(options, made),
  oidc: async (options, made) => new (await import('../../policy/auth/oidc.ts')).OidcScheme(options, made),
  introspection: (options, made) => new IntrospectionScheme(options, made),
  forward: (options, made) => new ForwardScheme(options, { ...made, own: made.own ?? new OwnNames() }),
  'client-certificate': (options, made) => new ClientCertificateScheme(options, made),
};

/** The schemes of authentication of a server, by their names. */
export class Schemes {
  readonly #schemes: ReadonlyMap<string, Scheme>;

  constructor(schemes: ReadonlyMap<string, Scheme>) {
    this.#schemes = schemes;
  }

  get all(): readonly Scheme[] {
    return [...this.#schemes.values()];
  }

  get(name: string): Scheme {
    return this.#schemes.get(name)!;
  }
}

/**
 * Makes them, with the files that they read. Those that are as they were go on as they are.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when a file that they need cannot be used.
 */
export async function makeSchemes(
  { auth = {} }: Pick<Config, 'auth'>,
  services: SchemeServices,
  parts: Parts,
): Promise<Schemes> {
  // Has no thread before it is asked.
  const verifier = parts.keepNow('passwords', '', {
    from: undefined,
    make: () => new PasswordVerifier(services),
    close: one => one.close(),
  });
  const schemes = new Map<string, Scheme>();
  for (const [name, config] of Object.entries(auth)) {
    const { scheme } = await parts.keep('scheme', name, {
      from: config,
      make: () => startScheme(name, config, { ...services, verifier }),
      close: ({ scheme: one, roleSource }) => {
        roleSource.close();
        return one.close?.();
      },
    });
    schemes.set(name, scheme);
  }
  return new Schemes(schemes);
}

async function startScheme(name: string, config: AuthConfig, services: Omit<Made, 'name' | 'roleSource'>) {
  const roleSource = new RoleSource(config, { scheme: name, ...services });
  const scheme = await make(config, { ...services, name, roleSource });
  try {
    await roleSource.start();
    await scheme.start?.();
  } catch (error) {
    roleSource.close();
    await Promise.resolve(scheme.close?.());
    throw error;
  }
  return { scheme, roleSource };
}

function make<T extends AuthConfig['type']>(config: Extract<AuthConfig, { type: T }>, made: Made): Awaitable<Scheme> {
  return MAKE[config.type as T](config, made);
}
