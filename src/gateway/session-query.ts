import { isDocumentNavigation, isPreflight } from '../http/navigation.ts';
import type { Refusal } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import { type RequestSite, requestSite } from '../http/request-site.ts';
import { newSessionRefused } from '../policy/limits/limits.ts';
import type { SessionRequest } from '../session/request/session-request.ts';
import type { SessionOwner } from '../session/session.ts';
import type { Route } from './route.ts';

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
  readonly #head: RequestHead;
  readonly #limit: (() => Refusal | undefined) | undefined;

  /**
   * @param urlParameter Under which name a ticket stands in URLs.
   * @param user Whom the request has shown.
   * @param limit Asked before a session of nobody begins. Default: as many as are asked for.
   */
  constructor(
    head: RequestHead,
    route: Pick<Route, 'isCrossSiteSignIn' | 'touch' | 'attributes'>,
    urlParameter: string,
    user?: SessionOwner,
    limit?: () => Refusal | undefined,
  ) {
    this.#head = head;
    this.#limit = limit;
    this.cookieHeader = head.headers.cookie;
    this.urlTicket = head.urlTicket?.name === urlParameter ? head.urlTicket.value : undefined;
    this.isSecure = head.isSecure;
    this.clientAddress = head.clientAddress;
    this.method = head.method;
    this.user = user;
    this.isCrossSiteSignIn = route.isCrossSiteSignIn;
    this.touch = route.touch;
    this.attributes = route.attributes;
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
    const value = this.#head.headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(', ') : value;
  }
}
