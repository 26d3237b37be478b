/**
 * A challenge of `WWW-Authenticate` (RFC 9110 §11.6.1).
 *
 * @param realm What is protected, as text; what is not ASCII MUST be encoded by the caller.
 * @param parameters Further ones, each quoted.
 */
export function challengeOf(scheme: string, realm: string, parameters: Readonly<Record<string, string>> = {}): string {
  return `${scheme} ${Object.entries({ realm, ...parameters })
    .map(([name, value]) => `${name}="${value.replaceAll(/["\\]/g, '\\$&')}"`)
    .join(', ')}`;
}
