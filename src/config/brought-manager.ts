import type { SessionManager } from '../session/manager.ts';
import { type Fields, fields } from './fields.ts';

/** By what it can do: it may come from another copy of this package. */
export function isSessionManager(value: unknown): value is SessionManager {
  const { bindTo, signIn, onSocketEnd } = fields(value);
  return [bindTo, signIn, onSocketEnd].every(method => typeof method === 'function');
}

/** The manager that a `session` of the configuration is, or names; undefined where it says how to make one. */
export function broughtManager(session: unknown): SessionManager | undefined {
  if (isSessionManager(session)) return session;
  const { manager } = fields(session);
  return isSessionManager(manager) ? manager : undefined;
}

/** The name of the session cookie that a `session` asks for, as far as it says one. */
export function cookieNameOf(session: unknown): unknown {
  return broughtManager(session)?.cookieName ?? fields(fields(session).cookie).name;
}

/** What may stand beside a manager: everything else is for the manager itself to say. */
const BESIDE: readonly string[] = ['manager', 'touchOnTraffic'];

/** Options that a manager which is brought has already, as the name of each. */
export function optionsOfManager(session: Fields): string[] {
  if (session.manager === undefined || isSessionManager(session)) return [];
  return Object.keys(session).filter(key => !BESIDE.includes(key) && session[key] !== undefined);
}
