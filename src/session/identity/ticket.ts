import { RecentMap } from '../../base/recent-map.ts';
import { hashSecret, SECRET_LENGTH, SID_LENGTH } from './ids.ts';
import { KEY_ID_LENGTH, type KeyRing, MAC_LENGTH } from './key-ring.ts';

/** What a client shows. Whether the session lives and the secret is still its secret is not decided here. */
export interface SessionTicket {
  readonly sid: string;
  readonly secret: string;
  /** What the store keeps of the secret, where it is known already. */
  readonly secretHash?: string;
}

const SHAPE = new RegExp(
  `^v1\\.([\\w-]{${SID_LENGTH}})\\.([\\w-]{${SECRET_LENGTH}})\\.([\\w-]{${KEY_ID_LENGTH}})\\.([\\w-]{${MAC_LENGTH}})$`,
);
const TICKET_LENGTH = 'v1'.length + 4 + SID_LENGTH + SECRET_LENGTH + KEY_ID_LENGTH + MAC_LENGTH;

const NONCE_SHAPE = new RegExp(
  `^n1\\.([\\w-]{${SID_LENGTH}})\\.([0-9a-z]{1,10})\\.([\\w-]{${KEY_ID_LENGTH}})\\.([\\w-]{${MAC_LENGTH}})$`,
);
const MAX_NONCE_LENGTH = 'n1'.length + 4 + SID_LENGTH + 10 + KEY_ID_LENGTH + MAC_LENGTH;

const MAX_KNOWN = 10_000;

const ANYWHERE = new RegExp(
  `v1\\.[\\w-]{${SID_LENGTH}}\\.[\\w-]{${SECRET_LENGTH}}\\.[\\w-]{${KEY_ID_LENGTH}}\\.[\\w-]{${MAC_LENGTH}}`,
  'g',
);

/** The text with `v1.***` in place of each ticket: what is logged must open nothing. */
export function withoutTickets(text: string): string {
  return text.includes('v1.') ? text.replaceAll(ANYWHERE, 'v1.***') : text;
}

/** What a text is to the keys of a server. */
export type TextStanding = 'genuine' | 'not a ticket' | 'unknown key' | 'bad signature';

/** How long a nonce makes a session, in milliseconds. */
export const NONCE_LIFETIME_MS = 30_000;

/**
 * Writes and reads tickets, `v1.<sid>.<secret>.<key id>.<mac>`, and nonces, `n1.<random>.<time>.<key id>.<mac>`; the
 * MAC covers everything before it, including the dot, and the scope, so that what was made up is turned away without
 * asking the store.
 */
export class Tickets {
  readonly #keys: KeyRing;
  readonly #scope: string;
  /** Genuine ones of late: a client shows the same with each request. The longest known first. */
  readonly #known = new RecentMap<string, SessionTicket>(MAX_KNOWN);

  /**
   * @param scope Where the tickets are good for something: the path of their cookie. Below a path browsers also send
   * the cookies of the paths above it, under the same name; those are another application's, even where all keep their
   * sessions in one store. Default `/`.
   */
  constructor(keys: KeyRing, scope = '/') {
    this.#keys = keys;
    this.#scope = scope === '/' ? '' : `\0${scope}`;
  }

  write({ sid, secret }: SessionTicket): string {
    return this.#sign(`v1.${sid}.${secret}.`);
  }

  /** Undefined for what is no ticket, or not signed with one of the keys. */
  parse(text: string): SessionTicket | undefined {
    if (text.length !== TICKET_LENGTH) return undefined;
    const known = this.#known.get(text);
    if (known) return known;
    const match = SHAPE.exec(text);
    if (!match) return undefined;
    const [, sid, secret, keyId, mac] = match as unknown as [string, string, string, string, string];
    if (!this.#isGenuine(text, keyId, mac)) return undefined;
    const ticket = { sid, secret, secretHash: hashSecret(secret) };
    this.#known.set(text, ticket);
    return ticket;
  }

  /** Why a text is a ticket, or is not one: for whoever asks why a client has no session. */
  standingOf(text: string): TextStanding {
    const match = text.length === TICKET_LENGTH ? SHAPE.exec(text) : null;
    if (!match) return 'not a ticket';
    const [, , , keyId, mac] = match as unknown as [string, string, string, string, string];
    if (!this.#keys.has(keyId)) return 'unknown key';
    return this.#isGenuine(text, keyId, mac) ? 'genuine' : 'bad signature';
  }

  /** A nonce from which every request that shows it makes the same session. */
  writeNonce(random: string, now: number): string {
    return this.#sign(`n1.${random}.${Math.floor(now).toString(36)}.`);
  }

  /** Is it a genuine nonce, of whatever age? */
  isNonce(text: string): boolean {
    return this.#parseNonce(text) !== undefined;
  }

  /** The ticket of the one session that this nonce makes; undefined when it is not genuine, or older than 30 s. */
  ticketOf(nonce: string, now: number): SessionTicket | undefined {
    const parsed = this.#parseNonce(nonce);
    // The process that has made it may be on another machine, whose clock is a little ahead.
    if (parsed === undefined || !(Math.abs(now - parsed.madeAt) < NONCE_LIFETIME_MS)) return undefined;
    const { random, keyId } = parsed;
    // 256 bits each: a sid takes the first 128 of them.
    const sid = this.#keys.signWith(keyId, `holdfast sid of nonce\0${random}`)!.slice(0, SID_LENGTH);
    const secret = this.#keys.signWith(keyId, `holdfast secret of nonce\0${random}`)!;
    return { sid, secret };
  }

  #parseNonce(nonce: string): { random: string; madeAt: number; keyId: string } | undefined {
    if (nonce.length > MAX_NONCE_LENGTH) return undefined;
    const match = NONCE_SHAPE.exec(nonce);
    if (!match) return undefined;
    const [, random, time, keyId, mac] = match as unknown as [string, string, string, string, string];
    return this.#isGenuine(nonce, keyId, mac) ? { random, madeAt: Number.parseInt(time, 36), keyId } : undefined;
  }

  #sign(text: string): string {
    const signed = `${text}${this.#keys.signingKeyId}.`;
    return signed + this.#keys.sign(signed + this.#scope);
  }

  #isGenuine(text: string, keyId: string, mac: string): boolean {
    return this.#keys.verify(keyId, text.slice(0, -MAC_LENGTH) + this.#scope, mac);
  }
}
