import type { HeaderLine } from '../../http/header-line.ts';
import type { Refusal } from '../../http/refusal.ts';

/**
 * What the session of one exchange tells the backend beside its `sid`, and what it learns from the answer.
 *
 * Where there is none, nothing is waited for.
 */
export interface BackendSession {
  /**
   * Headers for the backend. A client's copies of them are removed, in every spelling. What it rejects with ends the
   * exchange.
   */
  requestHeaders(): readonly HeaderLine[] | Promise<readonly HeaderLine[]>;
  /**
   * The backend has given its final answer, a 101 included, and the client has not heard of it. Told once. MUST NOT
   * reject.
   *
   * @param rawHeaders The answer's, name, value, name, value ...
   * @param by Who gave it, and with which status.
   * @returns headers to add to the answer, which then is private; or a refusal that takes its place; undefined: it is
   * passed on at once.
   */
  answered(rawHeaders: readonly string[], by: AnsweredBy): Heard | undefined | Promise<Heard | undefined>;
}

export interface AnsweredBy {
  readonly status: number;
  readonly server: { readonly url: string };
}

export type Heard = readonly HeaderLine[] | Refusal;

/** A WebSocket that ends with a session of the backend's own: what is needed of its relay. */
export interface RelayedSocket {
  readonly server: { readonly url: string };
  /** Never rejects. */
  readonly closed: Promise<unknown>;
  close(code: number, reason: string): void;
}
