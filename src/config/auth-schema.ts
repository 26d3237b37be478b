import * as z from 'zod';
import { nearestName } from '../base/nearest-name.ts';
import { isFieldValue } from '../http/token.ts';
import type { AuthenticateFunction } from '../policy/auth/function.ts';
import type { RolesOptions } from '../policy/auth/roles.ts';
import type { AuthConfig, FunctionAuthConfig, SessionAuthConfig } from './auth-config.ts';
import { DURATION, measured, type Shape, section, text, textLike } from './schema-parts.ts';

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

const SCHEMES: { [T in AuthConfig['type']]: z.ZodType<Extract<AuthConfig, { type: T }>> } = {
  session: section<SessionAuthConfig>('auth of the type "session"', {
    ...roles,
    type: z.literal('session'),
    loginPage: page.optional(),
  }),
  function: section<FunctionAuthConfig>('auth of the type "function"', {
    ...roles,
    type: z.literal('function'),
    authenticate: callable<AuthenticateFunction>(),
    timeout: measured({ ...DURATION, example: '"5s"' }, 'a request could wait for ever').optional(),
    challenge: textLike(value => isFieldValue(value) && value !== '', 'not the value of a header').optional(),
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
