import type { Target } from './target.ts';

/**
 * The variable by which programs of this machine would go through a proxy to a server; the doctor does not. Its value may
 * have a password, and is not repeated.
 */
export function clientProxyOf(
  { isSecure }: Pick<Target, 'isSecure'>,
  environment: NodeJS.ProcessEnv,
): string | undefined {
  const names = isSecure ? ['https_proxy', 'HTTPS_PROXY'] : ['http_proxy', 'HTTP_PROXY'];
  return [...names, 'all_proxy', 'ALL_PROXY'].find(name => environment[name]);
}
