import { HoldfastError } from '../base/errors.ts';

/** What is needed of a client's `query`: a subset of what `pg` takes. */
export interface PgQuery {
  /** Prepared under this name, once per connection; absent: not kept. */
  readonly name?: string;
  readonly text: string;
  readonly values?: readonly unknown[];
  readonly rowMode: 'array';
  /** Which parser turns a column into a value: its text, or the bytes of it where the client asks for those. */
  readonly types: { getTypeParser(oid: number, format?: string): (value: string | Uint8Array) => unknown };
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
  /**
   * A connection apart from the pool, on which nothing is set. Its `release` closes it.
   *
   * @param url Where it goes. Default: where those of the pool go.
   */
  connectApart(url?: string): Promise<PgClientLike>;
  end(): Promise<void>;
}

export interface PgConnectionOptions {
  readonly url: string;
  readonly poolSize: number;
  readonly connectTimeoutMs: number;
  /** Run once on each connection of the pool, before its first use. Undefined: nothing. */
  readonly setup: string | undefined;
  /** What the server calls those of the pool, and those that listen, where address and environment do not say it. */
  readonly names: { readonly pool: string; readonly events: string };
}

/** What a `Pool` of `pg` makes its connections with. */
interface PgPoolParts {
  readonly Client: new (options: object) => object;
  readonly options: { readonly onConnect?: (client: object) => unknown };
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
    connectionTimeoutMillis: options.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
  const pool = new Pool({
    ...common,
    // Not `application_name`, which goes before that of the environment.
    fallback_application_name: options.names.pool,
    connectionString: options.url,
    max: options.poolSize,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    // A statement and not a parameter of the connection: poolers refuse parameters that they do not know.
    ...(options.setup !== undefined && { onConnect: async client => void (await client.query(options.setup!)) }),
  });
  return {
    connect: () => pool.connect() as Promise<PgClientLike>,
    on: (event, listener) => pool.on(event, listener),
    off: (event, listener) => pool.off(event, listener),
    end: () => pool.end(),
    connectApart: (url = options.url) =>
      connectAlone(new Client({ ...common, fallback_application_name: options.names.events, connectionString: url })),
  };
}

/** Can `pg` read it at all? Other faults of an address show when it connects. */
export async function isPgAddress(url: string): Promise<boolean> {
  const { Client } = await loadPg();
  try {
    new Client({ connectionString: url });
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ERR_INVALID_URL';
  }
  return true;
}

/**
 * A connection like those of a pool that a user brings, and none of them: it can be had when all of those are in use.
 * Undefined for a pool that does not say how its connections are made. Its `release` closes it.
 */
export function connectionsLike(pool: PgPoolLike): (() => Promise<PgClientLike>) | undefined {
  const { Client, options } = pool as unknown as Partial<PgPoolParts>;
  if (typeof Client !== 'function' || typeof options !== 'object') return undefined;
  return async () => {
    const client = new Client(options);
    const connected = await connectAlone(client as AloneClient);
    try {
      await options.onConnect?.(client);
      return connected;
    } catch (error) {
      connected.release(true);
      throw error;
    }
  };
}

interface AloneClient {
  on(event: 'error', listener: (error: Error) => void): unknown;
  connect(): Promise<unknown>;
  end(): Promise<unknown>;
}

async function connectAlone(client: AloneClient): Promise<PgClientLike> {
  // An error event without a listener would end the process.
  client.on('error', () => {});
  await client.connect();
  return Object.assign(client, { release: () => void client.end().catch(() => {}) }) as unknown as PgClientLike;
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
