import { callListener } from '../../base/call-listener.ts';
import type { Logger } from '../../base/logger.ts';
import { checkChoice, kindOf } from '../../base/options.ts';
import { SetMap } from '../../base/set-map.ts';
import type { SessionEndReason } from '../session.ts';

/** That a session has ended, and why. */
export interface SessionEnd {
  readonly sid: string;
  readonly reason: SessionEndReason;
}

/** That an attribute of a session has changed. */
export interface AttributeChange {
  readonly sid: string;
  readonly attribute: string;
  readonly kind: 'added' | 'replaced' | 'removed';
}

/** What listeners are told. Each is told by one process: the one in which it happened. */
export interface SessionEvents {
  /** It is in the store. */
  readonly created: { readonly sid: string };
  /** It is gone from the store. Once for each session among all processes that share the store. */
  readonly ended: SessionEnd;
  /** A change of an attribute is in the store. */
  readonly changed: AttributeChange;
  /** It has a new secret, by a login or by time. */
  readonly renewed: { readonly sid: string; readonly kind: 'rotated' | 'renewed' };
  /** It has left the memory of this process to make room; it is in the store. */
  readonly passivated: { readonly sid: string };
  /** It has been read into the memory of this process. */
  readonly activated: { readonly sid: string };
}

const KINDS: { readonly [K in keyof SessionEvents]: true } = {
  created: true,
  ended: true,
  changed: true,
  renewed: true,
  passivated: true,
  activated: true,
};

const SESSION_EVENTS: readonly string[] = Object.keys(KINDS);

/** @throws {TypeError} when there is no such event, or nobody to call back. */
export function checkListening(kind: unknown, listener: unknown): void {
  checkChoice('on', 'kind', kind ?? '', SESSION_EVENTS);
  if (typeof listener !== 'function') throw new TypeError(`on: the listener is a function, not ${kindOf(listener)}`);
}

type Listener<E> = (event: E) => void;

/** Who listens to what. A listener that throws is logged and disturbs nobody. */
export class SessionListeners {
  readonly #logger: Logger;
  readonly #listeners = new SetMap<keyof SessionEvents, { readonly listener: Listener<never> }>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @returns a function that stops it. */
  on<K extends keyof SessionEvents>(kind: K, listener: Listener<SessionEvents[K]>): () => void {
    // One function may listen for several, each of which stops for itself.
    const listening = { listener: listener as Listener<never> };
    this.#listeners.add(kind, listening);
    return () => this.#listeners.remove(kind, listening);
  }

  /** True when telling is worth the work of finding out what to tell. */
  hasAny(kind: keyof SessionEvents): boolean {
    return this.#listeners.has(kind);
  }

  tell<K extends keyof SessionEvents>(kind: K, event: SessionEvents[K]): void {
    for (const { listener } of this.#listeners.get(kind) ?? []) {
      callListener(
        () => (listener as Listener<SessionEvents[K]>)(event),
        error => this.#logger.error({ err: error, event: kind }, 'a session listener threw'),
      );
    }
  }
}
