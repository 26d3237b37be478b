import type { Secrets } from '../identity/secret-standing.ts';
import type { SessionState } from '../record/state.ts';
import type { Session } from '../session.ts';

/**
 * A socket's hold on a session.
 *
 * All sockets of a session in one process share its record: what one sets, the others read at once; it is committed
 * behind them, and what requests of this process commit is seen too. What other processes commit is seen after
 * `refresh`, which is done every 5 s.
 *
 * A session that is held ends at its idle or absolute limit, whenever the sweep is.
 */
export interface SocketSession {
  readonly session: Session;
  /** True once the session is over, also when this process did not end it and has only learned of it. */
  readonly isEnded: boolean;
  /** True once a login has replaced the secret that it came with: the socket must go, and may come again. */
  readonly isRenewed: boolean;
  /** The session was used: counts as an access, written in batches. */
  touch(): void;
  /**
   * Takes over what other processes have committed. Cheap when they have not.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE; ERR_SESSION_CONFLICT when others have changed an attribute that
   * lies apart at every try: the former value stays until the next refresh.
   */
  refresh(): Promise<void>;
  /**
   * Told when changes could not be committed although it was tried again and again. They are kept for the next commit.
   */
  onError(listener: (error: Error) => void): void;
  /**
   * Commits what is left, then lets go. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE: it is let go of, what
   * was changed is lost.
   */
  release(): Promise<void>;
}

/** How the handshake of a socket was let in. */
export interface Admission {
  /** The session's secrets at that time. */
  readonly secrets: Secrets;
  /** The session has an owner, and the handshake did not ask who it is from: the socket sees no more than that. */
  readonly isVeiled: boolean;
  /** The socket sees all but the owner, as its handshake. */
  readonly isNameless: boolean;
  /** Attributes that lie apart and are loaded before the socket gets the session. Default: none. */
  readonly attributes?: readonly string[] | undefined;
  /** The session as the handshake has it: what that has loaded is not fetched again. */
  readonly state?: SessionState | undefined;
}
