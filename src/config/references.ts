import { isAttributeName, MAX_ATTRIBUTE_NAME } from '../base/attribute-name.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import { nearestName } from '../base/nearest-name.ts';
import { parseRedisAddresses } from '../base/redis-address.ts';
import {
  DEFAULT_IDLE_MS,
  endsBeforeWrite,
  isWriteTime,
  LIFETIME_TIMES,
  LONGEST_COOKIE_MS,
  MAX_SWEEP_MS,
  MAX_WRITE_MS,
  PROFILE_WRITE_MS,
} from '../base/session-times.ts';
import { hostPrefixConflict } from '../http/cookies.ts';
import { type RewriteFault, rewriteFaults } from '../http/route-rewrite.ts';
import { brokenAdmin } from './admin-rules.ts';
import { brokenAuth } from './auth-rules.ts';
import { brokenBackendSessions } from './backend-sessions.ts';
import { broughtManager, isSessionManager, optionsOfManager } from './brought-manager.ts';
import { brokenClientHeaders } from './client-headers.ts';
import { formatPath } from './config-error.ts';
import { type BrokenRule, type Fields, fields, NOTHING, title } from './fields.ts';
import { brokenPages } from './own-pages.ts';
import { brokenWorkers } from './worker-rules.ts';

/** What a mount hands on to no route: an application on every host, for example, would be a surprise. */
const OF_ROUTES_ALONE = ['host', 'methods', 'session', 'crossSiteSignIn'] as const;

const TARGETS = ['endpoint', 'fetch', 'upstream', 'files', 'redirect', 'mount'] as const;

/**
 * The rules that concern several fields: one target for each route, names that exist, settings that fit together.
 *
 * Takes the document as it was written, of any type, so that these rules are reported together with those of the
 * schema.
 */
export function brokenReferences(document: unknown): BrokenRule[] {
  const config = fields(document);
  return [
    ...brokenNames(config),
    ...brokenRoutes(config.routes, ['routes'], config),
    ...brokenListeners(config),
    ...brokenSockets(config),
    ...brokenPorts(config),
    ...brokenAdmin(config),
    ...brokenUpstreams(config),
    ...brokenBackendSessions(config),
    ...brokenClientHeaders(config),
    ...brokenSession(config.session, ['session']),
    ...brokenAuth(config),
    ...brokenPages(config),
    ...brokenWorkers(config),
  ];
}

/** The schema leaves this name out without a word. */
function* brokenNames(config: Fields): Generator<BrokenRule> {
  for (const section of ['upstreams', 'dispatch', 'auth'])
    if (Object.hasOwn(fields(config[section]), '__proto__'))
      yield { path: [section, '__proto__'], message: '"__proto__" cannot be a name; take another' };
}

/** Two listeners cannot have one port of one address: the second would not start. */
function* brokenPorts({ listen, internal, admin }: Fields): Generator<BrokenRule> {
  const listeners = Array.isArray(listen) ? listen : [{ port: 8080 }];
  const places = listeners.map((of, index) => ({ of: fields(of), at: ['listen', index] as readonly PropertyKey[] }));
  if (fields(internal).port !== undefined) places.push({ of: fields(internal), at: ['internal'] });
  if (fields(admin).port !== undefined) places.push({ of: fields(admin), at: ['admin'] });
  for (const [index, { of, at }] of places.entries()) {
    // 0 takes a free one.
    if (typeof of.port !== 'number' || of.port === 0) continue;
    const host = hostOf(of, at);
    const other = places
      .slice(0, index)
      .find(before => before.of.port === of.port && meet(hostOf(before.of, before.at), host));
    if (other)
      yield {
        path: [...at, 'port'],
        message: `${formatPath(other.at)} listens on port ${of.port} as well; take another, or give both a "host" of their own`,
      };
  }
}

/** `internal` and `admin` are for this machine, where nothing else is said. */
function hostOf({ host }: Fields, [part]: readonly PropertyKey[]): string {
  return typeof host === 'string' ? host.toLowerCase() : part === 'internal' || part === 'admin' ? '127.0.0.1' : '::';
}

