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
  /**
   * Keeps the value unless the key is there. True for exactly one of several callers.
   *
   * @example
   * console.log(await ledger.putIfAbsent('nonce', '1', 60_000)); // true
   * console.log(await ledger.putIfAbsent('nonce', '2', 60_000)); // false
   */
  putIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean>;
  /**
   * Keeps the value whatever was there before; its time to live begins now.
   *
   * @example
   * await ledger.put('ban 203.0.113.7', 'until noon', 3_600_000);
   */
  put(key: string, value: string, ttlMs: number): Promise<void>;
  /**
   * @example
   * await ledger.put('color', 'red', 60_000);
   * console.log(await ledger.get('color'), await ledger.get('size')); // red undefined
   */
  get(key: string): Promise<string | undefined>;
  /**
   * Reads and removes: exactly one of several callers gets the value.
   *
   * @example
   * await ledger.put('ticket', 'for one', 60_000);
   * console.log(await ledger.take('ticket'), await ledger.take('ticket')); // for one undefined
   */
  take(key: string): Promise<string | undefined>;
  /**
   * Adds to a counter that begins at 0, and returns the sum. The time to live begins with the first increment and is
   * not prolonged by the next ones: a window of fixed length.
   *
   * @param by An integer, also negative.
   *
   * @example
   * await ledger.increment('logins of alice', 1, 60_000);
   * console.log(await ledger.increment('logins of alice', 1, 60_000)); // 2
   */
  increment(key: string, by: number, ttlMs: number): Promise<number>;
  /**
   * Tells every process that listens on the channel, this one too. At most once; in order for one publisher. Resolves
   * when it is handed over, not when it has arrived.
   *
   * @example
   * await ledger.publish('prices', '42');
   */
  publish(channel: string, message: string): Promise<void>;
  /**
   * Hears what is published on the channel from when it resolves, normally within some milliseconds. While the
   * connection is lost, events are lost; it is connected again by itself. The listener MUST NOT be called before
   * `subscribe` has resolved, nor after `unsubscribe`.
   *
   * @returns `unsubscribe`.
   *
   * @example
   * const unsubscribe = await ledger.subscribe('prices', message => console.log(message));
   * await unsubscribe();
   */
  subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>>;
  /**
   * @example
   * await ledger.close();
   */
  close(): Promise<void>;
}
