/** Where a backend server is. */
export interface ServerAddress {
  /** As configured, for logs. */
  readonly url: string;
  /** `''` for a Unix socket. */
  readonly hostname: string;
  /** 0 for a Unix socket. */
  readonly port: number;
  /** Path of a Unix socket. */
  readonly socketPath: string | undefined;
  readonly isTls: boolean;
}

/**
 * Reads `http://host:port`, `https:`, `ws:`, `wss:` (the same as `http:` and `https:`), or `unix:/path/of/socket`.
 *
 * @returns undefined when it is none of them: also with a user, a path, a query or a fragment.
 */
export function parseServerAddress(text: string): ServerAddress | undefined {
  if (/^unix:./.test(text))
    return { url: text, hostname: '', port: 0, socketPath: text.slice('unix:'.length), isTls: false };
  const url = URL.parse(text);
  if (!url || !/^(?:http|ws)s?:$/.test(url.protocol) || url.pathname !== '/' || /[?#@]/.test(text)) return undefined;
  const isTls = url.protocol === 'https:' || url.protocol === 'wss:';
  return {
    url: url.origin,
    // A URL writes an IPv6 address in brackets, a socket wants it without.
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port !== '' ? Number(url.port) : isTls ? 443 : 80,
    socketPath: undefined,
    isTls,
  };
}
