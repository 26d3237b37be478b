import { type Duration, parseDuration } from '../base/duration.ts';
import { type BrokenRule, type Fields, fields, title } from './fields.ts';

/** Headers that a request has for other reasons. What carries a message or a handshake over one connection cannot say anything else. */
const TAKEN =
  /^(?:host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|content-length|cookie|authorization|forwarded|x-forwarded-(?:for|host|port|proto)|proxy-.*|sec-websocket-.*)$/;

/** The longest that a ledger keeps something for sure. */
const MAX_IDLE_MS = 365 * 86_400_000;

/** The rules of what upstreams have to do with sessions. */
export function* brokenBackendSessions(config: Fields): Generator<BrokenRule> {
  for (const [name, upstream] of Object.entries(fields(config.upstreams))) {
    yield* brokenHeaders(fields(upstream), ['upstreams', name]);
    yield* brokenObservation(fields(upstream), ['upstreams', name], fields(config.session));
  }
  if (Array.isArray(config.routes)) yield* brokenControl(config.routes, ['routes'], config, config.session !== false);
}

const HEADERS = { sessionHeader: 'X-Session-ID', userHeader: 'X-Forwarded-User', rolesHeader: 'X-Forwarded-Groups' };

function* brokenHeaders(upstream: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const seen = new Map([['holdfast-session', 'the header by which backends answer']]);
  for (const [option, byDefault] of Object.entries(HEADERS)) {
    const name = upstream[option] ?? byDefault;
    if (typeof name !== 'string') continue;
    // As backends fold names: to them these are one header.
    const folded = name.toLowerCase().replace(/[^a-z0-9]/g, '-');
    const other = TAKEN.test(folded) ? 'a header of the request itself' : seen.get(folded);
    if (other !== undefined) yield { path: [...at, option], message: `"${name}" is ${other}; choose another name` };
    else seen.set(folded, `also "${option}"`);
  }
}

/** Who watches sessions must know where their ids stand. */
function* brokenObservation(upstream: Fields, at: readonly PropertyKey[], own: Fields): Generator<BrokenRule> {
  const { mode, cookie, header, idleTimeout, ...rest } = fields(upstream.session);
  const path = [...at, 'session'];
  if (mode === 'managed') {
    for (const [option, value] of Object.entries({ cookie, header, idleTimeout, ...rest }))
      if (value !== undefined)
        yield {
          path: [...path, option],
          message: 'goes with "mode: observed"; our own sessions have "session" at the top',
        };
  }
  if (mode !== 'observed') return;
  if (cookie === undefined && header === undefined)
    yield { path, message: 'where is the id of a session? Name the "cookie", for example JSESSIONID, or the "header"' };
  if (typeof header === 'string' && TAKEN.test(header.toLowerCase()))
    yield { path: [...path, 'header'], message: `"${header}" is a header of the request itself; choose another name` };
  if (upstream.controlsSession === true)
    yield {
      path: [...at, 'controlsSession'],
      message: 'is about sessions of ours, and these are the backend\'s own; remove it, or "mode: observed"',
    };
  if (cookie !== undefined && cookie === fields(own.cookie).name)
    yield {
      path: [...path, 'cookie'],
      message: `"${cookie}" is the name of our own session cookie, which no backend gets; give ours another name`,
    };
  if (isTooLong(idleTimeout))
    yield { path: [...path, 'idleTimeout'], message: 'is more than "365d": no process would keep it for so long' };
}

/** False for what is no duration, or never ends: the schema says so. */
function isTooLong(value: unknown): boolean {
  try {
    const ms = parseDuration(value as Duration);
    return ms > MAX_IDLE_MS && ms < Number.POSITIVE_INFINITY;
  } catch {
    return false;
  }
}

/** A backend that may sign in needs routes with sessions to sign in to. */
function* brokenControl(
  routes: readonly unknown[],
  at: readonly PropertyKey[],
  config: Fields,
  hasSessions: boolean,
): Generator<BrokenRule> {
  for (const [index, value] of routes.entries()) {
    const route = fields(value);
    const application = fields(route.application);
    if (Array.isArray(application.routes)) {
      const path = [...at, index, 'application', 'routes'];
      const inner = application.session === undefined ? hasSessions : application.session !== false;
      yield* brokenControl(application.routes, path, config, inner);
    }
    const upstream = fields(fields(config.upstreams)[String(route.upstream)]);
    if (upstream.controlsSession !== true || (hasSessions && route.session !== 'none')) continue;
    const remedy = hasSessions ? 'remove "session: none"' : 'there are no sessions here; remove "session: false"';
    yield {
      path: [...at, index, ...(hasSessions ? ['session'] : [])],
      message: `${title(route)} has no session that the upstream "${route.upstream}" could control; ${remedy}, or give the route another upstream`,
    };
  }
}
