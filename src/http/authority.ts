/** Host and port as `Host`, `Origin` and a request target name them. */
export interface Authority {
  /**
   * In the one spelling that a URL has for it: lower-case, addresses in their canonical form, IPv6 in brackets. A last
   * dot stays.
   */
  readonly hostname: string;
  /** Undefined when none is written. */
  readonly port: number | undefined;
}

const AUTHORITY = /^(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::(\d{1,5})?)?$/;
/**
 * What a URL may have another spelling for, or none: addresses, also in the old forms (`127.1`, `0x7f.1`), and names in
 * Punycode.
 */
const HAS_SPELLINGS = /^\[|(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$|(?:^|\.)xn--/;
/** RFC 1035 §2.3.4, with a last dot. */
const MAX_NAME_LENGTH = 254;

/**
 * Takes `host` or `host:port` apart.
 *
 * Of the characters that RFC 3986 allows in a name it takes those that names on the web have: letters, digits, `-`,
 * `_`, `.`. No real host has the others, and a `,` ends a host for a reader of lists, a `%` becomes what it is decoded
 * to.
 *
 * @returns undefined when it is neither, has a user name (`user@host`), or is one that no URL could have.
 * @see RFC 9110 §7.2, RFC 3986 §3.2
 */
export function parseAuthority(text: string): Authority | undefined {
  const match = AUTHORITY.exec(text.toLowerCase());
  if (!match) return undefined;
  const port = match[2] === undefined ? undefined : Number(match[2]);
  const hostname = spelled(match[1]!);
  if (hostname === undefined || (port !== undefined && port > 65_535)) return undefined;
  return { hostname, port };
}

function spelled(hostname: string): string | undefined {
  if (hostname.length > MAX_NAME_LENGTH) return undefined;
  return HAS_SPELLINGS.test(hostname) ? URL.parse(`http://${hostname}`)?.hostname : hostname;
}

/** The port a URL of this scheme means when it names none; undefined for schemes that have no default here. */
export function defaultPort(scheme: string): number | undefined {
  if (scheme === 'https' || scheme === 'wss') return 443;
  return scheme === 'http' || scheme === 'ws' ? 80 : undefined;
}
