import { silentLogger } from '../../base/logger.ts';
import { RedisConnection } from '../../drivers/redis/connection.ts';
import { RedisSubscriber } from '../../drivers/redis/subscriber.ts';
import type { RedisArgument, RedisScript } from '../../drivers/redis.ts';
import { RedisLedger } from '../ledgers/redis.ts';
import { randomLeap } from '../record/version.ts';
import { isNoRoom } from '../room/cap.ts';
import type {
  ApartAttribute,
  CommitResult,
  SessionChanges,
  SessionFeed,
  SessionGlance,
  SessionHeader,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from '../store.ts';
import { openFeed } from './feed.ts';
import { BUCKET_NAMES, decodeText, encodeText, RedisKeys } from './redis/keys.ts';
import { connectionOptions, type RedisOptions, type RedisTarget, withUrlOptions } from './redis/options.ts';
import {
  ANONYMOUS,
  COMMIT,
  COMMIT_WHEN_FULL,
  CREATE,
  DELETE,
  DISOWN,
  EXPIRED,
  OWN,
  OWN_WHEN_FULL,
  OWNED,
  READ_WITHOUT,
  TOUCH,
} from './redis/scripts.ts';
import { memoryShare, warnOfSettings } from './redis/settings.ts';

export type {
  RedisClientLike,
  RedisClusterLike,
  RedisLike,
  RedisMasterLike,
  RedisSentinelLike,
  RedisTls,
} from '../../drivers/redis.ts';
export { RedisLedger } from '../ledgers/redis.ts';
export type { RedisOptions, RedisTarget } from './redis/options.ts';

/** Entries read from an index at a time. */
const PAGE = 512;
const NOT_CHANGED = '-';

/**
 * Keeps sessions in Redis (7.0 or later), Valkey or Redis Cluster, shared by any number of machines.
 *
 * A record is a hash; each change is one script, so it happens as a whole or not at all, and in one round trip. How
 * much survives the loss of a server is what it is configured for: `appendfsync`, replicas, and `acknowledge`.
 *
 * All that can be found by time or listed is found through an index beside the records; the sessions of a user through
 * an index that is written before the record and checked against it when read, because it lies on another server of a
 * cluster.
 *
 * @example
 * import { RedisStore } from 'holdfast/session/redis';
 *
 * const store = await RedisStore.open(redis, { prefix: 'shop' });
 * await store.close();
 */
export class RedisStore implements SessionStore {
  readonly name = 'redis';
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;
  readonly #subscriber: RedisSubscriber;

  /**
   * Connects. A URL opens connections of our own; a client that is brought is used for commands and never closed, and
   * `duplicate`d for subscriptions and `acknowledge`.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when Redis does not answer in time, or the package `redis` is
   * needed and missing.
   * @throws {TypeError} when an option cannot work.
   */
  static async open(target: RedisTarget, options: RedisOptions = {}): Promise<RedisStore> {
    const resolved = withUrlOptions(target, options);
    const { prefix = 'holdfast', logger = silentLogger } = resolved;
    const keys = new RedisKeys(prefix);
    const connection = await RedisConnection.open(target, connectionOptions(resolved, 'store'));
    await warnOfSettings(connection, logger);
    return new RedisStore(connection, keys, new RedisSubscriber(connection, prefix));
  }

  private constructor(connection: RedisConnection, keys: RedisKeys, subscriber: RedisSubscriber) {
    if (!(connection instanceof RedisConnection))
      throw new TypeError('RedisStore: it is opened, not made: await RedisStore.open(url)');
    this.#connection = connection;
    this.#keys = keys;
    this.#subscriber = subscriber;
  }

  get interruptions(): number {
    return this.#connection.interruptions;
  }

  async create(sid: string, record: SessionRecord): Promise<boolean> {
    const { member, keys, base } = this.#place(sid);
    const { header, version, lastAccessedAt, attributes } = record;
    const args: RedisArgument[] = [member, base, 'version', String(version), 'accessedAt', String(lastAccessedAt)];
    for (const [field, json] of headerFields(header)) if (json !== '') args.push(field, json);
    for (const [name, attribute] of attributes) {
      const field = encodeText('a', name);
      args.push(field, toBuffer(attribute.value), `v${field}`, String(attribute.version));
    }
    if (header.owner) args.push('owned', await this.#own(header.owner.name, member, OWN));
    const [isCreated] = await this.#connection.write(CREATE, keys, args);
    return isCreated === 1;
  }

  async read(sid: string, without?: ReadonlySet<string>): Promise<SessionRecord | undefined> {
    const { keys } = this.#place(sid);
    if (without) {
      const [fields, sizes] = await this.#connection.run(READ_WITHOUT, [keys[0]], attributeFields(without));
      return decodeRecord(fields, sizes);
    }
    const reply: Iterable<Buffer> | Map<Buffer, Buffer> = await this.#connection.send(keys[0], ['HGETALL', keys[0]]);
    return decodeRecord([...(reply instanceof Map ? [...reply].flat() : reply)]);
  }

  async readAttributes(
    sid: string,
    names: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, StoredAttribute> | undefined> {
    const { keys } = this.#place(sid);
    const fields = attributeFields(names);
    const command = ['HMGET', keys[0], 'version', ...fields, ...fields.map(field => `v${field}`)];
    const [version, ...answers] = await this.#connection.send(keys[0], command);
    if (!version) return undefined;
    const attributes = new Map<string, StoredAttribute>();
    for (const [index, name] of [...names].entries()) {
      const bytes: Buffer | null = answers[index];
      // A copy: see `decodeRecord`.
      if (bytes) attributes.set(name, { value: Buffer.from(bytes), version: Number(answers[fields.length + index]) });
    }
    return attributes;
  }

  async glance(sid: string): Promise<SessionGlance | undefined> {
    const { keys } = this.#place(sid);
    const [version, accessedAt] = await this.#connection.send(keys[0], ['HMGET', keys[0], 'version', 'accessedAt']);
    return version ? { version: Number(version), lastAccessedAt: Number(accessedAt) } : undefined;
  }

  /** In a server whose memory is full it commits what makes the session no larger. */
  async commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    try {
      return (await this.#commit(sid, changes, COMMIT, OWN)) as CommitResult;
    } catch (error) {
      if (!isNoRoom(error)) throw error;
      const result = await this.#commit(sid, changes, COMMIT_WHEN_FULL, OWN_WHEN_FULL);
      if (result === 'full') throw error;
      return result;
    }
  }

  async #commit(
    sid: string,
    { header, expected, deleted, set, expectedSecretHash, follows }: SessionChanges,
    script: RedisScript,
    own: RedisScript,
  ): Promise<CommitResult | 'full'> {
    const { member, keys } = this.#place(sid);
    const secret = expectedSecretHash === undefined ? '' : JSON.stringify(expectedSecretHash);
    let stamp = NOT_CHANGED;
    if (header && 'owner' in header) stamp = header.owner ? await this.#own(header.owner.name, member, own) : '';
    const [isCommitted, version, previous, owner, owned] = await this.#connection.write(script, keys, [
      ...[member, this.#keys.changes, secret, stamp, String(follows ?? ''), String(randomLeap())],
      ...list(Array.from(expected ?? [], ([name, known]) => [encodeText('a', name), String(known)])),
      ...list(headerFields(header ?? {})),
      ...list(attributeFields(deleted).map(field => [field])),
      ...list(Array.from(set ?? [], ([name, value]) => [encodeText('a', name), toBuffer(value)])),
    ]);
    if (isCommitted !== 1) {
      const status = String(version) as 'gone' | 'conflict' | 'full';
      if (status !== 'full') return { status };
      // Refused logins must not fill it further.
      if (header?.owner) await this.#disown(JSON.stringify(header.owner), stamp, member);
      return status;
    }
    await this.#disown(String(owner), String(owned), member, header?.owner?.name);
    return { status: 'committed', version: Number(version), previous: Number(previous) };
  }

  async touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    const touched = Array.from(accesses, ([sid, at]) => {
      const { member, keys } = this.#place(sid);
      return this.#connection.run(TOUCH, keys, [member, String(at)]);
    });
    await Promise.all(touched);
  }

  async delete(sid: string, expiredBy?: number): Promise<boolean> {
    const { member, keys } = this.#place(sid);
    const by = expiredBy === undefined || expiredBy === Number.POSITIVE_INFINITY ? '' : String(expiredBy);
    const [isDeleted, owner, owned] = await this.#connection.write(DELETE, keys, [member, this.#keys.changes, by]);
    if (isDeleted !== 1) return false;
    await this.#disown(String(owner), String(owned), member);
    return true;
  }

  async expired(now: number, limit: number): Promise<string[]> {
    const found = new Map<string, Due[]>();
    let share = Math.max(4, Math.ceil(limit / 64));
    for (let asked = BUCKET_NAMES; ; share *= 8) {
      const pages = await Promise.all(asked.map(bucket => this.#due(bucket, now, Math.min(share, limit))));
      for (const [index, page] of pages.entries()) found.set(asked[index]!, page);
      const due = [...found.values()].flat().sort((a, b) => a.at - b.at);
      const last = due[limit - 1]?.at ?? Number.POSITIVE_INFINITY;
      // A bucket that gave all it was asked for may hold more that are earlier than the last of these.
      asked = asked.filter(
        (_, index) => pages[index]!.length === share && share < limit && pages[index]!.at(-1)!.at < last,
      );
      if (asked.length === 0) return due.slice(0, limit).map(({ member }) => this.#keys.sidOf(member));
    }
  }

  async *sids(): AsyncIterable<string> {
    for (const bucket of BUCKET_NAMES) {
      const index = this.#keys.index(bucket);
      // The scan gives what is there from beginning to end at least once.
      const given = new Set<string>();
      let cursor = '0';
      do {
        const page = await this.#connection.send(index, ['ZSCAN', index, cursor, 'COUNT', String(PAGE)]);
        cursor = String(page[0]);
        for (const [place, bytes] of page[1].entries()) {
          const member = String(bytes);
          if (place % 2 > 0 || given.has(member)) continue;
          given.add(member);
          yield this.#keys.sidOf(member);
        }
      } while (cursor !== '0');
    }
  }

  async sidsOf(owner: string): Promise<string[]> {
    const [before, ...entries] = await this.#connection.run(OWNED, [this.#keys.owner(owner)], []);
    return (await this.#check(owner, entriesOf(entries), Number(before))).map(member => this.#keys.sidOf(member));
  }

  async count(): Promise<number> {
    const sizes = BUCKET_NAMES.map(bucket => {
      const index = this.#keys.index(bucket);
      return this.#connection.send(index, ['ZCARD', index]) as Promise<number>;
    });
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  /** Looks at each record: some milliseconds of the server's time for every thousand, in pages. */
  async countAnonymous(): Promise<number> {
    const counts = BUCKET_NAMES.map(async bucket => {
      let sum = 0;
      for (let first = 0; ; first += PAGE) {
        const args = [this.#keys.base(bucket), String(first), String(first + PAGE - 1)];
        const [anonymous, seen] = (await this.#connection.run(ANONYMOUS, [this.#keys.index(bucket)], args)) as number[];
        sum += anonymous!;
        if (seen! < PAGE) return sum;
      }
    });
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  }

  /** Of the fullest server; undefined when none has a `maxmemory`, or does not say. */
  async fullness(): Promise<number | undefined> {
    const shares = this.#connection.masters().map(node => memoryShare(node, this.#connection));
    const known = (await Promise.all(shares)).filter(share => share !== undefined);
    return known.length > 0 ? Math.max(...known) : undefined;
  }

  /** Of one and the same server, where there are several. */
  async time(): Promise<number> {
    const [seconds, microseconds] = await this.#connection.send(this.#keys.clock, ['TIME']);
    return Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  }

  /**
   * Each commit and delete publishes the sid in the same step. What `isCurrent` rests on: see
   * docs/decisions/0009-redis-change-events.md.
   */
  watch(onChange: (sid: string) => void): Promise<SessionFeed> {
    return openFeed(this.#subscriber, onChange, tell =>
      this.#subscriber.subscribe(this.#keys.changes, member => tell(this.#keys.sidOf(member))),
    );
  }

  async close(): Promise<void> {
    this.#subscriber.close();
    this.#connection.close();
  }

  #place(sid: string) {
    const member = this.#keys.memberOf(sid);
    const bucket = this.#keys.bucketOf(member);
    const base = this.#keys.base(bucket);
    return { member, base, keys: [base + member, this.#keys.index(bucket)] as const };
  }

  async #due(bucket: string, now: number, limit: number): Promise<Due[]> {
    const args = [this.#keys.base(bucket), String(now), String(limit)];
    const entries = entriesOf(await this.#connection.run(EXPIRED, [this.#keys.index(bucket)], args));
    return entries.map(({ member, score }) => ({ member, at: Number(score) }));
  }

  /**
   * Enters the session under its owner-to-be. What comes of it is told by the record: an entry without one is harmless.
   * Returns the entry's stamp, which is like no other and says when: only the entry with the stamp that one knows is
   * ever removed.
   */
  async #own(owner: string, member: string, script: RedisScript): Promise<string> {
    const args = [String(Math.floor(Math.random() * 4096) / 4096), member];
    const [stamp, ...entries] = await this.#connection.run(script, [this.#keys.owner(owner)], args);
    const old = entriesOf(entries);
    // Where nobody sweeps or asks, entries of sessions that Redis has dropped would pile up.
    if (old.length > 0) this.#check(owner, old, Number.POSITIVE_INFINITY).catch(() => {});
    return String(stamp);
  }

  /**
   * What is left behind when this fails does no harm, and what was done before it cannot be undone: so it never
   * rejects.
   */
  async #disown(ownerJson: string, stamp: string, member: string, unless?: string): Promise<void> {
    const owner: { name: string } | undefined = ownerJson === '' ? undefined : JSON.parse(ownerJson);
    if (!owner || owner.name === unless || stamp === '') return;
    await this.#connection.run(DISOWN, [this.#keys.owner(owner.name)], [member, stamp]).catch(() => {});
  }

  /**
   * The entries that are true. Of the others those are removed that are from before that time: too old to be of a
   * commit on its way.
   */
  async #check(owner: string, entries: readonly Entry[], before: number): Promise<string[]> {
    const names = entries.map(async ({ member }) => {
      const key = this.#keys.base(this.#keys.bucketOf(member)) + member;
      const json = await this.#connection.send(key, ['HGET', key, 'h:owner']);
      return json && (JSON.parse(String(json)) as { name: string }).name;
    });
    const isTrue = (await Promise.all(names)).map(name => name === owner);
    const stale = entries.filter(({ score }, index) => !isTrue[index] && Number(score) < before);
    const keys = [this.#keys.owner(owner)];
    await Promise.all(stale.map(({ member, score }) => this.#connection.run(DISOWN, keys, [member, score])));
    return entries.filter((_, index) => isTrue[index]).map(({ member }) => member);
  }
}

/**
 * A session store and a ledger in the same Redis, with connections of their own each; close both.
 *
 * @throws as `RedisStore.open`.
 *
 * @example
 * import { SessionManager } from 'holdfast/session';
 * import { openRedis } from 'holdfast/session/redis';
 *
 * const keys = [crypto.getRandomValues(new Uint8Array(32))];
 * const sessions = new SessionManager({ ...(await openRedis(redis)), keys });
 * await sessions.close(); // closes both
 */
export async function openRedis(
  target: RedisTarget,
  options: RedisOptions = {},
): Promise<{ readonly store: RedisStore; readonly ledger: RedisLedger }> {
  const store = await RedisStore.open(target, options);
  try {
    return { store, ledger: await RedisLedger.open(target, options) };
  } catch (error) {
    await store.close();
    throw error;
  }
}

interface Due {
  readonly member: string;
  readonly at: number;
}

interface Entry {
  readonly member: string;
  readonly score: string;
}

function entriesOf(reply: readonly Buffer[]): Entry[] {
  const entries: Entry[] = [];
  for (let index = 0; index < reply.length; index += 2) {
    entries.push({ member: String(reply[index]), score: String(reply[index + 1]) });
  }
  return entries;
}

/** Each field of a header and its JSON; '' for one that is undefined. */
function headerFields(header: Partial<SessionHeader>): [string, string][] {
  return Object.entries(header).map(([name, value]) => [encodeText('h', name), JSON.stringify(value) ?? '']);
}

/** A list as the scripts take it: its length, then its items. */
function list(items: readonly (readonly RedisArgument[])[]): RedisArgument[] {
  return [String(items.length), ...items.flat()];
}

function attributeFields(names: Iterable<string> = []): string[] {
  return Array.from(names, name => encodeText('a', name));
}

/** @param sizes Of the attributes that were left out. */
function decodeRecord(fields: readonly Buffer[], sizes: readonly Buffer[] = []): SessionRecord | undefined {
  if (fields.length === 0) return undefined;
  const header: Record<string, unknown> = {};
  const values = new Map<string, Buffer>();
  const versions = new Map<string, number>();
  let [version, lastAccessedAt] = [0, 0];
  for (let index = 0; index < fields.length; index += 2) {
    const field = String(fields[index]);
    const bytes = fields[index + 1]!;
    if (/^h:/i.test(field)) header[decodeText(field)] = JSON.parse(String(bytes));
    else if (/^a:/i.test(field)) values.set(field, bytes);
    else if (/^va:/i.test(field)) versions.set(field.slice(1), Number(bytes));
    else if (field === 'version') version = Number(bytes);
    else if (field === 'accessedAt') lastAccessedAt = Number(bytes);
  }
  const attributes = new Map<string, StoredAttribute>();
  for (const [field, bytes] of values) {
    // A copy: what the client gives is a part of all that has arrived with it, and would keep that in memory.
    attributes.set(decodeText(field), { value: Buffer.from(bytes), version: versions.get(field)! });
  }
  const apart = new Map<string, ApartAttribute>();
  for (let index = 0; index < sizes.length; index += 2) {
    const field = String(sizes[index]);
    apart.set(decodeText(field), { version: versions.get(field)!, bytes: Number(sizes[index + 1]) });
  }
  const record = { header: header as unknown as SessionHeader, version, lastAccessedAt, attributes };
  return apart.size > 0 ? { ...record, apart } : record;
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
