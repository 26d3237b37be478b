import { Backoff } from '../../../base/backoff.ts';
import { type Clock, systemClock } from '../../../base/clock.ts';
import { setDeadline } from '../../../base/deadlines.ts';
import { HoldfastError } from '../../../base/errors.ts';
import { messageOf } from '../../../base/message-of.ts';
import type { PgClientLike, PgPoolLike, PgQuery } from '../../../drivers/postgres.ts';
import { type PgEventSource, PgEvents } from './events.ts';

/** One of the statements that are sent, in one round trip. */
export interface Statement {
  /** Short, one per text: the name under which it is prepared. */
  readonly name: string;
  readonly text: string;
  /** To do it twice is to do it once: it may be sent again when the connection was lost. */
  readonly isRepeatable?: boolean;
  /** What is being tried, for messages: `commit a session`. */
  readonly what: string;
}

/** Statements by the names under which they are prepared. */
export function named<Name extends string>(
  statements: Readonly<Record<Name, Omit<Statement, 'name'>>>,
): Readonly<Record<Name, Statement>> {
  const entries = Object.entries<Omit<Statement, 'name'>>(statements);
  return Object.fromEntries(entries.map(([name, statement]) => [name, { name, ...statement }])) as never;
}

/** A row as the server writes it: text, or null. */
export type Row = readonly (string | null)[];

export interface PgDatabaseOptions {
  readonly pool: PgPoolLike;
  /** The pool is the user's: it stays open. */
  readonly isBrought: boolean;
  /** Ends what is ours. */
  readonly end: (() => Promise<void>) | undefined;
  /** A connection that stays out of the pool's use, for `LISTEN`. Nothing is set on it. */
  readonly connectAlone: () => Promise<PgClientLike>;
  readonly schema: string;
  /** Host and database, for messages. */
  readonly place: string;
  readonly connectTimeoutMs: number;
  readonly queryTimeoutMs: number;
  readonly prepare: boolean;
  readonly clock: Clock;
}

/** SQLSTATEs with which a transaction was rolled back only because of others: serialization failure and deadlock. */
const ROLLED_BACK = new Set(['40001', '40P01']);
/**
 * SQLSTATEs after which the connection is of no more use: it is lost, the server stops or starts, or has become a
 * standby.
 */
const CONNECTION_LOST = /^(?:08|57P|25006)/;
const DISK_FULL = '53100';
/** Codes of Node, such as EPIPE, are not among these. */
const SQLSTATE = /^[0-9FHPX][0-9A-Z]{4}$/;
/**
 * Every column is ASCII text, and stays what it is: what parsers the user has set for their own queries does not matter
 * here. `String`, because a client may ask for bytes.
 */
const RAW: PgQuery['types'] = { getTypeParser: () => String };

/** A statement without a name, whose rows are texts. */
export function textQuery(text: string, values?: readonly unknown[]): PgQuery {
  return { text, ...(values && { values }), rowMode: 'array', types: RAW };
}

/** Sends statements, each with a deadline, and turns every failure into ERR_SESSION_STORE_UNAVAILABLE. */
export class PgDatabase implements PgEventSource {
  readonly events: PgEvents;
  readonly schema: string;
  readonly place: string;
  /** For work that is done now and then. Deadlines are of the real time, in which the server answers. */
  readonly clock: Clock;
  readonly #options: PgDatabaseOptions;
  #users = 0;
  #isClosed = false;
  #interruptions = 0;
  /** The pool has dropped it and makes another. */
  readonly #onIdleLost = () => void this.#interruptions++;

