import type { CalmLogger, SecurityListener } from '../base/calm-logger.ts';
import type { ErrorCode } from '../base/errors.ts';
import { sidPrefix } from '../base/logger.ts';
import { SECURITY_EVENTS, type SecurityEventName } from '../base/security-events.ts';

/** Something that matters for security, as whoever sees it reports it. */
export interface SecurityEvent {
  readonly event: SecurityEventName;
  /** Who the client is, as trusted proxies say it (`head.clientAddress`); `''` when that is not known. */
  readonly address: string;
  /** The name that was tried or is signed in: never a password, also where somebody has typed one there. */
  readonly user?: string | undefined;
  /** Which scheme of authentication. */
  readonly scheme?: string | undefined;
  /** The whole `sid`, of which the line has the first 8 characters. */
  readonly sid?: string | undefined;
  readonly route?: string | undefined;
  readonly method?: string | undefined;
  /** Without query and path parameters. */
  readonly path?: string | undefined;
  readonly status?: number | undefined;
  readonly code?: ErrorCode | undefined;
  /** A browser says that a page of another site has made it send this: its visitor need not know. */
  readonly crossSite?: true | undefined;
  /** Of a ban: which jail, of whom (an IPv4 address or the /64 of an IPv6 address), until when, and the how manyth. */
  readonly jail?: string | undefined;
  readonly client?: string | undefined;
  readonly until?: string | undefined;
  readonly offence?: number | undefined;
  /** What is done about it. */
  readonly action?: string | undefined;
  /** Of `policy.inspect`: its rule that matches. */
  readonly rule?: string | undefined;
  /** One word for why. */
  readonly failure?: string | undefined;
  /** Of a client's certificate, in one line. */
  readonly subject?: string | undefined;
  readonly serialNumber?: string | undefined;
  /** The message of the line, in words. It holds nothing secret. */
  readonly reason: string;
}

/** The longest text of a field: it may come from the network. */
const MAX_TEXT = 256;

/**
 * Where security events are reported, and heard by what acts on them: jails, for example.
 *
 * Each report is a line of the log, where lines of one event from one address are counted beyond 20 in 10 s. Listeners
 * hear every event, also those that the session store's or the gateway's parts write to the log themselves.
 */
export class SecurityEvents {
  readonly #logger: CalmLogger;

  constructor(logger: CalmLogger) {
    this.#logger = logger;
  }

  /** Never throws. */
  report({ event, address, sid, reason, ...rest }: SecurityEvent): void {
    const fields: Record<string, unknown> = { event, ...(address !== '' && { address }) };
    for (const [name, value] of Object.entries(rest))
      if (value !== undefined) fields[name] = typeof value === 'string' ? value.slice(0, MAX_TEXT) : value;
    if (sid !== undefined) fields.sid = sidPrefix(sid);
    this.#logger[SECURITY_EVENTS[event].level](fields, reason);
  }

  /**
   * Calls `listener` for each event, at once, whether or not it has a line of its own. What the listener
   * throws is lost.
   *
   * @returns ends that.
   */
  listen(listener: SecurityListener): () => void {
    return this.#logger.listen(listener);
  }
}
