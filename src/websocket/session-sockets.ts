import { SetMap } from '../base/set-map.ts';
import { CloseCode } from '../wire/close-codes.ts';

/** Anything that is open on behalf of a session: a connection of an endpoint, or a relay. */
export interface SessionSocket {
  close(code: number, reason: string): void;
}

/** Which sockets belong to which session, so that they end together. */
export class SessionSockets<S extends SessionSocket = SessionSocket> extends SetMap<string, S> {
  /**
   * The session has ended: its sockets close with 1008. Or a login has replaced its secret: they close with 1012, which
   * says that they may come again, with the new one. @returns how many.
   */
  closeAll(sid: string, why: 'ended' | 'renewed' = 'ended'): number {
    const closing = [...(this.get(sid) ?? [])];
    const code = why === 'ended' ? CloseCode.policyViolation : CloseCode.serviceRestart;
    for (const socket of closing) socket.close(code, `session ${why}`);
    return closing.length;
  }
}
