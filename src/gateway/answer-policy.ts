import type { RequestHead } from '../http/request-head.ts';
import { type AnswerPolicy, joinedAnswerPolicy } from '../policy/answer-policy.ts';
import type { Authentication } from '../policy/auth/authentication.ts';
import { insecureRequestsPolicy } from '../policy/insecure-requests.ts';
import { PRIVATE_ANSWERS } from '../policy/private-answers.ts';
import type { Route } from './route.ts';

/**
 * What the policies of a route say in the answer to a request, also in a refusal.
 *
 * @param authentication What was asked of its user; undefined: nothing, or it is a refusal, which says itself who may
 * keep it.
 */
export function answerPolicyOf(
  route: Route,
  head: RequestHead,
  authentication?: Authentication,
): AnswerPolicy | undefined {
  const insecureRequests = route.upgradesInsecureRequests ? insecureRequestsPolicy(head) : undefined;
  return joinedAnswerPolicy(route.cors?.grant(head), insecureRequests, authentication && PRIVATE_ANSWERS);
}