/** Whoever listens on every address listens on this one. `::` has those of IPv4, too. */
function meet(one: string, other: string): boolean {
  const isEvery = (host: string, of: string) => host === '::' || (host === '0.0.0.0' && !of.includes(':'));
  return one === other || isEvery(one, other) || isEvery(other, one);
}

function* brokenListeners(config: Fields): Generator<BrokenRule> {
  const listeners = (Array.isArray(config.listen) ? config.listen : []).map(fields);
  for (const [index, listener] of listeners.entries()) {
    const at = (key: string) => ['listen', index, key];
    yield* brokenPlace(listener, ['listen', index]);
    const { tls, redirect, http2, publicPort, acmeChallenge, proxyProtocol } = listener;
    if (redirect !== undefined && tls !== undefined)
      yield { path: at('redirect'), message: 'a listener with tls has nothing to redirect to; remove one of the two' };
    if (redirect !== undefined && !listeners.some(other => other.tls !== undefined))
      yield { path: at('redirect'), message: 'no listener has tls to redirect to; add one' };
    if (acmeChallenge !== undefined && redirect === undefined)
      yield { path: at('acmeChallenge'), message: 'goes with "redirect: https"; elsewhere add a route with "files"' };
    if (http2 !== undefined && http2 !== false && tls === undefined)
      yield { path: at('http2'), message: 'HTTP/2 is spoken over TLS only; add "tls"' };
    if (publicPort !== undefined && tls === undefined)
      yield { path: at('publicPort'), message: 'is where requests are redirected to, and that is https; add "tls"' };
    const hasProxies = Array.isArray(config.trustedProxies) && config.trustedProxies.length > 0;
    if (proxyProtocol !== undefined && !hasProxies)
      yield {
        path: at('proxyProtocol'),
        message: 'anybody could name any client address; say under "trustedProxies" who may send it',
      };
  }
}

const PLACES = ['port', 'socket', 'activation', 'fd'] as const;
/** Settings that go with one kind of place only. */
const OF_PLACE = { host: 'port', reusePort: 'port', mode: 'socket', group: 'socket' } as const;
/** `sun_path` of unix(7), with the zero at its end. */
const MAX_SOCKET_PATH = 107;

function* brokenPlace(listener: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const [place, second] = PLACES.filter(key => listener[key] !== undefined);
  if (place === undefined)
    yield { path: [...at, 'port'], message: 'is missing; write a port, or "socket", "activation" or "fd"' };
  if (second !== undefined)
    yield { path: [...at, second], message: `a listener has one place, and "${place}" is one; make two listeners` };
  for (const [key, of] of Object.entries(OF_PLACE))
    if (listener[key] !== undefined && place !== undefined && listener[of] === undefined)
      yield { path: [...at, key], message: `has no effect with "${place}"; it goes with "${of}"` };
  const { socket, mode } = listener;
  // YAML reads 0660 as 660, and JavaScript 0o660 as 432.
  if (typeof mode === 'number') yield { path: [...at, 'mode'], message: 'write it in quotes, for example "0660"' };
  if (typeof socket === 'string' && Buffer.byteLength(socket) > MAX_SOCKET_PATH)
    yield {
      path: [...at, 'socket'],
      message: `is longer than ${MAX_SOCKET_PATH} bytes, which no socket can be; take a shorter path`,
    };
}

/** The second would not start. */
function* brokenSockets({ listen }: Fields): Generator<BrokenRule> {
  const listeners = (Array.isArray(listen) ? listen : []).map(fields);
  for (const key of ['socket', 'activation', 'fd'])
    for (const [index, { [key]: value }] of listeners.entries()) {
      const other = listeners.findIndex(before => before[key] === value);
      if (value !== undefined && other < index)
        yield { path: ['listen', index, key], message: `listen[${other}] has it as well; take another` };
    }
}

