import { PostgresLedger } from '../ledgers/postgres.ts';
import { randomLeap } from '../record/version.ts';
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
import { named, PgDatabase, type Row } from './postgres/database.ts';
import {
  arrayOfJson,
  byteaText,
  doubleText,
  fromByteaText,
  fromDoubleText,
  fromFieldsJson,
  fromTextKey,
  jsonsOf,
  packValues,
  textKey,
  toAsciiJson,
  toFieldsJson,
} from './postgres/encoding.ts';
import { toPayloads } from './postgres/events.ts';
import { openDatabase, type PostgresOptions } from './postgres/open.ts';
import { sessionChannel } from './postgres/schema.ts';

export type { PgClientLike, PgPoolLike, PgQuery, PgResultLike } from '../../drivers/postgres.ts';
export type { PostgresOptions } from './postgres/open.ts';
export { postgresDdl } from './postgres/schema.ts';
export { PostgresLedger };

/** A store and a ledger that share connections and schema. */
export interface Postgres {
  readonly store: PostgresStore;
  readonly ledger: PostgresLedger;
  /** Closes both. So does closing one after the other. */
  close(): Promise<void>;
}

/**
 * Connects to PostgreSQL 13 or later, makes or checks the schema, and opens store and ledger on it.
 *
 * @throws {TypeError} when an option cannot work.
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the server cannot be reached or used; the message says
 * why.
 *
 * @example
 * import { SessionManager } from 'holdfast/session';
 * import { openPostgres } from 'holdfast/session/postgres';
 *
 * const keys = [crypto.getRandomValues(new Uint8Array(32))];
 * const { store, ledger } = await openPostgres({ url: postgres });
 * const sessions = new SessionManager({ store, ledger, keys });
 * await sessions.close(); // closes both
 */
export async function openPostgres(options: PostgresOptions): Promise<Postgres> {
  const database = await openDatabase(options);
  const store = new PostgresStore(database, options);
  const ledger = new PostgresLedger(database);
  return {
    store,
    ledger,
    async close() {
      await Promise.all([store.close(), ledger.close()]);
    },
  };
}

const PAGE = 1_000;
/** Sessions per touch statement: each has a deadline. */
const TOUCH_BATCH = 1_000;

/**
 * Keeps sessions in PostgreSQL. Any number of processes share them.
 *
 * Every call is one statement in a transaction of its own (a large `touch`, `sids` and `expired`: one per 1,000
 * sessions), so it is atomic, and it resolves after the server has committed: what is acknowledged survives the loss of
 * any process, and of the server as far as its `synchronous_commit` says. A call that is not answered in time, or whose
 * connection breaks, rejects; a change may have been made then. While the server is away calls fail at once or after
 * `connectTimeoutMs`; when it is back they work again.
 *
 * @example
 * import { PostgresStore } from 'holdfast/session/postgres';
 *
 * const store = await PostgresStore.open({ url: postgres });
 * await store.close();
 */
export class PostgresStore implements SessionStore {
  readonly name = 'postgres';
  /** Only with the option `notify`. */
  readonly watch?: (onChange: (sid: string) => void) => Promise<SessionFeed>;
  readonly #database: PgDatabase;
  readonly #statements: ReturnType<typeof statementsOf>;
  readonly #release: () => Promise<void>;
  readonly #notifies: boolean;

  /** Not for users: `openPostgres` or `PostgresStore.open`. */
  constructor(database: PgDatabase, { notify = false }: Pick<PostgresOptions, 'notify'> = {}) {
    if (!(database instanceof PgDatabase))
      throw new TypeError('PostgresStore: it is opened, not made: await PostgresStore.open({ url })');
    this.#database = database;
    this.#statements = statementsOf(database.schema);
    this.#release = database.use();
    this.#notifies = notify;
    if (notify) this.watch = onChange => this.#watch(onChange);
  }

  /** A store without a ledger. @throws as `openPostgres`. */
  static async open(options: PostgresOptions): Promise<PostgresStore> {
    return new PostgresStore(await openDatabase(options), options);
  }

