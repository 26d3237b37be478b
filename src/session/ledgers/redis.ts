import { hash } from 'node:crypto';
import { RedisConnection } from '../../drivers/redis/connection.ts';
import { RedisSubscriber } from '../../drivers/redis/subscriber.ts';
import type { RedisScript } from '../../drivers/redis.ts';
import type { Ledger } from '../ledger.ts';
import { decodeText, encodeText, RedisKeys } from '../stores/redis/keys.ts';
import { connectionOptions, type RedisOptions, type RedisTarget, withUrlOptions } from '../stores/redis/options.ts';
import { checkIncrement, checkTimeToLive } from './arguments.ts';

// What is there already is written in place, also when the memory of the server is full: a script is not refused when it
// begins with a write that needs no memory.

/** Returns the sum as text: node-redis reads integers near 2⁵³ inexactly. */
const INCREMENT_SOURCE = `
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return string.format('%.0f', sum)
`;
const INCREMENT: RedisScript = { source: INCREMENT_SOURCE, sha1: hash('sha1', INCREMENT_SOURCE) };

/** Of a value that takes the place of another one: it is as large, or nearly. */
const NEARLY = 64;
const PUT_SOURCE = `
local before = redis.call('STRLEN', KEYS[1])
if before > 0 and #ARGV[1] <= before + ${NEARLY} then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
`;
const PUT: RedisScript = { source: PUT_SOURCE, sha1: hash('sha1', PUT_SOURCE) };

/**
 * Keeps facts and tells events in Redis (7.0 or later), Valkey or Redis Cluster.
 *
 * Times to live are the server's, in whole milliseconds, rounded up. With `acknowledge` a fact is not waited for: it is
 * written on the master.
 *
 * @example
 * import { RedisLedger } from 'holdfast/session/redis';
 *
 * const ledger = await RedisLedger.open(redis, { prefix: 'shop' });
 * await ledger.close();
 */
export class RedisLedger implements Ledger {
  readonly name = 'redis';
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;
  readonly #subscriber: RedisSubscriber;

  /** Connects. @throws as `RedisStore.open`. */
  static async open(target: RedisTarget, options: RedisOptions = {}): Promise<RedisLedger> {
    const resolved = withUrlOptions(target, options);
    const { prefix = 'holdfast' } = resolved;
    const keys = new RedisKeys(prefix);
    const connection = await RedisConnection.open(target, connectionOptions(resolved, 'ledger'));
    return new RedisLedger(connection, keys, new RedisSubscriber(connection, prefix));
  }

  private constructor(connection: RedisConnection, keys: RedisKeys, subscriber: RedisSubscriber) {
    if (!(connection instanceof RedisConnection))
      throw new TypeError('RedisLedger: it is opened, not made: await RedisLedger.open(url)');
    this.#connection = connection;
    this.#keys = keys;
    this.#subscriber = subscriber;
  }

  async putIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean> {
    checkTimeToLive(ttlMs);
    const place = this.#keys.fact(key);
    const ttl = String(Math.ceil(ttlMs));
    return (await this.#connection.send(place, ['SET', place, encodeText('t', value), 'NX', 'PX', ttl])) !== null;
  }

  async put(key: string, value: string, ttlMs: number): Promise<void> {
    checkTimeToLive(ttlMs);
    await this.#connection.run(PUT, [this.#keys.fact(key)], [encodeText('t', value), String(Math.ceil(ttlMs))]);
  }

  async get(key: string): Promise<string | undefined> {
    const place = this.#keys.fact(key);
    return decodeFact(await this.#connection.send(place, ['GET', place]));
  }

  async take(key: string): Promise<string | undefined> {
    const place = this.#keys.fact(key);
    return decodeFact(await this.#connection.send(place, ['GETDEL', place]));
  }

  async increment(key: string, by: number, ttlMs: number): Promise<number> {
    checkTimeToLive(ttlMs);
    checkIncrement(by);
    const args = [String(by), String(Math.ceil(ttlMs))];
    return Number(await this.#connection.run(INCREMENT, [this.#keys.fact(key)], args));
  }

  async publish(channel: string, message: string): Promise<void> {
    const name = this.#keys.channel(channel);
    // By its name to one and the same server, which is what keeps the order; a cluster tells it to all its servers.
    await this.#connection.send(name, ['PUBLISH', name, encodeText('t', message)]);
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>> {
    return this.#subscriber.subscribe(this.#keys.channel(channel), text => listener(decodeText(text)));
  }

  async close(): Promise<void> {
    this.#subscriber.close();
    this.#connection.close();
  }
}

/** A value has a letter before it, a counter has not. */
function decodeFact(reply: Buffer | null): string | undefined {
  if (reply === null) return undefined;
  const text = String(reply);
  return /^t:/i.test(text) ? decodeText(text) : text;
}
