import type { Clock } from '../../base/clock.ts';
import { type Duration, parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import { parseRedisAddresses } from '../../base/redis-address.ts';
import { parseSize, type Size } from '../../base/size.ts';
import type { SessionConfig, StoreConfig } from '../../config/config.ts';
import type { Ledger } from '../../session/ledger.ts';
import { MemoryLedger } from '../../session/ledgers/memory.ts';
import type { DiskOptions } from '../../session/room/disk.ts';
import type { SessionStore } from '../../session/store.ts';
import { MemoryStore } from '../../session/stores/memory.ts';

/** Where the sessions of one context are, and what the processes that share them tell each other through. */
export interface Backend {
  readonly store: SessionStore;
  /** Undefined: each process is alone. */
  readonly ledger: Ledger | undefined;
}

/**
 * Opens the store that a configuration names. The packages of those that are not used are not loaded.
 *
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
 */
export async function openBackend(
  config: SessionConfig,
  parts: { clock: Clock; logger: Logger; disk?: DiskOptions },
): Promise<Backend> {
  const { store = 'memory:', ledger, maxSessions, anonymousShare } = config;
  if (isStore(store)) return { store, ledger };
  const { url, ...options } = typeof store === 'string' ? { url: store } : store;
  const [first] = [url].flat();
  const scheme = first!.slice(0, first!.indexOf(':'));
  switch (scheme) {
    case 'memory':
      return {
        store: new MemoryStore({ maxSessions, anonymousShare }),
        ledger: new MemoryLedger({ clock: parts.clock }),
      };
    case 'lmdb': {
      // Native code: loaded only where it is used.
      const { LmdbStore, LmdbLedger } = await import('../../session/stores/lmdb.ts');
      const path = first!.slice('lmdb:'.length);
      const room = { ...parts.disk, maxBytes: bytes(options.maxSize) };
      const opened = new LmdbStore({ path, ...room, maxSessions, anonymousShare });
      return { store: opened, ledger: new LmdbLedger({ path, ...room, clock: parts.clock }) };
    }
    case 'redis':
    case 'rediss':
    case 'redis+sentinel':
    case 'rediss+sentinel':
      return openRedisBackend(url, config.profile, options, parts.logger);
    case 'postgres':
    case 'postgresql':
      return openPostgresBackend(first!, options, config.coherence === 'relaxed', parts);
    default:
      throw new TypeError(`session.store: "${scheme}:" is not a store`);
  }
}

async function openRedisBackend(
  url: StoreConfig['url'],
  profile: SessionConfig['profile'],
  { prefix, acknowledge = acknowledgedUnder(profile, url), commandTimeout, clientName }: Omit<StoreConfig, 'url'>,
  logger: Logger,
): Promise<Backend> {
  const { openRedis } = await import('../../session/stores/redis.ts');
  return openRedis(url, {
    logger,
    commandTimeoutMs: milliseconds(commandTimeout),
    // The address may have these, and an option goes before it.
    ...(prefix !== undefined && { prefix }),
    ...(clientName !== undefined && { clientName }),
    ...(acknowledge && {
      acknowledge: { replicas: acknowledge.replicas, timeoutMs: milliseconds(acknowledge.timeout) },
    }),
  });
}

/** What `failover` is chosen for is that nothing is lost with a server. */
function acknowledgedUnder(profile: SessionConfig['profile'], url: StoreConfig['url']): StoreConfig['acknowledge'] {
  const isInAddress = parseRedisAddresses([url].flat()).options.replicas !== undefined;
  return profile === 'failover' && !isInAddress ? { replicas: 1 } : undefined;
}

async function openPostgresBackend(
  url: string,
  { commandTimeout, ...options }: Omit<StoreConfig, 'url'>,
  notify: boolean,
  { clock, logger }: { clock: Clock; logger: Logger },
): Promise<Backend> {
  const { openPostgres } = await import('../../session/stores/postgres.ts');
  return openPostgres({ ...options, url, notify, clock, logger, queryTimeoutMs: milliseconds(commandTimeout) });
}

/** Has the program opened it? */
export function isStore(store: string | StoreConfig | SessionStore): store is SessionStore {
  return typeof store === 'object' && 'commit' in store;
}

/** Undefined stays: the option has its default. */
export function milliseconds(value: Duration | undefined): number | undefined {
  return value === undefined ? undefined : parseDuration(value);
}

/** Undefined stays: the option has its default. */
export function bytes(value: Size | undefined): number | undefined {
  return value === undefined ? undefined : parseSize(value);
}
