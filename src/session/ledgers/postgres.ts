import { hash } from 'node:crypto';
import type { Timer } from '../../base/clock.ts';
import type { Ledger } from '../ledger.ts';
import { named, PgDatabase, sqlStateOf } from '../stores/postgres/database.ts';
import { textKey, toAsciiJson } from '../stores/postgres/encoding.ts';
import { toPayloads } from '../stores/postgres/events.ts';
import { openDatabase, type PostgresOptions } from '../stores/postgres/open.ts';
import { checkIncrement, checkTimeToLive } from './arguments.ts';

const SWEEP_EVERY_MS = 60_000;
const SWEEP_BATCH = 1_000;
/** Characters of notifications that one transaction sends, as far as more than one event is there. */
const PUBLISH_BATCH = 500_000;
/** A text that is no number, or one that is too large, where a counter was to be. */
const NO_COUNTER = new Set(['22P02', '22003']);

interface Publication {
  readonly channel: string;
  readonly payloads: readonly string[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Facts in a table, events by `NOTIFY`. Any number of processes share them.
 *
 * Times to live follow the server's clock. Facts whose time is over are removed every minute, in batches. Events of one
 * ledger are told in the order of the calls; those that wait for each other go together, in one transaction.
 *
 * @example
 * import { openPostgres } from 'holdfast/session/postgres';
 *
 * const { ledger, close } = await openPostgres({ url: postgres });
 * await ledger.put('color', 'red', 60_000);
 * await close();
 */
export class PostgresLedger implements Ledger {
  readonly name = 'postgres';
  readonly #database: PgDatabase;
  readonly #statements: ReturnType<typeof statementsOf>;
  readonly #release: () => Promise<void>;
  #waiting: Publication[] = [];
  #publishing: Promise<void> | undefined;
  #timer: Timer | undefined;
  #sweeping: Promise<void> | undefined;
  #isClosed = false;

  /** Not for users: `openPostgres` or `PostgresLedger.open`. */
  constructor(database: PgDatabase) {
    if (!(database instanceof PgDatabase))
      throw new TypeError('PostgresLedger: it is opened, not made: await PostgresLedger.open({ url })');
    this.#database = database;
    this.#statements = statementsOf(database.schema);
    this.#release = database.use();
    this.#schedule();
  }

  /** A ledger without a store. @throws as `openPostgres`. */
  static async open(options: PostgresOptions): Promise<PostgresLedger> {
    return new PostgresLedger(await openDatabase(options, 'ledger'));
  }

  async putIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean> {
    checkTimeToLive(ttlMs);
    const values = [textKey(key).key, toAsciiJson(value), ttlMs];
    return (await this.#database.query(this.#statements['put-if-absent'], values)).length > 0;
  }

  async put(key: string, value: string, ttlMs: number): Promise<void> {
    checkTimeToLive(ttlMs);
    await this.#database.query(this.#statements.put, [textKey(key).key, toAsciiJson(value), ttlMs]);
  }

  async get(key: string): Promise<string | undefined> {
    const [[value] = []] = await this.#database.query(this.#statements.get, [textKey(key).key]);
    return fromFact(value);
  }

  async take(key: string): Promise<string | undefined> {
    const [[value] = []] = await this.#database.query(this.#statements.take, [textKey(key).key]);
    return fromFact(value);
  }

  /** @throws {TypeError} when the key holds a text that is no number. */
  async increment(key: string, by: number, ttlMs: number): Promise<number> {
    checkTimeToLive(ttlMs);
    checkIncrement(by);
    try {
      const [[sum] = []] = await this.#database.query(this.#statements.increment, [textKey(key).key, by, ttlMs]);
      return Number(sum);
    } catch (error) {
      if (!NO_COUNTER.has(sqlStateOf(error) ?? '')) throw error;
      throw new TypeError('ledger: this key holds a text that cannot be counted on');
    }
  }

  publish(channel: string, message: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ channel: this.#channel(channel), payloads: toPayloads(message), resolve, reject });
      this.#publishing ??= this.#publish();
    });
  }

  subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>> {
    return this.#database.events.listen(this.#channel(channel), listener);
  }

  /** Ends the connections when nothing else uses them. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#database.clock.clearTimeout(this.#timer);
    await this.#sweeping;
    await this.#publishing;
    await this.#release();
  }

  /** One transaction after the other, so that the order stays. */
  async #publish(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#nextBatch();
      const channels = batch.flatMap(({ channel, payloads }) => payloads.map(() => channel));
      const payloads = batch.flatMap(publication => publication.payloads);
      try {
        await this.#database.query(this.#statements.publish, [channels, payloads]);
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#publishing = undefined; // in the same turn as the look at what is waiting
  }

  #nextBatch(): Publication[] {
    let size = 0;
    let count = 0;
    for (const { payloads } of this.#waiting) {
      size += payloads.reduce((sum, { length }) => sum + length, 0);
      if (count > 0 && size > PUBLISH_BATCH) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  /** A name of at most 63 characters, as PostgreSQL wants it, for any text. */
  #channel(channel: string): string {
    const digest = hash('sha256', Buffer.from(channel, 'utf16le'), 'base64url').slice(0, 20);
    return `${this.#database.schema}.${digest}`;
  }

  #schedule(): void {
    if (this.#isClosed) return;
    // Not all processes at the same moment.
    const ms = SWEEP_EVERY_MS * (0.5 + Math.random());
    this.#timer = this.#database.clock.setTimeout(() => {
      this.#sweeping = this.#sweep().finally(() => this.#schedule());
    }, ms);
  }

  async #sweep(): Promise<void> {
    try {
      while (!this.#isClosed) {
        const [[removed] = []] = await this.#database.query(this.#statements.sweep, [SWEEP_BATCH]);
        if (Number(removed) < SWEEP_BATCH) return;
      }
    } catch {
      // Next time: nobody sees what is over, it only takes room.
    }
  }
}

