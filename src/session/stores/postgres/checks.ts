import { randomBytes } from 'node:crypto';
import { HoldfastError } from '../../../base/errors.ts';
import type { Logger } from '../../../base/logger.ts';
import type { PgClientLike } from '../../../drivers/postgres.ts';
import { giveBack, ignore, type PgDatabase, type Row, textQuery } from './database.ts';

/** Runs a statement on one connection. */
export type Query = (text: string, values?: readonly unknown[]) => Promise<readonly Row[]>;

const OLDEST_SERVER = 130_000;
/** Looks at whether a pooler shares connections: once might be chance. */
const LOOKS = 3;

const SETTINGS = `SELECT current_setting('server_version_num'), pg_is_in_recovery()::text,
  current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),
  current_setting('session_replication_role'), array_to_string(current_schemas(true), ',')`;

/**
 * Is it a server to write to, set so that we can? What we can set ourselves is set by the pool, and what changes the
 * text of values does not matter to our statements.
 *
 * @param isSetUp The connection is one of our own pool.
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
 */
export async function checkServer(database: PgDatabase, query: Query, logger: Logger, isSetUp: boolean): Promise<void> {
  const [row] = await query(SETTINGS);
  const [version, isStandby, synchronousCommit, fsync, fullPageWrites, isolation, readOnly, triggers, path] = row!;
  if (Number(version) < OLDEST_SERVER) throw refuse(database, `the server is older than PostgreSQL 13: ${version}`);
  if (isStandby === 'true')
    throw refuse(database, 'the server is a standby, on which nothing can be written; give the address of the primary');
  if (readOnly === 'on') {
    throw refuse(
      database,
      'default_transaction_read_only is on, so nothing can be written; ALTER ROLE or ALTER DATABASE … SET it to off, or give another role',
    );
  }
  if (triggers === 'replica') {
    throw refuse(
      database,
      'session_replication_role is replica: what is deleted would leave rows behind; ALTER ROLE … RESET it',
    );
  }
  const unsafe = Object.entries({ synchronous_commit: synchronousCommit, fsync, full_page_writes: fullPageWrites });
  for (const [setting, value] of unsafe) {
    if (value !== 'off') continue;
    const fields = { event: 'session-store-unsafe', setting, place: database.place };
    logger.warn(
      fields,
      `postgres: ${setting} is off: sessions that were acknowledged may be lost or torn when the server crashes`,
    );
  }
  if (isSetUp) return;
  if (path!.split(',').find(schema => !schema.startsWith('pg_temp')) !== 'pg_catalog') {
    const fields = { event: 'session-store-search-path', path, place: database.place };
    logger.warn(
      fields,
      'postgres: search_path names other schemas before pg_catalog: a function of the same name there is called instead of that of PostgreSQL',
    );
  }
  if (isolation === 'read committed') return;
  const fields = { event: 'session-store-isolation', isolation, place: database.place };
  logger.warn(
    fields,
    'postgres: default_transaction_isolation is not "read committed": parallel commits of one session are tried again and may fail',
  );
}

interface ConnectionChecks {
  /** For each connection and answer. */
  readonly timeoutMs: number;
  /** Where events come from, if that is another address. */
  readonly listenPlace: string | undefined;
  /** Another connection to where those of the pool go. Undefined: they are known to be shared, or none can be made. */
  readonly connectLike: (() => Promise<PgClientLike>) | undefined;
}

/**
 * Is a connection a session of the server of its own, does the client give rows as it is asked to, and do events
 * arrive? A pooler in transaction mode accepts `LISTEN` and settings, and gives them to whoever comes next.
 *
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, with what to do.
 */
export async function checkConnections(database: PgDatabase, checks: ConnectionChecks): Promise<void> {
  const { listenPlace, connectLike, timeoutMs } = checks;
  const open: PgClientLike[] = [];
  const queryOf =
    (client: PgClientLike): Query =>
    async (text, values) =>
      (await database.deadline(client.query(textQuery(text, values)), timeoutMs, 'answer')).rows;
  const keep = async (connecting: Promise<PgClientLike>) => {
    const client = await connecting;
    if (typeof client?.query !== 'function') throw new TypeError('postgres: connect() of the pool gives no client');
    client.on('error', ignore);
    open.push(client);
    return client;
  };
  const second = async (connecting: Promise<PgClientLike>) => {
    try {
      const client = await keep(connecting);
      await queryOf(client)('SELECT 1::text');
      return client;
    } catch (error) {
      const why =
        'no second connection at the same time: one connection of the pool is kept for events, so it, and a pooler behind it, needs at least 2; raise its max, or give listenUrl';
      throw refuse(database, why, error);
    }
  };
  let isBroken = true;
  try {
    const one = await keep(database.connectShared());
    const [row] = await queryOf(one)("SELECT 'x'::text");
    if (!Array.isArray(row) || row[0] !== 'x')
      throw refuse(database, "the pool's client does not give rows as arrays of text (rowMode: 'array')");
    const alone = await (listenPlace === undefined ? second(database.connectAlone()) : keep(database.connectAlone()));
    const other = listenPlace === undefined ? alone : connectLike && (await second(database.inTime(connectLike)));
    if (other && (await isShared(queryOf(one), queryOf(other)))) {
      throw refuse(
        database,
        'a pooler gives one connection of the server to several clients (transaction or statement mode); set transactionPooler: true, and listenUrl to the server itself, or use its session mode',
      );
    }
    const place = listenPlace ?? database.place;
    await checkEvents(database, queryOf(one), { alone, listen: queryOf(alone), place, timeoutMs });
    isBroken = false;
  } catch (error) {
    throw error instanceof TypeError ? error : database.unavailable('open the session store', error);
  } finally {
    for (const client of open) giveBack(client, isBroken || client !== open[0]);
  }
}

async function checkEvents(
  database: PgDatabase,
  notify: Query,
  { alone, listen, place, timeoutMs }: { alone: PgClientLike; listen: Query; place: string; timeoutMs: number },
): Promise<void> {
  const channel = `${database.schema}.opening`;
  const token = randomBytes(12).toString('base64url');
  const heard = new Promise<void>(resolve => {
    alone.on('notification', ({ payload }) => payload === token && resolve());
  });
  await listen(`LISTEN "${channel}"`);
  await notify('SELECT count(pg_notify($1, $2))::text', [channel, token]);
  try {
    await database.deadline(heard, timeoutMs, 'event');
  } catch (error) {
    const why = `events do not arrive from ${place}; it must lead to the same database, and not by a pooler in transaction mode: set listenUrl to the server itself`;
    throw refuse(database, why, error);
  }
}

export function refuse({ place, schema }: PgDatabase, why: string, cause?: unknown): HoldfastError {
  const message = `postgres at ${place}, schema ${schema}: ${why}`;
  return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, {
    status: 503,
    closeCode: 1013,
    ...(cause !== undefined && { cause }),
  });
}

/** Do two clients, both connected, get one process of the server, or one of them now this and now that? */
async function isShared(one: Query, other: Query): Promise<boolean> {
  const pid = async (query: Query) => (await query('SELECT pg_backend_pid()::text'))[0]![0];
  const first = await pid(one);
  for (let look = 0; look < LOOKS; look++) {
    try {
      await other('BEGIN');
      // Nobody else gets the process that `other` has now; and `one` shall not have it either.
      if ((await pid(other)) === first || (await pid(one)) !== first) return true;
      await other('COMMIT');
    } catch (error) {
      if (/statement pool/i.test(String(error))) return true;
      throw error;
    }
  }
  return false;
}
