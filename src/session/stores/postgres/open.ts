import { type Clock, LONGEST_TIMER_MS, systemClock } from '../../../base/clock.ts';
import { type Logger, silentLogger } from '../../../base/logger.ts';
import { checkOptions, type OptionNames } from '../../../base/options.ts';
import { checkClientName, connectionName, DEFAULT_CLIENT_NAME } from '../../../drivers/connection-name.ts';
import {
  connectionsLike,
  isPgAddress,
  openPgConnections,
  type PgPoolLike,
  placeOf,
} from '../../../drivers/postgres.ts';
import { checkConnections, checkServer, type Query, refuse } from './checks.ts';
import { PgDatabase } from './database.ts';
import { checkSchemaName, migrationSql, SCHEMA_VERSION } from './schema.ts';

export interface PostgresOptions {
  /**
   * `postgres://user@host:5432/database`, with whatever parameters `pg` takes. What it does not say comes from the
   * environment (`PGPASSWORD`, `PGHOST`, …). Needs the package `pg`. Give either this or `pool`.
   */
  readonly url?: string | undefined;
  /**
   * A pool of your own: a `Pool` of `pg` 8 or what works like one. It is not ended with the store. Events come by a
   * connection of the store's own, made as the pool makes its connections; of a pool that does not say how it does that
   * (it has no `Client` and `options`, as those of `pg` have), one connection is kept for events.
   */
  readonly pool?: PgPoolLike | undefined;
  /** Where to listen for events, when that is another address: around a pooler. Default `url` or `pool`. */
  readonly listenUrl?: string | undefined;
  /**
   * The URL leads to a pooler in transaction mode, such as PgBouncer: nothing is kept on a connection, neither prepared
   * statements nor settings. Then `listenUrl` must lead to the server itself. Default false.
   */
  readonly transactionPooler?: boolean | undefined;
  /**
   * The schema that holds everything. Several applications may share a database, each with a schema. Default
   * `holdfast`.
   */
  readonly schema?: string | undefined;
  /**
   * Makes the schema when it is missing and brings an older one up to date. False: an operator does it, with
   * `postgresDdl()`. Default true.
   */
  readonly migrate?: boolean | undefined;
  /**
   * Tells other processes of each commit and delete: the store has `watch`. It costs throughput: commits of all
   * processes then wait for the disk one after the other. Needed for `coherence: relaxed` only. Default false.
   */
  readonly notify?: boolean | undefined;
  /** Most connections of our own pool, at least 1. Default 10. */
  readonly poolSize?: number | undefined;
  /** Milliseconds to wait for a connection. Default 2,000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Milliseconds to wait for an answer. Default 2,000. */
  readonly queryTimeoutMs?: number | undefined;
  /**
   * What connections of our own are called in `pg_stat_activity`, before the process id and what they are for
   * (`shop:4711:store`). Default `holdfast`. An `application_name` of the address or of the environment (`PGAPPNAME`)
   * stays, and a pool that is brought has its own.
   */
  readonly clientName?: string | undefined;
  /** Told of server settings with which commits may be lost. */
  readonly logger?: Logger | undefined;
  /** Says when old facts are removed. Deadlines and signs of life are of the real time. */
  readonly clock?: Clock | undefined;
}

const POSTGRES_OPTIONS: OptionNames<PostgresOptions> = {
  url: 'text',
  pool: true,
  listenUrl: 'text',
  transactionPooler: 'flag',
  schema: 'text',
  migrate: 'flag',
  notify: 'flag',
  poolSize: 'number',
  connectTimeoutMs: 'number',
  queryTimeoutMs: 'number',
  clientName: 'text',
  logger: 'logger',
  clock: 'clock',
};

const DEFAULT_TIMEOUT_MS = 2_000;
/** For each statement of a migration; it may have to wait until another process has done it. */
const MIGRATION_TIMEOUT_MS = 60_000;

/**
 * Connects, checks the server, and makes the schema when it has to.
 *
 * @param purpose Of what its connections are for. A store and a ledger that share them: `store`.
 * @throws {TypeError} when an option cannot work.
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the server cannot be reached, or does not suit, or the
 * schema cannot be made or is newer.
 */
