import { expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { SessionManager, type SessionManagerOptions } from '../../src/session/manager.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';

// A configuration is judged without the parts that will use it. What it accepts they must accept, or `holdfast check` would say "ok"
// to what `holdfast serve` cannot run; and what they accept must not be refused.

function accepts(judge: () => unknown): boolean {
  try {
    judge();
    return true;
  } catch {
    return false;
  }
}

test.each<[Config['session'] & object, Partial<SessionManagerOptions>]>([
  [{ write: { every: '99ms' } }, { write: { everyMs: 99 } }],
  [{ write: { every: '100ms' } }, { write: { everyMs: 100 } }],
  [
    { write: { every: '1d' }, idleTimeout: -1 },
    { write: { everyMs: 86_400_000 }, idleTimeoutMs: Infinity },
  ],
  [
    { write: { every: '25h' }, idleTimeout: -1 },
    { write: { everyMs: 90_000_000 }, idleTimeoutMs: Infinity },
  ],
  [{ write: { every: '15m' } }, { write: { everyMs: 900_000 } }],
  [{ write: { every: '16m' } }, { write: { everyMs: 960_000 } }],
  [
    { write: { every: '1m' }, idleTimeout: '119s' },
    { write: { everyMs: 60_000 }, idleTimeoutMs: 119_000 },
  ],
  [
    { write: { every: '10m' }, lifetime: 'aal3' },
    { write: { everyMs: 600_000 }, lifetime: 'aal3' },
  ],
  [
    { write: { every: '10m' }, lifetime: 'aal2' },
    { write: { everyMs: 600_000 }, lifetime: 'aal2' },
  ],
  [
    { write: { every: '10h' }, lifetime: 'aal1' },
    { write: { everyMs: 36_000_000 }, lifetime: 'aal1' },
  ],
  [
    { profile: 'very-high', idleTimeout: '9m' },
    { profile: 'very-high', idleTimeoutMs: 540_000 },
  ],
  [
    { profile: 'high', idleTimeout: '9m' },
    { profile: 'high', idleTimeoutMs: 540_000 },
  ],
  [
    { profile: 'high', idleTimeout: '10m' },
    { profile: 'high', idleTimeoutMs: 600_000 },
  ],
  [
    { profile: 'high', idleTimeout: '9m', write: 'manual' },
    { profile: 'high', idleTimeoutMs: 540_000, write: 'manual' },
  ],
  [
    { profile: 'medium', idleTimeout: '9s' },
    { profile: 'medium', idleTimeoutMs: 9_000 },
  ],
  [
    { profile: 'failover', idleTimeout: '9s' },
    { profile: 'failover', idleTimeoutMs: 9_000 },
  ],
  [{ sweep: { every: '1d' } }, { sweep: { everyMs: 86_400_000 } }],
  [{ sweep: { every: '2d' } }, { sweep: { everyMs: 172_800_000 } }],
])('the configuration and the sessions agree on the times %j', (session, options) => {
  const isConfig = accepts(() => parseConfig({ session }));
  const store = new MemoryStore({ maxSessions: 1 });
  expect(isConfig).toBe(accepts(() => new SessionManager({ store, keys: ['x'.repeat(32)], ...options })));
  expect(accepts(() => parseConfig({ routes: [{ mount: '/m', application: { session, routes: [] } }] }))).toBe(
    isConfig,
  );
});
