import type { ConfigProblem } from '../config/config-error.ts';

/** What a running server watches, and says itself at its start, after a change and each day. */
const WATCHED = /^(?:user-twice|weak-password-hash|no-users|revocation-list-.*|certificate-.*)$/;
/** Events by which a start says of a configuration what its examination has said, with its place. */
export const SAID_AT_START: readonly string[] = ['trusted-proxies-doubtful', 'sessions-in-urls'];

/** Is a doubt one that the server has a line for? Of the certificates for upstreams nobody watches the dates. */
export function isSaidByServer({ code, path }: ConfigProblem): boolean {
  return code !== undefined && WATCHED.test(code) && !path.startsWith('upstreams');
}
