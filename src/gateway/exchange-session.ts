import type { Admitted } from './admit.ts';
import type { BackendSession } from './backend-session/backend-session.ts';
import { ManagedSession, type ManagedSessionOptions } from './backend-session/managed.ts';
import { bothSessions } from './backend-session/observed/observer.ts';
import type { Upstream } from './upstream/upstream.ts';

/**
 * What the backend of an admitted request learns of its session, ours and the backend's own where there are both, and
 * what its answer may do with it.
 *
 * @param onChanged As in `ManagedSessionOptions`.
 */
export function exchangeSession(
  { held, observed, principal }: Admitted,
  upstream: Upstream,
  onChanged?: ManagedSessionOptions['onChanged'],
): BackendSession {
  const managed = new ManagedSession({
    held,
    user: principal,
    targetHeaders: principal?.targetHeaders,
    upstream,
    ...(onChanged && { onChanged }),
  });
  return observed ? bothSessions(managed, observed) : managed;
}
