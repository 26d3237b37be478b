import { createHash } from 'node:crypto';
import type { Clock } from '../../../base/clock.ts';
import { RecentMap } from '../../../base/recent-map.ts';
import type { Ledger } from '../../../session/ledger.ts';
import type { SealedText } from './sealed-text.ts';

/** What is known of a user who has signed in, beside their session. */
export interface Login {
  /** Their name in the session. */
  readonly user: string;
  readonly issuer: string;
  readonly subject: string;
  /** Their session at the provider, where that names it (`sid`). */
  readonly providerSession?: string | undefined;
  readonly claims: Readonly<Record<string, unknown>>;
  /** By which the provider knows whom it signs out. */
  readonly idToken?: string | undefined;
  readonly refreshToken?: string | undefined;
  /** When the tokens end, in ms since the epoch; left out: the provider does not say. */
  readonly endsAt?: number | undefined;
  /** How long they were good for. */
  readonly lifeMs?: number | undefined;
}

interface Kept {
  readonly login: Login;
  readonly ttlMs: number;
  /** From then on it is written anew, so that it lives as long as it is used. */
  readonly prolongAt: number;
}

export interface LoginsOptions {
  readonly ledger: Ledger;
  readonly sealed: SealedText;
  /** The scheme. */
  readonly scheme: string;
  readonly clock: Clock;
}

const MOST_REMEMBERED = 10_000;
/** Of one subject: one that is called otherwise again and again has its last names. */
const MOST_NAMES = 8;
const DAY_MS = 86_400_000;
const LONGEST_MS = 400 * DAY_MS;

/** How long what is kept of a login outlives its last use, for a session that ends after so many ms of silence. */
export function keptFor(idleTimeoutMs: number): number {
  return Math.min(Math.max(2 * idleTimeoutMs, DAY_MS), LONGEST_MS);
}

/**
 * The logins of a scheme, in the Ledger: shared by the processes that keep the sessions, there after a restart, sealed, and
 * apart from what applications and backends can see of a session.
 */
export class Logins {
  readonly #options: LoginsOptions;
  /** By their ids; a login of one id changes only by `replace`. */
  readonly #known = new RecentMap<string, Kept>(MOST_REMEMBERED);

  constructor(options: LoginsOptions) {
    this.#options = options;
  }

  /** What this process knows without asking anybody. */
  known(id: string): Login | undefined {
    const kept = this.#known.get(id);
    return kept && kept.prolongAt > this.#options.clock.now() ? kept.login : undefined;
  }

  /** As the Ledger has it. */
  async read(id: string): Promise<Login | undefined> {
    const key = this.#key('login', id);
    const sealed = await this.#options.ledger.get(key);
    const text = sealed && this.#options.sealed.open(sealed, key);
    if (!text) {
      this.#known.delete(id);
      return undefined;
    }
    const kept = JSON.parse(text) as Kept;
    if (kept.prolongAt <= this.#options.clock.now()) await this.put(id, kept.login, kept.ttlMs);
    else this.#known.set(id, kept);
    return kept.login;
  }

  /** @param ttlMs From its last use. */
  async put(id: string, login: Login, ttlMs: number): Promise<void> {
    const { ledger, sealed, clock } = this.#options;
    const kept: Kept = { login, ttlMs, prolongAt: clock.now() + ttlMs / 2 };
    const key = this.#key('login', id);
    await ledger.put(key, sealed.seal(JSON.stringify(kept), key), ttlMs);
    this.#known.set(id, kept);
    await this.#putIndex(login, ttlMs);
  }

  /** New tokens of the same login. */
  async replace(id: string, login: Login): Promise<void> {
    await this.put(id, login, this.#known.get(id)?.ttlMs ?? DAY_MS);
  }

  /** The login is over. */
  async drop(id: string): Promise<void> {
    this.#known.delete(id);
    await this.#options.ledger.take(this.#key('login', id));
  }

  /** Names that a subject has had in sessions. */
  async namesOf(issuer: string, subject: string): Promise<readonly string[]> {
    const text = await this.#options.ledger.get(this.#subjectKey(issuer, subject));
    return text === undefined ? [] : (JSON.parse(text) as string[]);
  }

  /** Whose a session at the provider is. */
  subjectOf(issuer: string, providerSession: string): Promise<string | undefined> {
    return this.#options.ledger.get(this.#sessionKey(issuer, providerSession));
  }

  /** True for one caller: what is used once was not used before. */
  useOnce(what: 'state' | 'logout', id: string, ttlMs: number): Promise<boolean> {
    return this.#options.ledger.putIfAbsent(this.#key(what, hashOf(id)), '1', ttlMs);
  }

  /** Forgets that it was used. */
  async unuse(what: 'state' | 'logout', id: string): Promise<void> {
    await this.#options.ledger.take(this.#key(what, hashOf(id)));
  }

  /**
   * Does `work` unless another process does it for this login. @returns false: another one does.
   *
   * @param mostMs After this time others may do it although this process has not said that it has.
   */
  async alone(id: string, mostMs: number, work: () => Promise<void>): Promise<boolean> {
    const { ledger } = this.#options;
    const key = this.#key('refresh', id);
    if (!(await ledger.putIfAbsent(key, '1', mostMs))) return false;
    try {
      await work();
    } finally {
      await ledger.take(key);
    }
    return true;
  }

  /** A logout of the provider's names a subject, or its own session. */
  async #putIndex({ issuer, subject, providerSession, user }: Login, ttlMs: number): Promise<void> {
    const { ledger } = this.#options;
    const names = [user, ...(await this.namesOf(issuer, subject)).filter(name => name !== user)].slice(0, MOST_NAMES);
    await ledger.put(this.#subjectKey(issuer, subject), JSON.stringify(names), ttlMs);
    if (providerSession !== undefined) await ledger.put(this.#sessionKey(issuer, providerSession), subject, ttlMs);
  }

  #subjectKey(issuer: string, subject: string): string {
    return this.#key('subject', hashOf(`${issuer}\0${subject}`));
  }

  #sessionKey(issuer: string, session: string): string {
    return this.#key('provider-session', hashOf(`${issuer}\0${session}`));
  }

  #key(what: string, id: string): string {
    return `oidc ${this.#options.scheme} ${what} ${id}`;
  }
}

/** Of the provider's making, and of any length. */
function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
