import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import type { Config, SessionConfig } from '../../config/config.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { openPgConnections, placeOf } from '../../drivers/postgres.ts';
import { storeUrl } from './check-session-stores.ts';
import { describedSessions } from './described-sessions.ts';
import { openBackend } from './session-stores.ts';

const TIMEOUT_MS = 5_000;

/**
 * Dials the stores of sessions that are on other machines, with their users and passwords, and changes nothing there.
 *
 * @returns what would fail at a start, and what to do. Without passwords.
 */
export async function probeSessionStores(config: Config): Promise<Doubt[]> {
  const doubts: Doubt[] = [];
  for (const { session, at } of describedSessions(config)) {
    const url = storeUrl(session);
    const kind = url === undefined ? '' : url.slice(0, url.indexOf(':'));
    const dial = /^redis/.test(kind) ? dialRedis : /^postgres/.test(kind) ? dialPostgres : undefined;
    if (!dial) continue;
    for (const { address, below } of addressesOf(session, url!)) {
      try {
        await dial(session, address);
      } catch (error) {
        const message = `${placeOf(address)}: ${reasonOf(error)}`;
        doubts.push({ code: 'store-probe', path: [...at, 'store', ...below], message });
        break;
      }
    }
  }
  return doubts;
}

function addressesOf({ store }: SessionConfig, url: string): { readonly address: string; readonly below: string[] }[] {
  const { listenUrl } = typeof store === 'object' && 'url' in store ? store : {};
  const ofEvents = listenUrl === undefined ? [] : [{ address: listenUrl, below: ['listenUrl'] }];
  return [{ address: url, below: [] }, ...ofEvents];
}

async function dialRedis(session: SessionConfig): Promise<void> {
  const { store, ledger } = await openBackend(session, { clock: systemClock, logger: silentLogger });
  try {
    await store.count();
  } finally {
    await Promise.allSettled([store.close(), ledger?.close()]);
  }
}

/** Neither makes the tables nor asks for them: the first start makes them. */
async function dialPostgres(_: SessionConfig, url: string): Promise<void> {
  const names = { pool: 'holdfast check', events: 'holdfast check' };
  const connections = await openPgConnections({
    url,
    poolSize: 1,
    connectTimeoutMs: TIMEOUT_MS,
    setup: undefined,
    names,
  });
  try {
    (await connections.connectApart()).release();
  } finally {
    await connections.end();
  }
}

/** By what an error says: a code of Node, an SQLSTATE of PostgreSQL, or the first word of an answer of Redis. */
const REMEDIES: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED/, 'nothing listens there; start the server, or correct host and port'],
  [/ENOTFOUND|EAI_AGAIN/, 'the name is not known; correct it, or look at the DNS of this machine'],
  [/\bWRONGPASS\b|\b28P01\b/, 'user or password is wrong; correct it in the URL'],
  [/\bNOAUTH\b|no password|password must be a string/i, 'it asks for a password; write it into the URL'],
  [/\b28000\b/, 'it lets this user not in; look at the user in the URL, and at pg_hba.conf of the server'],
  [/\b3D000\b/, 'there is no such database; create it, or correct the end of the URL'],
  [/DB index|invalid database/i, 'it has no database of that number; correct the end of the URL'],
  [/\bNOPERM\b|\b42501\b/, 'this user may not do what sessions need; look at its rights'],
  [/does not support SSL|WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/, 'it does not speak TLS there; change the URL'],
  [/SELF_SIGNED|UNABLE_TO_(?:VERIFY|GET)|CERT_|ALTNAME/i, 'its certificate is not believed; name its authority'],
  [
    /timeout|no answer|not connected within|ETIMEDOUT/i,
    'no answer in time: look at firewalls, and whether it speaks TLS there',
  ],
];

function reasonOf(error: unknown): string {
  const said = [...causesOf(error)];
  const text = said.map(({ code, message }) => `${code ?? ''} ${message}`).join(' ');
  const [, remedy] = REMEDIES.find(([pattern]) => pattern.test(text)) ?? [];
  const last = said.at(-1)!.message.split('\n')[0]!;
  return remedy === undefined ? last : `${last}: ${remedy}`;
}

function* causesOf(error: unknown): Generator<{ readonly code: unknown; readonly message: string }> {
  for (let one = error; one !== undefined; one = (one as Error).cause) {
    const inner = one instanceof AggregateError ? one.errors[0] : one;
    yield { code: (inner as NodeJS.ErrnoException).code, message: messageOf(one) };
    if (!(one instanceof Error)) return;
  }
}
