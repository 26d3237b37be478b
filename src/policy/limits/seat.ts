import { isRefusal, type Refusal } from '../../http/refusal.ts';
import type { Limits, Occupant } from './limits.ts';

/** What an open WebSocket, or one that is being opened, takes of the limits that hold for it. */
export class Seat {
  #limits: readonly Limits[];
  readonly occupant: Occupant;
  #isLeft = false;

  private constructor(limits: readonly Limits[], occupant: Occupant) {
    this.#limits = limits;
    this.occupant = occupant;
  }

  static take(limits: readonly Limits[], occupant: Occupant): Seat | Refusal {
    const counted = limits.filter(({ counts }) => counts.size > 0);
    for (const one of counted) {
      const refusal = one.refuseSeat(occupant);
      if (isRefusal(refusal)) return refusal;
    }
    for (const one of counted) one.enter(occupant);
    return new Seat(counted, occupant);
  }

  /** Other limits hold for it now. They count it, also where there is no room for one more. */
  moveTo(limits: readonly Limits[]): void {
    if (this.#isLeft) return;
    for (const one of this.#limits) one.leave(this.occupant);
    this.#limits = limits.filter(({ counts }) => counts.size > 0);
    for (const one of this.#limits) one.enter(this.occupant);
  }

  /** Does nothing the second time. */
  leave(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    for (const one of this.#limits) one.leave(this.occupant);
  }
}
