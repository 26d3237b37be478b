import { getOrInsert } from '../../base/get-or-insert.ts';
import { sameValue } from '../../base/same-value.ts';
import { LeavingPart } from './leaving-part.ts';

/** How a part of a server is made, and what it is made from. */
export interface Making<Part, From> {
  /** What it depends on: it is kept as it is when this is the same after a reload. */
  readonly from: From;
  /** @param before The one that it takes the place of. */
  make(before?: Part): Part | Promise<Part>;
  /** Resolves when nothing of it is left. */
  close?(part: Part): unknown;
  /** Of an object of the program: resolves when nothing uses it any more. Default: at once. */
  idle?(part: Part): Promise<void>;
  /**
   * The same while the server runs on without it. It is called at once, for all parts, and may wait for what uses it
   * still. Default: `close`, when the requests of before have been judged.
   *
   * @param successor What has taken its place.
   */
  retire?(part: Part, successor: Part | undefined, usage: Usage): unknown;
  /**
   * Others stand on it, as on a store: while the server runs on without it, it is closed when they are gone and no
   * request of before is left.
   */
  readonly isFoundation?: boolean;
  /**
   * Can the part go on where something else is wanted? @returns what the swap does to it then; undefined: a new one is
   * made. It is not called before everything else of the new configuration stands, and must not fail.
   */
  adapt?(part: Part, before: From): (() => void) | undefined;
}

/** What still goes on under a configuration of before. */
export interface Usage {
  /** No request is being judged by it any more. */
  readonly judged: Promise<unknown>;
  /** No request that began under it is left. */
  readonly over: Promise<unknown>;
}

interface Kept {
  readonly kind: string;
  readonly part: unknown;
  readonly from: unknown;
  readonly isNew: boolean;
  close(): unknown;
  readonly isFoundation: boolean;
  retire(successor: unknown, usage: Usage): unknown;
  /** Of an object of the program, which a later configuration may have again. */
  leave?: (() => LeavingPart) | undefined;
}

interface MakingNow<Part, From> extends Omit<Making<Part, From>, 'make'> {
  make(before?: Part): Part;
}

/**
 * The parts of a server that live on when its configuration is replaced by one in which they are the same: stores,
 * upstreams, endpoints, and what listens to ledgers.
 *
 * Those of a new configuration are put together beside those that run. Then either `commit` makes them the ones that
 * count, or `abandon` closes what was made for nothing, and the others have not noticed.
 */
export class Parts {
  #before: Parts | undefined;
  readonly #kept = new Map<string, Kept>();
  readonly #adaptations: (() => void)[] = [];
  readonly #undoings: (() => unknown)[] = [];
  /** Those of objects that counted before, and are not closed. */
  readonly #leaving: Map<string, LeavingPart>;
  /** Those of them that this configuration has again. */
  readonly #held = new Map<string, LeavingPart>();

  constructor(before?: Parts) {
    this.#before = before;
    this.#leaving = before ? before.#leaving : new Map();
  }

  /**
   * The part of this name as it runs, or a new one.
   *
   * @param kind Those of one kind are closed together, the kinds in the opposite order of their making.
   */
  async keep<Part, From>(kind: string, name: string, making: Making<Part, From>): Promise<Part> {
    const before = this.#partBefore<Part>(kind, name);
    if (this.#goesOn(kind, name, making)) return before!;
    return this.#take(kind, name, making, await making.make(before), true);
  }

  /** The same of what is made without waiting. */
  keepNow<Part, From>(kind: string, name: string, making: MakingNow<Part, From>): Part {
    const before = this.#partBefore<Part>(kind, name);
    if (this.#goesOn(kind, name, making)) return before!;
    const part: Part = making.make(before);
    return this.#take(kind, name, making, part, true);
  }

  /** What belongs to an object that the program has made, which is its name. */
  async keepOf<Part>(
    kind: string,
    owner: object,
    making: Omit<Making<Part, object>, 'from' | 'adapt' | 'retire'>,
  ): Promise<Part> {
    const name = nameOf(owner);
    const key = keyOf(kind, name);
    const known = this.#kept.get(key);
    if (known) return known.part as Part;
    const leaving = this.#leaving.get(key);
    const whole = { ...making, from: owner };
    if (leaving?.hold()) {
      this.#held.set(key, leaving);
      this.#take(kind, name, whole, leaving.part as Part, false);
    } else {
      await leaving?.gone;
      await this.keep(kind, name, whole);
    }
    const kept = this.#kept.get(key)!;
    const part = kept.part as Part;
    const steps = { idle: async () => making.idle?.(part), close: () => making.close?.(part) };
    this.#kept.set(key, { ...kept, leave: () => new LeavingPart(part, steps) });
    return part;
  }

  /** Is there a part of this name already, in this configuration? */
  has(kind: string, name: string): boolean {
    return this.#kept.has(keyOf(kind, name));
  }

  #partBefore<Part>(kind: string, name: string): Part | undefined {
    return this.#keptBefore(kind, name)?.part as Part | undefined;
  }

  #keptBefore(kind: string, name: string): Kept | undefined {
    return this.#before === undefined ? undefined : this.#before.#kept.get(keyOf(kind, name));
  }