export async function openDatabase(
  options: PostgresOptions,
  purpose: 'store' | 'ledger' = 'store',
): Promise<PgDatabase> {
  checkOptions('postgres', options, POSTGRES_OPTIONS);
  const { url, listenUrl, transactionPooler = false, migrate = true, logger = silentLogger } = options;
  const schema = checkSchemaName(options.schema ?? 'holdfast');
  if ((url === undefined) === (options.pool === undefined)) throw new TypeError('postgres: give either url or pool');
  if (transactionPooler && listenUrl === undefined) {
    throw new TypeError('postgres: transactionPooler needs listenUrl, because events do not pass such a pooler');
  }
  for (const [option, address] of Object.entries({ url, listenUrl })) await checkAddress(option, address);
  const connectTimeoutMs = time('connectTimeoutMs', options.connectTimeoutMs);
  const queryTimeoutMs = time('queryTimeoutMs', options.queryTimeoutMs);
  const poolSize = positive('poolSize', options.poolSize ?? 10);

  const client = checkClientName('postgres', options.clientName ?? DEFAULT_CLIENT_NAME);
  const names = { pool: connectionName(client, purpose), events: connectionName(client, `${purpose}-events`) };
  const setup = transactionPooler ? undefined : setupOf(queryTimeoutMs);
  const ownUrl = url ?? listenUrl;
  const own =
    ownUrl === undefined
      ? undefined
      : await openPgConnections({ url: ownUrl, poolSize, connectTimeoutMs, setup, names });
  const pool = options.pool === undefined ? own! : checkPool(options.pool);
  const like = options.pool === undefined ? () => own!.connectApart() : connectionsLike(options.pool);
  const database = new PgDatabase({
    pool,
    isBrought: options.pool !== undefined,
    end: own && (() => own.end()),
    connectAlone: listenUrl === undefined ? (like ?? (() => pool.connect())) : () => own!.connectApart(listenUrl),
    schema,
    place: url === undefined ? 'the given pool' : placeOf(url),
    connectTimeoutMs,
    queryTimeoutMs,
    prepare: !transactionPooler,
    clock: options.clock ?? systemClock,
  });
  try {
    // Before anything is set on a connection: behind a pooler that shares them it would be set for others.
    await checkConnections(database, {
      timeoutMs: connectTimeoutMs,
      listenPlace: listenUrl === undefined ? undefined : placeOf(listenUrl),
      connectLike: transactionPooler ? undefined : like,
    });
    await prepare(database, migrate, logger, url !== undefined && !transactionPooler);
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** What is set on each connection of our own pool, whatever database, role and address say. */
function setupOf(queryTimeoutMs: number): string {
  const settings = {
    default_transaction_isolation: "'read committed'",
    // The server ends what we no longer wait for, and nothing earlier.
    statement_timeout: String(Math.ceil(queryTimeoutMs)),
    lock_timeout: '0',
    search_path: 'pg_catalog',
  };
  return Object.entries(settings)
    .map(([name, value]) => `SET ${name} = ${value}`)
    .join('; ');
}

/** The error of `pg` would have the whole address in it. */
async function checkAddress(option: string, address: string | undefined): Promise<void> {
  if (address === undefined || (await isPgAddress(address))) return;
  throw new TypeError(
    `postgres: ${option} cannot be read as an address (${placeOf(address)}); write postgres://user@host:5432/database`,
  );
}

function checkPool(pool: PgPoolLike): PgPoolLike {
  const { connect, on, off, escapeIdentifier } = (pool ?? {}) as unknown as Record<string, unknown>;
  const isClient = typeof escapeIdentifier === 'function';
  if (!isClient && [connect, on, off].every(member => typeof member === 'function')) return pool;
  throw new TypeError(
    'postgres: pool must be a Pool of pg, or what works like one; a Client is one connection: new pg.Pool({ … })',
  );
}

/** @param isSetUp On each connection is set what we need. */
async function prepare(database: PgDatabase, migrate: boolean, logger: Logger, isSetUp: boolean): Promise<void> {
  const { schema } = database;
  await database.withClient('open the session store', MIGRATION_TIMEOUT_MS, async query => {
    await checkServer(database, query, logger, isSetUp);
    const version = await versionOf(query, schema);
    checkVersion(database, version);
    if (version === SCHEMA_VERSION) return;
    if (!migrate)
      throw refuse(
        database,
        `${found(version)}; run the DDL of version ${SCHEMA_VERSION}: postgresDdl('${schema}', ${version})`,
      );
    // Read committed: after the lock it must see what others have made before.
    await query('BEGIN ISOLATION LEVEL READ COMMITTED');
    await query('SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0');
    await query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`holdfast:${schema}`]);
    const locked = await versionOf(query, schema); // somebody else may have been quicker
    checkVersion(database, locked);
    if (locked < SCHEMA_VERSION) {
      const isThere = (await query('SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1', [schema])).length > 0;
      if (!isThere) await query(`CREATE SCHEMA ${schema}`);
      await query(migrationSql(schema, locked));
    }
    await query('COMMIT');
  });
}

const HAS_VERSION = `SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = 'schema_version'`;

/** 0: there is none. */
async function versionOf(query: Query, schema: string): Promise<number> {
  // to_regclass would answer from a cache that does not see what another process has made while we waited for the lock.
  if ((await query(HAS_VERSION, [schema])).length === 0) return 0;
  const [[version] = []] = await query(`SELECT max(version)::text FROM ${schema}.schema_version`);
  return Number(version ?? 0);
}

function checkVersion(database: PgDatabase, version: number): void {
  if (version <= SCHEMA_VERSION) return;
  throw refuse(
    database,
    `${found(version)}, newer than the ${SCHEMA_VERSION} that this Holdfast knows; update Holdfast, or use another schema`,
  );
}

function found(version: number): string {
  return version === 0 ? 'the schema is not there' : `the schema has version ${version}`;
}

/** `pg` and PostgreSQL count as a timer does. */
function time(name: string, ms: number = DEFAULT_TIMEOUT_MS): number {
  return Math.min(positive(name, ms), LONGEST_TIMER_MS);
}

function positive(name: string, value: number): number {
  if (value > 0) return value;
  throw new TypeError(`postgres: ${name} must be more than 0, not ${value}`);
}
