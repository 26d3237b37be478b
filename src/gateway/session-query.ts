import { isDocumentNavigation, isPreflight } from '../http/navigation.ts';
import type { Refusal } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import { type RequestSite, requestSite } from '../http/request-site.ts';
import { newSessionRefused } from '../policy/limits/limits.ts';
import type { Tracking } from '../session/identity/tracking.ts';
import type { SessionRequest } from '../session/request/session-request.ts';
import type { SessionOwner } from '../session/session.ts';
import type { Route } from './route.ts';

export interface QueryOptions {
  /** Whom the request has shown. */
  readonly user?: SessionOwner | undefined;
  /** Asked before a session of nobody begins. Default: as many as are asked for. */
  readonly limit?: (() => Refusal | undefined) | undefined;
  /** A session's ticket that counts in the place of what the request shows itself. */
  readonly text?: string | undefined;
  readonly onJudged?: SessionRequest['onJudged'];
}

/** What sessions look at in a request of ours; what few ask for is worked out then. */
export class SessionQuery implements SessionRequest {
  readonly cookieHeader: string | undefined;
  readonly urlTicket: string | undefined;
  readonly isSecure: boolean;
  readonly clientAddress: string;
  readonly method: string;
  readonly isCrossSiteSignIn: boolean | undefined;
  readonly user: SessionOwner | undefined;
  readonly touch: boolean | undefined;
  readonly attributes: readonly string[] | undefined;
  readonly onJudged: SessionRequest['onJudged'];
  readonly #head: RequestHead;
  readonly #limit: (() => Refusal | undefined) | undefined;
  readonly #tracking: Tracking;
  /** Headers that count in the place of those of the request. */
  readonly #instead: Readonly<Record<string, string | undefined>> = {};

  /** @param tracking By which clients show their sessions. */
  constructor(
    head: RequestHead,
    route: Pick<Route, 'isCrossSiteSignIn' | 'touch' | 'attributes'>,
    tracking: Tracking,
    { user, limit, text, onJudged }: QueryOptions = {},
  ) {
    this.#head = head;
    this.#limit = limit;
    this.onJudged = onJudged;
    this.#tracking = tracking;
    if (text === undefined) {
      this.cookieHeader = head.headers.cookie;
      this.urlTicket = head.urlTickets.find(({ name }) => name === tracking.urlParameter)?.value;
    } else {
      const { cookieHeader, header, urlTicket } = tracking.fieldsFor(text);
      this.cookieHeader = cookieHeader;
      this.urlTicket = urlTicket;
      this.#instead = { [tracking.headerName.toLowerCase()]: header };
    }
    this.isSecure = head.isSecure;
    this.clientAddress = head.clientAddress;
    this.method = head.method;
    this.user = user;
    this.isCrossSiteSignIn = route.isCrossSiteSignIn;
    this.touch = route.touch;
    this.attributes = route.attributes;
  }

  /** Does it show a session, and not this one? */
  showsOther(sid: string): boolean {
    const shown = this.#tracking.read(this);
    return shown.length > 0 && !shown.some(ticket => ticket.sid === sid);
  }

  get isDocumentNavigation(): boolean {
    return isDocumentNavigation(this.#head);
  }

  get isPreflight(): boolean {
    return isPreflight(this.#head);
  }

  refuseNew(): Error | undefined {
    const refusal = this.#limit?.();
    return refusal && newSessionRefused(refusal);
  }

  get site(): RequestSite {
    return requestSite(this.#head.headers, this.#head);
  }

  /** Several lines of one name are one value, as ever in HTTP (RFC 9110 §5.2): then it is no ticket. */
  readHeader(name: string): string | undefined {
    const lower = name.toLowerCase();
    const value = lower in this.#instead ? this.#instead[lower] : this.#head.headers[lower];
    return Array.isArray(value) ? value.join(', ') : value;
  }
}
