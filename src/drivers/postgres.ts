import { HoldfastError } from '../base/errors.ts';

/** What is needed of a client's `query`: a subset of what `pg` takes. */
export interface PgQuery {
  /** Prepared under this name, once per connection; absent: not kept. */
  readonly name?: string;
  readonly text: string;
  readonly values?: readonly unknown[];
  readonly rowMode: 'array';
  /** Which parser turns a column's text into a value. */
  readonly types: { getTypeParser(oid: number, format?: string): (value: string) => unknown };
}

export interface PgResultLike {
  // biome-ignore lint/suspicious/noExplicitAny: what the rows are follows from the query
  readonly rows: any[];
}

/** One connection. A `PoolClient` of `pg` 8 is one. */
export interface PgClientLike {
  query(query: PgQuery): Promise<PgResultLike>;
  query(text: string): Promise<unknown>;
  on(event: 'notification', listener: (message: { channel: string; payload?: string | undefined }) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
  /** Gives the connection back; with true it is closed, because it may be broken. */
  release(destroy?: boolean): void;
}

/** Connections that a user brings. A `Pool` of `pg` 8 is one. */
export interface PgPoolLike {
  connect(): Promise<PgClientLike>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
}

/** Connections of our own. */
export interface PgConnections extends PgPoolLike {
  /** A connection apart from the pool. Its `release` closes it. */
  connectAlone(): Promise<PgClientLike>;
  end(): Promise<void>;
}

export interface PgConnectionOptions {
  readonly url: string;
  /** Where `connectAlone` goes. Default `url`. */
  readonly aloneUrl?: string | undefined;
  readonly poolSize: number;
  readonly connectTimeoutMs: number;
  /** Settings of each pooled connection, by the server's name for them. */
  readonly settings: Readonly<Record<string, string>>;
}

const IDLE_TIMEOUT_MS = 30_000;

/**
 * Opens a pool with the package `pg`, which is loaded now and only here: an application that brings a pool, or
 * uses another store, need not have it. Connects with the first query, not before.
 *
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when `pg` is not installed.
 */
export async function openPgConnections(options: PgConnectionOptions): Promise<PgConnections> {
  const { Client, Pool } = await loadPg();
  const common = {
    application_name: 'holdfast',
    connectionTimeoutMillis: options.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
  const settings = Object.entries(options.settings).map(
    ([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`,
  );
  const pool = new Pool({
    ...common,
    connectionString: options.url,
    max: options.poolSize,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    ...(settings.length > 0 && { options: settings.join(' ') }),
  });
  return {
    connect: () => pool.connect() as Promise<PgClientLike>,
    on: (event, listener) => pool.on(event, listener),
    off: (event, listener) => pool.off(event, listener),
    end: () => pool.end(),
    async connectAlone() {
      const client = new Client({ ...common, connectionString: options.aloneUrl ?? options.url });
      // An error event without a listener would end the process.
      client.on('error', () => {});
      await client.connect();
      return Object.assign(client, { release: () => void client.end().catch(() => {}) }) as unknown as PgClientLike;
    },
  };
}

async function loadPg() {
  try {
    return (await import('pg')).default;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    const message = 'session store "postgres" needs the package "pg", which is not installed; run: npm install pg';
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013, cause: error });
  }
}

/** Where a URL leads, without user, password and options: for messages. */
export function placeOf(url: string): string {
  const [, address = '', query = ''] = /^(?:[a-z]+:\/\/)?(?:.*@)?([^?@]*)(?:\?(.*))?$/is.exec(url) ?? [];
  const host = /(?:^|&)host=([^&]*)/.exec(query)?.[1];
  return host ? `${decodeURIComponent(host)}${address}` : address;
}