function* brokenUpstreams(config: Fields): Generator<BrokenRule> {
  for (const [name, value] of Object.entries(fields(config.upstreams))) {
    const at = ['upstreams', name];
    const { servers, affinity, tls } = fields(value);
    const list = Array.isArray(servers)
      ? servers.map(server => (typeof server === 'string' ? { url: server } : fields(server)))
      : [];
    const urls = list.map(({ url }) => (typeof url === 'string' ? (URL.parse(url)?.href ?? url) : undefined));
    for (const [index, url] of urls.entries()) {
      if (url === undefined || urls.indexOf(url) === index) continue;
      yield {
        path: [...at, 'servers', index],
        message: `${list[index]!.url} is there twice; give it a weight instead`,
      };
    }
    const by = typeof affinity === 'string' ? affinity : fields(affinity).by;
    if (by === 'route' && list.length > 0 && list.every(({ route }) => route === undefined))
      yield {
        path: [...at, 'affinity'],
        message:
          'no server has a route to be known by; write for example { url: http://localhost:3000, route: tomcat1 }',
      };
    const { prefix } = fields(fields(value).cookies);
    for (const [otherName, other] of Object.entries(fields(config.upstreams))) {
      const longer = fields(fields(other).cookies).prefix;
      if (typeof prefix !== 'string' || typeof longer !== 'string' || longer === prefix) continue;
      if (longer.startsWith(prefix))
        yield {
          path: [...at, 'cookies', 'prefix'],
          message: `the prefix "${longer}" of upstream "${otherName}" begins with it, so its cookies would be taken for these; choose another`,
        };
    }
    const { certificate, key } = fields(tls);
    if (certificate !== undefined && key === undefined)
      yield { path: [...at, 'tls', 'certificate'], message: 'needs "key" beside it' };
    if (key !== undefined && certificate === undefined)
      yield { path: [...at, 'tls', 'key'], message: 'needs "certificate" beside it' };
  }
}

function* brokenRoutes(
  routes: unknown,
  path: readonly PropertyKey[],
  config: Fields,
  prefix = '',
  everywhere: Map<string, Fields> = new Map(),
): Generator<BrokenRule> {
  if (!Array.isArray(routes)) return;
  const here = new Map<string, Fields>();
  for (const [index, value] of routes.entries()) {
    const route = fields(value);
    if (route === NOTHING) continue; // the schema has said so
    const at = [...path, index];
    yield* brokenTarget(route, at);
    yield* brokenRewrite(route, [...at, 'rewrite']);
    if (route.paths !== undefined && (route.files !== undefined || (route.upstream ?? route.fetch) === undefined))
      yield {
        path: [...at, 'paths'],
        message: `${title(route)}: only an upstream or a fetch handler can have other paths; remove "paths"`,
      };
    yield* brokenAttributes(route, [...at, 'attributes']);
    // What is mounted takes some of the requests of its mount, and so those of no other beside that.
    const seen = route.mount === undefined ? [here, everywhere] : [here];
    for (const request of requestsOf(route, prefix)) {
      const earlier = seen.map(ones => ones.get(request)).find(one => one !== undefined);
      if (earlier) {
        const message = `${title(route)} takes the same requests as ${title(earlier)} before it; remove one, or give them different hosts, paths or methods`;
        yield { path: at, message };
        break;
      }
      for (const ones of seen) ones.set(request, route);
    }
    yield* brokenName('upstream', route.upstream, 'upstreams', config, route, [...at, 'upstream']);
    const { dispatch } = fields(fields(route.endpoint).options);
    yield* brokenName('dispatch policy', dispatch, 'dispatch', config, route, [...at, 'endpoint']);
    const application = fields(route.application);
    const mount = prefix + String(route.mount ?? '').replace(/\/$/, '');
    yield* brokenSession(application.session, [...at, 'application', 'session']);
    yield* brokenScope(application.session, mount, [...at, 'application', 'session']);
    yield* brokenRoutes(application.routes, [...at, 'application', 'routes'], config, mount, everywhere);
    yield* brokenRest(application, [...at, 'application'], everywhere.get(ofAll(mount)));
  }
}

