import { resolve } from 'node:path';
import { broughtManager } from './brought-manager.ts';
import type { ApplicationConfig, Config, SessionConfig } from './config.ts';
import type { Doubt } from './warning-codes.ts';

/** Sessions as a configuration describes them: those of the server, or of a mounted application. */
interface Described {
  readonly session: SessionConfig;
  readonly at: readonly PropertyKey[];
  /** The path of their cookie. */
  readonly path: string;
}

/**
 * Sessions whose cookie is that of others, while their stores cannot be the same: each would set its own over those.
 * Managers that are brought are compared at start, by their keys as well.
 */
export function* checkCookieClashes(config: Config): Generator<Doubt> {
  const all = [...describedIn(config, ['session'], '', config.session ?? {})];
  for (const [index, one] of all.entries()) {
    const other = all.slice(0, index).find(before => areOneCookie(before, one) && areOtherSessions(before, one));
    if (!other) continue;
    yield {
      code: 'cookie-clash',
      path: [...one.at, 'cookie'],
      message: `clients have these sessions and those of ${other.at.length === 1 ? 'the server' : 'another application'} by one cookie, and each sets its own over it; give it another "name", or leave out "path"`,
    };
  }
}

function* describedIn(
  { routes = [], endpoints = [], files, fetch }: ApplicationConfig,
  at: readonly PropertyKey[],
  mount: string,
  session: ApplicationConfig['session'],
): Generator<Described> {
  // Where each has its hosts, a client may never have both.
  if (routes.some(({ host }) => host !== undefined)) return;
  const usesThem =
    routes.some(route => route.mount === undefined && route.session !== 'none' && !route.redirect && !route.files) ||
    endpoints.length > 0 ||
    (fetch !== undefined && files === undefined);
  if (usesThem && session && !broughtManager(session)) {
    const described = session as SessionConfig;
    yield { session: described, at, path: described.cookie?.path ?? (mount || '/') };
  }
  const base = at.slice(0, -1);
  for (const [index, { mount: own, application = {} }] of routes.entries())
    if (own !== undefined) {
      const inner = [...base, 'routes', index, 'application', 'session'];
      yield* describedIn(application, inner, mount + own.replace(/\/$/, ''), application.session);
    }
}

function areOneCookie(one: Described, other: Described): boolean {
  const [a, b] = [one.session, other.session];
  const haveCookies = [a, b].every(({ tracking = 'cookie' }) => [tracking].flat().includes('cookie'));
  const { cookie: first = {} } = a;
  const { cookie: second = {} } = b;
  return haveCookies && one.path === other.path && first.name === second.name && first.domain === second.domain;
}

/** True only where it is certain. A server may be named in several ways; a kind of store, and a folder, may not. */
function areOtherSessions({ session: one }: Described, { session: other }: Described): boolean {
  const [a, b] = [placeOf(one), placeOf(other)];
  if (a === undefined || b === undefined) return false;
  const [kind] = a.split(':');
  return kind !== b.split(':')[0] || kind === 'memory' || (kind === 'lmdb' && a !== b);
}

function placeOf({ store = 'memory:' }: SessionConfig): string | undefined {
  if (typeof store === 'string') return normal(store);
  return 'url' in store ? normal([store.url].flat()[0]!) : undefined;
}

/** With one name for each kind of store, and for each folder. */
function normal(url: string): string {
  if (url.startsWith('lmdb:')) return `lmdb:${resolve(url.slice('lmdb:'.length))}`;
  return url.replace(/^rediss?(?:\+sentinel)?:/, 'redis:').replace(/^postgresql:/, 'postgres:');
}
