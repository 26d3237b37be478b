import { broughtManager } from './brought-manager.ts';
import { type BrokenRule, type Fields, fields } from './fields.ts';

/** So many processes on one machine are a slip of the keyboard. */
export const MOST_WORKERS = 256;

/** Several processes share what lies outside of them only. */
export function* brokenWorkers(config: Fields): Generator<BrokenRule> {
  const { workers = 1, session, routes } = config;
  if (workers === 1) return;
  yield* ofProcess(session, ['session']);
  yield* ofMounts(routes, ['routes']);
}

function* ofMounts(routes: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  for (const [index, route] of (Array.isArray(routes) ? routes : []).entries()) {
    const application = fields(fields(route).application);
    const path = [...at, index, 'application'];
    if (application.session !== undefined) yield* ofProcess(application.session, [...path, 'session']);
    yield* ofMounts(application.routes, [...path, 'routes']);
  }
}

/** Sessions that lie in the memory of one process: whoever comes to another one is a stranger there. */
function* ofProcess(session: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  if (session === false) return;
  const manager = broughtManager(session);
  const { store = 'memory:' } = fields(manager ?? session);
  const { url, name } = fields(store);
  const place = url ?? name ?? store;
  if (typeof place !== 'string' || !/^memory:?$/.test(place)) return;
  yield {
    path: manager ? at : [...at, 'store'],
    message:
      'sessions in memory are of one worker, and the others do not know them; write "lmdb:PATH", which the workers of one machine share, or a redis: or postgres: URL, or "session: false", or "workers: 1"',
  };
}
