import type { RequestHead } from '../../../http/request-head.ts';
import { isTooLongUserName } from '../../../session/identity/owner.ts';

/** The last that a date can be, in ms since the epoch (ECMA-262 §21.4.1.1): later ends are this. */
export const LAST_DATE_MS = 8.64e15;

/** What a token says, as its issuer wrote it. */
export type Claims = Readonly<Record<string, unknown>>;

/**
 * The user that claims name: a text of 1 to 256 characters without control characters.
 *
 * @param claim Its name, or a path of names joined by dots (`profile.login`).
 * @returns what is wrong instead, for the log.
 */
export function userNameIn(claims: Claims, claim: string): { readonly name: string } | { readonly problem: string } {
  const name = claimAt(claims, claim);
  if (name === undefined)
    return { problem: `the token has no claim "${claim}", by which the user is named (userClaim)` };
  if (typeof name !== 'string' || name === '' || isTooLongUserName(name) || /\p{Cc}/u.test(name))
    return { problem: `the claim "${claim}" is not a text of 1 to 256 characters` };
  // An address that anybody could have claimed names nobody (OpenID Connect Core §5.7).
  if (claim === 'email' && claims.email_verified === false)
    return { problem: 'the claim "email" names the user, and the issuer says that it is not verified' };
  return { name };
}

function claimAt(claims: Claims, path: string): unknown {
  // Names of claims may be URLs, with dots in them.
  if (Object.hasOwn(claims, path)) return claims[path];
  let value: unknown = claims;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Claims)[name];
  }
  return value;
}

/**
 * Does the request come from the client that the token was given to, where the token is bound to one (`cnf`, RFC 7800)?
 *
 * One that is bound to a certificate needs that certificate (RFC 8705 §3). A token that is bound in another way, as by
 * DPoP, is not a bearer token: whoever has stolen it would get in (RFC 9449 §7.1).
 *
 * @returns what is wrong, for the log.
 */
export function bindingProblem({ cnf }: Claims, head: RequestHead): string | undefined {
  if (cnf === undefined) return undefined;
  const { 'x5t#S256': thumbprint, ...others } = (typeof cnf === 'object' && cnf !== null ? cnf : { cnf }) as Claims;
  if (typeof thumbprint !== 'string' || Object.keys(others).length > 0)
    return 'the token is bound to a key of its client ("cnf", as DPoP has it), which cannot be shown here';
  const shown = head.clientCertificate?.fingerprint256.replaceAll(':', '');
  if (shown !== undefined && Buffer.from(shown, 'hex').toString('base64url') === thumbprint) return undefined;
  return 'the token is bound to a client certificate, and the request does not come with that';
}

/** Handlers get claims that many requests share. */
export function freeze(claims: Claims): Claims {
  const open: unknown[] = [claims];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (typeof value !== 'object' || value === null || Object.isFrozen(value)) continue;
    open.push(...Object.values(value).filter(inner => typeof inner === 'object' && inner !== null));
    Object.freeze(value);
  }
  return claims;
}
