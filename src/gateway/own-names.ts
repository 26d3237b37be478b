/** What is ours in a request or a response: it can hold secrets, and stays with us. */
export interface OwnNames {
  /** Names of our cookies, those of every application of the server. */
  readonly cookies: ReadonlySet<string>;
  /** Of cookie names that belong to one upstream each: no other gets or sets such a cookie. */
  readonly cookiePrefixes?: readonly string[];
  /** Lower-case names of headers that carry session tickets. */
  readonly headers: ReadonlySet<string>;
  /** By which a request that comes back is known (`routing/loop.ts`). Default: it is not known. */
  readonly instance?: string;
}
