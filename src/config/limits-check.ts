import { parseByteRate, parseRate } from '../base/rate.ts';
import { broughtManager } from './brought-manager.ts';
import type { Config, LimitsConfig, RouteConfig, SessionConfig } from './config.ts';
import type { Doubt, WarningCode } from './warning-codes.ts';

const COUNTS = ['connections', 'connectionsPerAddress', 'connectionsPerSession', 'connectionsPerUser'] as const;
const RATES = [
  'requests',
  'requestsPerAddress',
  'handshakes',
  'handshakesPerAddress',
  'newSessionsPerAddress',
] as const;
/** What concerns WebSockets alone. */
const OF_SOCKETS = [...COUNTS, 'handshakes', 'handshakesPerAddress', 'messages', 'bytes', 'whenExceeded'] as const;
const OF_SESSIONS = ['connectionsPerSession', 'connectionsPerUser', 'newSessionsPerAddress'] as const;

export interface LimitsPlace {
  readonly at: readonly PropertyKey[];
  readonly of: string;
  /** Limits of what it lies in, the server's first. */
  readonly outer: readonly LimitsConfig[];
  /** Of a route. */
  readonly route: RouteConfig | undefined;
  /** Routes that it holds for; of a route, itself. */
  readonly routes: readonly RouteConfig[];
  /** Do visitors have sessions there, ours or the backend's own? */
  readonly hasSessions: boolean;
}

/** Limits that contradict each other, or that nothing can reach. */
export function* checkLimits(limits: LimitsConfig, place: LimitsPlace, config: Config): Generator<Doubt> {
  const { at, of, outer, route, routes, hasSessions } = place;
  const fault = (name: keyof LimitsConfig, message: string, code: WarningCode = 'no-effect'): Doubt => ({
    code,
    path: [...at, name],
    message: `${of}: ${message}`,
  });
  const isSet = (name: keyof LimitsConfig) => limits[name] !== undefined && limits[name] !== -1;

  if (limits.whenExceeded !== undefined && !isSet('messages') && !isSet('bytes'))
    yield fault('whenExceeded', 'has no effect without "messages" or "bytes"');
  if (limits.scope === 'all' && !sharesLedger(config.session))
    yield fault(
      'scope',
      'has no effect: processes share nothing without a session.store that they share (lmdb, redis, postgres)',
    );
  if (limits.scope === 'all' && ![...COUNTS, ...RATES].some(isSet))
    yield fault('scope', 'has no effect: messages and bytes are of one WebSocket, which one process has');
  if (route && !takesSockets(route))
    for (const name of OF_SOCKETS)
      if (limits[name] !== undefined) yield fault(name, 'has no effect: this route takes no WebSockets');
  if (!hasSessions)
    for (const name of OF_SESSIONS) if (isSet(name)) yield fault(name, 'has no effect: nobody has a session here');
  for (const [name, all] of [
    ['connectionsPerAddress', 'connections'],
    ['connectionsPerSession', 'connections'],
    ['connectionsPerUser', 'connections'],
  ] as const)
    if (isSet(name) && isSet(all) && limits[name]! > limits[all]!)
      yield fault(name, `is never reached: "${all}" is ${limits[all]}`, 'never-reached');
  for (const [name, all] of [
    ['requestsPerAddress', 'requests'],
    ['handshakesPerAddress', 'handshakes'],
    ['handshakesPerAddress', 'requestsPerAddress'],
    ['handshakes', 'requests'],
  ] as const)
    if (isLaxer(limits[name], limits[all]))
      yield fault(name, `is never reached: "${all}" is ${limits[all]}`, 'never-reached');
  for (const one of outer) {
    for (const name of COUNTS)
      if (isSet(name) && one[name] !== undefined && one[name] !== -1 && limits[name]! > one[name])
        yield fault(name, `is never reached: what it lies in has ${one[name]}, and all limits hold`, 'never-reached');
    for (const name of RATES)
      if (isLaxer(limits[name], one[name]))
        yield fault(name, `is never reached: what it lies in has ${one[name]}, and all limits hold`, 'never-reached');
    for (const name of [...COUNTS, ...RATES])
      if (limits[name] === -1 && one[name] !== undefined && one[name] !== -1)
        yield fault(name, `lifts nothing: what it lies in has ${one[name]}, and all limits hold`);
  }
  if (limits.whenExceeded === 'drop')
    for (const { websocket, upstream } of routes)
      if (upstream !== undefined && typeof websocket === 'object' && websocket.compression === 'end-to-end')
        yield fault(
          'whenExceeded',
          'a relay that drops messages passes none compressed, whatever "websocket.compression" says; remove that, or let clients wait',
          'drop-stops-compression',
        );
  const bytes = limits.bytes === undefined ? undefined : parseByteRate(limits.bytes);
  if (bytes && limits.whenExceeded === 'close' && bytes.count < 1024)
    yield fault(
      'bytes',
      'so few at once close the WebSocket of whoever sends two short messages; write for example 64KiB/s',
      'short-burst',
    );
}

/** Are there at least as many allowed by `rate`, at once and in time? */
function isLaxer(rate: LimitsConfig['requests'], than: LimitsConfig['requests']): boolean {
  if (rate === undefined || than === undefined) return false;
  const [one, other] = [parseRate(rate), parseRate(than)];
  if (!one || !other) return false;
  return one.count > other.count && one.count / one.windowMs >= other.count / other.windowMs;
}

function takesSockets({ endpoint, upstream, websocket, mount, methods }: RouteConfig): boolean {
  if (mount !== undefined || endpoint !== undefined) return true;
  return upstream !== undefined && websocket !== false && (methods === undefined || methods.includes('GET'));
}

function sharesLedger(session: Config['session']): boolean {
  if (session === false) return false;
  if (broughtManager(session)) return true;
  const { store, ledger } = (session ?? {}) as SessionConfig;
  if (ledger !== undefined) return true;
  // Where it lies, if it is not an object that a program brings.
  const place = typeof store === 'object' && store !== null && 'url' in store ? [store.url].flat()[0] : store;
  return place !== undefined && place !== 'memory:' && place !== 'memory';
}
