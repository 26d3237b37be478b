import { setTimeout as wait } from 'node:timers/promises';
import type { Awaitable } from '../../base/awaitable.ts';
import type { RedisClientLike } from '../redis.ts';
import { withDeadline } from './deadline.ts';

const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 1_000;

export interface RedisLinkOptions {
  /** A client that is not connected yet, for each attempt another one. */
  readonly create: () => Awaitable<RedisClientLike>;
  /** Milliseconds that an attempt may take. */
  readonly timeoutMs: number;
  /** Runs before the link counts as connected. */
  readonly prepare?: (client: RedisClientLike) => Promise<void>;
  readonly onLost?: () => void;
}

/** To connect. */
interface Attempt {
  client: RedisClientLike | undefined;
  /** It has taken too long. */
  isOver: boolean;
}

/**
 * One connection that is there whenever it can be. When it is lost or given up it is made anew, by itself, with growing
 * pauses of at most a second and a fresh client, so that no state of a broken one is left. Nothing is queued meanwhile.
 */
export class RedisLink {
  readonly #options: RedisLinkOptions;
  #client: RedisClientLike | undefined;
  #connecting: RedisClientLike | undefined;
  #failure: unknown;
  #connectedAt = Number.NEGATIVE_INFINITY;
  #waiting = Promise.withResolvers<RedisClientLike>();
  readonly #first = Promise.withResolvers<RedisClientLike>();
  readonly #closing = new AbortController();

  constructor(options: RedisLinkOptions) {
    this.#options = options;
    for (const { promise } of [this.#waiting, this.#first]) promise.catch(() => {});
    void this.#connect();
  }

  /** The connection, when there is one now. */
  get client(): RedisClientLike | undefined {
    return this.#client?.isReady ? this.#client : undefined;
  }

  /** Why the last attempt to connect failed, or the connection was lost. */
  get failure(): unknown {
    return this.#failure;
  }

  /** What came of the first attempt. @throws what it failed with; the link goes on trying. */
  get first(): Promise<RedisClientLike> {
    return this.#first.promise;
  }

  /**
   * Resolves when connected. @throws what the last attempt failed with, after the milliseconds, or when the link is
   * closed.
   */
  async ready(ms: number): Promise<RedisClientLike> {
    const { client } = this;
    if (client) return client;
    return withDeadline(this.#waiting.promise, ms, () => this.#failure ?? new Error(`not connected within ${ms} ms`));
  }

  /**
   * The connection answers no more, or wrongly: it is closed and made anew. Does nothing when it is another one by now.
   */
  giveUp(client: RedisClientLike, reason: unknown): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#failure = reason;
    client.destroy();
    this.#options.onLost?.();
    this.#waiting = Promise.withResolvers();
    this.#waiting.promise.catch(() => {});
    if (!this.#closing.signal.aborted) void this.#connect();
  }

  close(): void {
    // The error that Node would make keeps who has called, and what they know, for as long as somebody has this link.
    this.#closing.abort('closed');
    this.#client?.destroy();
    this.#connecting?.destroy();
    this.#client = undefined;
    this.#waiting.reject(new Error('closed'));
  }

  async #connect(): Promise<void> {
    const { timeoutMs } = this.#options;
    const { signal } = this.#closing;
    // What is given up as soon as it is there, as a replica where a master should be, is not tried without a pause.
    if (performance.now() - this.#connectedAt < MAX_PAUSE_MS) await this.#pause(FIRST_PAUSE_MS);
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      const attempt: Attempt = { client: undefined, isOver: false };
      try {
        const connected = this.#prepared(attempt);
        const client = await withDeadline(
          connected,
          timeoutMs,
          () => new Error(`not connected within ${timeoutMs} ms`),
        );
        if (signal.aborted) client.destroy();
        if (signal.aborted || !client.isReady) throw new Error('the connection was closed');
        this.#connecting = undefined;
        this.#client = client;
        this.#connectedAt = performance.now();
        this.#waiting.resolve(client);
        this.#first.resolve(client);
        return;
      } catch (error) {
        this.#failure = error;
        attempt.isOver = true;
        attempt.client?.destroy();
        this.#first.reject(error);
      }
      await this.#pause(pauseMs);
    }
  }

  async #prepared(attempt: Attempt): Promise<RedisClientLike> {
    const client = await this.#options.create();
    if (attempt.isOver || this.#closing.signal.aborted) throw new Error('closed');
    attempt.client = this.#connecting = client;
    // Without a listener an 'error' event would end the process.
    client.on('error', error => this.giveUp(client, error));
    await client.connect();
    await this.#options.prepare?.(client);
    return client;
  }

  /** Some time, at most the milliseconds; shorter when it is closed. */
  async #pause(ms: number): Promise<void> {
    const { signal } = this.#closing;
    await wait(ms * (0.5 + Math.random() / 2), undefined, { signal, ref: false }).catch(() => {});
  }
}