function fromFact(value: string | null | undefined): string | undefined {
  return value === null || value === undefined ? undefined : String(JSON.parse(value));
}

function statementsOf(schema: string) {
  const facts = `${schema}.facts`;
  return named({
    'put-if-absent': {
      what: 'put a fact',
      text: `INSERT INTO ${facts} AS f (key, value, expires_at)
        VALUES ($1, $2, clock_timestamp() + $3::double precision * interval '1 millisecond')
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
        WHERE f.expires_at <= clock_timestamp() RETURNING key`,
    },
    put: {
      what: 'put a fact',
      text: `INSERT INTO ${facts} (key, value, expires_at)
        VALUES ($1, $2, clock_timestamp() + $3::double precision * interval '1 millisecond')
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`,
    },
    get: {
      what: 'get a fact',
      isRepeatable: true,
      text: `SELECT value FROM ${facts} WHERE key = $1 AND expires_at > clock_timestamp()`,
    },
    take: {
      what: 'take a fact',
      text: `DELETE FROM ${facts} WHERE key = $1 RETURNING CASE WHEN expires_at > clock_timestamp() THEN value END`,
    },
    // The sum is a JSON number, or a text of digits that was put: both are taken.
    increment: {
      what: 'increment a counter',
      text: `INSERT INTO ${facts} AS f (key, value, expires_at)
        VALUES ($1, $2::bigint::text, clock_timestamp() + $3::double precision * interval '1 millisecond')
        ON CONFLICT (key) DO UPDATE SET (value, expires_at) = (
          SELECT CASE WHEN old.is_over THEN excluded.value ELSE (trim(BOTH '"' FROM f.value)::bigint + $2::bigint)::text END,
            CASE WHEN old.is_over THEN excluded.expires_at ELSE f.expires_at END
          FROM (SELECT f.expires_at <= clock_timestamp() AS is_over OFFSET 0) AS old
        ) RETURNING value`,
    },
    publish: {
      what: 'publish an event',
      text: `SELECT count(pg_notify(channel, payload)) FROM (
          SELECT channel, payload FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS e (channel, payload, place) ORDER BY place
        ) AS ordered`,
    },
    sweep: {
      what: 'remove old facts',
      text: `WITH removed AS (
          DELETE FROM ${facts} WHERE key IN (
            SELECT key FROM ${facts} WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
          ) RETURNING 1
        ) SELECT count(*)::text FROM removed`,
    },
  });
}