/** Files and handler of an application take what no route does: there is nothing left where one takes all. */
function* brokenRest(
  { files, fetch }: Fields,
  at: readonly PropertyKey[],
  other: Fields | undefined,
): Generator<BrokenRule> {
  if (!other || (files ?? fetch) === undefined) return;
  const rest = files === undefined ? 'fetch' : 'files';
  const message = `takes the same requests as ${title(other)}; remove one of the two, or give the route another path`;
  yield { path: [...at, rest], message };
}

function ofAll(prefix: string): string {
  return `${ANY_METHOD}  ${prefix}/*`.replaceAll(/\/:[^/]+/g, '/:');
}

const ANY_METHOD = 'any method';

/** A name that is to be found in a section of the configuration. */
function* brokenName(
  what: string,
  name: unknown,
  section: string,
  config: Fields,
  route: Fields,
  path: readonly PropertyKey[],
): Generator<BrokenRule> {
  const defined = fields(config[section]);
  if (typeof name !== 'string' || name === '' || Object.hasOwn(defined, name)) return;
  const near = nearestName(name, Object.keys(defined));
  const remedy = near
    ? `did you mean "${near}"? Else add it under "${section}"`
    : `add it under "${section}" or fix the name`;
  yield { path, message: `${title(route)}: ${what} "${name}" is not defined; ${remedy}` };
}

function* brokenTarget(route: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const targets = TARGETS.filter(target => route[target] !== undefined);
  if (targets.length === 0)
    yield { path: at, message: `${title(route)} has no target; give it one of ${TARGETS.join(', ')}` };
  else if (targets.length > 1)
    yield { path: at, message: `${title(route)} has ${targets.join(' and ')}; keep exactly one target` };
  const isMount = route.mount !== undefined;
  if (route.path === undefined && targets.length > 0 && !isMount && route.endpoint === undefined)
    yield { path: at, message: 'a route needs a path; write for example path: /*' };
  if (isMount && route.application === undefined)
    yield { path: at, message: `${title(route)} mounts nothing; add "application"` };
  if (isMount && route.path !== undefined)
    yield { path: [...at, 'path'], message: `${title(route)}: "mount" is the path; remove "path"` };
  if (isMount)
    for (const option of OF_ROUTES_ALONE)
      if (route[option] !== undefined)
        yield {
          path: [...at, option],
          message: `${title(route)}: "${option}" does nothing on a mount; give it to the routes of the application`,
        };
  if (!isMount && route.application !== undefined)
    yield { path: [...at, 'application'], message: `${title(route)}: "application" goes with "mount"; add "mount"` };
  if (route.websocket !== undefined && route.websocket !== false && targets.length === 1 && !route.upstream)
    yield {
      path: [...at, 'websocket'],
      message: `${title(route)}: only an upstream is relayed; remove "websocket", an endpoint has its own settings`,
    };
}

/** Only handlers of ours read attributes. */
function* brokenAttributes(route: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  if (route.attributes === undefined) return;
  const broken = (what: string) => ({ path: at, message: `${title(route)}: ${what}` });
  if (route.upstream !== undefined)
    yield broken('a backend asks for an attribute by its name, with "sessionApi: true"; remove "attributes"');
  else if (route.redirect !== undefined || (route.files !== undefined && route.fetch === undefined))
    yield broken('nothing here reads an attribute; remove "attributes"');
  else if (route.session === 'none') yield broken('with "session: none" there is none to load; remove one of the two');
}

function* brokenRewrite(route: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const { rewrite, rewriteLinks } = route;
  if (rewriteLinks === true && route.upstream === undefined)
    yield {
      path: [...at.slice(0, -1), 'rewriteLinks'],
      message: `${title(route)}: only pages of an upstream are rewritten; a handler writes its links with sessions.encodeUrl; remove "rewriteLinks"`,
    };
  if (typeof rewrite !== 'string') return;
  const broken = (what: string) => ({ path: at, message: `${title(route)}: ${what}` });
  if (route.upstream === undefined) yield broken('only an upstream can have other paths; remove "rewrite"');
  const paths = [route.path].flat().filter(path => typeof path === 'string');
  for (const fault of rewriteFaults(paths, rewrite)) yield broken(rewriteRemedy(fault));
}

