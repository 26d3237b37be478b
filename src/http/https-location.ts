import { parseAuthority } from './authority.ts';
import type { RequestHead } from './request-head.ts';

/**
 * The same place by https. The port of the request is that of another listener, and is left out.
 *
 * @returns undefined when the request names no host.
 */
export function httpsLocation(
  { host, path, query }: Pick<RequestHead, 'host' | 'path' | 'query'>,
  port: number,
): string | undefined {
  const hostname = parseAuthority(host)?.hostname;
  if (hostname === undefined) return undefined;
  return `https://${hostname}${port === 443 ? '' : `:${port}`}${path === '*' ? '/' : path}${query === '' ? '' : `?${query}`}`;
}