  get interruptions(): number {
    return this.#database.interruptions;
  }

  async create(sid: string, { header, version, lastAccessedAt, attributes }: SessionRecord): Promise<boolean> {
    const { key, json } = textKey(sid);
    const names = Array.from(attributes.keys(), textKey);
    const versions = Array.from(attributes.values(), attribute => attribute.version);
    const { bytes, starts, sizes } = packValues(Array.from(attributes.values(), ({ value }) => value));
    const hasAttributes = names.length > 0;
    const [[isCreated] = []] = await this.#database.query(this.#statements.create, [
      key,
      json,
      version,
      ownerKey(header),
      toFieldsJson(header),
      lastAccessedAt,
      header.idleTimeoutMs,
      header.absoluteExpiresAt,
      ...(hasAttributes ? [names.map(name => name.key), jsonsOf(names), versions, starts, sizes, bytes] : NO_VALUES),
    ]);
    return isCreated === 'true';
  }

  async read(sid: string, without?: ReadonlySet<string>): Promise<SessionRecord | undefined> {
    const { key } = textKey(sid);
    const rows = without
      ? await this.#database.query(this.#statements['read-without'], [key, keysOf(without)])
      : await this.#database.query(this.#statements.read, [key]);
    const attributes = new Map<string, StoredAttribute>();
    const apart = new Map<string, ApartAttribute>();
    let record: SessionRecord | undefined;
    for (const [version, lastAccessedAt, header, name, nameJson, value, bytes] of rows) {
      if (name === null) {
        record = {
          header: fromFieldsJson(header!) as SessionHeader,
          version: Number(version),
          lastAccessedAt: fromDoubleText(lastAccessedAt!),
          attributes,
        };
      } else {
        const text = fromTextKey(name!, nameJson!);
        if (value === null) apart.set(text, { version: Number(version), bytes: Number(bytes) });
        else attributes.set(text, { value: fromByteaText(value!), version: Number(version) });
      }
    }
    return record && apart.size > 0 ? { ...record, apart } : record;
  }

  async readAttributes(
    sid: string,
    names: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, StoredAttribute> | undefined> {
    const values = [textKey(sid).key, keysOf(names)];
    const rows = await this.#database.query(this.#statements['read-attributes'], values);
    if (rows.length === 0) return undefined;
    const attributes = new Map<string, StoredAttribute>();
    for (const [version, name, nameJson, value] of rows) {
      if (name === null) continue;
      attributes.set(fromTextKey(name!, nameJson!), { value: fromByteaText(value!), version: Number(version) });
    }
    return attributes;
  }

  async glance(sid: string): Promise<SessionGlance | undefined> {
    const [row] = await this.#database.query(this.#statements.glance, [textKey(sid).key]);
    return row && { version: Number(row[0]), lastAccessedAt: fromDoubleText(row[1]!) };
  }

  async commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    const { header = {}, set, expected, expectedSecretHash, follows } = changes;
    const deleted = Array.from(changes.deleted ?? []).filter(name => !set?.has(name));
    const names = Array.from(set?.keys() ?? [], textKey);
    const { bytes, starts, sizes } = packValues([...(set?.values() ?? [])]);
    const [row] = await this.#database.query(this.#statements.commit, [
      textKey(sid).key,
      Object.keys(header).length > 0 ? toFieldsJson(header) : null,
      ownerKey(header),
      header.idleTimeoutMs,
      header.absoluteExpiresAt,
      ...(names.length > 0 ? [names.map(name => name.key), jsonsOf(names), starts, sizes, bytes] : NO_VALUES.slice(1)),
      deleted.length > 0 ? deleted.map(name => textKey(name).key) : null,
      expected?.size ? Array.from(expected.keys(), name => textKey(name).key) : null,
      expected?.size ? [...expected.values()] : null,
      expectedSecretHash === undefined ? null : toAsciiJson(expectedSecretHash),
      this.#eventsOf(sid),
      follows,
      randomLeap(),
    ]);
    if (!row) return { status: 'gone' };
    const [version, previous] = row;
    if (version === null) return { status: 'conflict' };
    return { status: 'committed', version: Number(version), previous: Number(previous) };
  }

  async touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    const keys = Array.from(accesses.keys(), sid => textKey(sid).key);
    const times = [...accesses.values()];
    for (let from = 0; from < keys.length; from += TOUCH_BATCH) {
      const to = from + TOUCH_BATCH;
      await this.#database.query(this.#statements.touch, [keys.slice(from, to), times.slice(from, to)]);
    }
  }

  async delete(sid: string, expiredBy = Number.POSITIVE_INFINITY): Promise<boolean> {
    const condition = expiredBy === Number.POSITIVE_INFINITY ? null : expiredBy;
    const values = [textKey(sid).key, condition, this.#eventsOf(sid)];
    const [[isDeleted] = []] = await this.#database.query(this.#statements.delete, values);
    return isDeleted === 'true';
  }

  async expired(now: number, limit: number): Promise<string[]> {
    // Each in a transaction of its own, so that what is done stays done however much there is to do.
    for (;;) {
      const [[isSettled] = []] = await this.#database.query(this.#statements.settle, [now, Math.max(limit, PAGE)]);
      if (isSettled === 'true') break;
    }
    return toSids(await this.#database.query(this.#statements.expired, [now, limit]));
  }

  async *sids(): AsyncIterable<string> {
    let after = '';
    for (;;) {
      const rows = await this.#database.query(this.#statements.sids, [after, PAGE]);
      yield* toSids(rows);
      if (rows.length < PAGE) return;
      after = rows.at(-1)![0]!;
    }
  }

  async sidsOf(owner: string): Promise<string[]> {
    return toSids(await this.#database.query(this.#statements['sids-of'], [textKey(owner).key]));
  }

  async count(): Promise<number> {
    const [[count] = []] = await this.#database.query(this.#statements.count, []);
    return Number(count);
  }

  /** Looks at each session, as `count` does. */
  async countAnonymous(): Promise<number> {
    const [[count] = []] = await this.#database.query(this.#statements['count-anonymous'], []);
    return Number(count);
  }

  async time(): Promise<number> {
    const [[now] = []] = await this.#database.query(this.#statements.time, []);
    return Number(now);
  }

  /** Ends the connections when nothing else uses them. */
  close(): Promise<void> {
    return this.#release();
  }

  #watch(onChange: (sid: string) => void): Promise<SessionFeed> {
    const { events, schema } = this.#database;
    return openFeed(events, onChange, tell => events.listen(sessionChannel(schema), tell));
  }

  #eventsOf(sid: string): string[] | null {
    return this.#notifies ? toPayloads(sid) : null;
  }
}

