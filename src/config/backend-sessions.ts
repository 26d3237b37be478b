import { type BrokenRule, type Fields, fields, title } from './fields.ts';

/** Headers that a request has for other reasons. What carries a message or a handshake over one connection cannot say anything else. */
const TAKEN =
  /^(?:host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|content-length|cookie|authorization|forwarded|x-forwarded-(?:for|host|port|proto)|proxy-.*|sec-websocket-.*)$/;

/** The rules of what upstreams have to do with sessions. */
export function* brokenBackendSessions(config: Fields): Generator<BrokenRule> {
  for (const [name, upstream] of Object.entries(fields(config.upstreams)))
    yield* brokenHeaders(fields(upstream), ['upstreams', name]);
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
