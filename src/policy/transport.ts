import { httpsLocation } from '../http/https-location.ts';
import { isDocumentNavigation } from '../http/navigation.ts';
import { refuse } from '../http/refusal.ts';
import type { Decision, HandshakeHead, LastingPolicy } from './policy.ts';

export interface TransportConfig {
  /**
   * https and wss only. `refuse`: others get 403. `redirect`: a GET or HEAD by http gets 308 to the same place by https, at
   * the public port of the first listener with `tls` (443 when there is none); other methods and WebSockets get 403.
   * Default: http is served, too.
   */
  confidential?: 'refuse' | 'redirect';
  /**
   * `true`: a page that is opened by http, in a browser that says it would rather have https (`Upgrade-Insecure-Requests: 1`),
   * gets 307 to it; and HTML pages by https tell browsers to load by https what they would load by http
   * (`Content-Security-Policy: upgrade-insecure-requests`, beside a policy of the backend's own). Default false.
   */
  upgradeInsecureRequests?: boolean;
}

/**
 * The client must speak https or wss to us, or to a trusted proxy in front of us, or is sent there. Refusals are 403, 307
 * or 308 (ERR_POLICY_TRANSPORT).
 *
 * @param httpsPort Where clients reach TLS. Asked for each request that is redirected.
 * @see Upgrade Insecure Requests §3.2
 */
export function createTransportPolicy(
  { confidential, upgradeInsecureRequests = false }: TransportConfig,
  httpsPort: () => number,
): LastingPolicy {
  return (head): Decision => {
    if (head.isSecure) return undefined;
    const isPage = isDocumentNavigation(head) || head.method === 'HEAD';
    const isAsked = upgradeInsecureRequests && isPage && head.headers['upgrade-insecure-requests'] === '1';
    if (confidential !== 'redirect' && !isAsked) return confidential && refused('this route takes https and wss only');
    // A body was sent in the clear by then, and a WebSocket's client follows no redirect: who sends it should be told.
    if (head.isUpgrade || (head.method !== 'GET' && head.method !== 'HEAD'))
      return confidential && refused('this route takes https and wss only, and redirects GET and HEAD alone');
    // Whoever has ended TLS would be sent back to us for ever.
    if (saysHttps(head))
      return (
        confidential &&
        refused(
          `this route takes https only, and ${head.peerAddress}, which says that its client speaks it, is not one of trustedProxies`,
        )
      );
    const location = httpsLocation(head, httpsPort());
    if (location === undefined) return confidential && refused('a request that names no host cannot be redirected');
    // What is asked for by the header is so for this time; what a policy says holds.
    return refuse(confidential ? 308 : 307, 'ERR_POLICY_TRANSPORT', 'sent on to https', {
      headers: { Location: location },
      body: '',
    });
  };
}

function refused(reason: string): Decision {
  return refuse(403, 'ERR_POLICY_TRANSPORT', reason, { body: 'This resource is served over TLS only.\n' });
}

function saysHttps({ headers, isPeerTrusted }: HandshakeHead): boolean {
  if (isPeerTrusted) return false;
  return (
    /^\s*https/i.test(String(headers['x-forwarded-proto'] ?? '')) || /proto="?https/i.test(headers.forwarded ?? '')
  );
}