const NO_VALUES = [null, null, null, null, null, null];

/**
 * Every column is text of ASCII, which no setting of the server or the client writes differently: see `byteaText`.
 */
function statementsOf(schema: string) {
  const call = (name: string, parameters: number, jsons?: number) =>
    `${schema}.${name}(${Array.from({ length: parameters }, (_, index) =>
      index + 1 === jsons ? arrayOfJson(`$${jsons}`) : `$${index + 1}`,
    ).join(', ')})`;
  return named({
    create: { what: 'create a session', text: `SELECT ${call('create_session', 14, 10)}::text` },
    commit: {
      what: 'commit a session',
      text: `SELECT new_version::text, old_version::text FROM ${call('commit_session', 17, 7)}`,
    },
    delete: { what: 'delete a session', text: `SELECT ${call('delete_session', 3)}::text` },
    settle: { what: 'look for expired sessions', isRepeatable: true, text: `SELECT ${call('settle_due', 2)}::text` },
    // Two branches of one statement: they see the same moment.
    read: {
      what: 'read a session',
      isRepeatable: true,
      text: `SELECT s.version::text, ${doubleText('a.last_access')}, s.header::text, NULL::text, NULL::text, NULL::text
        FROM ${schema}.sessions s JOIN ${schema}.accesses a ON a.sid = s.sid WHERE s.sid = $1
        UNION ALL SELECT version::text, NULL, NULL, name, name_json, ${byteaText('value')}
        FROM ${schema}.attributes WHERE sid = $1`,
    },
    // The length of a value that is not in the row is known without it.
    'read-without': {
      what: 'read a session',
      isRepeatable: true,
      text: `SELECT s.version::text, ${doubleText('a.last_access')}, s.header::text, NULL::text, NULL::text, NULL::text, NULL::text
        FROM ${schema}.sessions s JOIN ${schema}.accesses a ON a.sid = s.sid WHERE s.sid = $1
        UNION ALL SELECT version::text, NULL, NULL, name, name_json,
          CASE WHEN name = ANY ($2::text[]) THEN NULL ELSE ${byteaText('value')} END,
          CASE WHEN name = ANY ($2::text[]) THEN octet_length(value)::text END
        FROM ${schema}.attributes WHERE sid = $1`,
    },
    'read-attributes': {
      what: 'read attributes of a session',
      isRepeatable: true,
      text: `SELECT version::text, NULL::text, NULL::text, NULL::text FROM ${schema}.sessions WHERE sid = $1
        UNION ALL SELECT version::text, name, name_json, ${byteaText('value')}
        FROM ${schema}.attributes WHERE sid = $1 AND name = ANY ($2::text[])`,
    },
    glance: {
      what: "read a session's version",
      isRepeatable: true,
      text: `SELECT s.version::text, ${doubleText('a.last_access')}
        FROM ${schema}.sessions s JOIN ${schema}.accesses a ON a.sid = s.sid WHERE s.sid = $1`,
    },
    touch: {
      what: 'write last access',
      isRepeatable: true,
      text: `WITH later AS MATERIALIZED (
          SELECT a.sid, n.at FROM unnest($1::text[], $2::double precision[]) AS n (sid, at)
          JOIN ${schema}.accesses a ON a.sid = n.sid
          WHERE a.last_access < n.at ORDER BY a.sid FOR NO KEY UPDATE OF a
        )
        UPDATE ${schema}.accesses a SET last_access = later.at FROM later WHERE a.sid = later.sid AND a.last_access < later.at`,
    },
    expired: {
      what: 'look for expired sessions',
      isRepeatable: true,
      text: `SELECT s.sid, s.sid_json FROM ${schema}.accesses a JOIN ${schema}.sessions s ON s.sid = a.sid
        WHERE a.due_at <= $1 AND least(a.last_access + a.idle_ms, a.absolute_at) <= $1 ORDER BY a.due_at LIMIT $2`,
    },
    time: {
      what: 'ask for the time',
      isRepeatable: true,
      text: 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::numeric::text',
    },
    sids: {
      what: 'list sessions',
      isRepeatable: true,
      text: `SELECT sid, sid_json FROM ${schema}.sessions WHERE sid > $1 ORDER BY sid LIMIT $2`,
    },
    'sids-of': {
      what: 'list the sessions of a user',
      isRepeatable: true,
      text: `SELECT sid, sid_json FROM ${schema}.sessions WHERE owner = $1`,
    },
    count: { what: 'count sessions', isRepeatable: true, text: `SELECT count(*)::text FROM ${schema}.sessions` },
    'count-anonymous': {
      what: 'count sessions',
      isRepeatable: true,
      text: `SELECT count(*)::text FROM ${schema}.sessions WHERE owner IS NULL`,
    },
  });
}

function keysOf(names: ReadonlySet<string>): string[] {
  return Array.from(names, name => textKey(name).key);
}

function ownerKey({ owner }: Partial<SessionHeader>): string | null {
  return owner === undefined ? null : textKey(owner.name).key;
}

function toSids(rows: readonly Row[]): string[] {
  return rows.map(([key, json]) => fromTextKey(key!, json!));
}
