import type { SecretStanding } from '../identity/secret-standing.ts';
import type { TrackedRequest } from '../identity/tracking.ts';
import type { SessionOwner } from '../session.ts';

/** What a binding needs to know of a request. */
export interface SessionRequest extends TrackedRequest {
  /** True when the request loads a page into a window: only such a request makes a session unasked. */
  readonly isDocumentNavigation: boolean;
  /**
   * True when a browser asks whether a page of another site may send a request: it comes without cookies, and keeps
   * none. Default false.
   */
  readonly isPreflight?: boolean | undefined;
  /** The user whom the route has authenticated for this request. Absent: the route asks for nobody. */
  readonly user?: SessionOwner | undefined;
  /** For the log. Absent: not known, as behind a proxy that only the application knows. */
  readonly clientAddress?: string | undefined;
  /**
   * Does it count as use of its session? `false`: it sees and changes the session, and the session ends as if there had
   * been no such request. A login counts in any case. Default true.
   */
  readonly touch?: boolean | undefined;
  /**
   * Attributes that lie apart and that are loaded with the session, whenever it comes to the request, so that `get`
   * works at once. Default: none.
   */
  readonly attributes?: readonly string[] | undefined;
  /**
   * Asked once when a session that belongs to nobody is about to begin: why there is to be none now. A page that nobody
   * has asked a session for goes without; `open` throws it. Absent: no limit.
   */
  refuseNew?(): Error | undefined;
  /** Hears what became of each session that the request shows. Absent: nobody wants to know. */
  readonly onJudged?: ((sid: string, standing: ShownStanding) => void) | undefined;
}

/** `gone`: no session of this name is in the store (any more). The others are those of its secret. */
export type ShownStanding = 'gone' | SecretStanding;
