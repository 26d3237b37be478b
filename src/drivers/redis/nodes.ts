import type { Awaitable } from '../../base/awaitable.ts';
import { HoldfastError } from '../../base/errors.ts';
import { getOrInsert } from '../../base/get-or-insert.ts';
import type { RedisAddress } from '../../base/redis-address.ts';
import { type CreateRedisClient, REDIS_BYTES, type RedisClientLike, type RedisClusterLike } from '../redis.ts';
import { withDeadline } from './deadline.ts';
import { codeOf, NoAnswer, unavailable } from './failures.ts';
import { keySlot } from './key-slot.ts';
import { RedisLink } from './link.ts';

/** One server that takes writes. */
export interface RedisNode {
  /** `host:port`, for messages and redirections; never a credential. */
  readonly address: string;
  /** Connected now, or undefined. */
  readonly client: RedisClientLike | undefined;
  /** Why there is no client, if that is known. */
  readonly failure?: unknown;
  /** Another client for this server, not connected yet. */
  create(): Awaitable<RedisClientLike>;
  /** It answers no more, or says that it takes no writes. */
  giveUp(client: RedisClientLike, reason: unknown): void;
}

/** The servers that keep the keys. */
export interface RedisNodes {
  /** Undefined: at the moment no server is known to keep it. */
  nodeOf(key: string): RedisNode | undefined;
  /** Every server that takes writes. */
  masters(): readonly RedisNode[];
  /** The server that a redirection names. */
  at(address: string): RedisNode | undefined;
  /** Learns anew which server keeps which keys. Never rejects. @param key One that was not where it should be. */
  refresh(key: string): Promise<void>;
  /** How often a connection was lost, or keys went to another server. */
  readonly interruptions: number;
  close(): void;
}

/** A server of our own connection. One that is a replica, or no server of data at all, counts as away. */
export class OwnNode extends RedisLink implements RedisNode {
  readonly address: string;
  readonly create: () => Awaitable<RedisClientLike>;
  /** How often the connection was lost. */
  losses = 0;

  /** @param address For messages. @param create Looks up where it is, each time. */
  constructor(address: string, create: () => Awaitable<RedisClientLike>, timeoutMs: number, onLost = () => {}) {
    const noteLoss = () => {
      this.losses++;
      onLost();
    };
    super({ create, timeoutMs, prepare: client => refuseUnfit(address, client), onLost: noteLoss });
    this.address = address;
    this.create = create;
  }
}

/** A client that the application connects, connects again and closes. */
export class BroughtNode implements RedisNode {
  readonly address: string;
  readonly #find: () => RedisClientLike | undefined;
  readonly #watched = new WeakSet<RedisClientLike>();
  /** How often the connection was lost, as far as the client says so. */
  losses = 0;

  constructor(address: string, find: () => RedisClientLike | undefined) {
    this.address = address;
    this.#find = find;
    this.#watch(find());
  }

  get client(): RedisClientLike | undefined {
    const client = this.#find();
    this.#watch(client);
    return client?.isReady ? client : undefined;
  }

  create(): RedisClientLike {
    const client = this.#find();
    if (!client) throw new Error('the client that was brought is not connected');
    return client.duplicate();
  }

  giveUp(): void {}

  close(): void {}

  #watch(client: RedisClientLike | undefined): void {
    if (!client || this.#watched.has(client)) return;
    this.#watched.add(client);
    client.on('error', () => this.losses++);
  }
}

/** Everything is on one server. */
export class SingleNode implements RedisNodes {
  readonly #node: OwnNode | BroughtNode;

  constructor(node: OwnNode | BroughtNode) {
    this.#node = node;
  }

  get interruptions(): number {
    return this.#node.losses;
  }

  nodeOf(): RedisNode {
    return this.#node;
  }

  masters(): readonly RedisNode[] {
    return [this.#node];
  }

  at(): undefined {}

  async refresh(): Promise<void> {}

  close(): void {
    this.#node.close();
  }
}

/** Redis Cluster through a cluster client of the application: it knows which server keeps which slot. */
export class BroughtCluster implements RedisNodes {
  readonly #cluster: RedisClusterLike;
  readonly #nodes = new Map<string, BroughtNode>();
  #moves = 0;

  constructor(cluster: RedisClusterLike) {
    this.#cluster = cluster;
  }

