import type { Logger } from '../base/logger.ts';
import { SERVER_PARTS, type SessionManager } from './manager.ts';

interface Beside {
  readonly managers: Iterable<SessionManager>;
  readonly logger: Pick<Logger, 'warn'>;
}

/** What our servers serve beside the listeners of an HTTP server. */
const BESIDE = new WeakMap<object, Set<Beside>>();
/** Those that were compared. */
const COMPARED = new WeakMap<SessionManager, WeakSet<SessionManager>>();

/** A server of ours serves its sessions on this HTTP server. @returns ends that. */
export function serveBeside(server: object, beside: Beside): () => void {
  const all = BESIDE.get(server) ?? new Set();
  BESIDE.set(server, all.add(beside));
  return () => void all.delete(beside);
}

/** An application has the sessions of a manager on this HTTP server. */
export function warnOfClashesBeside(server: object | undefined, manager: SessionManager): void {
  const others = server && BESIDE.get(server);
  if (!others) return;
  for (const { managers, logger } of others) for (const other of managers) warnOfClash(manager, other, logger);
}

/**
 * Says once of two managers that clients have both their sessions by one cookie, so that each sets its own over that of
 * the other.
 */
export function warnOfClash(one: SessionManager, other: SessionManager, logger: Pick<Logger, 'warn'>): void {
  if (one === other || COMPARED.get(one)?.has(other)) return;
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const)
    COMPARED.set(from, (COMPARED.get(from) ?? new WeakSet()).add(to));
  if (!clash(one, other)) return;
  const { cookieName: cookie, cookiePath: path } = one;
  logger.warn(
    { event: 'session-cookies-clash', cookie, path },
    `two session managers have other sessions under one cookie, ${JSON.stringify(cookie)} with the path ${JSON.stringify(path)}: each does not know those of the other, and sets its own over them; ` +
      'let both parts have one manager ("session: manager"), give one another "cookie.name", or say "session: false" where none is needed',
  );
}

/** True only where it is certain: two managers of one store are as good as two processes. */
function clash(one: SessionManager, other: SessionManager): boolean {
  const [a, b] = [one[SERVER_PARTS], other[SERVER_PARTS]];
  // One of another copy of this package may not say where its cookie goes.
  if (a.cookiePlace === undefined || a.cookiePlace !== b.cookiePlace) return false;
  const known = new Set(a.keys.map(hex));
  if (!b.keys.some(key => known.has(hex(key)))) return true;
  return a.store !== b.store && (a.store.name !== b.store.name || a.store.name === 'memory');
}

function hex(key: Uint8Array): string {
  return Buffer.from(key).toString('hex');
}
