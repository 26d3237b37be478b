import { isIP } from 'node:net';

/** Where the doctor goes, and whom it asks for there. */
export interface Target {
  readonly isSecure: boolean;
  /** Without the brackets of an IPv6 address. */
  readonly hostname: string;
  readonly port: number;
  /** For `Host`: with the port when it is not the scheme's own. */
  readonly host: string;
  /** Path and query, percent-encoded. */
  readonly path: string;
  /** What a page of the same site sends as `Origin`. */
  readonly origin: string;
  /** Where the connection goes. Default: host name and port of the URL. */
  readonly dial: { readonly hostname: string; readonly port: number };
}

/**
 * Reads the URL of a WebSocket.
 *
 * @param url `ws:` or `wss:`; `http:` and `https:` mean the same.
 * @param connect `HOST:PORT` to connect to in its place, as by `curl --connect-to`.
 * @throws {TypeError} that says what to write.
 */
export function readTarget(url: string, connect?: string): Target {
  const { protocol, hostname: name, host, port, pathname, search, username, password } = parsed(url);
  if (username !== '' || password !== '')
    throw new TypeError('a URL of a WebSocket has no user and password; write --header "Authorization: Basic ..."');
  const isSecure = protocol === 'wss:' || protocol === 'https:';
  const own = isSecure ? 443 : 80;
  const hostname = withoutBrackets(name);
  const at = port === '' ? own : Number(port);
  return {
    isSecure,
    hostname,
    port: at,
    host,
    path: pathname + search,
    origin: `${isSecure ? 'https' : 'http'}://${host}`,
    dial: connect === undefined ? { hostname, port: at } : readConnect(connect),
  };
}

/** The URL for people and logs: what stands behind `?` may be a token, and behind `;` a session. */
export function shownUrl({ isSecure, host, path }: Target): string {
  return `${isSecure ? 'wss' : 'ws'}://${host}${path.replace(/([?;]).+/, '$1...')}`;
}

function parsed(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^(?:wss?|https?):$/.test(url.protocol) && url.hostname !== '') return url;
  const example = /^[\w.-]+(?::\d+)?(?:\/|$)/.test(text) ? text.replace(/\?.*/, '') : 'example.com/socket';
  throw new TypeError(`not the URL of a WebSocket; write for example "wss://${example}"`);
}

function readConnect(text: string): Target['dial'] {
  const [, name = '', digits = ''] = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(text) ?? [];
  const hostname = withoutBrackets(name);
  const port = Number(digits);
  const isAddress = !name.startsWith('[') || isIP(hostname) === 6;
  if (hostname === '' || !isAddress || port < 1 || port > 65_535)
    throw new TypeError(`not an address to connect to: ${JSON.stringify(text)}; write HOST:PORT or [IPV6]:PORT`);
  return { hostname, port };
}

function withoutBrackets(name: string): string {
  return name.replace(/^\[|\]$/g, '');
}
