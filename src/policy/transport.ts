import { refuse } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { Decision } from './policy.ts';

/**
 * `confidential`: the client must speak https or wss to us, or to a trusted proxy in front of us. Others get 403
 * (ERR_POLICY_TRANSPORT).
 */
export function confidential(head: RequestHead): Decision {
  if (head.isSecure) return undefined;
  return refuse(403, 'ERR_POLICY_TRANSPORT', 'this route takes https and wss only', {
    body: 'This resource is served over TLS only.\n',
  });
}
