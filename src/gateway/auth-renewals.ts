import type { Clock, Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { RecentMap } from '../base/recent-map.ts';
import type { Principal } from '../policy/auth/scheme.ts';
import type { Ledger } from '../session/ledger.ts';
import type { LiveUsers } from './live-users.ts';

/** What processes tell each other: whose credentials are good until when. */
interface Renewal {
  readonly sid: string;
  readonly scheme: string;
  readonly name: string;
  readonly until: number;
  /** When they were shown, in ms since the epoch: a socket that was opened later has credentials of its own. */
  readonly at: number;
}

const CHANNEL = 'auth-renewed';
/** What is renewed within this time is told at once. */
const GATHER_MS = 200;
/** Sessions whose last end is remembered. */
const MAX_SESSIONS = 10_000;
/** A scheme may set a later end with each request: what gains less of the time that is left is told with a later one. */
const SMALLEST_GAIN = 0.1;

/**
 * A request with fresh credentials keeps the sockets of its session open, in whichever process they are: with new tokens
 * one message to the others for each, and not for each request.
 */
export class AuthRenewals {
  readonly #users: LiveUsers;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #told = new RecentMap<string, number>(MAX_SESSIONS);
  readonly #waiting = new Map<string, { ledger: Ledger; renewal: Renewal }>();
  #timer: Timer | undefined;

  constructor(users: LiveUsers, { clock, logger }: { readonly clock: Clock; readonly logger: Logger }) {
    this.#users = users;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Hears of the other processes that share the ledger. @returns ends that. */
  listen(ledger: Ledger): Promise<() => Promise<void>> {
    return ledger.subscribe(CHANNEL, message => {
      const renewal = parsed(message);
      if (renewal) this.#users.extend(renewal.sid, renewal);
    });
  }

  /** A user has shown credentials with a request of this session. @param ledger What its processes share. */
  renew(sid: string, principal: Principal, ledger: Ledger | undefined): void {
    const { name, scheme, expiresAt } = principal;
    this.#users.renew(sid, principal);
    if (expiresAt === undefined || !ledger) return;
    const now = this.#clock.now();
    const told = this.#told.get(sid) ?? 0;
    if (expiresAt <= told || (expiresAt - told < (told - now) * SMALLEST_GAIN && told > now)) return;
    this.#told.set(sid, expiresAt);
    this.#waiting.set(sid, { ledger, renewal: { sid, scheme, name, until: expiresAt, at: now } });
    this.#timer ??= this.#clock.setTimeout(() => void this.#tell(), GATHER_MS);
  }

  close(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  /** One that is lost costs a socket that opens again: nothing waits for it. */
  async #tell(): Promise<void> {
    this.#timer = undefined;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    const told = waiting.map(({ ledger, renewal }) => ledger.publish(CHANNEL, JSON.stringify(renewal)));
    const failed = (await Promise.allSettled(told)).find(result => result.status === 'rejected');
    if (failed)
      this.#logger.warn(
        { event: 'auth-renewal-lost', err: failed.reason },
        'other processes could not be told of renewed credentials',
      );
  }
}

function parsed(message: string): Renewal | undefined {
  try {
    const { sid, scheme, name, until, at } = JSON.parse(message);
    const isWhole =
      [sid, scheme, name].every(text => typeof text === 'string') &&
      [until, at].every(time => typeof time === 'number');
    return isWhole ? { sid, scheme, name, until, at } : undefined;
  } catch {
    return undefined;
  }
}
