import { setTimeout as wait } from 'node:timers/promises';
import { HoldfastError } from '../../base/errors.ts';
import { parseRedisAddresses } from '../../base/redis-address.ts';
import { connectionName } from '../connection-name.ts';
import {
  isCluster,
  isSentinel,
  loadRedis,
  nameConnection,
  REDIS_BYTES,
  type RedisArgument,
  type RedisClientLike,
  type RedisLike,
  type RedisReply,
  type RedisScript,
  type RedisTls,
} from '../redis.ts';
import { AcknowledgedWriter, type RedisAcknowledgement } from './acknowledged-writer.ts';
import { withDeadline } from './deadline.ts';
import { codeOf, NoAnswer, NotConnected, noRoom, onFailure, unavailable } from './failures.ts';
import {
  BroughtCluster,
  BroughtNode,
  openMaster,
  openNodes,
  type RedisNode,
  type RedisNodes,
  refuseUnfit,
  SingleNode,
} from './nodes.ts';
import { SentinelClient, Sentinels } from './sentinel.ts';

export interface RedisConnectionOptions {
  /** Milliseconds after which a command without an answer fails. */
  readonly commandTimeoutMs: number;
  readonly acknowledge?: RedisAcknowledgement | undefined;
  readonly tls?: RedisTls | undefined;
  /** What our own connections are called on the server, and what for they are. One that is brought has its own name. */
  readonly client: { readonly name: string; readonly purpose: 'store' | 'ledger' };
}

const BROUGHT = 'the client of the application';
const BROUGHT_SENTINEL = 'behind the sentinel client of the application';
const MAX_TRIES = 8;
const RETRY_PAUSE_MS = 25;

/**
 * Commands to Redis: to the server that keeps the key, with a deadline, and never queued for a server that is away.
 *
 * Every rejection is a `HoldfastError` ERR_SESSION_STORE_UNAVAILABLE, or ERR_SESSION_NO_ROOM when the server's memory
 * is full. Redirections of a cluster are followed, a script that the server has forgotten is sent again, and a
 * connection of our own that stops answering is made anew.
 */
export class RedisConnection {
  readonly #nodes: RedisNodes;
  readonly options: RedisConnectionOptions;
  readonly #writers = new Map<RedisNode, AcknowledgedWriter>();
  /** Made by us, from an address. */
  readonly #isOwn: boolean;
  #isClosed = false;

  /**
   * @param target Addresses, of which one suffices (several of a cluster, so that it is found while one is away); or a
   * client, connected.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE
   * @throws {TypeError} when an address is not one.
   */
  static async open(
    target: string | readonly string[] | RedisLike,
    options: RedisConnectionOptions,
  ): Promise<RedisConnection> {
    if (typeof target === 'string' || Array.isArray(target)) {
      const { servers, sentinel } = parseRedisAddresses([target].flat());
      const { commandTimeoutMs, client } = options;
      const createClient = await loadRedis(options.tls, connectionName(client.name, client.purpose));
      if (!sentinel)
        return new RedisConnection(await openNodes(servers, createClient, commandTimeoutMs), options, true);
      const sentinels = new Sentinels(sentinel, createClient, commandTimeoutMs);
      const create = () => sentinels.createClient();
      return new RedisConnection(await openMaster(sentinels.place, create, commandTimeoutMs), options, true);
    }
    const client = target as RedisLike;
    if (isSentinel(client)) {
      const create = () => SentinelClient.like(client);
      return new RedisConnection(await openMaster(BROUGHT_SENTINEL, create, options.commandTimeoutMs), options);
    }
    if (!isCluster(client)) {
      const node = new BroughtNode(BROUGHT, () => client);
      // One that is not connected yet says nothing.
      if (node.client) await refuseUnfit(BROUGHT, node.client);
      return new RedisConnection(new SingleNode(node), options);
    }
    const cluster = new BroughtCluster(client);
    await cluster.connect().catch(error => {
      throw unavailable('the cluster client of the application is not connected', error);
    });
    return new RedisConnection(cluster, options);
  }

  private constructor(nodes: RedisNodes, options: RedisConnectionOptions, isOwn = false) {
    this.#nodes = nodes;
    this.options = options;
    this.#isOwn = isOwn;
  }

