import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import type { SessionEnd } from '../../src/session/reports/events.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import type { SessionRequest } from '../../src/session/request/session-request.ts';
import type { Session } from '../../src/session/session.ts';
import type { SessionFeed } from '../../src/session/store.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { FaultyStore, KEY } from './fixture.ts';

export type Data = Session<Record<string, unknown>>;
export type RequestFacts = Partial<Omit<SessionRequest, 'cookieHeader'>>;

/** One of several processes that share a store, a ledger and a clock. */
export interface Process {
  readonly manager: SessionManager;
  readonly ends: SessionEnd[];
  /** Sids whose sockets had to go. */
  readonly socketEnds: string[];
  /** What was logged: the fields, with the message. */
  readonly log: Record<string, unknown>[];
  request(cookieHeader?: string, facts?: RequestFacts): SessionBinding;
}

/** Tells what is committed and deleted; a test may hold that back, or lose it. */
export class WatchedStore extends FaultyStore {
  readonly feed = { isCurrent: true, gaps: 0 };
  readonly #watchers = new Set<(sid: string) => void>();
  isSilent = false;

  constructor() {
    super();
    for (const call of ['commit', 'delete'] as const) {
      const original = this[call] as (sid: string, ...args: unknown[]) => Promise<never>;
      this[call] = async (sid: string, ...args: unknown[]): Promise<never> => {
        const answer = await original(sid, ...args);
        this.tell(sid);
        return answer;
      };
    }
  }

  tell(sid: string): void {
    if (!this.isSilent) for (const watcher of this.#watchers) watcher(sid);
  }

  async watch(onChange: (sid: string) => void): Promise<SessionFeed> {
    this.#watchers.add(onChange);
    const { feed } = this;
    return {
      get isCurrent() {
        return feed.isCurrent;
      },
      get gaps() {
        return feed.gaps;
      },
      close: async () => void this.#watchers.delete(onChange),
    };
  }
}

export class Cluster<S extends FaultyStore = FaultyStore> {
  readonly clock = new FakeClock();
  readonly ledger = new MemoryLedger({ clock: this.clock });
  readonly store: S;
  readonly #options: Partial<SessionManagerOptions>;

  constructor(store: S, options: Partial<SessionManagerOptions> = {}) {
    this.store = store;
    this.#options = options;
  }

  /** Another process. Closing it closes the store for all. */
  process(options: Partial<SessionManagerOptions> = {}): Process {
    const { clock, ledger, store } = this;
    const log: Record<string, unknown>[] = [];
    const write = (fields: object, message: string) => void log.push({ ...fields, message });
    const manager = new SessionManager({
      store,
      ledger,
      clock,
      keys: [KEY],
      cookie: { name: 'sid' },
      logger: { debug: write, info: write, warn: write, error: write },
      ...this.#options,
      ...options,
    });
    const ends: SessionEnd[] = [];
    const socketEnds: string[] = [];
    manager.on('ended', end => ends.push(end));
    manager.onSocketEnd(sid => socketEnds.push(sid));
    return {
      manager,
      ends,
      socketEnds,
      log,
      request: (cookieHeader, facts) =>
        manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false, ...facts }),
    };
  }
}

export const user = (name: string) => ({ name, roles: ['user'] });

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let turns = 0; turns < 6; turns++) await new Promise(resolve => setImmediate(resolve));
}

/** A whole request: its session (opened, unless `find`), what `work` does with it, commit, headers, end. */
export async function visit<T>(
  process: Process,
  cookie: string | undefined,
  work: (session: Data, binding: SessionBinding) => T | Promise<T>,
  facts?: RequestFacts,
): Promise<{ result: T; cookie: string; sid: string; setCookies: string[] }> {
  const binding = process.request(cookie, facts);
  try {
    const session = (await binding.open()) as Data;
    const result = await work(session, binding);
    await binding.commit();
    const setCookies = binding.responseHeaders().map(({ value }) => value);
    binding.markHeadersSent();
    const own = setCookies.find(line => line.startsWith('sid='));
    return { result, cookie: own?.split(';')[0] ?? cookie ?? '', sid: session.id, setCookies };
  } finally {
    binding.release();
  }
}

export const cookiesOf = (binding: SessionBinding) =>
  binding.responseHeaders().map(({ value }) => value.split(';')[0]!);
