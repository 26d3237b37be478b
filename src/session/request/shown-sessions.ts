import type { Awaitable } from '../../base/awaitable.ts';
import { sidPrefix } from '../../base/logger.ts';
import { hashSecret } from '../identity/ids.ts';
import { isBetter, judgeSecret, type SecretStanding } from '../identity/secret-standing.ts';
import type { SessionTicket } from '../identity/ticket.ts';
import type { Use } from '../process/access-times.ts';
import type { LoadedSession } from '../process/loaded-session.ts';
import type { SessionRegistry } from '../process/registry.ts';
import type { SessionServices } from '../process/services.ts';
import type { SessionHeader } from '../store.ts';
import type { SessionRequest } from './session-request.ts';

/** A session that a ticket opens. */
export interface Found {
  readonly ticket: SessionTicket;
  readonly loaded: LoadedSession;
  readonly standing: SecretStanding;
}

/** Those of one session. */
type Tickets = readonly [SessionTicket, ...SessionTicket[]];

/** The sessions that the tickets of one request open, and their use while nobody has asked for them. */
export class ShownSessions {
  /** The client's secret has just been replaced by a login: it must not be told anything that undoes that. */
  isSuperseded = false;
  readonly #services: SessionServices;
  readonly #registry: SessionRegistry;
  readonly #request: SessionRequest;
  #uses: Use[] = [];
  #isAsked = false;
  #isOver = false;

  constructor(services: SessionServices, registry: SessionRegistry, request: SessionRequest) {
    this.#services = services;
    this.#registry = registry;
    this.#request = request;
  }

  /** @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  async open(): Promise<Found[]> {
    this.#isAsked = true;
    const live: Found[] = [];
    for (const tickets of this.#read()) {
      let loaded = this.#registry.load(tickets[0].sid);
      if (loaded instanceof Promise) loaded = await loaded;
      if (!loaded) {
        this.#services.meters.gone++;
        this.#request.onJudged?.(tickets[0].sid, 'gone');
      }
      let found = loaded && this.judge(tickets, loaded);
      if (found instanceof Promise) found = await found;
      if (found) live.push(found);
    }
    return live;
  }

  /** What the tickets of one session have found, if one of them still opens it: then the others are of no interest. */
  judge(tickets: Tickets, loaded: LoadedSession): Awaitable<Found | undefined> {
    const best = { loaded, ...bestOf(tickets, loaded.snapshot.header, this.#services.clock.now()) };
    if (best.standing === 'current') {
      this.#request.onJudged?.(best.ticket.sid, 'current');
      return best;
    }
    // Another process may have given it this secret a moment ago.
    return loaded.isRemembered ? this.#judgeAnew(tickets) : this.#judgeFormer(best);
  }

  async #judgeAnew(tickets: Tickets): Promise<Found | undefined> {
    const asked = await this.#registry.validate(tickets[0].sid);
    return asked && this.judge(tickets, asked);
  }

  /** A ticket whose secret is not the session's. */
  #judgeFormer({ ticket, loaded, standing }: Found): Found | undefined {
    const { logger, meters } = this.#services;
    const { header } = loaded.snapshot;
    this.#request.onJudged?.(ticket.sid, standing);
    switch (standing) {
      case 'rotated':
        return { ticket, loaded, standing };
      case 'superseded':
        // Who shows the owner's credentials with each request is the owner, whatever the secret.
        if (header.owner?.isShownByRequest && this.#request.user?.name === header.owner.name)
          return { ticket, loaded, standing };
        this.isSuperseded = true;
        return undefined;
      case 'dead':
        meters.deadSecrets++;
        logger.warn(
          { event: 'dead-secret', address: this.#request.clientAddress, sid: sidPrefix(ticket.sid) },
          'request with a session secret that was replaced long ago treated as anonymous',
        );
        return undefined;
      default:
        return undefined;
    }
  }

  /** The request runs for long, and nobody has asked for its session: that is in use all the same, until `endUse`. */
  async beginUse(): Promise<void> {
    const { accessTimes, clock } = this.#services;
    for (const tickets of this.#read()) {
      if (this.#isAsked || this.#isOver) return;
      const { sid } = tickets[0];
      const loaded = await this.#registry.load(sid);
      if (!loaded || this.#isOver) continue;
      const { header } = loaded.snapshot;
      const { standing } = bestOf(tickets, header, clock.now());
      if (standing !== 'current' && standing !== 'rotated') continue;
      accessTimes.note(sid, header, loaded.lastAccessedAt);
      this.#uses.push(accessTimes.begin(sid, { header }, loaded.lastAccessedAt));
    }
  }

  /** The request is over. */
  endUse(): void {
    this.#isOver = true;
    for (const use of this.#uses) this.#services.accessTimes.end(use);
  }

  #read(): readonly Tickets[] {
    return bySession(this.#services.tracking.read(this.#request));
  }
}

/** Once for each session that is shown. Browsers send a cookie for each domain and path that it was ever set for. */
function bySession(tickets: readonly SessionTicket[]): readonly Tickets[] {
  if (tickets.length === 1) return [tickets as Tickets];
  return [...Map.groupBy(tickets, ({ sid }) => sid).values()] as unknown as Tickets[];
}

function bestOf(tickets: Tickets, header: SessionHeader, now: number): Pick<Found, 'ticket' | 'standing'> {
  let best: Pick<Found, 'ticket' | 'standing'> | undefined;
  for (const ticket of tickets) {
    const standing = judgeSecret(header, ticket.secretHash ?? hashSecret(ticket.secret), now);
    if (!best || isBetter(standing, best.standing)) best = { ticket, standing };
  }
  return best!;
}

/** Of the sessions that this user owns, the one that was used last. */
export function latestOf(found: readonly Found[], name: string): Found | undefined {
  const own = found.filter(({ loaded }) => loaded.snapshot.header.owner?.name === name);
  return own.sort((a, b) => b.loaded.lastAccessedAt - a.loaded.lastAccessedAt)[0];
}