  #goesOn<Part, From>(kind: string, name: string, making: Making<Part, From>): boolean {
    const before = this.#keptBefore(kind, name);
    if (!before) return false;
    const part = before.part as Part;
    const adaptation = sameValue(before.from, making.from) ? () => {} : making.adapt?.(part, before.from as From);
    if (!adaptation) return false;
    this.#adaptations.push(adaptation);
    this.#take(kind, name, making, part, false);
    return true;
  }

  #take<Part, From>(kind: string, name: string, making: Making<Part, From>, part: Part, isNew: boolean): Part {
    const close = () => making.close?.(part);
    const { isFoundation = false } = making;
    const retire = (successor: unknown, usage: Usage) =>
      making.retire ? making.retire(part, successor as Part, usage) : usage.judged.then(close);
    this.#kept.set(keyOf(kind, name), { kind, part, from: making.from, isNew, isFoundation, close, retire });
    return part;
  }

  /** What else the swap does. Must not fail. */
  onCommit(change: () => void): void {
    this.#adaptations.push(change);
  }

  /** What else giving up does. */
  onAbandon(undo: () => unknown): void {
    this.#undoings.push(undo);
  }

  /** @returns closes what is not used any more. It never rejects: `onFailure` hears of what failed. */
  commit(): (usage: Usage, onFailure: (error: unknown) => void) => Promise<void> {
    for (const adapt of this.#adaptations.splice(0)) adapt();
    this.#undoings.length = 0;
    for (const [key, leaving] of this.#held) {
      leaving.release(true);
      this.#leaving.delete(key);
    }
    const before = this.#before ? [...this.#before.#kept] : [];
    // Or each would hold all that were before it.
    this.#before = undefined;
    const left = before.filter(([key, { part }]) => this.#kept.get(key)?.part !== part);
    const going = left.map(([key, kept]) => {
      const successor = this.#kept.get(key)?.part;
      const leave = kept.leave && this.#leave(key, kept.leave());
      const retire = (usage: Usage) => (leave ? usage.judged.then(leave) : kept.retire(successor, usage));
      return { ...kept, close: leave ?? kept.close, retire };
    });
    return async (usage, onFailure) => {
      // One that has its time, as an endpoint with sockets, keeps no other from going.
      const retiring = going.filter(one => !one.isFoundation).map(async ({ retire }) => retire(usage));
      for (const result of await Promise.allSettled(retiring))
        if (result.status === 'rejected') onFailure(result.reason);
      await usage.over;
      for (const failure of await closeInTurn(going.filter(one => one.isFoundation))) onFailure(failure);
    };
  }

  /** From now on a later configuration can have it again. @returns lets it go. */
  #leave(key: string, leaving: LeavingPart): () => Promise<void> {
    this.#leaving.set(key, leaving);
    return async () => {
      try {
        await leaving.leave();
      } finally {
        // It may be leaving for the second time.
        if (this.#leaving.get(key) === leaving) this.#leaving.delete(key);
      }
    };
  }

  /** Closes what was made for it alone. */
  async abandon(): Promise<void> {
    for (const leaving of this.#held.values()) leaving.release(false);
    // One that fails keeps nothing else from being undone.
    await Promise.allSettled(this.#undoings.splice(0).map(async undo => undo()));
    await closeInTurn([...this.#kept.values()].filter(({ isNew }) => isNew));
  }

  /** Closes all. One that fails keeps no other from closing. @returns what failed. */
  close(): Promise<unknown[]> {
    return closeInTurn([...this.#kept.values()]);
  }
}

const names = new WeakMap<object, string>();
let lastName = 0;

function nameOf(owner: object): string {
  return getOrInsert(names, owner, () => `#${++lastName}`);
}

function keyOf(kind: string, name: string): string {
  return `${kind} ${name}`;
}

async function closeInTurn(parts: readonly Pick<Kept, 'kind' | 'close'>[]): Promise<unknown[]> {
  const kinds = Map.groupBy(parts, ({ kind }) => kind);
  const failures: unknown[] = [];
  for (const ofKind of [...kinds.values()].reverse()) {
    const results = await Promise.allSettled(ofKind.map(async ({ close }) => close()));
    for (const result of results) if (result.status === 'rejected') failures.push(result.reason);
  }
  return failures;
}