function rewriteRemedy(broken: RewriteFault): string {
  if (broken.fault === 'star') return 'leave out the "*" of "rewrite": what follows the prefix is appended';
  if (broken.fault === 'slash') return 'leave out the "/" at the end of "rewrite"';
  return `the path ${broken.path} has no "${broken.parameter}"`;
}

/**
 * What a route takes, as keys to compare: two routes with one key in common cannot both be used, because the order of
 * routes means nothing. The names of template segments make no difference.
 */
function* requestsOf(route: Fields, prefix: string): Generator<string> {
  const path = typeof route.mount === 'string' ? `${route.mount}/*` : (route.path ?? fields(route.endpoint).patterns);
  const methods: readonly unknown[] = Array.isArray(route.methods) ? route.methods : [ANY_METHOD];
  for (const pattern of new Set([path].flat())) {
    if (typeof pattern !== 'string') continue;
    for (const method of new Set(methods))
      yield `${method} ${route.host ?? ''} ${(prefix + pattern).replaceAll(/\/:[^/]+/g, '/:')}`;
  }
}

function* brokenSession(session: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  if (isSessionManager(session)) return;
  for (const option of optionsOfManager(fields(session)))
    yield {
      path: [...at, option],
      message: 'is for the manager to say; give it to "new SessionManager", or remove "manager"',
    };
  yield* brokenCookie(session, at);
  yield* brokenStore(session, at);
  yield* brokenTimes(session, at);
  for (const name of Object.keys(fields(fields(session).attributes))) {
    const path = [...at, 'attributes', name];
    if (!isAttributeName(name))
      yield { path, message: `the name of an attribute has 1 to ${MAX_ATTRIBUTE_NAME} characters` };
    // The schema leaves this name out without a word.
    if (name === '__proto__') yield { path, message: '"__proto__" cannot lie apart; take another name' };
  }
}

/** A cookie that no browser sends to where its sessions are: each page would make another one. */
function* brokenScope(session: unknown, mount: string, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const manager = broughtManager(session);
  if (!manager?.tracking.kinds.includes('cookie') || isBelow(`${mount}/`, manager.cookiePath)) return;
  const message = `the session cookie of this manager has the path "${manager.cookiePath}", and no browser sends it to "${mount}"; give the manager "cookie: { path: '${mount}' }", or mount the application below that path`;
  yield { path: at, message };
}

