import type { Logger } from '../../../base/logger.ts';
import type { SessionManager } from '../../../session/manager.ts';
import type { SessionOwner } from '../../../session/session.ts';

/** Users whose sessions wait to be looked at. More are looked at when they come with a request. */
const MOST_WAITING = 100_000;

export interface StaleLoginsOptions {
  readonly scheme: string;
  readonly logger: Logger;
  /** Those that may be theirs. */
  sessions(): Iterable<SessionManager>;
  /** Has the owner signed in with what is not good any more? */
  isStale(owner: SessionOwner, sessions: SessionManager): boolean;
}

/** Ends the sessions of users whose password is another now, or who are gone. One user at a time. */
export class StaleLogins {
  readonly #options: StaleLoginsOptions;
  readonly #waiting = new Set<string>();
  #isRunning = false;
  #isClosed = false;

  constructor(options: StaleLoginsOptions) {
    this.#options = options;
  }

  end(users: Iterable<string>): void {
    for (const user of users) if (this.#waiting.size < MOST_WAITING) this.#waiting.add(user);
    if (!this.#isRunning && this.#waiting.size > 0) void this.#run();
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (const user of this.#waiting) {
      this.#waiting.delete(user);
      for (const sessions of this.#options.sessions()) await this.#endOf(user, sessions);
    }
    this.#isRunning = false;
  }

  /** What cannot be ended now opens nothing all the same, and is ended when it is shown. */
  async #endOf(user: string, sessions: SessionManager): Promise<void> {
    const { scheme, logger, isStale } = this.#options;
    try {
      for (const { sid } of await sessions.ofUser(user)) {
        const owner = (await sessions.peek(sid))?.owner;
        if (owner?.scheme === scheme && isStale(owner, sessions)) await sessions.end(sid, 'security');
      }
    } catch (error) {
      if (this.#isClosed) return;
      logger.warn(
        { event: 'stale-logins-left', scheme, err: error },
        'sessions of a user whose password has changed cannot be ended now: they open nothing, and end when they are shown',
      );
    }
  }
}
