import { HoldfastError } from '../../base/errors.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import { LONGEST_COOKIE_MS } from '../../base/session-times.ts';
import { SIGN_IN_OPTIONS, type SignInOptions } from '../session.ts';
import type { SessionHeader } from '../store.ts';

/** The longest times that a login may ask for, and those that one with a persistent cookie has if it names none. */
export interface RememberMe {
  /** Milliseconds of silence after which its session ends. More than 0. */
  readonly idleTimeoutMs: number;
  /** Milliseconds from the login to the end of its session, whatever happens. At most 400 days, as browsers keep no cookie for longer. */
  readonly absoluteTimeoutMs: number;
}

export const REMEMBER_ME: OptionNames<RememberMe> = { idleTimeoutMs: 'number', absoluteTimeoutMs: 'number' };

interface Times {
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
}

export interface LoginSettings extends Times {
  readonly rememberMe: RememberMe | undefined;
}

const TIMES = ['idleTimeoutMs', 'absoluteTimeoutMs'] as const;

/** @throws {TypeError} when it cannot work. */
export function checkRememberMe(rememberMe: RememberMe): void {
  for (const name of TIMES)
    if (!(rememberMe[name] > 0 && (name === 'idleTimeoutMs' || rememberMe[name] <= LONGEST_COOKIE_MS)))
      throw new TypeError(
        `sessions: rememberMe.${name} must be milliseconds, more than 0${name === 'idleTimeoutMs' ? '' : ' and at most 400 days'}; not ${rememberMe[name]}`,
      );
}

/**
 * To be asked before a login changes anything.
 *
 * @throws {TypeError} when they are no wishes of a login.
 * @throws {HoldfastError} ERR_SESSION_LIFETIME when they go beyond what is allowed.
 */
export function checkLogin(call: string, options: SignInOptions, settings: LoginSettings): void {
  checkOptions(call, options, SIGN_IN_OPTIONS);
  const limits = limitsOf(options, settings);
  for (const name of TIMES) {
    const wish = options[name];
    if (wish === undefined) continue;
    if (!(wish > 0)) throw new TypeError(`${call}: ${name} must be milliseconds, more than 0; not ${wish}`);
    if (wish > limits[name]) {
      const isCookies = options.persistent && name === 'absoluteTimeoutMs' && limits[name] === LONGEST_COOKIE_MS;
      const remedy = isCookies ? ': browsers keep no cookie for longer' : ', or raise rememberMe of the sessions';
      const message = `${call}: ${name} ${wish} is more than a login may ask for, ${limits[name]}; ask for less${remedy}`;
      throw new HoldfastError('ERR_SESSION_LIFETIME', message);
    }
  }
}

/**
 * What a login, or another renewal, changes in the header of its session.
 *
 * @param isLogin It says whose the session is. One that has no wishes takes back what an earlier one has got. Without
 * it, what is not named stays.
 */
export function headerOfLogin(
  options: SignInOptions,
  isLogin: boolean,
  before: SessionHeader,
  settings: LoginSettings,
  now: number,
): Partial<SessionHeader> {
  const { persistent, idleTimeoutMs, absoluteTimeoutMs } = options;
  if (!isLogin && persistent === undefined) return namedOnly(options, before, now);
  if (persistent || idleTimeoutMs !== undefined || absoluteTimeoutMs !== undefined) {
    const usual = persistent ? limitsOf(options, settings) : settings;
    return {
      login: persistent === undefined ? {} : { isPersistent: persistent },
      ...timesOf(idleTimeoutMs ?? usual.idleTimeoutMs, absoluteTimeoutMs ?? usual.absoluteTimeoutMs, now),
    };
  }
  if (persistent === undefined && !before.login) return {};
  const login = persistent === false ? { isPersistent: false } : undefined;
  return { login, ...(before.login && timesOf(settings.idleTimeoutMs, settings.absoluteTimeoutMs, now)) };
}

function namedOnly(
  { idleTimeoutMs, absoluteTimeoutMs }: SignInOptions,
  { login = {} }: SessionHeader,
  now: number,
): Partial<SessionHeader> {
  if (idleTimeoutMs === undefined && absoluteTimeoutMs === undefined) return {};
  return {
    login,
    ...(idleTimeoutMs !== undefined && { idleTimeoutMs: idleOf(idleTimeoutMs) }),
    ...(absoluteTimeoutMs !== undefined && { absoluteExpiresAt: endOf(absoluteTimeoutMs, now) }),
  };
}

function limitsOf(
  { persistent }: SignInOptions,
  { rememberMe, idleTimeoutMs, absoluteTimeoutMs }: LoginSettings,
): Times {
  if (rememberMe) return rememberMe;
  // What the browser has forgotten needs no session.
  const longest = persistent ? Math.min(absoluteTimeoutMs, LONGEST_COOKIE_MS) : absoluteTimeoutMs;
  return { idleTimeoutMs, absoluteTimeoutMs: longest };
}

function timesOf(idleMs: number, absoluteMs: number, now: number): Partial<SessionHeader> {
  return { idleTimeoutMs: idleOf(idleMs), absoluteExpiresAt: endOf(absoluteMs, now) };
}

function idleOf(ms: number): number | undefined {
  return ms === Number.POSITIVE_INFINITY ? undefined : ms;
}

function endOf(absoluteMs: number, now: number): number | undefined {
  return absoluteMs === Number.POSITIVE_INFINITY ? undefined : now + absoluteMs;
}