  /** Connects to every master, in case the client does that only when asked. */
  async connect(): Promise<void> {
    await Promise.all(this.#cluster.masters.map(master => this.#cluster.nodeClient(master)));
  }

  nodeOf(key: string): RedisNode | undefined {
    const master = this.#cluster.slots[keySlot(key)]?.master;
    return master && this.#node(master.address);
  }

  masters(): readonly RedisNode[] {
    return this.#cluster.masters.map(({ address }) => this.#node(address));
  }

  at(address: string): RedisNode | undefined {
    return this.#cluster.masters.some(master => master.address === address) ? this.#node(address) : undefined;
  }

  get interruptions(): number {
    let sum = this.#moves;
    for (const { losses } of this.#nodes.values()) sum += losses;
    return sum;
  }

  async refresh(key: string): Promise<void> {
    this.#moves++;
    // It follows the redirection, and learns from it.
    await this.#cluster.sendCommand(key, false, ['EXISTS', key], REDIS_BYTES).catch(() => {});
    await this.connect().catch(() => {});
  }

  close(): void {}

  #node(address: string): BroughtNode {
    let node = this.#nodes.get(address);
    if (!node) {
      node = new BroughtNode(address, () => {
        const master = this.#cluster.masters.find(candidate => candidate.address === address);
        const client = master?.client;
        if (master && !client) void Promise.resolve(this.#cluster.nodeClient(master)).catch(() => {});
        return client && 'isReady' in client ? client : undefined;
      });
      this.#nodes.set(address, node);
    }
    return node;
  }
}

/** From `from` to `to` the slots that a node keeps. */
interface SlotRange {
  readonly from: number;
  readonly to: number;
  readonly node: OwnNode;
}

/**
 * Redis Cluster through connections of our own, one for each master.
 *
 * The map of slots is read anew when a server redirects, and when one cannot be reached: then from the others, so
 * that the replica that takes its place is found also when the lost one says nothing any more.
 */
export class OwnCluster implements RedisNodes {
  readonly #seeds: readonly RedisAddress[];
  readonly #createClient: CreateRedisClient;
  readonly #timeoutMs: number;
  readonly #nodes = new Map<string, OwnNode>();
  #ranges: readonly SlotRange[] = [];
  #interruptions = 0;
  #refreshing: Promise<void> | undefined;
  #refreshedAt = 0;
  #isClosed = false;

  constructor(seeds: readonly RedisAddress[], createClient: CreateRedisClient, timeoutMs: number) {
    this.#seeds = seeds;
    this.#createClient = createClient;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Reads the map of slots, and tries to connect to every master. @throws when no server gives it, or none can be
   * connected to.
   */
  async connect(): Promise<void> {
    await this.refresh();
    if (this.#ranges.length === 0) throw new Error('no node of the cluster tells who keeps which slot');
    // Where one is away, what the others keep is served.
    const connected = this.masters().map(node => (node as OwnNode).first);
    await Promise.allSettled(connected);
    await Promise.any(connected).catch(error => {
      throw (error as AggregateError).errors[0];
    });
  }

  nodeOf(key: string): RedisNode | undefined {
    const slot = keySlot(key);
    const range = this.#ranges.find(({ from, to }) => from <= slot && slot <= to);
    if (!range?.node.client && performance.now() - this.#refreshedAt > 500) void this.refresh();
    return range?.node;
  }

  masters(): readonly RedisNode[] {
    return [...new Set(this.#ranges.map(({ node }) => node))];
  }

  at(address: string): RedisNode {
    return this.#node(address);
  }

  get interruptions(): number {
    return this.#interruptions;
  }

  refresh(): Promise<void> {
    this.#refreshing ??= this.#discover().finally(() => {
      this.#refreshing = undefined;
      this.#refreshedAt = performance.now();
    });
    return this.#refreshing;
  }

  close(): void {
    this.#isClosed = true;
    for (const node of this.#nodes.values()) node.close();
    this.#nodes.clear();
  }

  async #discover(): Promise<void> {
    for (const node of [...this.#nodes.values()]) {
      const { client } = node;
      if (client && (await this.#ask(client, node.address))) return;
    }
    for (const seed of this.#seeds) {
      if (this.#isClosed) return;
      const client = this.#createClient(seed);
      client.on('error', () => {});
      try {
        await withDeadline(client.connect(), this.#timeoutMs, () => new NoAnswer());
        if (await this.#ask(client, nameOf(seed))) return;
      } catch {
        // The next one may answer.
      } finally {
        client.destroy();
      }
    }
  }

  async #ask(client: RedisClientLike, asked: string): Promise<boolean> {
    try {
      const answer = client.sendCommand(['CLUSTER', 'SLOTS'], REDIS_BYTES);
      const slots = (await withDeadline(answer, this.#timeoutMs, () => new NoAnswer())) as ClusterSlots;
      if (this.#isClosed) return true;
      const before = this.#ranges;
      this.#ranges = slots.map(([from, to, [host, port]]) => {
        const name = String(host ?? '');
        // Without a name: the host that was asked.
        return { from, to, node: this.#node(`${name === '' || name === '?' ? hostOf(asked) : name}:${port}`) };
      });
      if (placesOf(before) !== placesOf(this.#ranges)) this.#interruptions++;
      const used = new Set(this.#ranges.map(({ node }) => node));
      for (const [address, node] of this.#nodes) {
        if (used.has(node)) continue;
        node.close();
        this.#nodes.delete(address);
      }
      return slots.length > 0;
    } catch {
      return false;
    }
  }

  #node(address: string): OwnNode {
    return getOrInsert(this.#nodes, address, () => {
      const seed = this.#seeds[0]!;
      const target = { ...seed, host: hostOf(address), port: Number(address.slice(address.lastIndexOf(':') + 1)) };
      return new OwnNode(
        address,
        () => this.#createClient(target),
        this.#timeoutMs,
        () => {
          this.#interruptions++;
          void this.refresh();
        },
      );
    });
  }
}

type ClusterSlots = (readonly [from: number, to: number, master: readonly [host: unknown, port: number]])[];

function placesOf(ranges: readonly SlotRange[]): string {
  return ranges
    .map(({ from, to, node }) => `${from}-${to} ${node.address}`)
    .sort()
    .join();
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}

function nameOf({ host, port }: RedisAddress): string {
  return `${host}:${port}`;
}

/**
 * Connects to Redis, and finds out by itself whether it is a cluster.
 *
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when none of the addresses answers in time.
 */
export async function openNodes(
  addresses: readonly RedisAddress[],
  createClient: CreateRedisClient,
  timeoutMs: number,
): Promise<RedisNodes> {
  let failure: unknown;
  for (const address of addresses) {
    const node = new OwnNode(nameOf(address), () => createClient(address), timeoutMs);
    try {
      const client = await node.first;
      // Refused where there is no cluster, or to a user who may not know.
      const slots = client.sendCommand(['CLUSTER', 'SLOTS'], REDIS_BYTES).catch(error => {
        if (codeOf(error) === undefined) throw error;
      });
      if (!(await withDeadline(slots, timeoutMs, () => new NoAnswer()))) {
        if (addresses.length === 1) return new SingleNode(node);
        throw unavailable(
          `redis at ${node.address} is not a node of a cluster, and several addresses were given; give one address, those of a cluster, or those of Sentinels as redis+sentinel://…`,
        );
      }
      node.close();
      const cluster = new OwnCluster(addresses, createClient, timeoutMs);
      await cluster.connect().catch(error => {
        cluster.close();
        throw error;
      });
      return cluster;
    } catch (error) {
      node.close();
      // It answers, and cannot be used.
      if (error instanceof HoldfastError) throw error;
      failure = error;
    }
  }
  const message = `redis at ${addresses.map(nameOf).join(', ')} could not be reached; check that it runs, its address, and the password`;
  throw unavailable(message, failure);
}

/**
 * Connects to the master of a name.
 *
 * @param place For messages.
 * @param create A client for the master as it is now.
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when there is none in time.
 */
export async function openMaster(
  place: string,
  create: () => Awaitable<RedisClientLike>,
  timeoutMs: number,
): Promise<RedisNodes> {
  const node = new OwnNode(place, create, timeoutMs);
  try {
    await node.first;
    return new SingleNode(node);
  } catch (error) {
    node.close();
    if (error instanceof HoldfastError) throw error;
    throw unavailable(`redis ${place} could not be reached; check the sentinels, the name, and the passwords`, error);
  }
}

/**
 * What a server says of itself; it may have nothing to say.
 *
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when it takes no writes by what it is.
 */
export async function refuseUnfit(address: string, client: RedisClientLike): Promise<void> {
  const facts = await factsOf(client);
  const mode = facts.get('mode');
  if (mode === 'sentinel') {
    throw unavailable(
      `redis at ${address} is a Sentinel, which keeps no data; write redis+sentinel://${address}/ and the name of its master`,
    );
  }
  // A cluster says by itself which of its servers take writes.
  if (mode === 'standalone' && facts.get('role') === 'replica') {
    throw unavailable(
      `redis at ${address} is a replica; give the address of its master, or those of the Sentinels as redis+sentinel://…`,
    );
  }
}

async function factsOf(client: RedisClientLike): Promise<ReadonlyMap<string, string>> {
  const facts = new Map<string, string>();
  // Refused by servers that do not know it.
  const reply = await client.sendCommand(['HELLO'], REDIS_BYTES).catch(error => {
    if (codeOf(error) === undefined) throw error;
  });
  const items = reply instanceof Map ? [...reply].flat() : Array.isArray(reply) ? reply : [];
  for (let i = 0; i < items.length; i += 2) facts.set(String(items[i]), String(items[i + 1]));
  return facts;
}
