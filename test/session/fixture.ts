import { SessionManager } from '../../src/session/manager.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import type { SessionEnd } from '../../src/session/reports/events.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import type { Session } from '../../src/session/session.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

export const KEY = 'test key of at least 32 bytes, not secret';

const CALLS = ['create', 'read', 'readAttributes', 'glance', 'commit', 'touch', 'delete', 'expired'] as const;

/** A store whose calls can be counted, made to fail, or held up. */
export class FaultyStore extends MemoryStore {
  readonly calls: string[] = [];
  /** Names of the calls that fail; `*` is every one. */
  failing = new Set<string>();
  /** Runs before each call. */
  before: (call: string) => Promise<void> | void = () => {};

  constructor(maxSessions = 100_000) {
    super({ maxSessions, anonymousShare: 1 });
    for (const call of CALLS) {
      const original = this[call].bind(this) as (...args: unknown[]) => Promise<never>;
      this[call] = async (...args: unknown[]): Promise<never> => {
        this.calls.push(call);
        await this.before(call);
        if (this.failing.has(call) || this.failing.has('*')) throw new Error('connection refused');
        return original(...args);
      };
    }
  }
}

export interface Site {
  readonly manager: SessionManager;
  readonly clock: FakeClock;
  readonly ends: SessionEnd[];
  /** The binding of a new request with this `Cookie` header. */
  request(cookieHeader?: string, options?: { isSecure?: boolean; isDocumentNavigation?: boolean }): SessionBinding;
}

export function createSite<S extends SessionStore>(store: S, options: Partial<SessionManagerOptions> = {}): Site {
  const clock = new FakeClock();
  const manager = new SessionManager({ store, keys: [KEY], clock, cookie: { name: 'sid' }, ...options });
  const ends: SessionEnd[] = [];
  manager.on('ended', end => ends.push(end));
  return {
    manager,
    clock,
    ends,
    request: (cookieHeader, { isSecure = false, isDocumentNavigation = false } = {}) =>
      manager.bind({ cookieHeader, isSecure, isDocumentNavigation }),
  };
}

/** The `Cookie` header with which a client answers this response. */
export function cookieOf(binding: SessionBinding): string {
  return binding
    .responseHeaders()
    .map(({ value }) => value.split(';')[0])
    .join('; ');
}

/** A whole request, which only asks for its session. */
export async function ask(site: Pick<Site, 'request'>, cookie: string): Promise<Session | undefined> {
  const binding = site.request(cookie);
  const session = await binding.get();
  binding.release();
  return session;
}

/** A session that is in the store, with the client's `Cookie` header. */
export async function login(
  site: Site,
  attributes: Record<string, unknown> = {},
): Promise<{ sid: string; cookie: string }> {
  const binding = site.request();
  const session = (await binding.open()) as Session<Record<string, unknown>>;
  for (const [name, value] of Object.entries(attributes)) session.set(name, value);
  await binding.commit();
  const cookie = cookieOf(binding);
  binding.release();
  return { sid: session.id, cookie };
}
