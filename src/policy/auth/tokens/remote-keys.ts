import type { Clock, Timer } from '../../../base/clock.ts';
import type { Logger } from '../../../base/logger.ts';
import { messageOf } from '../../../base/message-of.ts';
import { type KeyHint, type KeySet, keySetOf, type VerificationKey } from './key-set.ts';
import { type KeySource, KeysUnavailable } from './key-source.ts';
import type { ProviderClient } from './provider-client.ts';

export interface RemoteKeysOptions {
  /** The scheme, for the log. */
  readonly name: string;
  readonly url: string;
  readonly client: ProviderClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How often they are fetched anew. */
  readonly refreshMs: number;
  /** How old they may be while the server cannot be asked. */
  readonly keepMs: number;
}

/** The pause from one fetch to the next at least, when the last has brought something new. */
const LEAST_PAUSE_MS = 1_000;
/** The same, after several that have not: a client with a wrong key costs the server one request in this time. */
const LONGEST_PAUSE_MS = 5_000;
/** Until a failed fetch is repeated by itself: twice as long each time. */
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;
/** Requests that wait for keys at a time. */
const MOST_WAITING = 1_000;

/**
 * The keys that an issuer publishes (`jwks_uri`), kept and fetched anew in the background.
 *
 * A token with a key that is not known waits for a fetch that begins after the token came, so that a rotation refuses
 * no valid token. All who wait share that fetch, and fetches keep a distance, so that a flood of unknown keys costs the
 * server at most one request a second. While the server cannot be asked, the keys that are known go on, up to `keepMs`.
 */
export class RemoteKeys implements KeySource {
  readonly #options: RemoteKeysOptions;
  #set: KeySet | undefined;
  #version = 0;
  /** By the monotonic clock. */
  #fetchedAt = 0;
  #beganAt = Number.NEGATIVE_INFINITY;
  #pauseMs = LEAST_PAUSE_MS;
  #retryMs = FIRST_RETRY_MS;
  /** Why the last fetch has failed; undefined when it has not. */
  #failure: string | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #waiting = 0;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: RemoteKeysOptions) {
    this.#options = options;
  }

  get version(): number {
    return this.#set && !this.#current ? Number.NaN : this.#version;
  }

  /** Does not wait for the first fetch: the server starts without the issuer, and answers 503 until it has its keys. */
  async start(): Promise<void> {
    this.#plan(0);
  }

  close(): void {
    this.#isClosed = true;
    this.#options.clock.clearTimeout(this.#timer);
    this.#options.client.close();
  }

  async keysFor(hint: KeyHint): Promise<readonly VerificationKey[]> {
    const known = this.#current;
    const found = known ? await known.keysFor(hint) : [];
    if (found.length > 0) return found;
    await this.#waitForFetch();
    if (this.#failure !== undefined) throw new KeysUnavailable(this.#failure);
    return (await this.#current?.keysFor(hint)) ?? [];
  }

  /** What may be used. */
  get #current(): KeySet | undefined {
    const { clock, keepMs } = this.#options;
    return clock.monotonic() - this.#fetchedAt <= keepMs ? this.#set : undefined;
  }

  /** For one that begins from now on, whatever comes of it; not at all when the last has failed a moment ago. */
  async #waitForFetch(): Promise<void> {
    if (this.#failure !== undefined && !this.#running && this.#pauseLeftMs > 0) return;
    if (this.#waiting >= MOST_WAITING)
      throw new KeysUnavailable(`${MOST_WAITING} requests wait for the keys of ${this.#options.url} already`);
    this.#waiting++;
    try {
      // The first of all fetches can only bring what is newer than the token's keys.
      if (this.#set === undefined && this.#running) await this.#running;
      else await (this.#next ??= this.#fetchNext());
    } finally {
      this.#waiting--;
    }
  }

  async #fetchNext(): Promise<void> {
    // Also where none runs: what is left of this function must run after its promise is known as `#next`.
    await this.#running;
    const { clock } = this.#options;
    if (this.#pauseLeftMs > 0) await new Promise<void>(resolve => clock.setTimeout(resolve, this.#pauseLeftMs));
    this.#next = undefined;
    await this.#fetch();
  }

  get #pauseLeftMs(): number {
    return this.#beganAt + this.#pauseMs - this.#options.clock.monotonic();
  }

  /** Never rejects. */
  #fetch(): Promise<void> {
    this.#running ??= this.#fetchOnce().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #fetchOnce(): Promise<void> {
    const { clock, url, client, name, logger, refreshMs } = this.#options;
    if (this.#isClosed) return;
    const beganAt = clock.monotonic();
    this.#beganAt = beganAt;
    try {
      const { status, body } = await client.ask({
        method: 'GET',
        headers: { Accept: 'application/jwk-set+json, application/json' },
      });
      if (status !== 200) throw new Error(`${url} answered ${status} instead of 200`);
      const set = keySetOf(body);
      const isNew = set.id !== this.#set?.id;
      if (isNew && this.#set) logger.info({ event: 'keys-changed', scheme: name }, `the keys of ${url} have changed`);
      if (isNew) this.#version++;
      this.#set = isNew ? set : this.#set;
      this.#fetchedAt = beganAt;
      this.#pauseMs = isNew ? LEAST_PAUSE_MS : Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
      if (this.#failure !== undefined)
        logger.info({ event: 'keys-available', scheme: name }, `the keys of ${url} can be fetched again`);
      this.#failure = undefined;
      this.#retryMs = FIRST_RETRY_MS;
      this.#plan(refreshMs);
    } catch (error) {
      if (this.#isClosed) return;
      const reason = `the keys of ${url} cannot be fetched: ${messageOf(error)}`;
      if (this.#failure === undefined) {
        const consequence = this.#current ? 'those that are known stay in use' : 'no token can be judged (503)';
        logger.error({ event: 'keys-unavailable', scheme: name }, `${reason}; ${consequence}`);
      }
      this.#failure = reason;
      this.#pauseMs = LEAST_PAUSE_MS;
      this.#plan(Math.min(this.#retryMs, refreshMs));
      this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
    }
  }

  #plan(ms: number): void {
    const { clock } = this.#options;
    clock.clearTimeout(this.#timer);
    if (!this.#isClosed) this.#timer = clock.setTimeout(() => void this.#fetch(), ms);
  }
}
