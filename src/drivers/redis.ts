import { HoldfastError } from '../base/errors.ts';
import type { RedisAddress } from '../base/redis-address.ts';

export type RedisArgument = string | Buffer;

// biome-ignore lint/suspicious/noExplicitAny: what a reply is follows from the command
export type RedisReply = any;

/**
 * What is needed of a Redis client. A client of node-redis (the package `redis`, 5 and later) is one.
 *
 * Text and bytes are sent as they are. With `REDIS_BYTES` as options a reply's bulk strings are `Buffer`s and its maps
 * are flat arrays. An error reply rejects with an `Error` whose message is the reply.
 */
export interface RedisClientLike {
  /** Connected, and commands are sent at once. */
  readonly isReady: boolean;
  sendCommand(args: readonly RedisArgument[], options?: object): Promise<unknown>;
  /** Another client for the same server, not connected yet. */
  duplicate(): RedisClientLike;
  connect(): Promise<unknown>;
  /** Closes the connection at once; commands on their way are rejected. */
  destroy(): void;
  on(event: 'error', listener: (error: Error) => void): unknown;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
}

/** A node of a cluster that a client knows. */
export interface RedisMasterLike {
  readonly address: string;
  readonly client?: RedisClientLike | Promise<RedisClientLike> | undefined;
}

/** What is needed of a client for Redis Cluster. A cluster of node-redis is one. */
export interface RedisClusterLike {
  readonly masters: readonly RedisMasterLike[];
  readonly slots: readonly ({ readonly master: RedisMasterLike } | undefined)[];
  // biome-ignore lint/suspicious/noExplicitAny: which kind of node it takes is the client's own business
  nodeClient(node: any): RedisClientLike | Promise<RedisClientLike>;
  sendCommand(
    firstKey: RedisArgument | undefined,
    isReadonly: boolean | undefined,
    args: RedisArgument[],
    options?: object,
  ): Promise<unknown>;
}

/** What is needed of a client for Sentinels. One of node-redis (`createSentinel`) is one. */
export interface RedisSentinelLike {
  readonly isReady: boolean;
  /** Another one for the same Sentinels, with these settings in the place of its own; not connected yet. */
  duplicate(settings?: object): RedisSentinelLike;
  connect(): Promise<unknown>;
  destroy(): unknown;
  acquire(): Promise<unknown>;
  getMasterNode(): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  sendCommand(isReadonly: boolean | undefined, args: RedisArgument[], options?: object): Promise<unknown>;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  // biome-ignore lint/suspicious/noExplicitAny: its listeners take text or bytes
  unsubscribe(channel: string, listener: (message: any) => void): Promise<unknown>;
}

/** A client that a user brings. It is never closed by us. */
export type RedisLike = RedisClientLike | RedisClusterLike | RedisSentinelLike;

const CLIENT_METHODS = ['sendCommand', 'duplicate', 'connect', 'destroy', 'on', 'subscribe', 'unsubscribe'];

/** @throws {TypeError} when it is none of them. */
export function kindOf(client: RedisLike): 'client' | 'cluster' | 'sentinel' {
  const has = (name: string) => typeof (client as unknown as Record<string, unknown> | null)?.[name] === 'function';
  const missing = CLIENT_METHODS.filter(name => !has(name));
  if (has('nodeClient') && has('sendCommand') && 'masters' in client) return 'cluster';
  if (missing.length === 0 && has('acquire') && has('getMasterNode')) return 'sentinel';
  if (missing.length === 0 && 'isReady' in client) return 'client';
  const what = has('execute') ? 'a pool ' : has('callBuffer') ? 'a client of ioredis ' : '';
  const lacks = missing.length > 0 ? missing.join(', ') : 'isReady';
  throw new TypeError(
    `redis: cannot use the client that was given, ${what}without ${lacks}; give one that createClient, createCluster or createSentinel of the package "redis" (5 or later) has made, or adapt yours as docs/guides/redis.md shows`,
  );
}

/** As `RedisLike`, told apart by `kindOf`. */
export function isCluster(client: RedisLike): client is RedisClusterLike {
  return kindOf(client) === 'cluster';
}

export function isSentinel(client: RedisLike): client is RedisSentinelLike {
  return kindOf(client) === 'sentinel';
}

/** RESP type bytes of node-redis: `$` bulk string, `%` map. */
export const REDIS_BYTES: object = { typeMapping: { 36: Buffer, 37: Array } };

/** For `rediss://`: whom to trust besides the usual authorities, and who we are. PEM. */
export interface RedisTls {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** The name that the certificate must be for; default: the host of the address. */
  readonly servername?: string;
}

/** Makes clients that are not connected yet. */
export type CreateRedisClient = (address: RedisAddress) => RedisClientLike;

/**
 * Loads the package `redis`, now and only here: an application that brings a client, or uses another store,
 * need not have it.
 *
 * Its clients keep no queue while they are offline, and do not connect again by themselves: `RedisLink` does that.
 *
 * @param name What the server calls their connections.
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the package is not installed.
 */
export async function loadRedis(tls: RedisTls = {}, name?: string): Promise<CreateRedisClient> {
  const { createClient } = await import('redis').catch(error => {
    const message = 'the package "redis" could not be loaded; add it to your project with: npm install redis@6';
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, cause: error });
  });
  return ({ host, port, isTls, username, password, database }) => {
    const client = createClient({
      socket: {
        // Deadlines are ours: its own would fire before it has read what arrived while the process was busy.
        ...{ host, port, connectTimeout: 0, reconnectStrategy: false },
        ...(isTls && { ...tls, tls: true as const }),
      },
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password }),
      ...(database > 0 && { database }),
      disableOfflineQueue: true,
      maintNotifications: 'disabled',
      // Ours are deadlines for the answer; its own are only for being written, and cost an AbortSignal for each
      // command.
      commandOptions: { timeout: 0 },
    });
    return name === undefined ? client : withName(client, name);
  };
}

/** Says its name when it has connected. Its own option for that would not connect where the server refuses it. */
function withName<C extends RedisClientLike>(client: C, name: string): C {
  const { connect } = client;
  client.connect = async () => {
    const connected = await connect.call(client);
    nameConnection(client, name);
    return connected;
  };
  return client;
}

/** Sent ahead of whatever comes. A user who may not do this has connections without names. */
export function nameConnection(client: RedisClientLike, name: string): void {
  client.sendCommand(['CLIENT', 'SETNAME', name]).catch(() => {});
}

/** A Lua script. Sent by its hash, and once as text to a server that does not know it. */
export interface RedisScript {
  readonly source: string;
  readonly sha1: string;
}
