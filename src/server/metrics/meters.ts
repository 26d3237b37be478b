import type { SecurityEventName } from '../../base/security-events.ts';
import type { LiveSocket } from '../../gateway/live-sockets.ts';
import { http } from '../../http/node-http.ts';
import type { Refusal } from '../../http/refusal.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { BoundedNames } from './bounded-names.ts';
import { DurationHistogram } from './histogram.ts';
import { addTraffic, noTraffic, type SocketTraffic, trafficOf } from './socket-traffic.ts';

/** More routes than this, over the life of a server, are counted together. */
const MAX_ROUTES = 1_000;
/** Of requests that no route takes. */
const NO_ROUTE = 'none';

/** What became of a handshake. */
export type HandshakeResult = 'accepted' | 'refused' | 'declined' | 'client-gone';

/** Of one route. */
class RouteMeter {
  /** By status. */
  readonly answers = new Map<string, number>();
  readonly durations = new DurationHistogram();
  readonly handshakes: Record<HandshakeResult, number> = { accepted: 0, refused: 0, declined: 0, 'client-gone': 0 };
  /** Of sockets that are gone. */
  readonly gone: Record<LiveSocket['kind'], SocketTraffic> = { endpoint: noTraffic(), relay: noTraffic() };
}

/** A count for each value of a label, or of two. */
class Counts<Key extends string> extends Map<Key, number> {
  add(key: Key, count = 1): void {
    this.set(key, (this.get(key) ?? 0) + count);
  }
}

/** The same for names that reloads can make ever more of. */
class BoundedCounts extends Counts<string> {
  readonly #names: BoundedNames;

  constructor(most: number) {
    super();
    this.#names = new BoundedNames(most);
  }

  override add(key: string, count?: number): void {
    super.add(this.#names.of(key), count);
  }
}

/** Outputs of logs: more files than this, over the life of a process, are counted together. */
const MAX_OUTPUTS = 100;

/**
 * What a server counts for its metrics beside what its parts count anyway. It lives as long as the server, through every
 * reload, so that no counter goes back. Each event costs an addition or two; nothing is counted for each message.
 */
export class ServerMeters {
  readonly routes = new Map<string, RouteMeter>();
  /** `kind code`: what was refused with which error code. */
  readonly refusals = new Counts<string>();
  /** By the name of the limit. */
  readonly limits = new Counts<string>();
  /** `kind code`: how sockets closed. */
  readonly closes = new Counts<string>();
  readonly securityEvents = new Counts<SecurityEventName>();
  readonly reloads = new Counts<'ok' | 'refused'>();
  readonly tls = { completed: 0, failed: 0, timeout: 0 };
  readonly lostLines = new BoundedCounts(MAX_OUTPUTS);
  connectionsAccepted = 0;
  requestsNow = 0;
  isDraining = false;
  readonly #names = new BoundedNames(MAX_ROUTES);

  of(route: string = NO_ROUTE): RouteMeter {
    const name = this.#names.of(route);
    let meter = this.routes.get(name);
    if (!meter) this.routes.set(name, (meter = new RouteMeter()));
    return meter;
  }

  /** The label of a route's name. */
  routeLabel(route: string): string {
    return this.#names.of(route);
  }

  answered(route: string | undefined, status: number, durationMs: number): void {
    const meter = this.of(route);
    const label = statusLabel(status);
    meter.answers.set(label, (meter.answers.get(label) ?? 0) + 1);
    meter.durations.add(durationMs);
  }

  shookHands(route: string | undefined, result: HandshakeResult): void {
    this.of(route).handshakes[result]++;
  }

  refused({ code, limit }: Pick<Refusal, 'code' | 'limit'>, kind: 'request' | 'handshake'): void {
    this.refusals.add(`${kind} ${code}`);
    if (limit !== undefined) this.limits.add(limit);
  }

  /** A socket is gone. */
  closed(route: string, kind: LiveSocket['kind'], code: number, socket: LiveSocket['socket']): void {
    this.closes.add(`${kind} ${closeLabel(code)}`);
    addTraffic(this.of(route).gone[kind], trafficOf(socket));
  }
}

/** Backends may answer with any number: those without a name are counted by their class. */
function statusLabel(status: number): string {
  if (status === 499 || http.STATUS_CODES[status] !== undefined) return String(status);
  return status >= 100 && status <= 599 ? `${Math.floor(status / 100)}xx` : 'other';
}

const CLOSE_CODES: ReadonlySet<number> = new Set(Object.values(CloseCode));

/** Peers may close with any number from 3000 to 4999. */
function closeLabel(code: number): string {
  if (CLOSE_CODES.has(code)) return String(code);
  return code >= 3000 && code <= 4999 ? `${Math.floor(code / 1_000)}xxx` : 'other';
}
