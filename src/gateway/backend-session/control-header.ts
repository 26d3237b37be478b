import { isTooLongUserName, MAX_USER_NAME_LENGTH } from '../../session/identity/owner.ts';
import type { RenewOptions, SignInOptions } from '../../session/session.ts';

/** The header by which a backend signs in and out. No client ever sees it, and none can send it. */
export const CONTROL_HEADER = 'Holdfast-Session';

/** What a backend wants of the session of its request. */
export type SessionControl =
  /** A new secret; with `owner`: the session is theirs from now on. */
  ({ readonly action: 'renew' } & RenewOptions) | { readonly action: 'end' };

// RFC 9651 §3.3.4, §3.3.3, §3.3.8. A token may begin with a digit: users have numbers.
const TOKEN = /[\w!#$%&'*+.^`|~:/-]+/y;
const STRING = /"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"/y;
const DISPLAY_STRING = /%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[\da-f]{2})*"/iy;
const ACTION = /[a-z]+/y;
const SEPARATOR = / *; */y;
const KEY = /[a-z*][a-z\d_.*-]*/y;
const EQUALS = /=/y;
const BOOLEAN = /\?[01]/y;
const INTEGER = /[1-9]\d{0,14}/y;

/** What they take: a text, seconds, or nothing, which is true. */
const PARAMETERS: ReadonlyMap<string, 'text' | 'seconds' | 'flag'> = new Map([
  ['user', 'text'],
  ['roles', 'text'],
  ['persistent', 'flag'],
  ['idle-timeout', 'seconds'],
  ['absolute-timeout', 'seconds'],
]);

/**
 * Reads `renew`, `renew; user=alice; roles="user, admin"` or `end`: an item with parameters of RFC 9651. A user whose
 * name is not ASCII, or may hold anything, is best written as a display string, `user=%"J%c3%bcrgen"`. With `renew` there
 * may be `persistent`, and `idle-timeout` and `absolute-timeout` in seconds.
 *
 * Stricter than the RFC, because a login that is half understood is none: what is not known, or is there twice, is an
 * error. So is a name with a quote in it that was not escaped, behind which somebody could write roles of their own.
 *
 * @returns what is wrong with it, as a text for the log that repeats nothing of it, when it cannot be understood.
 */
export function parseSessionControl(value: string): SessionControl | string {
  const text = value.trim();
  const reader = new Reader(text);
  const action = reader.take(ACTION);
  const parameters = new Map<string, string>();
  while (!reader.isAtEnd) {
    const key = reader.take(SEPARATOR) === undefined ? undefined : reader.take(KEY);
    if (key === undefined) return `is malformed at character ${reader.position + 1}`;
    const kind = PARAMETERS.get(key);
    if (kind === undefined) return `has a parameter that is none of ${[...PARAMETERS.keys()].join(', ')}`;
    if (parameters.has(key)) return `says ${key} twice`;
    const text = TAKE[kind](reader);
    if (text === undefined) return `has a value of ${key} that is not ${WHAT[kind]}`;
    parameters.set(key, text);
  }
  const user = parameters.get('user');
  const roles = parameters.get('roles');
  if (action === 'end') return parameters.size === 0 ? { action } : 'has parameters with "end", which takes none';
  if (action !== 'renew') return 'is neither "renew" nor "end"';
  const wishes = wishesOf(parameters);
  if (user === undefined) return roles === undefined ? { action, ...wishes } : 'has roles without a user';
  if (user === '') return 'has an empty user';
  if (isTooLongUserName(user)) return `has a user of more than ${MAX_USER_NAME_LENGTH} characters`;
  return { action, owner: { name: user, roles: listOf(roles ?? '') }, ...wishes };
}

const WHAT = { text: 'a token or a string', seconds: 'a whole number of seconds above 0', flag: '?1 or ?0' } as const;

const TAKE: { readonly [kind in keyof typeof WHAT]: (reader: Reader) => string | undefined } = {
  text: reader => (reader.take(EQUALS) ? takeValue(reader) : undefined),
  seconds: reader => (reader.take(EQUALS) ? reader.take(INTEGER) : undefined),
  // RFC 9651 §3.1.2: without a value it is true.
  flag: reader => (reader.take(EQUALS) ? reader.take(BOOLEAN) : '?1'),
};

function wishesOf(parameters: ReadonlyMap<string, string>): SignInOptions {
  const persistent = parameters.get('persistent');
  const [idle, absolute] = ['idle-timeout', 'absolute-timeout'].map(name => parameters.get(name));
  return {
    ...(persistent !== undefined && { persistent: persistent === '?1' }),
    ...(idle !== undefined && { idleTimeoutMs: Number(idle) * 1_000 }),
    ...(absolute !== undefined && { absoluteTimeoutMs: Number(absolute) * 1_000 }),
  };
}

function takeValue(reader: Reader): string | undefined {
  const display = reader.take(DISPLAY_STRING);
  if (display !== undefined) {
    try {
      return decodeURIComponent(display.slice(2, -1));
    } catch {
      return undefined;
    }
  }
  return reader.take(STRING)?.slice(1, -1).replaceAll(/\\(.)/g, '$1') ?? reader.take(TOKEN);
}

function listOf(text: string): string[] {
  const items = text.split(',').map(item => item.trim());
  return [...new Set(items.filter(item => item !== ''))];
}

/** What is left of a text, piece by piece. */
class Reader {
  readonly #text: string;
  position = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.position === this.#text.length;
  }

  /** What `sticky` matches here; undefined, without moving on, when it does not. */
  take(sticky: RegExp): string | undefined {
    sticky.lastIndex = this.position;
    const found = sticky.exec(this.#text)?.[0];
    if (found !== undefined) this.position += found.length;
    return found;
  }
}
