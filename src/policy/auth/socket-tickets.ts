import { createCipheriv, createDecipheriv, hash, hkdfSync, randomBytes } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { RecentMap } from '../../base/recent-map.ts';
import { isSocketTicket, SOCKET_TICKET_PREFIX } from '../../http/query-ticket.ts';
import type { Ledger } from '../../session/ledger.ts';
import type { Principal } from './scheme.ts';

/** What a ticket stands for: what its request has shown. */
export interface TicketFacts {
  /** `Origin` of the request; the handshake has to come from the same. Undefined: from no page. */
  readonly origin: string | undefined;
  readonly route: string;
  /** Whom the request has shown by itself; a login that a session keeps is found with that session. */
  readonly principal: Principal | undefined;
  /** What the scheme of this user needs to know them again. */
  readonly kept?: unknown;
  readonly session: ShownSession | undefined;
}

/** A session, and by what a client shows it. */
export interface ShownSession {
  readonly sid: string;
  readonly text: string;
}

export interface SocketTicketsOptions {
  readonly ledger: Ledger;
  readonly ttlMs: number;
  readonly clock: Clock;
}

/** Tickets of one user or session within the time that one is good for: enough for any page, and few for a ledger. */
const MAX_ISSUED = 30;
const MAX_HOLDERS = 10_000;

/**
 * One-time tickets for WebSockets, as browsers cannot set headers on a handshake: a request that has shown who it is from gets one, and
 * the handshake shows it instead, once and soon.
 *
 * The ledger has a hash of the ticket, and what it stands for encrypted with a key that is made of it: what is kept
 * there opens nothing.
 */
export class SocketTickets {
  readonly ttlMs: number;
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #issued = new RecentMap<string, { since: number; count: number }>(MAX_HOLDERS);

  constructor({ ledger, ttlMs, clock }: SocketTicketsOptions) {
    this.#ledger = ledger;
    this.ttlMs = ttlMs;
    this.#clock = clock;
  }

  /**
   * @returns undefined when this user or session has had too many of late.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the ledger cannot be reached.
   */
  async issue(facts: TicketFacts): Promise<string | undefined> {
    if (!this.#mayHave(facts.session?.sid ?? `${facts.principal?.scheme} ${facts.principal?.name}`)) return undefined;
    const ticket = SOCKET_TICKET_PREFIX + randomBytes(32).toString('base64url');
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', keyOf(ticket), iv);
    const text = Buffer.concat([cipher.update(JSON.stringify(facts)), cipher.final()]);
    const value = Buffer.concat([iv, cipher.getAuthTag(), text]).toString('base64url');
    await this.#ledger.putIfAbsent(nameOf(ticket), value, this.ttlMs);
    return ticket;
  }

  /**
   * What a ticket stands for, once: it is over by this, whatever comes of it.
   *
   * @returns undefined for what is no ticket, or one for another route or origin; `over` for one that was used, is late,
   * or was never given, which nobody can tell, and for one whose credentials have ended.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the ledger cannot be reached.
   */
  async redeem(
    ticket: string,
    { origin, route }: Pick<TicketFacts, 'origin' | 'route'>,
  ): Promise<TicketFacts | undefined | 'over'> {
    if (!isSocketTicket(ticket)) return undefined;
    const value = await this.#ledger.take(nameOf(ticket));
    if (value === undefined) return 'over';
    const facts = decrypted(Buffer.from(value, 'base64url'), ticket);
    if (facts.origin !== origin || facts.route !== route) return undefined;
    return (facts.principal?.expiresAt ?? Number.POSITIVE_INFINITY) > this.#clock.now() ? facts : 'over';
  }

  #mayHave(holder: string): boolean {
    const now = this.#clock.monotonic();
    const known = this.#issued.get(holder);
    const isOld = known === undefined || now - known.since >= this.ttlMs;
    const next = isOld ? { since: now, count: 1 } : { ...known, count: known.count + 1 };
    if (next.count > MAX_ISSUED) return false;
    this.#issued.set(holder, next);
    return true;
  }
}

function nameOf(ticket: string): string {
  return `socket-ticket ${hash('sha256', ticket, 'base64url')}`;
}

function keyOf(ticket: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', ticket, '', 'holdfast socket ticket', 32));
}

function decrypted(value: Buffer, ticket: string): TicketFacts {
  const decipher = createDecipheriv('aes-256-gcm', keyOf(ticket), value.subarray(0, 12));
  decipher.setAuthTag(value.subarray(12, 28));
  return JSON.parse(Buffer.concat([decipher.update(value.subarray(28)), decipher.final()]).toString());
}
