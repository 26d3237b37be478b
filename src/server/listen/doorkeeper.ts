import type { Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import type { BanAction } from '../../policy/ban/options.ts';

/** Connections that are held in the tarpit at a time, each for a descriptor and some kilobytes. */
const MAX_HELD = 100;
/** How long one is held. */
const HELD_MS = 60_000;

const ignore = () => {};

/** Turns banned clients away before anything is read of them, where the action is `drop` or `tarpit`. */
export class Doorkeeper {
  readonly #isBanned: (address: string) => boolean;
  readonly #action: () => BanAction;
  readonly #clock: Clock;
  readonly #held = new Set<Socket>();

  constructor(action: () => BanAction, isBanned: (address: string) => boolean, clock: Clock) {
    this.#action = action;
    this.#isBanned = isBanned;
    this.#clock = clock;
  }

  /** Connections that are held. */
  get held(): number {
    return this.#held.size;
  }

  /** @returns true when the connection is dealt with: nobody else may touch it. */
  turnsAway(socket: Socket, address: string): boolean {
    const action = this.#action();
    if (action === 'log' || action === 'refuse' || !this.#isBanned(address)) return false;
    if (action === 'drop' || this.#held.size >= MAX_HELD) socket.destroy();
    else this.#hold(socket);
    return true;
  }

  /** Holds nobody any more. */
  letGo(): void {
    for (const socket of this.#held) socket.destroy();
  }

  /** Nothing is read and nothing is said. */
  #hold(socket: Socket): void {
    this.#held.add(socket);
    socket.on('error', ignore).pause();
    const timer = this.#clock.setTimeout(() => socket.destroy(), HELD_MS);
    socket.once('close', () => {
      this.#held.delete(socket);
      this.#clock.clearTimeout(timer);
    });
  }
}
