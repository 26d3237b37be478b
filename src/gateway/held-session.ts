import { type Refusal, refuse } from '../http/refusal.ts';
import type { Ledger } from '../session/ledger.ts';
import type { SessionManager } from '../session/manager.ts';
import type { SocketSession } from '../session/process/socket-session.ts';
import type { SessionBinding } from '../session/request/binding.ts';
import type { Session } from '../session/session.ts';
import type { SessionSockets } from '../websocket/session-sockets.ts';

/**
 * The sessions that a server, or an application mounted in it, keeps: one cookie, one store, and the sockets that end
 * with them.
 */
export interface SessionContext {
  readonly manager: SessionManager;
  readonly sockets: SessionSockets;
  readonly touchOnTraffic: 'message' | 'any' | 'never';
  /** What the processes that keep these sessions share; closed with the manager. */
  readonly ledger?: Ledger | undefined;
}

/**
 * The session side of one request. It is let go of once, when the request has ended: by `using`, or when its response
 * closes.
 */
export class HeldSession implements Disposable {
  readonly context: SessionContext;
  readonly binding: SessionBinding;
  /** As it was when the request was admitted. */
  readonly session: Session | undefined;

  constructor(context: SessionContext, binding: SessionBinding, session: Session | undefined) {
    this.context = context;
    this.binding = binding;
    this.session = session;
  }

  /** Does nothing when it was let go of before. */
  [Symbol.dispose](): void {
    this.binding.release();
  }
}

/**
 * Holds the session of an upgrade for its socket, after the commit. The handshake may have opened, replaced or ended
 * it: the socket gets what is current now.
 */
export async function attachSession(held: HeldSession): Promise<SocketSession | Refusal | undefined> {
  const { current } = held.binding;
  if (current === undefined) return undefined;
  const attached = await held.binding.attach();
  return attached ?? refuse(401, 'ERR_SESSION_ENDED', 'the session ended during the handshake');
}
