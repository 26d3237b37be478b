import type { Clock } from '../../../base/clock.ts';
import { parseDate } from '../../../base/date.ts';
import { parseDuration } from '../../../base/duration.ts';
import type { Logger } from '../../../base/logger.ts';
import type { ClientHeaders } from '../../../http/client-headers.ts';
import type { HeaderLine } from '../../../http/header-line.ts';
import type { Refusal } from '../../../http/refusal.ts';
import type { RequestHead } from '../../../http/request-head.ts';
import type { Ledger } from '../../../session/ledger.ts';
import type { AnsweredBy, BackendSession, RelayedSocket } from '../backend-session.ts';
import type { UpstreamSessionConfig } from './options.ts';
import { type AttachedSocket, ObservedSessions, type ObservedSessionsOptions } from './sessions.ts';
import { ObservedSource, type SessionClaim } from './source.ts';

export interface SessionObserverEnvironment {
  /** The cookie's name as browsers know it. */
  readonly publicCookie: string | undefined;
  /** The header that tells the backend of its session. */
  readonly sessionHeader: string;
  /** Headers that only we may set, that one included. */
  readonly owned: readonly string[];
  /** What of a client's other headers passes. */
  readonly clientHeaders: ClientHeaders;
  readonly clock: Clock;
  readonly logger: Logger;
  /** It has been learned which server a session is on. */
  readonly onPlace?: (key: string, server: string) => void;
}

/** Watches the sessions that the backends of one upstream keep themselves. */
export class SessionObserver {
  readonly touchOnTraffic: 'message' | 'any' | 'never';
  readonly sessionHeader: string;
  readonly clock: Clock;
  readonly source: ObservedSource;
  readonly #options: Omit<ObservedSessionsOptions, 'ledger'>;
  /** Until when an answer that accepts an id makes it live, in milliseconds since the epoch. */
  readonly #trustsUntil: number;
  #sessions: ObservedSessions | undefined;

  /** @throws {TypeError} when the idle time is not a duration, or `trustUntil` not a date. */
  constructor(upstream: string, options: UpstreamSessionConfig, environment: SessionObserverEnvironment) {
    const { clock, logger, onPlace } = environment;
    this.touchOnTraffic = options.touchOnTraffic ?? 'message';
    this.sessionHeader = environment.sessionHeader;
    this.#trustsUntil = trustsUntil(options);
    this.clock = clock;
    this.source = new ObservedSource(upstream, options, environment);
    this.#options = {
      ...{ upstream, clock, logger, onPlace },
      idleTimeoutMs: parseDuration(options.idleTimeout ?? '30m'),
      onReplace: options.onReplace ?? 'close',
    };
  }

  /** Which of them are live. From `start` on. */
  get sessions(): ObservedSessions {
    return this.#sessions!;
  }

  /**
   * Begins to keep what is known, and to hear of what other processes see. No exchange begins before it.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   */
  async start(ledger: Ledger): Promise<void> {
    this.use(await this.open(ledger));
  }

  /** From now on these are asked. @returns those of before, which the caller closes. */
  use(sessions: ObservedSessions): ObservedSessions | undefined {
    const before = this.#sessions;
    this.#sessions = sessions;
    return before;
  }

  /**
   * Opens what is known in a ledger, beside what is asked now.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   */
  async open(ledger: Ledger): Promise<ObservedSessions> {
    const sessions = new ObservedSessions({ ...this.#options, ledger });
    await sessions.start();
    await this.#warnOfUnknown(sessions, ledger);
    return sessions;
  }

  async #warnOfUnknown(sessions: ObservedSessions, ledger: Ledger): Promise<void> {
    if ((await sessions.beginKnowing()) || this.trustsAnswers) return;
    this.#options.logger.warn(
      { event: 'observed-sessions-unknown', upstream: this.#options.upstream, ledger: ledger.name },
      'nothing is known of the sessions that this upstream has given so far: for who has one, there is none here until the backend gives another. ' +
        'Keep what is known in a session.store that outlives the process (lmdb, redis, postgres); for a changeover set session.trustUntil of the upstream',
    );
  }

  /** An answer that accepts an id makes it live, whoever has made it up. */
  get trustsAnswers(): boolean {
    return this.clock.now() < this.#trustsUntil;
  }

  /** Never rejects; the ledger may be closed when it has resolved. */
  async close(): Promise<void> {
    await this.#sessions?.close();
  }

  /**
   * Looks up the session that a request claims.
   *
   * @param limit Asked before one is kept that was not known. Default: there is none.
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when it is not known whether it is live.
   */
  async begin(head: RequestHead, limit: SessionLimit = noLimit): Promise<ObservedExchange> {
    const claim = this.source.claimOf(head);
    if (claim === 'ambiguous') {
      this.#options.logger.info(
        { event: 'session-ambiguous', upstream: this.#options.upstream, address: head.clientAddress },
        'a request shows several sessions, and none of them is taken',
      );
      return new ObservedExchange(this, this.sessions, undefined, false, limit);
    }
    const { sessions } = this;
    const isLive = claim !== undefined && (await sessions.isLive(claim.key));
    return new ObservedExchange(this, sessions, claim, isLive, limit);
  }
}

/** Why a client is given no session now. */
export type SessionLimit = () => Refusal | undefined;
const noLimit: SessionLimit = () => undefined;

