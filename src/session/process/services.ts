import { CalmLogger } from '../../base/calm-logger.ts';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { KeyRing } from '../identity/key-ring.ts';
import { Tickets } from '../identity/ticket.ts';
import { Tracking } from '../identity/tracking.ts';
import type { Ledger } from '../ledger.ts';
import { MemoryLedger } from '../ledgers/memory.ts';
import { checkManagerOptions, readSettings, type SessionManagerOptions, type SessionSettings } from '../options.ts';
import { SessionListeners } from '../reports/events.ts';
import { SessionMeters } from '../reports/statistics.ts';
import { SessionRoom } from '../room/session-room.ts';
import { AccessTimes } from './access-times.ts';
import { CoherentCache } from './coherent-cache.ts';
import { GuardedStore } from './guarded-store.ts';
import { StoreClock } from './store-clock.ts';

/** What the parts of a session manager share. None of it knows which sessions are loaded. */
export type SessionServices = ReturnType<typeof createServices>;

/** @throws {TypeError} when an option cannot work. */
export function checkedSettings(options: SessionManagerOptions): SessionSettings {
  checkManagerOptions(options);
  return readSettings(options);
}

/** @throws {TypeError} when a key, or a name, cannot be used. */
export function createTracking(options: SessionManagerOptions, { absoluteTimeoutMs }: SessionSettings): Tracking {
  return new Tracking(new Tickets(new KeyRing(options.keys), options.cookie?.path), options, absoluteTimeoutMs);
}

/** @throws {TypeError} when an option cannot work. */
export function createServices(options: SessionManagerOptions) {
  const settings = checkedSettings(options);
  const { clock: ownClock = systemClock } = options;
  const { maxSessions, anonymousShare } = settings;
  const logger = CalmLogger.over(options.logger ?? silentLogger, ownClock);
  const meters = new SessionMeters();
  const listeners = new SessionListeners(logger);
  const store = new GuardedStore(options.store, { clock: ownClock, meters, timeoutMs: settings.storeTimeoutMs });
  const ledger: Ledger = options.ledger ?? new MemoryLedger({ clock: ownClock });
  const isCounted = maxSessions !== Number.POSITIVE_INFINITY || store.fullness !== undefined;
  const clock = new StoreClock(ownClock, store, logger);
  const cache = new CoherentCache({ store, clock: ownClock, meters, listeners, settings });
  return {
    settings,
    store,
    ledger,
    /** Times of sessions are the store's. */
    clock,
    logger,
    meters,
    listeners,
    cache,
    accessTimes: new AccessTimes(store, clock, logger, cache, meters),
    tracking: createTracking(options, settings),
    /** Where the store keeps no cap of its own. */
    room: isCounted ? new SessionRoom({ store, clock: ownClock, maxSessions, anonymousShare }) : undefined,
  };
}
