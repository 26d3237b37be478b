import { SetMap } from '../base/set-map.ts';
import { CloseCode } from '../wire/close-codes.ts';

/** Anything that is open on behalf of a session: a connection of an endpoint, or a relay. */
export interface SessionSocket {
  close(code: number, reason: string): void;
}

/** Which sockets belong to which session, so that they end together. */
export class SessionSockets<S extends SessionSocket = SessionSocket> {
  readonly #sockets = new SetMap<string, S>();

  /** The sessions that have sockets. */
  get sids(): Iterable<string> {
    return this.#sockets.keys();
  }

  /** How many sessions have sockets. */
  get size(): number {
    return this.#sockets.size;
  }

  add(sid: string, socket: S): void {
    this.#sockets.add(sid, socket);
  }

  delete(sid: string, socket: S): void {
    this.#sockets.remove(sid, socket);
  }

  /**
   * The session has ended: its sockets close with 1008. Or a login has replaced its secret: they close with 1012, which
   * says that they may come again, with the new one. @returns how many.
   */
  closeAll(sid: string, why: 'ended' | 'renewed' = 'ended'): number {
    const sockets = this.#sockets.get(sid);
    if (sockets === undefined) return 0;
    const closing = [...sockets];
    const code = why === 'ended' ? CloseCode.policyViolation : CloseCode.serviceRestart;
    for (const socket of closing) socket.close(code, `session ${why}`);
    return closing.length;
  }

  /** Sockets that are open on behalf of a session. */
  get(sid: string): ReadonlySet<S> {
    return this.#sockets.get(sid) ?? new Set();
  }
}