  constructor(options: PgDatabaseOptions) {
    this.#options = options;
    this.schema = options.schema;
    this.place = options.place;
    this.clock = options.clock;
    this.events = new PgEvents(this);
    options.pool.on('error', this.#onIdleLost);
  }

  /** How often a connection was lost: the server that answers now may be another one, without the latest writes. */
  get interruptions(): number {
    return this.#interruptions;
  }

  /** Counts who uses it: what the last one calls closes it. */
  use(): () => Promise<void> {
    this.#users++;
    let isReleased = false;
    return async () => {
      if (isReleased) return;
      isReleased = true;
      if (--this.#users === 0) await this.close();
    };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { pool, isBrought, end } = this.#options;
    await this.events.close();
    await end?.();
    if (isBrought) pool.off('error', this.#onIdleLost); // on one of ours it stays: a connection may break while it is being ended
  }

  /**
   * One statement, in a transaction of its own. Sent again, for `queryTimeoutMs`, when it was rolled back because of
   * others; one that is repeatable also when the connection turns out to be lost.
   */
  async query(statement: Statement, values: readonly unknown[]): Promise<readonly Row[]> {
    const backoff = new Backoff(systemClock, this.#options.queryTimeoutMs);
    for (;;) {
      try {
        return await this.#send(statement, values);
      } catch (error) {
        const code = sqlStateOf(error);
        const isRolledBack = code !== undefined && ROLLED_BACK.has(code);
        // Others in the pool may be dead as well; that none can be made is another error, and final.
        const isLost = statement.isRepeatable && error instanceof LostConnection;
        if (!(isRolledBack || isLost) || !(await backoff.next())) throw this.unavailable(statement.what, error);
      }
    }
  }

  /** Runs several statements on one connection. @param timeoutMs For each. */
  async withClient<T>(
    what: string,
    timeoutMs: number,
    work: (query: (text: string, values?: readonly unknown[]) => Promise<readonly Row[]>) => Promise<T>,
  ): Promise<T> {
    let isBroken = true;
    let client: PgClientLike | undefined;
    try {
      client = await this.#connect();
      const connected = client;
      const result = await work(async (text, values) => {
        return (await this.deadline(connected.query(textQuery(text, values)), timeoutMs, 'answer')).rows;
      });
      isBroken = false;
      return result;
    } catch (error) {
      throw this.unavailable(what, error);
    } finally {
      if (client) giveBack(client, isBroken); // broken: in who knows which transaction
    }
  }

  /** One of the pool's. Who asks for it releases it. */
  connectShared(): Promise<PgClientLike> {
    return this.inTime(() => this.#options.pool.connect());
  }

  /** A connection for nothing else. Who asks for it releases it. */
  connectAlone(): Promise<PgClientLike> {
    return this.inTime(() => this.#options.connectAlone());
  }

  /** Waits no longer. @param what What is waited for: `answer`. */
  deadline<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const deadline = setDeadline(systemClock, ms, () => reject(new TimedOut(`no ${what} within ${ms} ms`)));
      promise.then(resolve, reject).finally(() => deadline?.clear());
    });
  }

  unavailable(what: string, error: unknown): HoldfastError {
    if (error instanceof HoldfastError) return error;
    const message = `postgres at ${this.place}, schema ${this.schema}: could not ${what}; see the cause`;
    const cause = causeOf(error);
    if (sqlStateOf(error) === DISK_FULL) {
      const full = `postgres at ${this.place}: its disk is full; make room on it`;
      return new HoldfastError('ERR_SESSION_NO_ROOM', full, { status: 503, closeCode: 1013, cause });
    }
    return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013, cause });
  }

  async #connect(): Promise<PgClientLike> {
    if (this.#isClosed) throw new Error('it is closed');
    const client = await this.connectShared();
    client.on('error', ignore);
    return client;
  }

  /** Waits no longer than `connectTimeoutMs`; what comes later is released. */
  async inTime(connect: () => Promise<PgClientLike>): Promise<PgClientLike> {
    const attempts = { areOver: false };
    const connecting = connectAgain(connect, attempts);
    try {
      return await this.deadline(connecting, this.#options.connectTimeoutMs, 'connection');
    } catch (error) {
      attempts.areOver = true;
      connecting.then(
        late => late.release(),
        () => {},
      );
      if (!(error instanceof TimedOut)) throw error;
      throw new TimedOut(
        `${error.message}: the server does not answer, or every connection of the pool is in use, or the pooler has none left`,
      );
    }
  }

  async #send({ name, text }: Statement, values: readonly unknown[]): Promise<readonly Row[]> {
    const { schema, prepare, queryTimeoutMs } = this.#options;
    const client = await this.#connect();
    let isBroken = false;
    try {
      const query = { ...textQuery(text, values), ...(prepare && { name: `${schema}.${name}` }) };
      return (await this.deadline(client.query(query), queryTimeoutMs, 'answer')).rows;
    } catch (error) {
      const code = sqlStateOf(error);
      isBroken = code === undefined || CONNECTION_LOST.test(code);
      if (isBroken) this.#interruptions++;
      throw isBroken && !(error instanceof TimedOut) ? new LostConnection(error) : error;
    } finally {
      giveBack(client, isBroken);
    }
  }
}

/**
 * `pg` has timers of its own, which do not wait until what has arrived is read: in a process that was busy they end an
 * attempt that has succeeded. So another one is made, while our deadline is not over.
 */
async function connectAgain(
  connect: () => Promise<PgClientLike>,
  attempts: { readonly areOver: boolean },
): Promise<PgClientLike> {
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      if (attempts.areOver || !(error instanceof Error) || !/timeout/i.test(error.message) || sqlStateOf(error))
        throw error;
    }
  }
}

/** A connection that breaks says so to the query and in an event, which would end the process if nobody heard it. */
export function ignore(): void {}

export function giveBack(client: PgClientLike, isBroken: boolean): void {
  client.off('error', ignore);
  client.release(isBroken);
}

class TimedOut extends Error {}

/** The connection broke while a statement was on its way: whether it was executed is not known. */
class LostConnection extends Error {
  constructor(cause: unknown) {
    super('the connection was lost', { cause });
  }
}

/** The SQLSTATE that the server gave, also when we wrapped it. */
export function sqlStateOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string' && SQLSTATE.test(code)) return code;
  }
  return undefined;
}

/** Message and code, and none of the other fields of a server's error, which may quote values. */
function causeOf(error: unknown): Error {
  const original = error instanceof LostConnection ? error.cause : error;
  const { code } = (original ?? {}) as { code?: unknown };
  return Object.assign(new Error(messageOf(original)), code !== undefined && { code });
}
