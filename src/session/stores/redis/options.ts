import type { Logger } from '../../../base/logger.ts';
import { checkOptions, type OptionNames } from '../../../base/options.ts';
import { parseRedisAddresses } from '../../../base/redis-address.ts';
import { checkClientName, DEFAULT_CLIENT_NAME } from '../../../drivers/connection-name.ts';
import type { RedisConnectionOptions } from '../../../drivers/redis/connection.ts';
import type { RedisLike, RedisTls } from '../../../drivers/redis.ts';

export interface RedisOptions {
  /**
   * What all keys and channels begin with: letters, digits and `. : / _ -`. Default `holdfast`. Applications that share
   * a Redis need one each.
   */
  readonly prefix?: string;
  /** Milliseconds after which a command without an answer, or an attempt to connect, fails. Default 2,000. */
  readonly commandTimeoutMs?: number;
  /**
   * Each create, commit and delete resolves only when this many replicas have it (`WAIT`), else it rejects with
   * ERR_SESSION_STORE_UNAVAILABLE: it is written on the master then, but could be lost with it. `timeoutMs`: how long
   * to wait for them, default
   * 500. Default: the master's word counts.
   */
  readonly acknowledge?: { readonly replicas: number; readonly timeoutMs?: number };
  /** For `rediss://`. Default: the authorities that Node trusts, no certificate of our own. */
  readonly tls?: RedisTls;
  /**
   * What connections of our own are called in `CLIENT LIST`, before the process id and what they are for
   * (`shop:4711:store`). Default `holdfast`. A client that is brought has a name of its own (`name` of `createClient`).
   */
  readonly clientName?: string;
  /** Told when the server's settings endanger sessions. */
  readonly logger?: Logger;
}

const REDIS_OPTIONS: OptionNames<RedisOptions> = {
  prefix: 'text',
  commandTimeoutMs: 'number',
  acknowledge: { replicas: 'number', timeoutMs: 'number' },
  tls: 'object',
  clientName: 'text',
  logger: 'logger',
};

/**
 * Where Redis is: a URL, several of one cluster, one of Sentinels (`redis+sentinel://host:26379,host:26379/name`), or a
 * client of node-redis (5 or later): a connected one of `createClient` or `createCluster`, one of `createSentinel`, or
 * what looks like one.
 */
export type RedisTarget = string | readonly string[] | RedisLike;

/**
 * The options with those that the address carries after `?` (`prefix`, `replicas`), unless they are given.
 *
 * @throws {TypeError} when it carries others.
 */
export function withUrlOptions(target: RedisTarget, options: RedisOptions): RedisOptions {
  checkOptions('redis', options, REDIS_OPTIONS);
  const urls = [target].flat().filter(address => typeof address === 'string');
  const { prefix, replicas } = urls.length > 0 ? parseRedisAddresses(urls).options : {};
  return {
    ...(prefix !== undefined && { prefix }),
    ...(replicas !== undefined && { acknowledge: { replicas: Number(replicas) } }),
    ...options,
  };
}

/** @throws {TypeError} when an option cannot work. */
export function connectionOptions(
  { commandTimeoutMs = 2_000, acknowledge, tls, clientName = DEFAULT_CLIENT_NAME }: RedisOptions,
  purpose: 'store' | 'ledger',
): RedisConnectionOptions {
  const client = { name: checkClientName('redis', clientName), purpose };
  if (!(commandTimeoutMs > 0))
    throw new TypeError(`redis: commandTimeoutMs must be more than 0, not ${commandTimeoutMs}`);
  if (!acknowledge) return { commandTimeoutMs, tls, client };
  const { replicas, timeoutMs = 500 } = acknowledge;
  if (!Number.isInteger(replicas) || replicas < 1) {
    throw new TypeError(`redis: acknowledge.replicas must be an integer of at least 1, not ${replicas}`);
  }
  // 0 would wait for ever.
  if (!Number.isInteger(timeoutMs) || timeoutMs < 1) {
    throw new TypeError(`redis: acknowledge.timeoutMs must be an integer of at least 1, not ${timeoutMs}`);
  }
  return { commandTimeoutMs, tls, client, acknowledge: { replicas, timeoutMs } };
}
