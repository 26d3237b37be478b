import type { RequestHead } from '../http/request-head.ts';
import { type AnswerPolicy, joinedAnswerPolicy } from '../policy/answer-policy.ts';
import { insecureRequestsPolicy } from '../policy/insecure-requests.ts';
import type { Route } from './route.ts';

/** What the policies of a route say in the answer to a request, also in a refusal. */
export function answerPolicyOf(route: Route, head: RequestHead): AnswerPolicy | undefined {
  const insecureRequests = route.upgradesInsecureRequests ? insecureRequestsPolicy(head) : undefined;
  return joinedAnswerPolicy(route.cors?.grant(head), insecureRequests);
}
