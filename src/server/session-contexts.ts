import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import type { Logger } from '../base/logger.ts';
import { parseSize } from '../base/size.ts';
import type { SessionConfig } from '../config/config.ts';
import type { SessionContext } from '../gateway/route.ts';
import { loadOrCreateKey } from '../session/key-ring.ts';
import { SessionManager } from '../session/manager.ts';
import type { SessionStore } from '../session/store.ts';
import { MemoryStore } from '../session/stores/memory.ts';
import { SessionSockets } from '../websocket/session-sockets.ts';

const DEFAULT_MAX_SESSIONS = 100_000;

export interface SessionParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where a generated cookie key is kept. */
  readonly dataFolder: string;
  /** Every listener speaks TLS. */
  readonly isEveryListenerTls: boolean;
}

/** Opens the sessions of a server or of a mounted application. The caller closes the manager, which closes the store. */
export async function openSessionContext(
  config: SessionConfig,
  mount: string,
  parts: SessionParts,
): Promise<SessionContext> {
  // Before the store is opened: when it fails there is nothing to close.
  const key = await loadOrCreateKey(join(parts.dataFolder, 'keys'));
  const manager = new SessionManager({
    store: await openStore(config),
    keys: [key],
    cookie: {
      ...config.cookie,
      // A mounted application has sessions of its own, so its cookie must not meet that of its neighbours.
      ...(mount !== '' && config.cookie?.path === undefined && { path: mount }),
      everyListenerIsSecure: parts.isEveryListenerTls,
    },
    ...time('idleTimeoutMs', config.idleTimeout),
    ...time('absoluteTimeoutMs', config.absoluteTimeout),
    ...(config.maxAttributeSize !== undefined && { maxAttributeBytes: parseSize(config.maxAttributeSize) }),
    clock: parts.clock,
    logger: parts.logger,
  });
  const sockets = new SessionSockets();
  manager.onSocketSessionEnd(sid => sockets.closeAll(sid));
  manager.start();
  return { manager, sockets, touchOnTraffic: config.touchOnTraffic ?? 'message' };
}

async function openStore({
  store = 'memory:',
  maxSessions = DEFAULT_MAX_SESSIONS,
}: SessionConfig): Promise<SessionStore> {
  if (typeof store !== 'string') return store;
  if (store === 'memory:') return new MemoryStore({ maxSessions });
  if (store.startsWith('lmdb:')) {
    // Native code: loaded only where it is used.
    const { LmdbStore } = await import('../session/stores/lmdb.ts');
    return new LmdbStore({ path: store.slice('lmdb:'.length) });
  }
  throw new TypeError(
    `session.store: ${JSON.stringify(store)} is not a store; use memory:, lmdb:PATH or a store object`,
  );
}

function time<K extends string>(name: K, value: Duration | undefined): { [P in K]?: number } {
  return value === undefined ? {} : ({ [name]: parseDuration(value) } as { [P in K]: number });
}
