import type { ServerResponse } from 'node:http';
import { type Refusal, refuse } from '../http/refusal.ts';
import { appendPrivate } from '../http/shared-caches.ts';
import type { Ledger } from '../session/ledger.ts';
import type { SessionManager } from '../session/manager.ts';
import type { SocketSession } from '../session/process/socket-session.ts';
import { isSessionEnded } from '../session/record/state.ts';
import type { SessionBinding } from '../session/request/binding.ts';
import { refuseUncommitted } from '../session/request/refuse-uncommitted.ts';
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
 * The session side of one request. What was changed in it is committed before the head of an answer leaves, and what is
 * changed after that before the answer ends. It is let go of once, when the request has ended: by `using`, or when its
 * response closes.
 */
export class HeldSession implements Disposable {
  readonly context: SessionContext;
  readonly binding: SessionBinding;
  /** As it was when the request was admitted. */
  readonly session: Session | undefined;
  #response: ServerResponse | undefined;
  #committing: Promise<Refusal | undefined> | undefined;
  /** The head of the answer is out, with what its client has to learn. */
  #isTold = false;
  #isClientGone = false;
  /** It could not be committed. That is not tried again. */
  #refusal: Refusal | undefined;

  constructor(context: SessionContext, binding: SessionBinding, session: Session | undefined) {
    this.context = context;
    this.binding = binding;
    this.session = session;
  }

  /** This response answers the request. */
  answerWith(response: ServerResponse): void {
    this.#response = response;
    response.once('close', () => this.#onClose());
  }

  /**
   * Commits what was changed. Undefined: there is nothing to wait for. Never rejects.
   *
   * @returns a refusal to answer with when it cannot be committed; undefined also when the session has ended meanwhile.
   */
  commit(): Promise<Refusal | undefined> | undefined {
    // What is on its way to the store is no news any more.
    if (this.#committing) return this.#committing.then(refusal => refusal ?? this.commit());
    if (!this.#refusal && !this.binding.hasNews) return undefined;
    this.#committing = this.#commit();
    return this.#committing;
  }

  /** Puts on the response what its client has to learn. To be called when its head leaves, after `commit`. */
  tell(): void {
    const response = this.#response!;
    if (!this.#isTold && !response.headersSent) appendPrivate(response, this.binding.responseHeaders());
    this.#isTold = true;
    this.binding.markHeadersSent();
  }

  /** `commit` and `tell`. */
  beforeHead(): Promise<Refusal | undefined> | undefined {
    // To a client that has gone nothing can be told: a session that is new to it would be nobody's.
    if (this.#isTold || this.#isClientGone) return undefined;
    const committing = this.commit();
    if (!committing) return void this.tell();
    return committing.then(refusal => {
      if (!refusal) this.tell();
      return refusal;
    });
  }

  /**
   * `beforeHead` where the head has not left, else commits what was changed since. When that fails the answer is cut
   * off, because it is too late for a status. The session cannot be used any more.
   */
  beforeEnd(): Promise<Refusal | undefined> | undefined {
    this.binding.release();
    if (!this.#isTold) return this.beforeHead();
    if (!this.binding.isDirty) return undefined;
    this.#committing = this.#commit();
    return this.#committing.then(refusal => void (refusal && this.#response!.destroy()));
  }

  /** For its socket, after the commit. The handshake may have opened, replaced or ended it: this is what is current. */
  async attachSocket(): Promise<SocketSession | Refusal | undefined> {
    if (this.binding.current === undefined) return undefined;
    const attached = await this.binding.attach();
    return attached ?? refuse(401, 'ERR_SESSION_ENDED', 'the session ended during the handshake');
  }

  /** Does nothing when it was let go of before. */
  [Symbol.dispose](): void {
    this.binding.release();
  }

  async #commit(): Promise<Refusal | undefined> {
    try {
      if (!this.#refusal) await this.binding.commit();
    } catch (error) {
      if (!isSessionEnded(error)) this.#refusal = this.#refuse(error);
    }
    this.#committing = undefined;
    return this.#refusal;
  }

  #refuse(error: unknown): Refusal {
    const refusal = refuseUncommitted(error);
    const so = this.#isTold ? ' after the response had begun; cutting it off' : `; answering ${refusal.status}`;
    this.binding.logger.error({ err: error }, `session could not be committed${so}`);
    return refusal;
  }

  /** The client has gone, or has everything. */
  #onClose(): void {
    const { binding } = this;
    this.#isClientGone = true;
    binding.markClientGone();
    const isLeft = binding.isDirty && !this.#committing && !this.#refusal;
    // A new session whose cookie never left is nobody's.
    if (isLeft && (this.#isTold || !binding.current?.isNew))
      binding.commit().catch(error => {
        if (!isSessionEnded(error))
          binding.logger.error({ err: error }, 'session could not be committed after its client had gone');
      });
    binding.release();
  }
}
