import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Rate } from '../../base/rate.ts';
import type { AddressList } from '../../http/address-list.ts';
import { clientNetwork } from '../../http/client-network.ts';
import { nearbyAddresses } from '../../http/nearby.ts';
import { RETRY_AFTER_S, type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { ConnectionCount } from './connection-count.ts';
import type { FrameRule } from './frame-limit.ts';
import { KeyedBuckets } from './keyed-buckets.ts';
import { refuseRate } from './refuse-rate.ts';
import { TokenBucket } from './token-bucket.ts';

/** Limits of a server, of a mounted application or of a route. What is left out is not limited. */
export interface LimitsOptions {
  /** Whose they are, for messages and between processes. */
  readonly name: string;
  readonly connections?: number | undefined;
  readonly connectionsPerAddress?: number | undefined;
  readonly connectionsPerSession?: number | undefined;
  readonly connectionsPerUser?: number | undefined;
  readonly requests?: Rate | undefined;
  readonly requestsPerAddress?: Rate | undefined;
  readonly handshakes?: Rate | undefined;
  readonly handshakesPerAddress?: Rate | undefined;
  readonly newSessionsPerAddress?: Rate | undefined;
  /** What nobody has asked for: it does not hold for addresses behind which there may be many clients. */
  readonly defaults?: ReadonlySet<PerAddress> | undefined;
  /** Of each WebSocket. */
  readonly frames: readonly FrameRule[];
  /** Are counts and rates those of all processes? */
  readonly isShared?: boolean | undefined;
}

export interface LimitsEnvironment {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Who comes with such an address is a client of whom its proxy says nothing. */
  readonly trustedProxies: AddressList;
}

export const COUNTS = ['connections', 'connectionsPerAddress', 'connectionsPerSession', 'connectionsPerUser'] as const;
export const RATES = [
  'requests',
  'requestsPerAddress',
  'handshakes',
  'handshakesPerAddress',
  'newSessionsPerAddress',
] as const;
export type CountName = (typeof COUNTS)[number];
export type RateName = (typeof RATES)[number];
export type PerAddress = Extract<CountName | RateName, `${string}PerAddress`>;

/** Who takes a seat: what is not known is not limited. */
export interface Occupant {
  readonly address: string;
  readonly session?: string | undefined;
  readonly user?: string | undefined;
}

/** How much of a limit is taken. */
export interface TakenLimit {
  readonly limit: CountName | RateName;
  readonly most: number;
  /** Clients, sessions or users that have something of it. */
  readonly keys: number;
  /** What the one with the most has. */
  readonly highest: number;
}

/** Called for each that was taken here, so that other processes hear of it. */
export type OnTaken = (rate: RateName, key: string) => void;

/** The key of what all have in common. */
const ALL = '';

/**
 * How much clients may do at once, and how often. Each question costs a few steps; what is kept of a client is a number
 * for each limit.
 *
 * The address is that of the client behind trusted proxies; all of an IPv6 /64 are one. Who has none (a Unix socket, a
 * client that its proxy does not name) is not limited by it.
 */
export class Limits {
  readonly name: string;
  readonly frames: readonly FrameRule[];
  readonly isShared: boolean;
  readonly counts: ReadonlyMap<CountName, ConnectionCount>;
  readonly #options: LimitsOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #trustedProxies: AddressList;
  readonly #total = new Map<RateName, TokenBucket>();
  readonly #keyed = new Map<RateName, KeyedBuckets>();
  #onTaken: OnTaken | undefined;

  constructor(options: LimitsOptions, { clock, logger, trustedProxies }: LimitsEnvironment) {
    this.name = options.name;
    this.frames = options.frames;
    this.isShared = options.isShared === true;
    this.#options = options;
    this.#clock = clock;
    this.#logger = logger;
    this.#trustedProxies = trustedProxies;
    const counts = COUNTS.flatMap(name => {
      const max = options[name];
      return max === undefined ? [] : [[name, new ConnectionCount(max)] as const];
    });
    this.counts = new Map(counts);
    for (const name of RATES) {
      const rate = options[name];
      if (rate === undefined) continue;
      if (isPerAddress(name)) this.#keyed.set(name, new KeyedBuckets(rate, { onFull: () => this.#warnOfKeys(name) }));
      else this.#total.set(name, new TokenBucket(rate));
    }
  }

  /** A request, or a handshake, has come in. It is judged before anything is looked up. */
  takeRequest({ clientAddress, isUpgrade }: Pick<RequestHead, 'clientAddress' | 'isUpgrade'>): Refusal | undefined {
    const refusal = this.#take('requestsPerAddress', clientAddress) ?? this.#take('requests', clientAddress);
    if (refusal || !isUpgrade) return refusal;
    return (
      this.#take('handshakesPerAddress', clientAddress) ??
      this.#take('handshakes', clientAddress) ??
      // Where there is no room, nothing is looked up for it.
      this.#refuseCount({ address: clientAddress })
    );
  }

  /** A session of nobody is about to be made. */
  takeNewSession(clientAddress: string): Refusal | undefined {
    const refusal = this.#take('newSessionsPerAddress', clientAddress);
    if (refusal)
      this.#logger.warn(
        { event: 'new-sessions-limited', address: clientAddress, limit: this.name },
        'a client would begin more sessions than newSessionsPerAddress allows; if this is the address of a proxy, name it under trustedProxies',
      );
    return refusal;
  }

  /** Why somebody gets no seat for a WebSocket; undefined: there is one. */
  refuseSeat(occupant: Occupant): Refusal | undefined {
    return this.#refuseCount(occupant);
  }

  enter(occupant: Occupant): void {
    for (const [name, count] of this.counts) {
      const key = this.#keyOf(name, occupant);
      if (key !== undefined) count.enter(key);
    }
  }

  leave(occupant: Occupant): void {
    for (const [name, count] of this.counts) {
      const key = this.#keyOf(name, occupant);
      if (key !== undefined) count.leave(key);
    }
  }

  /** Tells other processes of what is taken here. */
  share(onTaken: OnTaken): void {
    this.#onTaken = onTaken;
  }

  /** Others have taken so many. */
  charge(name: RateName, key: string, count: number): void {
    const now = this.#clock.monotonic();
    this.#total.get(name)?.charge(count, now);
    this.#keyed.get(name)?.charge(key, count, now);
  }

  /** What has been taken so far: how many milliseconds each bucket is from full. */
  *lacking(): Generator<readonly [rate: RateName, key: string, ms: number]> {
    const now = this.#clock.monotonic();
    for (const [name, bucket] of this.#total) if (bucket.lacks(now) > 0) yield [name, ALL, bucket.lacks(now)];
    for (const [name, buckets] of this.#keyed) for (const [key, ms] of buckets.lacking(now)) yield [name, key, ms];
  }

  /** How much of each limit is taken in this process: by how many, and by the one with the most. */
  *taken(): Generator<TakenLimit> {
    for (const [limit, { max, counts }] of this.counts)
      yield { limit, most: max, keys: counts.size, highest: highestOf(counts.values()) };
    const lacking = new Map<RateName, number[]>();
    for (const [name, , ms] of this.lacking()) {
      const ofRate = lacking.get(name);
      if (ofRate) ofRate.push(ms);
      else lacking.set(name, [ms]);
    }
    for (const limit of RATES) {
      const rate = this.#options[limit];
      if (rate === undefined) continue;
      const ofRate = lacking.get(limit) ?? [];
      const highest = Math.ceil((highestOf(ofRate) / rate.windowMs) * rate.count);
      yield { limit, most: rate.count, keys: ofRate.length, highest: Math.min(highest, rate.count) };
    }
  }

  /** As another process has it. */
  lower(name: RateName, key: string, ms: number): void {
    const now = this.#clock.monotonic();
    this.#total.get(name)?.lower(ms, now);
    this.#keyed.get(name)?.lower(key, ms, now);
  }

  #take(name: RateName, clientAddress: string): Refusal | undefined {
    const total = this.#total.get(name);
    const keyed = this.#keyed.get(name);
    if (!total && !keyed) return undefined;
    const now = this.#clock.monotonic();
    if (total) {
      if (!total.take(now)) return this.#refuseRate(name, total.rate, total.timeUntilNext(now));
      this.#onTaken?.(name, ALL);
      return undefined;
    }
    const key = this.#addressKey(name as PerAddress, clientAddress);
    if (key === undefined) return undefined;
    if (!keyed!.take(key, now)) return this.#refuseRate(name, keyed!.rate, keyed!.timeUntilNext(key, now));
    this.#onTaken?.(name, key);
    return undefined;
  }

  #refuseRate(name: RateName, rate: Rate, waitMs: number): Refusal {
    const reason = `${name} of ${this.name}: more than ${rate.count} in ${rate.windowMs / 1_000} s`;
    return refuseRate(name, rate, waitMs, reason);
  }

  #refuseCount(occupant: Occupant): Refusal | undefined {
    for (const [name, count] of this.counts) {
      const key = this.#keyOf(name, occupant);
      if (key === undefined || count.hasRoom(key)) continue;
      return refuse(
        name === 'connections' ? 503 : 429,
        'ERR_POLICY_CONNECTIONS',
        `${name} of ${this.name}: ${count.max} are open`,
        { closeCode: name === 'connections' ? 1013 : 1008, headers: { 'Retry-After': RETRY_AFTER_S }, limit: name },
      );
    }
    return undefined;
  }

  #keyOf(name: CountName, { address, session, user }: Occupant): string | undefined {
    switch (name) {
      case 'connections':
        return ALL;
      case 'connectionsPerAddress':
        return this.#addressKey(name, address);
      case 'connectionsPerSession':
        return session;
      case 'connectionsPerUser':
        return user;
    }
  }

  #addressKey(name: PerAddress, address: string): string | undefined {
    // As most of what comes in by a proxy of the same machine.
    if (address === '' || this.#trustedProxies.contains(address)) return undefined;
    if (this.#options.defaults?.has(name) && nearbyAddresses.contains(address)) return undefined;
    return clientNetwork(address);
  }

  #warnOfKeys(name: RateName): void {
    this.#logger.warn(
      { event: 'limit-keys-full', limit: this.name, rate: name },
      'more clients at a time than a limit can tell apart; the others share its buckets',
    );
  }
}

/** Never all of them as arguments of one call: there may be many. */
function highestOf(values: Iterable<number>): number {
  let highest = 0;
  for (const value of values) if (value > highest) highest = value;
  return highest;
}

function isPerAddress(name: RateName): name is RateName & PerAddress {
  return name.endsWith('PerAddress');
}

/** What a session manager throws for a refusal, for whoever asks for a session. `cause` is the refusal. */
export function newSessionRefused(refusal: Refusal): HoldfastError {
  const message = `no session is begun for this client now: ${refusal.reason}; it may come again later, or sign in`;
  return new HoldfastError('ERR_POLICY_RATE', message, { status: refusal.status, closeCode: 1008, cause: refusal });
}
