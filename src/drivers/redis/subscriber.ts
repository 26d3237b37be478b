import { callListener } from '../../base/call-listener.ts';
import { systemClock } from '../../base/clock.ts';
import { afterReading, RunningTime } from '../../base/deadlines.ts';
import { randomId } from '../../base/ids.ts';
import type { RedisClientLike } from '../redis.ts';
import type { RedisConnection } from './connection.ts';
import { withDeadline } from './deadline.ts';
import { NoAnswer, unavailable } from './failures.ts';
import { RedisLink } from './link.ts';

type Listener = (message: string) => void;

/** One listened-to channel. */
interface Channel {
  /** An object each, so that one function may listen twice and stop once. */
  readonly listeners: Set<{ readonly listener: Listener }>;
  readonly receive: Listener;
  subscribed: Promise<unknown>;
}

const BEAT_MS = 200;
const SILENCE_MS = 700;

/**
 * Hears what is published, over a connection of its own that is made anew and subscribed again by itself.
 *
 * A lost connection is not the only way to miss something: TCP may stay open to a peer that has gone, and the nodes
 * of a cluster may lose each other. So each master is made to publish a beat every 200 ms; when one is not heard here
 * for 700 ms, something may have been missed.
 */
export class RedisSubscriber {
  readonly #connection: RedisConnection;
  readonly #beatChannel: string;
  readonly #channels = new Map<string, Channel>();
  /** When each master was last heard, by its address. */
  #heardAt = new Map<string, number>();
  #connectedAt = 0;
  /** A process that was busy has published nothing that it could hear. */
  readonly #time = new RunningTime(systemClock, 2 * BEAT_MS);
  /** When anything was last heard, in the running time. */
  #lastHeardAt = 0;
  #isCurrent = false;
  #gaps = 0;
  #link: RedisLink | undefined;
  #client: RedisClientLike | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn = 0;

  /** @param prefix Of the channel of its beats. */
  constructor(connection: RedisConnection, prefix: string) {
    this.#connection = connection;
    this.#beatChannel = `${prefix}:beat:${randomId(12)}`;
  }

  /** True while nothing has been missed. */
  get isCurrent(): boolean {
    this.#judge();
    return this.#isCurrent;
  }

  /** Grows whenever something may have been missed. */
  get gaps(): number {
    this.#judge();
    return this.#gaps;
  }

  /**
   * Resolves when everything from now on is heard. Returns a function that ends it; from then on the listener is not
   * called.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when there is no connection in time.
   */
  async subscribe(name: string, listener: Listener): Promise<() => Promise<void>> {
    const { commandTimeoutMs } = this.#connection.options;
    this.#link ??= this.#open();
    const channel = this.#channels.get(name) ?? this.#createChannel(name);
    let isOn = false;
    const subscription = { listener: (message: string) => void (isOn && listener(message)) };
    const unsubscribe = async () => {
      if (!channel.listeners.delete(subscription) || channel.listeners.size > 0) return;
      this.#channels.delete(name);
      // When it fails the connection is lost, and the subscription with it.
      await this.#inTime(this.#client?.unsubscribe(name, channel.receive)).catch(() => {});
    };
    channel.listeners.add(subscription);
    try {
      await this.#link.ready(commandTimeoutMs);
      await this.#inTime(channel.subscribed);
    } catch (error) {
      // Not waited for: the server may be silent.
      void unsubscribe();
      throw unavailable('redis: not connected to hear what is published', error);
    }
    isOn = true;
    return unsubscribe;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#link?.close();
    this.#channels.clear();
    this.#isCurrent = false;
  }

  /** A connection may be open to a server that says nothing any more. */
  #inTime(answer: Promise<unknown> = Promise.resolve()): Promise<unknown> {
    return withDeadline(answer, this.#connection.options.commandTimeoutMs, () => new NoAnswer());
  }

  #createChannel(name: string): Channel {
    const listeners = new Set<{ readonly listener: Listener }>();
    const receive = (message: string) => {
      for (const { listener } of listeners) callListener(() => listener(message));
    };
    const channel: Channel = { listeners, receive, subscribed: Promise.resolve() };
    this.#channels.set(name, channel);
    if (this.#client) channel.subscribed = this.#client.subscribe(name, receive);
    channel.subscribed.catch(() => {});
    return channel;
  }

  #open(): RedisLink {
    this.#timer = setInterval(() => this.#beat(), BEAT_MS).unref();
    return new RedisLink({
      create: () => {
        // Another server for each attempt: the one before may be gone.
        const masters = this.#connection.masters();
        const node = masters[this.#turn++ % masters.length];
        if (!node) throw unavailable('no master of the redis cluster is known');
        return node.create();
      },
      timeoutMs: this.#connection.options.commandTimeoutMs,
      prepare: client => this.#prepare(client),
      onLost: () => {
        this.#client = undefined;
        this.#markGap();
      },
    });
  }

  async #prepare(client: RedisClientLike): Promise<void> {
    this.#connection.nameFor(client, 'events');
    const subscribed = [client.subscribe(this.#beatChannel, address => this.#hear(address))];
    for (const [name, channel] of this.#channels)
      subscribed.push((channel.subscribed = client.subscribe(name, channel.receive)));
    // What is subscribed to from here on goes over this connection too.
    this.#client = client;
    try {
      await Promise.all(subscribed);
    } catch (error) {
      if (this.#client === client) this.#client = undefined;
      throw error;
    }
    this.#heardAt = new Map();
    this.#connectedAt = performance.now();
    this.#lastHeardAt = this.#time.read();
    this.#isCurrent = true;
  }

  #hear(address: string): void {
    this.#judge();
    this.#heardAt.set(address, performance.now());
    this.#lastHeardAt = this.#time.read();
    this.#isCurrent ||= this.#silentSince() === undefined;
  }

  #beat(): void {
    for (const node of this.#connection.masters()) {
      // One that cannot be reached is not heard, and that says it.
      this.#connection.sendTo(node, ['PUBLISH', this.#beatChannel, node.address]).catch(() => {});
    }
    afterReading(() => {
      this.#judge();
      const silentMs = this.#time.read() - this.#lastHeardAt;
      const client = this.#client;
      // Nothing at all is heard although something is published: the connection is dead.
      if (client && silentMs > 2 * SILENCE_MS && this.#connection.masters().some(node => node.client)) {
        this.#link?.giveUp(client, new Error('the subscription has become silent'));
      }
    });
  }

  #judge(): void {
    if (this.#isCurrent && this.#silentSince() !== undefined) this.#markGap();
  }

  /** Since when a master is silent, if that is too long. */
  #silentSince(): number | undefined {
    if (!this.#client) return this.#connectedAt;
    const limit = performance.now() - SILENCE_MS;
    for (const { address } of this.#connection.masters()) {
      const heardAt = this.#heardAt.get(address) ?? this.#connectedAt;
      if (heardAt < limit) return heardAt;
    }
    return undefined;
  }

  #markGap(): void {
    this.#isCurrent = false;
    this.#gaps++;
  }
}
