/** What connections of ours are called where nobody says otherwise. */
export const DEFAULT_CLIENT_NAME = 'holdfast';

/**
 * What a connection is for. `store` and `ledger`: their commands (in PostgreSQL both go over those of the store);
 * `events`: it listens; `writes`: they wait for replicas.
 */
export type ConnectionPurpose =
  | 'store'
  | 'ledger'
  | 'store-events'
  | 'ledger-events'
  | 'store-writes'
  | 'ledger-writes';

/**
 * What database tools show of a connection: `holdfast:4711:store`. A machine's name is not in it: they show where a
 * connection comes from, and it would not fit.
 */
export function connectionName(client: string, purpose: ConnectionPurpose): string {
  return `${client}:${process.pid}:${purpose}`;
}

/** @throws {TypeError} unless both Redis and PostgreSQL take it, with what is added to it. */
export function checkClientName(call: string, name: string): string {
  if (/^[!-9;-~]{1,40}$/.test(name)) return name;
  throw new TypeError(
    `${call}: clientName ${JSON.stringify(name)} must be 1 to 40 letters, digits and signs of ASCII, without spaces and ":"`,
  );
}
