import type { Awaitable } from '../../../base/awaitable.ts';
import type { Clock } from '../../../base/clock.ts';
import { getOrInsert } from '../../../base/get-or-insert.ts';
import type { Logger } from '../../../base/logger.ts';
import { kindOf } from '../../../base/options.ts';
import { RecentMap } from '../../../base/recent-map.ts';
import { CONTROL, LONGEST_PASSWORD, LONGEST_USER_NAME } from '../../../http/basic-credentials.ts';
import type { KeyRing } from '../../../session/identity/key-ring.ts';
import { KEY_ID_LENGTH } from '../../../session/identity/key-ring.ts';
import { isTooLongUserName } from '../../../session/identity/owner.ts';
import { inTime } from '../in-time.ts';
import type { PasswordUsers } from '../passwords/password-users.ts';

/** A user whose name and password a function has found right. */
export interface VerifiedUser {
  /** Default: the name as it was typed. */
  readonly name?: string;
  /** Groups, of which `roles` of the scheme makes roles, or else the roles themselves. Default: none. */
  readonly roles?: readonly string[];
}

/** `true`, or the user: right. `false` or undefined: wrong, which of the two stays untold. */
export type VerifyPassword = (
  name: string,
  password: string,
  request: { readonly clientAddress: string },
) => Awaitable<VerifiedUser | boolean | undefined>;

/** Somebody who has signed in with a name and a password. */
export interface FormUser {
  readonly name: string;
  /** Which the session keeps for them. */
  readonly groups: readonly string[];
}

/** A text: why the login has failed, for the log. `unavailable`: nobody can tell. */
export type FormLogin = FormUser | { readonly wrong: string } | 'unavailable';

/** Where names and passwords are looked up. */
export interface FormUsers {
  login(name: string, password: string, clientAddress: string): Promise<FormLogin>;
  /** Names the password that they have now; undefined: these users have none that is known. */
  credentialOf(name: string, keys: KeyRing): string | undefined;
  /** Is it still the password that they have signed in with? */
  isCurrent(name: string, credential: string | undefined, keys: KeyRing): boolean;
}

/** What no user has, and nobody need be asked about. */
export function unusable(name: string, password: string): string | undefined {
  if (name === '' || password === '') return 'name or password is empty';
  if (CONTROL.test(name) || CONTROL.test(password)) return 'name or password has a control character';
  if ([...name].length > LONGEST_USER_NAME) return `the name is longer than ${LONGEST_USER_NAME} characters`;
  if (Buffer.byteLength(password) > LONGEST_PASSWORD) return `the password is longer than ${LONGEST_PASSWORD} bytes`;
  return undefined;
}

/** Credentials that were found to be of a hash, for each ring of keys. */
const MOST_KNOWN = 10_000;

/** Users of a password file. A session keeps what names the hash by which its user has signed in. */
export class FileFormUsers implements FormUsers {
  readonly #users: PasswordUsers;
  /** By the credential, what it was made of: it comes with each request of its session. */
  readonly #known = new WeakMap<KeyRing, RecentMap<string, { readonly name: string; readonly hash: string }>>();

  constructor(users: PasswordUsers) {
    this.#users = users;
  }

  async login(name: string, password: string, clientAddress: string): Promise<FormLogin> {
    const login = await this.#users.login(name, password, clientAddress);
    if (login === 'right') return { name, groups: [] };
    return login === 'busy' || login === 'failed' ? 'unavailable' : { wrong: WRONG[login] };
  }

  credentialOf(name: string, keys: KeyRing): string | undefined {
    return this.#users.signPasswordOf(name, hash => `${keys.signingKeyId}.${keys.sign(textOf(name, hash))}`);
  }

  isCurrent(name: string, credential: string | undefined, keys: KeyRing): boolean {
    if (credential === undefined) return false;
    const keyId = credential.slice(0, KEY_ID_LENGTH);
    const given = credential.slice(KEY_ID_LENGTH + 1);
    const isOf = (hash: string): boolean => {
      const known = this.#known.get(keys)?.get(credential);
      if (known?.name === name && known.hash === hash) return true;
      if (!keys.verify(keyId, textOf(name, hash), given)) return false;
      getOrInsert(this.#known, keys, () => new RecentMap(MOST_KNOWN)).set(credential, { name, hash });
      return true;
    };
    return this.#users.signPasswordOf(name, isOf) ?? false;
  }
}

const WRONG = {
  wrong: 'the password is wrong',
  unknown: 'there is no such user',
  'too-long': 'the password is longer than the 72 bytes that bcrypt compares',
} as const;

function textOf(name: string, hash: string): string {
  return `form password\0${name}\0${hash}`;
}

export interface FunctionFormUsersOptions {
  /** Of the scheme, for the log. */
  readonly scheme: string;
  readonly verify: VerifyPassword;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Users that a function of the program knows. Whose password changes there is for the program to say: `endAllOf`. */
export class FunctionFormUsers implements FormUsers {
  readonly #options: FunctionFormUsersOptions;

  constructor(options: FunctionFormUsersOptions) {
    this.#options = options;
  }

  async login(name: string, password: string, clientAddress: string): Promise<FormLogin> {
    try {
      const { clock, timeoutMs, verify } = this.#options;
      const found = await inTime(clock, timeoutMs, () => verify(name, password, { clientAddress }));
      if (found === false || found === undefined) return { wrong: 'a function has refused name and password' };
      return found === true ? { name, groups: [] } : checked(found, name);
    } catch (error) {
      const { logger, scheme } = this.#options;
      logger.error({ event: 'auth-failed', scheme, err: error }, 'a function could not verify a password');
      return 'unavailable';
    }
  }

  credentialOf(): undefined {
    return undefined;
  }

  isCurrent(): boolean {
    return true;
  }
}

/** In JavaScript anything may come. @throws {TypeError} */
function checked(found: VerifiedUser, typed: string): FormUser {
  if (kindOf(found) !== 'an object')
    throw new TypeError(`"verify" returns a user, true, false or undefined, not ${kindOf(found)}`);
  const { name = typed, roles = [] } = found;
  if (typeof name !== 'string' || name === '' || isTooLongUserName(name))
    throw new TypeError('"verify" returned a user whose name is not a text of 1 to 256 characters');
  if (!(Array.isArray(roles) && roles.every(role => typeof role === 'string')))
    throw new TypeError('"verify" returned a user whose roles are not a list of texts');
  return { name, groups: roles };
}
