import type { Dispatcher, DispatchWaiter } from './dispatcher.ts';

/** What can happen to a connection, in the application's eyes. */
export type CallbackKind = 'open' | 'message' | 'fragment' | 'ping' | 'pong' | 'timeout' | 'error' | 'close';

/** Whose callbacks a queue runs. */
export interface CallbackTarget {
  readonly dispatcher: Dispatcher | undefined;
  /** Runs the application's callback and returns what it returns. */
  invoke(kind: CallbackKind, value: unknown, extra: unknown): unknown;
  /** The callback threw or rejected. */
  onCallbackFailed(kind: CallbackKind, error: unknown): void;
  /** The callback has settled, also when it failed. */
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
 * What arrives while a callback is unsettled waits here, up to 64 callbacks or 256 KiB; then the connection is not read until
 * half of that is gone. The queue exists because a paused socket does not see its peer go away.
 */
export class CallbackQueue implements DispatchWaiter {
  readonly #target: CallbackTarget;
  #waiting: Waiting[] | undefined;
  #waitingBytes = 0;
  #isBusy = false;
  #isWaitingForSlot = false;
  #isPaused = false;
  /** Counts callbacks that were given up, so that their late ends are not taken for the current one's. */
  #generation = 0;

  constructor(target: CallbackTarget) {
    this.#target = target;
  }

  /** True while a callback is unsettled. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Runs the callback now, or when all before it have settled. A `Uint8Array` that has to wait is copied. */
  push(kind: CallbackKind, value: unknown, extra: unknown): void {
    const slot = this.#isBusy || this.#isWaitingForSlot ? 'wait' : this.#slotFor(kind);
    if (slot === 'free') this.#run(kind, value, extra);
    else if (slot === 'wait') this.#wait(kind, value, extra);
    else this.#target.onDispatchFull();
  }

  /** Forgets what waits. A callback that is running goes on. */
  clear(): void {
    this.#waiting = undefined;
    this.#waitingBytes = 0;
    this.#resume();
  }

  /** Stops waiting for the running callback: its slot is free and what it does from now on is ignored. */
  abandon(): void {
    if (!this.#isBusy) return;
    this.#generation++;
    this.#isBusy = false;
    this.#target.dispatcher?.release();
    this.#drain();
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
    let result: unknown;
    try {
      result = this.#target.invoke(kind, value, extra);
    } catch (error) {
      this.#target.onCallbackFailed(kind, error);
    }
    if (isThenable(result)) {
      const generation = this.#generation;
      this.#isBusy = true;
      this.#target.dispatcher?.take();
      this.#target.onCallbackPending();
      result.then(
        () => this.#settled(kind, generation),
        error => {
          if (generation === this.#generation) this.#target.onCallbackFailed(kind, error);
          this.#settled(kind, generation);
        },
      );
    } else {
      this.#target.onCallbackSettled(kind);
    }
  }

  #settled(kind: CallbackKind, generation: number): void {
    if (generation !== this.#generation) return;
    this.#isBusy = false;
    this.#target.onCallbackSettled(kind);
    this.#target.dispatcher?.release();
    this.#drain();
  }

  #drain(): void {
    while (!this.#isBusy && !this.#isWaitingForSlot && this.#waiting !== undefined) {
      const slot = this.#slotFor(this.#waiting[0]!.kind);
      if (slot === 'wait') return;
      if (slot === 'full') return this.#target.onDispatchFull();
      const next = this.#waiting.shift()!;
      this.#waitingBytes -= next.bytes;
      if (this.#waiting.length === 0) this.#waiting = undefined;
      if ((this.#waiting?.length ?? 0) <= MAX_WAITING / 2 && this.#waitingBytes <= MAX_WAITING_BYTES / 2)
        this.#resume();
      this.#run(next.kind, next.value, next.extra);
    }
  }

  #wait(kind: CallbackKind, value: unknown, extra: unknown): void {
    const bytes = typeof value === 'string' || value instanceof Uint8Array ? value.length : 0;
    this.#waiting ??= [];
    this.#waiting.push({ kind, value: value instanceof Uint8Array ? Buffer.from(value) : value, extra, bytes });
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

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function';
}
