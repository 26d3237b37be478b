import type { Duration } from '../../../base/duration.ts';

/** `.` as Tomcat and Jetty write it, `!` as WebLogic, `:` as WebSphere, or `+` where its `CloneSeparatorChange` is set. */
export type RouteSeparator = '.' | '!' | ':' | '+';

/**
 * Whose the sessions of an upstream are. All but `mode` goes with `mode: observed`, which needs a cookie or a header.
 */
export interface UpstreamSessionConfig {
  /** `managed`: ours. `observed`: the backend's own, which we watch. */
  mode: 'managed' | 'observed';
  /** The backend's session cookie, letter for letter, for example `JSESSIONID`. */
  cookie?: string;
  /**
   * A header with the id, for clients without cookies. An answer gives the id by the same header, and ends it by an
   * empty one.
   */
  header?: string;
  /**
   * Several different ids in one request: `reject` (default) takes none of them, `first` or `last` takes that one. The
   * header is before the cookies.
   */
  duplicates?: 'reject' | 'first' | 'last';
  /**
   * What begins the route or clone at the end of an id: it may change while the session stays the same. With `:` and
   * `+` (WebSphere) the first four characters, a cache id, may change, too. Default: nothing does.
   */
  suffix?: RouteSeparator;
  /**
   * Time without an answer that accepts the session, after which it is not live any more: at least that of the backend.
   * Default `30m`.
   */
  idleTimeout?: Duration;
  /**
   * What makes an id live. `issued` (default): the backend has given it to a client that did not show it. `accepted`:
   * also an answer of 2xx or 101 to a request with the id, which a page that looks at no session gives to any id that a
   * visitor makes up.
   */
  trust?: 'issued' | 'accepted';
  /**
   * For a changeover: until then as `accepted`, from then on as `issued`, so that visitors who have their sessions
   * already keep them. A date, `2027-01-31` (its beginning, in UTC), or a time with its zone.
   */
  trustUntil?: string;
  /**
   * The sockets of a session that gets another id: `close` (default, 1012), or `rebind`: they stay, and belong to the
   * new one.
   */
  onReplace?: 'close' | 'rebind';
  /**
   * Does WebSocket traffic keep it alive? `message` (default): messages of the client; `any`: each of its frames;
   * `never`.
   */
  touchOnTraffic?: 'message' | 'any' | 'never';
}