/** RFC 6265 §5.1.4. */
function isBelow(path: string, cookiePath: string): boolean {
  return path.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`);
}

function* brokenCookie(session: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const cookie = fields(fields(session).cookie);
  if (cookie.partitioned === true && cookie.sameSite !== 'none')
    yield {
      path: [...at, 'cookie', 'partitioned'],
      message:
        'needs "sameSite: none": other cookies do not come with pages within pages of other sites; add it, or remove this',
    };
  if (typeof cookie.name !== 'string') return;
  const extra = hostPrefixConflict({ name: cookie.name, domain: cookie.domain, path: cookie.path });
  if (extra === undefined) return;
  yield {
    path: [...at, 'cookie', extra],
    message: `a cookie named "__Host-..." has no ${extra}: browsers refuse it; remove "${extra}" or change the name`,
  };
}

/** Which options a store takes. */
const STORE_OPTIONS: Readonly<Record<string, readonly string[]>> = {
  memory: [],
  lmdb: ['maxSize'],
  redis: ['prefix', 'acknowledge', 'commandTimeout', 'clientName'],
  postgres: ['schema', 'poolSize', 'migrate', 'transactionPooler', 'listenUrl', 'commandTimeout', 'clientName'],
};

function* brokenStore(session: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const { store, keyFiles, ledger } = fields(session);
  const urls = [fields(store).url ?? store].flat().filter(url => typeof url === 'string');
  const kinds = new Set(urls.map(storeKind));
  if (ledger !== undefined && kinds.size > 0)
    yield {
      path: [...at, 'ledger'],
      message: 'a store by URL brings its own ledger; remove this, or give a store object',
    };
  for (const kind of kinds) {
    if (kind === 'redis' || kind === 'postgres') {
      if (keyFiles === undefined)
        yield {
          path: [...at, 'store'],
          message: `sessions in ${kind} are shared by machines, and a key made on one of them is not; name a file with a key, the same everywhere, under "keyFiles"`,
        };
      if (urls.length > 1 && kind === 'postgres')
        yield { path: [...at, 'store', 'url'], message: 'only a Redis Cluster takes several URLs' };
    }
    if (kind === 'postgres') yield* brokenPooler(fields(store), [...at, 'store']);
    for (const option of Object.keys(fields(store))) {
      const isKnown = Object.values(STORE_OPTIONS).some(options => options.includes(option));
      if (!isKnown || STORE_OPTIONS[kind]?.includes(option)) continue;
      yield { path: [...at, 'store', option], message: `${kind} has no such option` };
    }
  }
  if (kinds.size > 1) yield { path: [...at, 'store', 'url'], message: 'the URLs are of different kinds of stores' };
  else if (kinds.has('redis') && urls.length > 1) {
    try {
      parseRedisAddresses(urls);
    } catch (error) {
      yield { path: [...at, 'store', 'url'], message: (error as Error).message.replace(/^redis: /, '') };
    }
  }
}

function* brokenPooler(store: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const { transactionPooler, listenUrl } = store;
  if (transactionPooler === true && listenUrl === undefined) {
    const message = 'needs "listenUrl", the address of the server itself: events do not pass such a pooler';
    yield { path: [...at, 'transactionPooler'], message };
  }
  if (typeof listenUrl === 'string' && storeKind(listenUrl) !== 'postgres')
    yield { path: [...at, 'listenUrl'], message: 'is not the address of a postgres' };
}

function storeKind(url: string): string {
  const scheme = url.slice(0, url.indexOf(':'));
  if (/^rediss?(\+sentinel)?$/.test(scheme)) return 'redis';
  return scheme === 'postgresql' ? 'postgres' : scheme;
}

const WRITES: Readonly<Record<string, number>> = PROFILE_WRITE_MS;
const LIFETIMES: Readonly<Record<string, { readonly idleTimeoutMs: number }>> = LIFETIME_TIMES;

/** The sessions' own rules for times, so that they are reported with file and line. */
function* brokenTimes(session: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const { write, sweep, profile, lifetime, idleTimeout, rememberMe } = fields(session);
  const writeMs = milliseconds(fields(write).every);
  if (writeMs !== undefined && !isWriteTime(writeMs))
    yield { path: [...at, 'write', 'every'], message: 'is not between "100ms" and "1d"' };
  const sweepMs = milliseconds(fields(sweep).every);
  if (sweepMs !== undefined && sweepMs > MAX_SWEEP_MS)
    yield { path: [...at, 'sweep', 'every'], message: 'is more than "1d": expired sessions would stay' };
  const rememberedMs = milliseconds(fields(rememberMe).absoluteTimeout);
  if (rememberedMs !== undefined && rememberedMs !== Number.POSITIVE_INFINITY && rememberedMs > LONGEST_COOKIE_MS)
    yield {
      path: [...at, 'rememberMe', 'absoluteTimeout'],
      message: 'is more than "400d": browsers keep no cookie for longer',
    };
  const everyMs = write === undefined ? WRITES[String(profile)] : writeMs;
  const idleMs = milliseconds(idleTimeout) ?? LIFETIMES[String(lifetime)]?.idleTimeoutMs ?? DEFAULT_IDLE_MS;
  if (everyMs !== undefined && everyMs <= MAX_WRITE_MS && endsBeforeWrite(idleMs, everyMs))
    yield {
      path: write === undefined ? [...at, 'profile'] : [...at, 'write', 'every'],
      message: `sessions that end after ${idleMs / 1_000} s of silence need a write every ${idleMs / 2_000} s or more often, not every ${everyMs / 1_000} s; raise idleTimeout, or write more often`,
    };
}

/** Undefined for what is none: the schema says so. */
function milliseconds(value: unknown): number | undefined {
  try {
    return parseDuration(value as Duration);
  } catch {
    return undefined;
  }
}
