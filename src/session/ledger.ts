/**
 * What processes share besides sessions: small facts with a time to live (tickets, nonces, tombstones, bans, counters)
 * and control events (a session has ended). The contract that `holdfast/testing` checks on every ledger.
 *
 * Keys and values are any text; keys may come from the network: treat them as untrusted. Each call is atomic per key. A
 * key whose time is over MUST look as if it had never been there. Facts survive the loss of a process (memory: as long
 * as the process), events do not. A ledger that cannot be reached rejects with `ERR_SESSION_STORE_UNAVAILABLE`, never
 * with an empty answer.
 *
 * Times to live are milliseconds, more than 0 and at most 400 days.
 */
export interface Ledger {
  readonly name: string;
  /** Keeps the value unless the key is there. True for exactly one of several callers. */
  putIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean>;
  /** Keeps the value whatever was there before; its time to live begins now. */
  put(key: string, value: string, ttlMs: number): Promise<void>;
  get(key: string): Promise<string | undefined>;
  /** Reads and removes: exactly one of several callers gets the value. */
  take(key: string): Promise<string | undefined>;
  /**
   * Adds to a counter that begins at 0, and returns the sum. The time to live begins with the first increment and is
   * not prolonged by the next ones: a window of fixed length.
   *
   * @param by An integer, also negative.
   */
  increment(key: string, by: number, ttlMs: number): Promise<number>;
  /**
   * Tells every process that listens on the channel, this one too. At most once; in order for one publisher. Resolves
   * when it is handed over, not when it has arrived.
   */
  publish(channel: string, message: string): Promise<void>;
  /**
   * Hears what is published on the channel from when it resolves, normally within some milliseconds. While the
   * connection is lost, events are lost; it is connected again by itself. The listener MUST NOT be called before
   * `subscribe` has resolved, nor after `unsubscribe`.
   *
   * @returns `unsubscribe`.
   */
  subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>>;
  close(): Promise<void>;
}
