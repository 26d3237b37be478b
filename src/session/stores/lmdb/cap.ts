import { capReached, checkCap, checkShare } from '../../room/cap.ts';

/** How many sessions there are. */
export interface SessionCounts {
  readonly sessions: number;
  readonly anonymous: number;
}

/**
 * So near the cap each creation waits for its turn, so that none goes beyond it. More than other processes can have
 * under way at a time.
 */
const NEAR = 4_096;
/**
 * So many sessions all processes together are expected to make in a millisecond at most: the nearer the cap, the sooner
 * it is counted again.
 */
const CREATED_PER_MS = 50;
const COUNT_EVERY_MS = 1_000;

/** The most sessions of a store, and the most anonymous ones. */
export class SessionCap {
  readonly #max: number;
  readonly #anonymousShare: number;
  readonly #count: () => SessionCounts;
  #counted: SessionCounts = { sessions: 0, anonymous: 0 };
  #countedAt = Number.NEGATIVE_INFINITY;
  /** Created here since. */
  #created = 0;
  /** Of these, how many are not in the store yet. */
  #underWay = 0;

  /** @throws {TypeError} when an option cannot work. */
  constructor(maxSessions: number, anonymousShare: number, count: () => SessionCounts) {
    this.#max = checkCap('lmdb store', maxSessions);
    this.#anonymousShare = checkShare('lmdb store', anonymousShare);
    this.#count = count;
  }

  /** True when one more cannot reach the cap, whatever others do meanwhile. */
  isFar(isAnonymous: boolean): boolean {
    return this.#left(isAnonymous) > NEAR;
  }

  /** By counts that may be some milliseconds old. */
  hasRoom(isAnonymous: boolean): boolean {
    return this.#left(isAnonymous) > 0;
  }

  /** Counts one that is created far from the cap. */
  async watch(creation: Promise<boolean>): Promise<boolean> {
    this.#created++;
    this.#underWay++;
    try {
      return await creation;
    } finally {
      this.#underWay--;
    }
  }

  /**
   * What is to be said to each of these that would be created one after the other, by counts of this moment: undefined,
   * or ERR_SESSION_NO_ROOM.
   */
  refusals(counts: SessionCounts, creations: readonly { readonly isAnonymous: boolean }[]) {
    this.#note(counts);
    let sessions = counts.sessions + this.#underWay;
    let anonymous = counts.anonymous + this.#underWay;
    return creations.map(({ isAnonymous }) => {
      if (sessions >= this.#max) return capReached('lmdb', this.#max);
      if (isAnonymous && anonymous >= this.#max * this.#anonymousShare)
        return capReached('lmdb', this.#max, this.#anonymousShare);
      sessions++;
      if (isAnonymous) anonymous++;
      return undefined;
    });
  }

  #left(isAnonymous: boolean): number {
    const left = this.#leftAsCounted(isAnonymous);
    const agedMs = performance.now() - this.#countedAt;
    if (agedMs < COUNT_EVERY_MS && agedMs * CREATED_PER_MS < left) return left;
    this.#note(this.#count());
    return this.#leftAsCounted(isAnonymous);
  }

  #leftAsCounted(isAnonymous: boolean): number {
    const { sessions, anonymous } = this.#counted;
    const ofAll = this.#max - sessions;
    const left = isAnonymous ? Math.min(ofAll, Math.ceil(this.#max * this.#anonymousShare) - anonymous) : ofAll;
    return left - this.#created;
  }

  #note(counted: SessionCounts): void {
    this.#counted = counted;
    this.#countedAt = performance.now();
    this.#created = this.#underWay;
  }
}
