import type { HeaderLine } from '../../http/header-line.ts';
import { isRefusal, type Refusal } from '../../http/refusal.ts';
import type { SocketSession } from '../../session/process/socket-session.ts';
import type { ObservedExchange } from '../backend-session/observed/observer.ts';
import type { HeldSession, SessionContext } from '../held-session.ts';
import type { AttachedSessions, Relay } from './relay.ts';

/**
 * The sessions that a relayed WebSocket belongs to: ours, which its handshake came with or the backend's answer has
 * made, and the backend's own. Where there are two, ours says what counts as use.
 *
 * They outlive the handshake, of which nothing is kept.
 */
export class RelaySessions implements AttachedSessions {
  readonly touchOnTraffic: AttachedSessions['touchOnTraffic'];
  readonly #context: SessionContext | undefined;
  readonly #observed: ObservedExchange | undefined;
  #held: HeldSession | undefined;
  #attached: SocketSession | undefined;

  constructor(held: HeldSession | undefined, observed: ObservedExchange | undefined) {
    this.touchOnTraffic = (held ?? observed)?.touchOnTraffic ?? 'never';
    this.#context = held?.context;
    this.#observed = observed;
    this.#held = held;
  }

  get sid(): string | undefined {
    return this.#attached?.session.id;
  }

  /**
   * Commits, and attaches our session as it is now.
   *
   * @returns a refusal when it has ended meanwhile.
   * @throws {HoldfastError} as `SessionBinding.commit` and `attach`.
   */
  async attach(): Promise<Refusal | undefined> {
    if (this.#held === undefined) return undefined;
    const before = this.#attached;
    await this.#held.binding.commit();
    const attached = await this.#held.attachSocket();
    if (isRefusal(attached)) return attached;
    this.#attached = attached;
    await before?.release();
    return undefined;
  }

  responseHeaders(): readonly HeaderLine[] {
    return this.#held?.binding.responseHeaders() ?? [];
  }

  /** The client has the head of its answer, and with it `responseHeaders`. */
  markTold(): void {
    this.#held?.binding.markHeadersSent();
  }

  touch(): void {
    this.#attached?.touch();
    this.#observed?.touch();
  }

  /** The handshake is over, and nothing of it is kept. */
  endHandshake(): void {
    this.#held = undefined;
  }

  /** The relay ends with its sessions, and lets go of them when it ends. */
  add(relay: Relay): void {
    this.#observed?.add(relay);
    const attached = this.#attached;
    if (attached === undefined) return;
    const { sockets } = this.#context!;
    const { id } = attached.session;
    sockets.join(attached, relay);
    relay.closed
      .then(() => {
        sockets.remove(id, relay);
        return this.release();
      })
      .catch(() => {});
  }

  async release(): Promise<void> {
    await this.#attached?.release();
  }
}
