import { isDocumentNavigation, isPreflight } from '../http/navigation.ts';
import type { RequestHead } from '../http/request-head.ts';
import { type RequestSite, requestSite } from '../http/request-site.ts';
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

  /**
   * @param urlParameter Under which name a ticket stands in URLs.
   * @param user Whom the request has shown.
   */
  constructor(
    head: RequestHead,
    route: Pick<Route, 'isCrossSiteSignIn' | 'touch' | 'attributes'>,
    urlParameter: string,
    user?: SessionOwner,
  ) {
    this.#head = head;
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

  get site(): RequestSite {
    return requestSite(this.#head.headers, this.#head);
  }

  /** Several lines of one name are one value, as ever in HTTP (RFC 9110 §5.2): then it is no ticket. */
  readHeader(name: string): string | undefined {
    const value = this.#head.headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(', ') : value;
  }
}
