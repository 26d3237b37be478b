import * as z from 'zod';
import { type Duration, parseDuration } from '../base/duration.ts';
import { nearestName } from '../base/nearest-name.ts';
import { isRealm } from '../http/basic-credentials.ts';
import { parseName } from '../http/certificate-names.ts';
import { readRoutePattern } from '../http/route-pattern.ts';
import { isFieldValue, isToken } from '../http/token.ts';
import type { CertificateUser } from '../policy/auth/client-certificate.ts';
import type { AuthenticateFunction } from '../policy/auth/function.ts';
import type { RolesOptions } from '../policy/auth/roles.ts';
import type { VerifyPassword } from '../policy/auth/sign-in/form-users.ts';
import type { BearerPlaces } from '../policy/auth/tokens/bearer.ts';
import type {
  AuthConfig,
  BasicAuthConfig,
  ClientCertificateAuthConfig,
  FormAuthConfig,
  FormPageConfig,
  FormPathsConfig,
  ForwardAuthConfig,
  FunctionAuthConfig,
  IntrospectionAuthConfig,
  JwtAuthConfig,
  OidcAuthConfig,
  SessionAuthConfig,
} from './auth-config.ts';
import { DURATION, duration, flag, measured, type Shape, section, text, textLike } from './schema-parts.ts';

/** Only a configuration in TypeScript or JavaScript can hold one. */
function callable<T>(): z.ZodType<T> {
  return z.custom<T>(value => typeof value === 'function', {
    error: 'expected a function; only a configuration in TypeScript or JavaScript can hold one',
  });
}

const roles: Shape<RolesOptions> = {
  roles: z
    .record(
      text,
      z
        .array(text)
        .min(1, { error: 'is empty; name users, for example "alice", or groups, for example "group:staff"' }),
    )
    .optional(),
  groups: text.optional(),
  rolesClaim: text.optional(),
  rolesOf: callable<NonNullable<RolesOptions['rolesOf']>>().optional(),
};

