import type { RequestHead } from '../http/request-head.ts';
import { joinHeaders, removeHeaders } from '../http/response-head.ts';
import type { CacheableResponse } from '../http/shared-caches.ts';
import { type AnswerPolicy, varyingBy } from './answer-policy.ts';

const DIRECTIVE = 'upgrade-insecure-requests';

/**
 * What the answers of a route with `upgradeInsecureRequests` say. By http: that another client is redirected. By https:
 * that what a page would load by http is to be loaded by https; to a policy of its own that is added, as one beside it.
 *
 * @see Upgrade Insecure Requests §3.1 and §3.2
 */
export function insecureRequestsPolicy({ isSecure }: Pick<RequestHead, 'isSecure'>): AnswerPolicy {
  return isSecure ? UPGRADING : VARYING;
}

const VARYING: AnswerPolicy = {
  putInto(headers) {
    const { vary } = joinHeaders(headers);
    removeHeaders(headers, name => name === 'vary');
    headers.push('Vary', varyingBy('Upgrade-Insecure-Requests', vary));
  },
  putOn(response) {
    response.setHeader('Vary', varyingBy('Upgrade-Insecure-Requests', response.getHeader('Vary')));
  },
};

const UPGRADING: AnswerPolicy = {
  putInto(headers) {
    const { 'content-type': type, 'content-security-policy': own = '' } = joinHeaders(headers);
    // CSP §3.1: each header is a policy, and all of them hold.
    if (type !== undefined && isPage(type) && !hasDirective(own)) headers.push('Content-Security-Policy', DIRECTIVE);
  },
  putOn(response: CacheableResponse) {
    // What a file is called is said later; on what is no page the policy means nothing.
    const type = response.getHeader('Content-Type');
    if (type !== undefined && !isPage(String(type))) return;
    const own = [response.getHeader('Content-Security-Policy') ?? []].flat().join(', ');
    if (!hasDirective(own))
      response.setHeader('Content-Security-Policy', own === '' ? DIRECTIVE : `${own}, ${DIRECTIVE}`);
  },
};

function isPage(contentType: string): boolean {
  return /^\s*(?:text\/html|application\/xhtml\+xml)\b/i.test(contentType);
}

function hasDirective(policies: string): boolean {
  return policies.split(/[;,]/).some(directive => /^\s*upgrade-insecure-requests(?:\s|$)/i.test(directive));
}
