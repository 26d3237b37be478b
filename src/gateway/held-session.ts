import type { ServerResponse } from 'node:http';
import { type Refusal, refuse } from '../http/refusal.ts';
import type { Ledger } from '../session/ledger.ts';
import type { SessionManager } from '../session/manager.ts';
import type { SocketSession } from '../session/process/socket-session.ts';
import type { SessionBinding } from '../session/request/binding.ts';
import { ResponseCommit } from '../session/request/response-commit.ts';
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
  /** What the target gets to see: `session`, or what stands for one until the request has signed in. */
  readonly shown: Session | undefined;
  /** Where a response answers the request, and not the head of a WebSocket. */
  responseCommit: ResponseCommit | undefined;

  constructor(
    context: SessionContext,
    binding: SessionBinding,
    session: Session | undefined,
    shown: Session | undefined = session,
  ) {
    this.context = context;
    this.binding = binding;
    this.session = session;
    this.shown = shown;
  }

  /** What of a WebSocket's traffic counts as use of the session. */
  get touchOnTraffic(): SessionContext['touchOnTraffic'] {
    return this.binding.touches ? this.context.touchOnTraffic : 'never';
  }

  /** True where the request had to sign in, and has not. */
  get lacksSignIn(): boolean {
    return this.shown !== this.session && this.binding.current === undefined;
  }

  /** This response answers the request. */
  answerWith(response: ServerResponse): void {
    this.responseCommit = new ResponseCommit(this.binding, response);
    response.once('close', () => this[Symbol.dispose]());
  }

  /** For its socket, after the commit. The handshake may have opened, replaced or ended it: this is what is current. */
  async attachSocket(): Promise<SocketSession | Refusal | undefined> {
    if (this.binding.current === undefined) return undefined;
    const attached = await this.binding.attach();
    return attached ?? refuse(401, 'ERR_SESSION_ENDED', 'the session ended during the handshake');
  }

  /** Does nothing when it was let go of before. */
  [Symbol.dispose](): void {
    // What it has not been told by now it never will be.
    this.binding.markClientGone();
    this.binding.release();
  }
}
