import { systemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/message-of.ts';
import type { AuthConfig } from '../../config/auth-config.ts';
import type { Config } from '../../config/config.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { keySetOf } from '../../policy/auth/tokens/key-set.ts';
import { ProviderClient } from '../../policy/auth/tokens/provider-client.ts';

const TIMEOUT_MS = 5_000;

/**
 * Asks providers of OpenID Connect for their metadata, and issuers of tokens for their keys, as a running server does.
 *
 * @returns what would keep users out, and what to do.
 */
export async function probeIssuers({ auth = {} }: Config): Promise<Doubt[]> {
  const found = await Promise.all(Object.entries(auth).map(([name, scheme]) => probeScheme(name, scheme)));
  return found.flat();
}

async function probeScheme(name: string, scheme: AuthConfig): Promise<Doubt[]> {
  try {
    if (scheme.type === 'oidc') await askProvider(scheme.issuer);
    if (scheme.type === 'jwt' && scheme.jwksUri !== undefined) await askForKeys(scheme.jwksUri);
    return [];
  } catch (error) {
    const [code, option] =
      scheme.type === 'oidc' ? (['issuer-probe', 'issuer'] as const) : (['keys-probe', 'jwksUri'] as const);
    return [{ code, path: ['auth', name, option], message: withRemedy(messageOf(error)) }];
  }
}

/** OpenID Connect Discovery 1.0, §4. */
async function askProvider(issuer: string): Promise<void> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const metadata = JSON.parse(await ask(url)) as { issuer?: unknown };
  if (metadata.issuer !== issuer)
    throw new Error(
      `${url} says that the issuer is ${JSON.stringify(metadata.issuer)}; write exactly that as "issuer"`,
    );
}

async function askForKeys(url: string): Promise<void> {
  keySetOf(await ask(url));
}

async function ask(url: string): Promise<string> {
  const client = new ProviderClient({ url, clock: systemClock, timeoutMs: TIMEOUT_MS });
  try {
    const { status, body } = await client.ask({ method: 'GET', headers: {} });
    if (status !== 200) throw new Error(`${url} answered ${status} instead of 200; correct the URL`);
    return body;
  } finally {
    client.close();
  }
}

function withRemedy(message: string): string {
  if (/ECONNREFUSED/.test(message)) return `${message}: nothing listens there; start it, or correct host and port`;
  if (/ENOTFOUND|EAI_AGAIN/.test(message)) return `${message}: the name is not known; correct it, or look at the DNS`;
  if (/self.signed|unable to (?:verify|get)|altname/i.test(message))
    return `${message}: its certificate is not believed; give Node its authority by NODE_EXTRA_CA_CERTS`;
  if (/not valid JSON|Unexpected/.test(message)) return `what it answers is not JSON; correct the URL`;
  return message;
}
