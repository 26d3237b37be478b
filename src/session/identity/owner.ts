import { HoldfastError } from '../../base/errors.ts';
import { kindOf } from '../../base/options.ts';
import type { SessionOwner } from '../session.ts';
import type { SessionHeader } from '../store.ts';

/**
 * Somebody else than its owner asked for a session. The session is untouched.
 *
 * @see IBM WebSphere, UnauthorizedSessionRequestException (SESN0008E)
 *
 * @example
 * import { UnauthorizedSessionRequestError } from 'holdfast/session';
 *
 * try {
 *   await session.renew({ owner: { name: 'bob', roles: [] } }); // alice's
 * } catch (error) {
 *   console.log(error instanceof UnauthorizedSessionRequestError); // true
 * }
 */
export class UnauthorizedSessionRequestError extends HoldfastError {
  constructor(message: string) {
    super('ERR_SESSION_UNAUTHORIZED', message, { status: 403, closeCode: 1008 });
    this.name = 'HoldfastError'; // matched by name and code, never by class
  }
}

/**
 * The longest name of a user, in characters (code points). It is in each record of theirs, in headers, assertions and
 * the log.
 */
export const MAX_USER_NAME_LENGTH = 256;

/** The longest name of their credentials. */
const MAX_CREDENTIAL_LENGTH = 256;

export function isTooLongUserName(name: string): boolean {
  // A character has one or two of what `length` counts.
  return (
    name.length > MAX_USER_NAME_LENGTH &&
    (name.length > 2 * MAX_USER_NAME_LENGTH || [...name].length > MAX_USER_NAME_LENGTH)
  );
}

/**
 * In JavaScript anything may come. Without a name strangers would be one user; roles in one text would hold every role
 * that is a part of it.
 *
 * @throws {TypeError} when it is no owner.
 */
export function checkOwner(owner: SessionOwner): void {
  if (kindOf(owner) !== 'an object')
    throw new TypeError(
      `a session's owner is an object, for example { name: 'alice', roles: [] }, not ${kindOf(owner)}`,
    );
  const { name, roles, scheme, credential } = owner;
  if (scheme !== undefined && typeof scheme !== 'string')
    throw new TypeError(`the scheme of a session's owner is a text, or left out, not ${kindOf(scheme)}`);
  if (credential !== undefined && !(typeof credential === 'string' && credential.length <= MAX_CREDENTIAL_LENGTH))
    throw new TypeError(
      `what names the credentials of a session's owner is a text of at most ${MAX_CREDENTIAL_LENGTH} characters, or left out`,
    );
  if (typeof name !== 'string' || name === '') {
    const what = name === '' ? 'an empty one' : typeof name;
    throw new TypeError(`a session's owner must have a name, a text of at least one character, not ${what}`);
  }
  if (isTooLongUserName(name))
    throw new TypeError(
      `the name of a session's owner has at most ${MAX_USER_NAME_LENGTH} characters, not ${[...name].length}; use an id of the user`,
    );
  if (!Array.isArray(roles) || !roles.every(role => typeof role === 'string'))
    throw new TypeError("the roles of a session's owner must be an array of texts; [] for none");
}

/**
 * What a request may see of a session.
 *
 * `all`: it is its owner's, or nobody's, or its owner is kept in the session itself. `claim`: it is nobody's yet, and
 * the request has an authenticated user: the first one owns it. `little`: its owner shows credentials with each
 * request, and this route did not ask for them. `nothing`: it belongs to somebody else. `nameless`: all but its owner,
 * whom the request has not shown to be.
 */
export type OwnerView = 'all' | 'claim' | 'little' | 'nothing' | 'nameless';

/**
 * @param user Whom the request has shown.
 * @param ownerRule Without it everybody who shows the session may use it. Nobody is taken for its owner by that.
 */
export function judgeOwner({ owner }: SessionHeader, user: SessionOwner | undefined, ownerRule: boolean): OwnerView {
  if (!ownerRule) return isTakenForOwner(owner, user) ? 'all' : 'nameless';
  if (!owner) return user ? 'claim' : 'all';
  if (user) return user.name === owner.name ? 'all' : 'nothing';
  return owner.isShownByRequest ? 'little' : 'all';
}

function isTakenForOwner(owner: SessionHeader['owner'], user: SessionOwner | undefined): boolean {
  return !owner || (user ? user.name === owner.name : !owner.isShownByRequest);
}
