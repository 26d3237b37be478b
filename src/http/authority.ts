/** Host and port as `Host`, `Origin` and a request target name them. */
export interface Authority {
  /** Lower-case; an IPv6 address in brackets. */
  readonly hostname: string;
  /** Undefined when none is written. */
  readonly port: number | undefined;
}

const AUTHORITY = /^(\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+,;=%-]+)(?::(\d{1,5})?)?$/;

/**
 * Takes `host` or `host:port` apart.
 *
 * @returns undefined when it is neither, or has a user name (`user@host`).
 * @see RFC 9110 §7.2, RFC 3986 §3.2
 */
export function parseAuthority(text: string): Authority | undefined {
  const match = AUTHORITY.exec(text.toLowerCase());
  if (!match) return undefined;
  const port = match[2] === undefined ? undefined : Number(match[2]);
  if (port !== undefined && port > 65_535) return undefined;
  return { hostname: match[1]!, port };
}

/** The port a URL of this scheme means when it names none; undefined for schemes that have no default here. */
export function defaultPort(scheme: string): number | undefined {
  if (scheme === 'https' || scheme === 'wss') return 443;
  return scheme === 'http' || scheme === 'ws' ? 80 : undefined;
}
