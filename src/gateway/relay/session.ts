import type { HeaderLine } from '../../http/header-line.ts';
import { isRefusal, type Refusal } from '../../http/refusal.ts';
import type { SocketSession } from '../../session/process/socket-session.ts';
import type { HeldSession, SessionContext } from '../held-session.ts';
import type { Relay } from './relay.ts';

/**
 * The session that a relayed WebSocket belongs to: the one its handshake came with, or what the backend's answer has
 * made of it.
 *
 * It outlives the handshake, of which it keeps nothing.
 */
export class RelaySession {
  readonly #context: SessionContext;
  #held: HeldSession | undefined;
  #attached: SocketSession | undefined;

  constructor(held: HeldSession) {
    this.#context = held.context;
    this.#held = held;
  }

  /** The `sid` of what is held; undefined when there is no session. */
  get sid(): string | undefined {
    return this.#attached?.session.id;
  }

  get touchOnTraffic(): SessionContext['touchOnTraffic'] {
    return this.#context.touchOnTraffic;
  }

  /**
   * Commits, and holds for the socket what is current now.
   *
   * @returns a refusal when it has ended meanwhile.
   * @throws {HoldfastError} as `SessionBinding.commit` and `attach`.
   */
  async attach(): Promise<Refusal | undefined> {
    const before = this.#attached;
    await this.#held!.binding.commit();
    const attached = await this.#held!.attachSocket();
    if (isRefusal(attached)) return attached;
    this.#attached = attached;
    await before?.release();
    return undefined;
  }

  /** What the client has to be told of its session, as things are now. */
  responseHeaders(): readonly HeaderLine[] {
    return this.#held?.binding.responseHeaders() ?? [];
  }

  /** The session was used. */
  touch(): void {
    this.#attached?.touch();
  }

  /** The handshake is over, and nothing of it is kept. */
  endHandshake(): void {
    this.#held = undefined;
  }

  /** The relay ends with its session, and lets go of it when it ends. */
  tie(relay: Relay): void {
    const { sid } = this;
    if (sid === undefined) return;
    const { sockets } = this.#context;
    sockets.add(sid, relay);
    // It may have ended while the backend was dialled.
    if (this.#attached!.isEnded) sockets.closeAll(sid);
    relay.closed
      .then(() => {
        sockets.delete(sid, relay);
        return this.release();
      })
      .catch(() => {});
  }

  async release(): Promise<void> {
    await this.#attached?.release();
  }
}
