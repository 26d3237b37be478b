import type { RequestIds } from '../http/request-id.ts';

/**
 * What is ours in requests and responses: it can hold secrets, and stays with us. Sessions and upstreams add their names
 * while the server is put together; the first request finds all of them. Another configuration adds names: those of
 * before stay ours, as clients have them still.
 */
export class OwnNames {
  /** Names of our cookies, those of every application of the server. */
  readonly cookies: Set<string> = new Set();
  /** Of cookie names that belong to one upstream each: no other gets or sets such a cookie. */
  readonly cookiePrefixes: Set<string> = new Set();
  /** Lower-case names of headers that carry session tickets. */
  readonly headers: Set<string> = new Set();
  /** Of path parameters that carry session tickets. */
  readonly urlParameters: Set<string> = new Set();
  /** Names of cookies and headers (lower-case) that show the sessions of backends: they pass, and no log has them. */
  readonly backendCookies: Set<string> = new Set();
  readonly backendHeaders: Set<string> = new Set();
  /** Names requests, and in which header backends learn it. Default: they have no names. */
  requestIds: RequestIds | undefined;
  /** By which a request that comes back is known (`routing/loop.ts`). Default: it is not known. */
  readonly instance: string | undefined;

  constructor(instance?: string) {
    this.instance = instance;
  }
}
