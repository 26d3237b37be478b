import { type Refusal, refuse } from '../http/refusal.ts';
import type { SocketSession } from '../session/process/shared-sessions.ts';
import type { HeldSession } from './admit.ts';

/**
 * Holds the session of an upgrade for its socket, after the commit. The handshake may have opened, replaced or ended it: the
 * socket gets what is current now.
 */
export async function attachSession(held: HeldSession): Promise<SocketSession | Refusal | undefined> {
  const { current } = held.binding;
  if (current === undefined) return undefined;
  const attached = await held.binding.attach();
  return attached ?? refuse(401, 'ERR_SESSION_ENDED', 'the session ended during the handshake');
}