/** The session of one exchange, as the client claims it and as the backend's answer says it is. */
export class ObservedExchange implements BackendSession {
  readonly #observer: SessionObserver;
  /** Those that counted when it began: others may take their place meanwhile. */
  readonly #sessions: ObservedSessions;
  readonly #claimed: string | undefined;
  readonly #isPassedOn: boolean;
  /** Opens the session: kept only until the backend was told. */
  #value: string | undefined;
  readonly #wasLive: boolean;
  #isLive: boolean;
  #key: string | undefined;
  #attached: AttachedSocket | undefined;
  readonly #limit: SessionLimit;

  constructor(
    observer: SessionObserver,
    sessions: ObservedSessions,
    claim: SessionClaim | undefined,
    isLive: boolean,
    limit: SessionLimit,
  ) {
    this.#observer = observer;
    this.#sessions = sessions;
    this.#limit = limit;
    this.#claimed = claim?.key;
    this.#isPassedOn = claim?.isPassedOn ?? false;
    this.#value = isLive ? claim?.value : undefined;
    this.#wasLive = isLive;
    this.#isLive = isLive;
    this.#key = claim?.key;
  }

  /** Stands for the session that the client has, or claims: what ties it to a server. */
  get key(): string | undefined {
    return this.#key;
  }

  /** The same, if it is live, or was until this exchange ended it: for the log. */
  get liveKey(): string | undefined {
    return this.#wasLive || this.#isLive ? this.#key : undefined;
  }

  get touchOnTraffic(): SessionObserver['touchOnTraffic'] {
    return this.#observer.touchOnTraffic;
  }

  /** Only a live session is told to the backend, and then letter for letter. */
  requestHeaders(): readonly HeaderLine[] {
    const value = this.#value;
    this.#value = undefined;
    return value === undefined ? [] : [{ name: this.#observer.sessionHeader, value }];
  }

  /**
   * Nothing but the answer to a request that showed the session itself ends it, replaces it or keeps it alive.
   *
   * What changes is known to the other processes before the client hears of it, as far as the ledger can be reached.
   *
   * @returns a refusal in the place of an answer by which a client would get one session too many: without it the client
   * would be signed in, as its backend sees it, and nobody here would know.
   */
  answered(rawHeaders: readonly string[], { status, server }: AnsweredBy): Promise<Refusal | undefined> | undefined {
    const { source, clock, trustsAnswers } = this.#observer;
    const word = source.wordIn(rawHeaders, clock.now());
    if (word === 'over') return this.#end();
    const key = this.#claimed;
    if (word && word.key !== key) return this.#replace(word.key, server.url);
    if (key === undefined) return undefined;
    const isSuccess = status === 101 || (status >= 200 && status < 300);
    if (this.#isLive) {
      if (word || isSuccess || (status >= 300 && status < 400)) this.#sessions.used(key, server.url);
      return undefined;
    }
    // Nobody has given it. Where unknown visitors are sent away to sign in, a redirect says nothing of the session.
    const isAccepted = word !== undefined || (this.#isPassedOn && isSuccess);
    // It may be made up: one too many is not taken for live, and the answer passes.
    return trustsAnswers && isAccepted && !this.#limit() ? this.#confirm(key, server.url) : undefined;
  }

  /** The WebSocket ends with the session, if there is one. */
  add(relay: RelayedSocket): void {
    if (!this.#isLive) return;
    const attached = this.#sessions.attach(this.#key!, relay.server.url, relay);
    this.#attached = attached;
    relay.closed.then(() => attached.release()).catch(() => {});
  }

  /** The session was used. */
  touch(): void {
    this.#attached?.touch();
  }

  /** Its WebSocket belongs to a session that is not looked for any more where it is known. */
  get hasLostSession(): boolean {
    return this.#attached !== undefined && this.#sessions !== this.#observer.sessions;
  }

  async #end(): Promise<undefined> {
    this.#isLive = false;
    if (await this.#isClaimKnown()) await this.#sessions.over(this.#claimed!);
  }

  async #replace(key: string, server: string): Promise<Refusal | undefined> {
    const sessions = this.#sessions;
    // One for another is no more than there were.
    const refusal = this.#isLive ? undefined : this.#limit();
    if (refusal) return refusal;
    await sessions.issued(key, server);
    if (await this.#isClaimKnown()) await sessions.over(this.#claimed!, key);
    this.#key = key;
    this.#isLive = true;
  }

  async #confirm(key: string, server: string): Promise<undefined> {
    this.#isLive = await this.#sessions.accepted(key, server);
  }

  /** Asked again: the answer to another request may have confirmed it meanwhile. */
  async #isClaimKnown(): Promise<boolean> {
    if (this.#claimed === undefined) return false;
    try {
      return await this.#sessions.isLive(this.#claimed);
    } catch {
      return true; // to end what was none does no harm
    }
  }
}

/**
 * A session of ours and one of the backend's own in one exchange: the backend is told of both, and both hear its
 * answer.
 */
export function bothSessions(managed: BackendSession, observed: ObservedExchange): BackendSession {
  return {
    requestHeaders: async () => [...(await managed.requestHeaders()), ...observed.requestHeaders()],
    async answered(rawHeaders, by) {
      const heard = await managed.answered(rawHeaders, by);
      // A refusal takes the place of the answer, and yet the backend has given it.
      return (await observed.answered(rawHeaders, by)) ?? heard;
    },
  };
}

function trustsUntil({ trust, trustUntil }: UpstreamSessionConfig): number {
  if (trustUntil === undefined) return trust === 'accepted' ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  const ms = parseDate(trustUntil);
  if (ms === undefined)
    throw new TypeError(`trustUntil must be a date like 2027-01-31, not ${JSON.stringify(trustUntil)}`);
  return ms;
}