  /** Another connection of ours to a server of this one is called by what it is for. */
  nameFor(client: RedisClientLike, what: 'events' | 'writes'): void {
    const { name, purpose } = this.options.client;
    if (this.#isOwn) nameConnection(client, connectionName(name, `${purpose}-${what}`));
  }

  /**
   * How often a connection was lost, or keys went to another server: what was read before may have been set back since.
   */
  get interruptions(): number {
    return this.#nodes.interruptions;
  }

  /** Every server that takes writes. */
  masters(): readonly RedisNode[] {
    return this.#nodes.masters();
  }

  /** One command, to the server that keeps the key. */
  send(key: string, args: readonly RedisArgument[]): Promise<RedisReply> {
    return this.#send(key, (node, isAsking) => this.#exchange(node, args, isAsking));
  }

  /** One command to one server. */
  sendTo(node: RedisNode, args: readonly RedisArgument[]): Promise<RedisReply> {
    return this.#exchange(node, args, false).catch(error => {
      throw this.#toOutage(node, error);
    });
  }

  /** Runs a script. All keys are in one slot. */
  run(script: RedisScript, keys: readonly string[], args: readonly RedisArgument[]): Promise<RedisReply> {
    return this.#run(script, keys, args, (node, command, isAsking) => this.#exchange(node, command, isAsking));
  }

  /**
   * Runs a script that writes. The first element of its reply is 1 when it has written, else 0. With `acknowledge` it
   * resolves when the replicas have what it wrote.
   */
  write(script: RedisScript, keys: readonly string[], args: readonly RedisArgument[]): Promise<RedisReply> {
    const { acknowledge } = this.options;
    if (!acknowledge) return this.run(script, keys, args);
    return this.#run(script, keys, args, (node, command, isAsking) =>
      this.#writer(node, acknowledge).write(command, isAsking),
    );
  }

  /** Closes what is ours. Commands on their way are rejected. */
  close(): void {
    this.#isClosed = true;
    for (const writer of this.#writers.values()) writer.close();
    this.#nodes.close();
  }

  #run(
    { source, sha1 }: RedisScript,
    keys: readonly string[],
    args: readonly RedisArgument[],
    exchange: (node: RedisNode, command: readonly RedisArgument[], isAsking: boolean) => Promise<RedisReply>,
  ): Promise<RedisReply> {
    const rest = [String(keys.length), ...keys, ...args];
    return this.#send(keys[0]!, (node, isAsking) =>
      exchange(node, ['EVALSHA', sha1, ...rest], isAsking).catch(error => {
        if (codeOf(error) !== 'NOSCRIPT') throw error;
        return exchange(node, ['EVAL', source, ...rest], isAsking);
      }),
    );
  }

  async #send(key: string, attempt: (node: RedisNode, isAsking: boolean) => Promise<RedisReply>): Promise<RedisReply> {
    let node = this.#nodes.nodeOf(key);
    let isAsking = false;
    for (let tries = 1; ; tries++) {
      if (this.#isClosed) throw unavailable('the connection to redis is closed');
      if (!node) throw unavailable('no master of the redis cluster is known to keep the slot of the key');
      try {
        return await attempt(node, isAsking);
      } catch (error) {
        const code = codeOf(error);
        if (tries === MAX_TRIES || !(code === 'MOVED' || code === 'ASK' || code === 'TRYAGAIN')) {
          throw this.#toOutage(node, error);
        }
        if (code === 'TRYAGAIN') {
          // The slot is on its way to another server, and only one of the keys has arrived.
          await wait(RETRY_PAUSE_MS * tries);
          continue;
        }
        const address = (error as Error).message.split(' ').at(-1)!;
        isAsking = code === 'ASK';
        if (!isAsking) await this.#nodes.refresh(key);
        node = this.#nodes.at(address) ?? this.#nodes.nodeOf(key);
        // A server that has just become known is being connected to.
        for (let pauses = 0; node && !node.client && pauses < MAX_TRIES; pauses++) await wait(RETRY_PAUSE_MS);
      }
    }
  }

  async #exchange(node: RedisNode, args: readonly RedisArgument[], isAsking: boolean): Promise<RedisReply> {
    const { client } = node;
    if (!client) throw new NotConnected(node.failure);
    const { commandTimeoutMs } = this.options;
    // Behind each other on one connection: nothing comes between them.
    if (isAsking) client.sendCommand(['ASKING']).catch(() => {});
    try {
      return await withDeadline(client.sendCommand(args, REDIS_BYTES), commandTimeoutMs, () => new NoAnswer());
    } catch (error) {
      onFailure(node, client, error);
      throw error;
    }
  }

  #writer(node: RedisNode, acknowledge: RedisAcknowledgement): AcknowledgedWriter {
    let writer = this.#writers.get(node);
    if (!writer) {
      const masters = this.#nodes.masters();
      for (const [other, old] of this.#writers) {
        if (masters.includes(other)) continue;
        old.close();
        this.#writers.delete(other);
      }
      writer = new AcknowledgedWriter(node, acknowledge, this.options.commandTimeoutMs, async client =>
        this.nameFor(client, 'writes'),
      );
      this.#writers.set(node, writer);
    }
    return writer;
  }

  #toOutage({ address }: RedisNode, error: unknown): Error {
    if (error instanceof HoldfastError) return error;
    const { commandTimeoutMs } = this.options;
    if (error instanceof NoAnswer) {
      return unavailable(`redis at ${address} has not answered within ${commandTimeoutMs} ms`, error);
    }
    if (error instanceof NotConnected) return unavailable(`redis at ${address} is not connected`, error.cause);
    const code = codeOf(error);
    if (code === undefined) return unavailable(`the connection to redis at ${address} was lost`, error);
    const message = `redis at ${address} refused a command with ${code}${HINTS[code] ?? ''}`;
    return code === 'OOM' ? noRoom(message, error) : unavailable(message, error);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  CLUSTERDOWN: ': slots of the cluster are not served',
  LOADING: ': it is still loading its data',
  MASTERDOWN: ': it is a replica without its master',
  MISCONF: ': it cannot write to its disk',
  NOAUTH: ': give the password in the address',
  NOPERM: ': its user may not do this; see the guide for the permissions that are needed',
  NOREPLICAS: ': too few replicas are connected to it',
  OOM: ': its memory is full; raise maxmemory',
  READONLY: ': it is a replica; connect to the master',
  WRONGPASS: ': the user name or the password is wrong',
};
