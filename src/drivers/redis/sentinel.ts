import { systemClock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import type { RedisAddress, SentinelAddress } from '../../base/redis-address.ts';
import {
  type CreateRedisClient,
  REDIS_BYTES,
  type RedisArgument,
  type RedisClientLike,
  type RedisSentinelLike,
} from '../redis.ts';
import { withDeadline } from './deadline.ts';
import { NoAnswer, unavailable } from './failures.ts';

/** After the first answer, for those of the others: a Sentinel that was cut off may name the master of before. */
const GATHER_MS = 200;

interface Answer {
  readonly host: string;
  readonly port: number;
  /** Higher after each failover. */
  readonly epoch: number;
}

/**
 * Finds the master of a name. All Sentinels are asked at once, each on a connection of its own, and the one that knows of
 * the latest failover is believed: one may be away, silent, or behind the others.
 *
 * @see https://redis.io/docs/latest/develop/reference/sentinel-clients/
 */
export class Sentinels {
  readonly #address: SentinelAddress;
  readonly #createClient: CreateRedisClient;
  readonly #timeoutMs: number;

  constructor(address: SentinelAddress, createClient: CreateRedisClient, timeoutMs: number) {
    this.#address = address;
    this.#createClient = createClient;
    this.#timeoutMs = timeoutMs;
  }

  /** For messages. */
  get place(): string {
    const places = this.#address.sentinels.map(({ host, port }) => `${host}:${port}`);
    return `${this.#address.name} of the sentinels at ${places.join(', ')}`;
  }

  /** A client for the master as it is now, not connected yet. @throws when no Sentinel knows it. */
  async createClient(): Promise<RedisClientLike> {
    const { name, master, sentinels } = this.#address;
    const answers: Answer[] = [];
    const asked = sentinels.map(async sentinel => void answers.push(await this.#ask(sentinel)));
    try {
      await Promise.any(asked);
    } catch (error) {
      const { errors } = error as AggregateError;
      const unknown = errors.find(one => /No such master/i.test(String(one)));
      if (unknown === undefined) throw errors[0];
      throw unavailable(`no sentinel knows a master called ${JSON.stringify(name)}; check the name`, unknown);
    }
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const deadline = setDeadline(systemClock, GATHER_MS, resolve);
    await Promise.race([Promise.allSettled(asked), late]);
    deadline?.clear();
    const { host, port } = answers.reduce((best, answer) => (answer.epoch > best.epoch ? answer : best));
    return this.#createClient({ ...master, host, port });
  }

  async #ask(sentinel: RedisAddress): Promise<Answer> {
    const client = this.#createClient(sentinel);
    client.on('error', () => {});
    const answered = client
      .connect()
      .then(() => client.sendCommand(['SENTINEL', 'MASTER', this.#address.name], REDIS_BYTES));
    try {
      const reply = (await withDeadline(answered, this.#timeoutMs, () => new NoAnswer())) as unknown[];
      const fields = new Map<string, string>();
      for (let i = 0; i < reply.length; i += 2) fields.set(String(reply[i]), String(reply[i + 1]));
      return {
        host: fields.get('ip')!,
        port: Number(fields.get('port')),
        epoch: Number(fields.get('config-epoch') ?? 0),
      };
    } finally {
      client.destroy();
    }
  }
}

/**
 * A client for Sentinels that the application has made, as one for a single server. It sends each command once: by
 * itself it would send a write again that may have been written.
 */
export class SentinelClient implements RedisClientLike {
  readonly #sentinel: RedisSentinelLike;

  /** @param sentinel One that nobody else uses. */
  constructor(sentinel: RedisSentinelLike) {
    this.#sentinel = sentinel;
  }

  /** @param sentinel The one of the application. It is not used itself, only its settings. */
  static like(sentinel: RedisSentinelLike): SentinelClient {
    const own = {
      ...{ masterPoolSize: 1, replicaPoolSize: 0, reserveClient: true },
      ...{ maxCommandRediscovers: 0, passthroughClientErrorEvents: true },
    };
    return new SentinelClient(sentinel.duplicate(own));
  }

  get isReady(): boolean {
    return this.#sentinel.isReady;
  }

  sendCommand(args: readonly RedisArgument[], options?: object): Promise<unknown> {
    return this.#sentinel.sendCommand(false, [...args], options);
  }

  duplicate(): RedisClientLike {
    return SentinelClient.like(this.#sentinel);
  }

  connect(): Promise<unknown> {
    return this.#sentinel.connect();
  }

  destroy(): void {
    void Promise.resolve(this.#sentinel.destroy()).catch(() => {});
  }

  on(event: 'error', listener: (error: Error) => void): unknown {
    return this.#sentinel.on(event, listener);
  }

  subscribe(channel: string, listener: (message: string) => void): Promise<unknown> {
    return this.#sentinel.subscribe(channel, listener);
  }

  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown> {
    return this.#sentinel.unsubscribe(channel, listener);
  }
}
