import { SetMap } from '../base/set-map.ts';
import { CloseCode, type CloseCodes, USUAL_CLOSE_CODES } from '../wire/close-codes.ts';

/** Anything that is open on behalf of a session: a connection of an endpoint, or a relay. */
export interface SessionSocket {
  /** Who the client is: as connections of endpoints and as relays have it. */
  readonly remoteAddress?: string;
  readonly clientAddress?: string | undefined;
  close(code: number, reason: string): void;
}

/** What a socket holds of its session. */
interface Held {
  readonly session: { readonly id: string };
  readonly isEnded: boolean;
  readonly isRenewed: boolean;
}

/** Which sockets belong to which session, so that they end together. */
export class SessionSockets<S extends SessionSocket = SessionSocket> extends SetMap<string, S> {
  readonly #codes: Readonly<Pick<CloseCodes, 'renewal'>>;

  /** @param codes May change meanwhile. */
  constructor(codes: Readonly<Pick<CloseCodes, 'renewal'>> = USUAL_CLOSE_CODES) {
    super();
    this.#codes = codes;
  }

  /**
   * The session has ended: its sockets close with 1008. Or a login has replaced its secret: they close with 1012 (`codes`), which
   * says that they may come again, with the new one. @returns how many.
   */
  closeAll(sid: string, why: 'ended' | 'renewed' = 'ended'): number {
    const closing = [...(this.get(sid) ?? [])];
    for (const socket of closing) this.#close(socket, why);
    return closing.length;
  }

  /** Its handshake is over. What became of its session meanwhile was told when it was not here yet. */
  join({ session, isEnded, isRenewed }: Held, socket: S): void {
    this.add(session.id, socket);
    if (isEnded) this.closeAll(session.id);
    else if (isRenewed) this.#close(socket, 'renewed');
  }

  #close(socket: S, why: 'ended' | 'renewed'): void {
    if (why === 'ended') socket.close(CloseCode.policyViolation, 'session ended');
    else socket.close(this.#codes.renewal, 'session renewed');
  }
}
