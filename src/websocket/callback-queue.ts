import type { Dispatcher, DispatchWaiter } from './dispatcher.ts';

/** What can happen to a connection, in the application's eyes. */
export type CallbackKind =
  | 'open'
  | 'message'
  | 'fragment'
  | 'ping'
  | 'pong'
  | 'auth-expiring'
  | 'timeout'
  | 'error'
  | 'close';

/** Whose callbacks a queue runs. */
export interface CallbackTarget {
  readonly dispatcher: Dispatcher | undefined;
  /** Runs the application's callback and returns what it returns. */
  invoke(kind: CallbackKind, value: unknown, extra: unknown): unknown;
  /** The callback threw or rejected. */
  onCallbackFailed(kind: CallbackKind, error: unknown): void;
  /** The callback has settled, also when it failed or was given up. */
  onCallbackSettled(kind: CallbackKind): void;
  /** A callback has returned a promise: its time is running. */
  onCallbackPending(): void;
  pauseReading(): void;
  resumeReading(): void;
  /** The dispatch queue is full and its policy is `close`. */
  onDispatchFull(): void;
}

interface Waiting {
  readonly kind: CallbackKind;
  readonly value: unknown;
  readonly extra: unknown;
  readonly bytes: number;
}

const MAX_WAITING = 64;
const MAX_WAITING_BYTES = 256 * 1024;

/**
 * Runs the callbacks of one connection one at a time and in order, also when they are asynchronous.
 *
 * What arrives while a callback is unsettled waits here, up to 64 callbacks or 256 KiB; then the connection is not read
 * until half of that is gone. The queue exists because a paused socket does not see its peer go away.
 */
export class CallbackQueue implements DispatchWaiter {
  readonly #target: CallbackTarget;
  #waiting: Waiting[] | undefined;
  #waitingBytes = 0;
  #running: CallbackKind | undefined;
  #isWaitingForSlot = false;
  #isPaused = false;
  /** Counts callbacks that were given up, so that their late ends are not taken for the current one's. */
  #generation = 0;

  constructor(target: CallbackTarget) {
    this.#target = target;
  }

  /** The callback that is unsettled. */
  get running(): CallbackKind | undefined {
    return this.#running;
  }

  /** Runs the callback now, or when all before it have settled. A `Uint8Array` that has to wait is copied. */
  push(kind: CallbackKind, value: unknown, extra: unknown): void {
    const isNext = this.#running === undefined && this.#waiting === undefined && !this.#isWaitingForSlot;
    const slot = isNext ? this.#slotFor(kind) : 'wait';
    if (slot === 'wait') {
      this.#wait(kind, value, extra);
    } else if (slot === 'free') {
      this.#run(kind, value, extra);
      if (this.#waiting !== undefined) this.#drain();
    } else {
      this.#target.onDispatchFull();
    }
  }

  /** Runs the callback as soon as all before it have settled, but not before the code that is running now has ended. */
  pushLater(kind: CallbackKind, value: unknown): void {
    this.#wait(kind, value, undefined);
    queueMicrotask(() => this.#drain());
  }

  /** Forgets what waits, apart from what tells of the end. A callback that is running goes on. */
  clear(): void {
    const ending = this.#waiting?.filter(({ kind }) => kind === 'error' || kind === 'close') ?? [];
    this.#waiting = ending.length > 0 ? ending : undefined;
    this.#waitingBytes = 0;
    this.#resume();
  }

  /** Stops waiting for the running callback: its slot is free and what it does from now on is ignored. */
  abandon(): void {
    if (this.#running === undefined) return;
    this.#generation++;
    this.#settle(this.#running);
  }

  onSlotFree(): void {
    this.#isWaitingForSlot = false;
    this.#drain();
  }

  /** `full`: there is no slot, and the policy is not to wait for one. */
  #slotFor(kind: CallbackKind): 'free' | 'wait' | 'full' {
    const { dispatcher } = this.#target;
    // What tells of an ending is never held up by others.
    if (dispatcher === undefined || dispatcher.hasRoom || kind === 'error' || kind === 'close') return 'free';
    const hasPlace = dispatcher.wait(this);
    if (!hasPlace && dispatcher.whenFull === 'close') return 'full';
    this.#isWaitingForSlot = true;
    if (!hasPlace) this.#pause();
    return 'wait';
  }

  #run(kind: CallbackKind, value: unknown, extra: unknown): void {
    this.#running = kind;
    let pending: Promise<unknown> | undefined;
    try {
      const result = this.#target.invoke(kind, value, extra);
      // A promise of Node's own stays what it is; the `then` of another may throw.
      if (isThenable(result)) pending = Promise.resolve(result);
    } catch (error) {
      this.#target.onCallbackFailed(kind, error);
    }
    if (pending !== undefined) {
      const generation = this.#generation;
      this.#target.dispatcher?.take();
      this.#target.onCallbackPending();
      pending.then(
        () => {
          if (generation === this.#generation) this.#settle(kind);
        },
        error => {
          if (generation !== this.#generation) return;
          this.#target.onCallbackFailed(kind, error);
          this.#settle(kind);
        },
      );
    } else {
      this.#running = undefined;
      this.#target.onCallbackSettled(kind);
    }
  }

  /** An asynchronous callback has ended. */
  #settle(kind: CallbackKind): void {
    this.#running = undefined;
    this.#target.onCallbackSettled(kind);
    this.#target.dispatcher?.release();
    this.#drain();
  }

  #drain(): void {
    while (this.#running === undefined && !this.#isWaitingForSlot && this.#waiting !== undefined) {
      const slot = this.#slotFor(this.#waiting[0]!.kind);
      if (slot === 'wait') return;
      if (slot === 'full') return this.#target.onDispatchFull();
      const next = this.#waiting.shift()!;
      this.#waitingBytes -= next.bytes;
      if (this.#waiting.length === 0) this.#waiting = undefined;
      this.#run(next.kind, next.value, next.extra);
      // After it has run: what is read now must not overtake it.
      if ((this.#waiting?.length ?? 0) <= MAX_WAITING / 2 && this.#waitingBytes <= MAX_WAITING_BYTES / 2)
        this.#resume();
    }
  }

  #wait(kind: CallbackKind, value: unknown, extra: unknown): void {
    const bytes = typeof value === 'string' || value instanceof Uint8Array ? value.length : 0;
    const waiting = { kind, value: value instanceof Uint8Array ? Buffer.from(value) : value, extra, bytes };
    this.#waiting ??= [];
    // Nothing comes after the close callback, not even the failure of the one that is running.
    if (this.#waiting.at(-1)?.kind === 'close') this.#waiting.splice(-1, 0, waiting);
    else this.#waiting.push(waiting);
    this.#waitingBytes += bytes;
    if (this.#waiting.length >= MAX_WAITING || this.#waitingBytes >= MAX_WAITING_BYTES) this.#pause();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#target.pauseReading();
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#target.resumeReading();
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function';
}