/** A place on this site, or a page of another one. */
const page = textLike(
  value => /^\/(?![/\\])[^\s#]*$/.test(value) || /^https?:/.test(URL.canParse(value) ? new URL(value).protocol : ''),
  'not a page; write a path such as "/login", or an absolute http(s) URL',
);

const url = textLike(
  value => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol) && new URL(value).username === '',
  'not an absolute http(s) URL, such as "https://id.example.com/jwks"',
);
/** Discovery puts a path behind it. */
const issuer = textLike(
  value => URL.canParse(value) && /^https?:\/\/[^/?#@\\\s]+(?:\/[^?#\s]*)?$/i.test(value),
  'not the URL of an issuer, such as "https://id.example.com/realms/shop": no query, no user',
);
/** One of ours, as it stands in URLs: no pattern. */
const ownPath = textLike(
  value => /^(?:\/[\w.~-]+)+$/.test(value) && !/\/\.{1,2}(?:\/|$)/.test(value),
  'not a path; write for example "/oidc/callback"',
);
const realm = textLike(isRealm, 'not a realm; write at most 256 visible ASCII characters and blanks');
const limited = measured({ ...DURATION, example: '"5s"' }, 'a request could wait for ever');

/** A duration of at most `most`; 0 is one. */
function upTo(most: string, why: string): z.ZodType<Duration> {
  return z
    .union([z.number(), z.string()], { error: `expected a duration such as ${JSON.stringify(most)}` })
    .transform((value, context) => {
      try {
        const ms = parseDuration(value);
        if (ms <= parseDuration(most)) return ms;
        context.addIssue({ code: 'custom', message: `is more than ${most}: ${why}` });
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
      }
      return z.NEVER;
    }) as unknown as z.ZodType<Duration>;
}

const bearer: Shape<BearerPlaces> = {
  header: flag.optional(),
  cookie: textLike(isToken, 'not the name of a cookie').optional(),
  subprotocol: flag.optional(),
  passCredentials: flag.optional(),
};

/** What a message's way or end depends on, what we say of clients and sessions, and cookies, which are of many. */
const OWN_HEADER =
  /^(?:host|connection|content-.*|transfer-encoding|te|trailer|upgrade|keep-alive|proxy-.*|cookie|expect|forwarded|x-forwarded-(?:for|proto|host|port|user|groups|through)|x-session-id|holdfast-.*|sec-.*)$/i;

const audiences = z.array(text).min(1, { error: 'is empty; name whom tokens are for' });

const pathBelow = textLike(
  value => /^\/(?![/\\])[\x21\x22\x24-\x5b\x5d-\x7e]*$/.test(value),
  'not a path of this site; write for example "/welcome"',
);
const exactPath = textLike(value => {
  const pattern = readRoutePattern(value);
  return !('fault' in pattern) && pattern.kind === 'exact' && /^[\x21-\x7e]+$/.test(value);
}, 'not one path; write for example "/login"');
const isName = (value: string) => parseName(value) !== undefined;
const certificateUser = textLike(
  value => /^(?:subject(?:\.[\w.-]+)?|san\.(?:email|dns|uri)|fingerprint)$/.test(value),
  'not what names a user; write subject.CN or another attribute of the subject, subject, san.email, san.dns, san.uri or fingerprint',
) as z.ZodType<CertificateUser>;

const answerHeader = textLike(isToken, 'not the name of a header');
const copiedHeader = textLike(
  value => isToken(value) && !OWN_HEADER.test(value),
  'not a header that backends can get from a service: it is of the connection, of the body, or set by us',
);

/** By its type. */
export const SCHEMES: { [T in AuthConfig['type']]: z.ZodType<Extract<AuthConfig, { type: T }>> } = {
  session: section<SessionAuthConfig>('auth of the type "session"', {
    ...roles,
    type: z.literal('session'),
    loginPage: page.optional(),
  }),
  basic: section<BasicAuthConfig>('auth of the type "basic"', {
    ...roles,
    type: z.literal('basic'),
    file: text,
    realm: realm.optional(),
    rememberFor: upTo('24h', 'passwords would be taken without a comparison for that long').optional(),
    passCredentials: flag.optional(),
  }),
  form: section<FormAuthConfig>('auth of the type "form"', {
    ...roles,
    type: z.literal('form'),
    file: text.optional(),
    verify: callable<VerifyPassword>().optional(),
    timeout: limited.optional(),
    loginPage: pathBelow.optional(),
    errorPage: pathBelow.optional(),
    label: text.optional(),
    page: section<FormPageConfig>('page', { title: text.optional(), style: text.optional() }).optional(),
    paths: section<FormPathsConfig>('paths', {
      login: exactPath.optional(),
      check: exactPath.optional(),
      logout: exactPath.optional(),
    }).optional(),
    landingPage: pathBelow.optional(),
    afterLogout: pathBelow.optional(),
  }),
  function: section<FunctionAuthConfig>('auth of the type "function"', {
    ...roles,
    type: z.literal('function'),
    authenticate: callable<AuthenticateFunction>(),
    timeout: measured({ ...DURATION, example: '"5s"' }, 'a request could wait for ever').optional(),
    challenge: textLike(value => isFieldValue(value) && value !== '', 'not the value of a header').optional(),
  }),
  jwt: section<JwtAuthConfig>('auth of the type "jwt"', {
    ...roles,
    ...bearer,
    type: z.literal('jwt'),
    issuer: text,
    audience: z.union([z.literal(false), text, audiences], {
      error: 'expected whom tokens are for (the "aud" claim), a list, or false for anybody',
    }),
    jwksUri: url.optional(),
    jwksFile: text.optional(),
    publicKeyFile: text.optional(),
    secretFile: text.optional(),
    algorithms: z.array(text).min(1, { error: 'is empty; leave it out for the default' }).optional(),
    clockSkew: upTo('5m', 'tokens would live that much longer').optional(),
    requiredClaims: z.array(text).optional(),
    maxTokenAge: measured({ ...DURATION, example: '"1h"' }, 'leave it out for tokens that have an "exp"').optional(),
    tokenType: text.optional(),
    userClaim: text.optional(),
    revokedFile: text.optional(),
    realm: realm.optional(),
    allowHttp: flag.optional(),
    timeout: limited.optional(),
    refresh: measured({ ...DURATION, example: '"5m"' }, 'a key that is taken back would stay good').optional(),
    keepKeys: duration.optional(),
  }),
  introspection: section<IntrospectionAuthConfig>('auth of the type "introspection"', {
    ...roles,
    ...bearer,
    type: z.literal('introspection'),
    endpoint: url,
    clientId: text,
    clientSecretFile: text,
    issuer: text.optional(),
    audience: z.union([text, audiences]).optional(),
    userClaim: text.optional(),
    allowUntyped: flag.optional(),
    cacheFor: upTo('5m', 'a revoked token would stay good for that long').optional(),
    recheck: measured({ ...DURATION, example: '"30s"' }, 'a revoked token would keep its sockets').optional(),
    realm: realm.optional(),
    allowHttp: flag.optional(),
    timeout: limited.optional(),
  }),
  oidc: section<OidcAuthConfig>('auth of the type "oidc"', {
    ...roles,
    type: z.literal('oidc'),
    issuer: issuer,
    clientId: text,
    clientSecretFile: text.optional(),
    clientSecretVariable: textLike(value => /^[A-Za-z_]\w*$/.test(value), 'not the name of a variable').optional(),
    clientAuth: z.enum(['basic', 'post']).optional(),
    scopes: z.array(textLike(value => /^[!#-[\]-~]+$/.test(value), 'not a scope')).optional(),
    userClaim: text.optional(),
    userPrefix: z.string().max(64, { error: 'has more than 64 characters' }).optional(),
    userInfo: flag.optional(),
    lifetime: z.enum(['session', 'tokens']).optional(),
    responseMode: z.enum(['query', 'form_post']).optional(),
    label: text.optional(),
    parameters: z.record(text, z.string()).optional(),
    login: ownPath.optional(),
    callback: ownPath.optional(),
    logout: ownPath.optional(),
    backchannelLogout: ownPath.optional(),
    afterLogout: page.optional(),
    allowHttp: flag.optional(),
    timeout: limited.optional(),
  }),
  forward: section<ForwardAuthConfig>('auth of the type "forward"', {
    ...roles,
    type: z.literal('forward'),
    url,
    userHeader: answerHeader.optional(),
    groupsHeader: answerHeader.optional(),
    expiresHeader: answerHeader.optional(),
    defaultUser: text.optional(),
    copyHeaders: z.array(copiedHeader).optional(),
    redirects: z.literal('pass').optional(),
    loginPage: page.optional(),
    setCookies: flag.optional(),
    cacheFor: upTo('5m', 'who has signed out would stay in for that long').optional(),
    cacheBy: z.array(answerHeader).min(1, { error: 'is empty: everybody would be the same user' }).optional(),
    recheck: measured({ ...DURATION, example: '"30s"' }, 'leave it out to never ask again').optional(),
    allowHttp: flag.optional(),
    timeout: limited.optional(),
  }),
  'client-certificate': section<ClientCertificateAuthConfig>('auth of the type "client-certificate"', {
    ...roles,
    type: z.literal('client-certificate'),
    user: certificateUser.optional(),
    issuers: z
      .array(textLike(isName, 'not a name; write for example "CN=Clients CA,O=Example"'))
      .min(1, { error: 'is empty; leave it out for all that "ca" of the listener lets in' })
      .optional(),
  }),
};

/** The type says which other keys there are. */
export const authScheme: z.ZodType<AuthConfig> = z.unknown().transform((value, context) => {
  const type: unknown = typeof value === 'object' && value !== null ? (value as { type?: unknown }).type : undefined;
  const known = Object.keys(SCHEMES);
  if (typeof type !== 'string' || !Object.hasOwn(SCHEMES, type)) {
    const near = typeof type === 'string' ? nearestName(type, known) : undefined;
    const remedy = near === undefined ? `write one of ${known.join(', ')}` : `did you mean "${near}"?`;
    const message = type === undefined ? `has no type; ${remedy}` : `${JSON.stringify(type)} is not a type; ${remedy}`;
    context.addIssue({ code: 'custom', message, path: type === undefined ? [] : ['type'] });
    return z.NEVER;
  }
  const { data, error } = SCHEMES[type as AuthConfig['type']].safeParse(value);
  for (const issue of error?.issues ?? []) context.issues.push({ ...issue, input: value } as never);
  return error ? z.NEVER : data;
}) as unknown as z.ZodType<AuthConfig>;

/** A list names several, tried in order; `false` lifts what the route lies in. */
export const authOfPolicy: z.ZodType<string | readonly string[] | false> = z.union(
  [z.literal(false), text, z.array(text).min(1, { error: 'is empty; write false for no authentication' })],
  { error: 'expected the name of a scheme under "auth", a list of them, or false' },
);
