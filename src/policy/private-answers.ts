import { removeHeaders } from '../http/response-head.ts';
import { isForSharedCaches, withoutSharing } from '../http/shared-caches.ts';
import type { AnswerPolicy } from './answer-policy.ts';

/**
 * What the answers of a route say that asks who its users are: they are for the user alone. RFC 9111 §3.5 keeps shared
 * caches from answers to requests with `Authorization` only, and only where these are not `public`; who shows a cookie, a
 * certificate or a header of their own would give theirs to others. How long the client itself keeps them is left as it
 * was.
 */
export const PRIVATE_ANSWERS: AnswerPolicy = {
  putInto(headers) {
    const asked: string[] = [];
    removeHeaders(headers, (name, value) => {
      if (name === 'cache-control') asked.push(value);
      return name === 'cache-control' || isForSharedCaches(name);
    });
    headers.push('Cache-Control', withoutSharing(asked.join(', ')));
  },
  putOn(response) {
    const asked = response.getHeader('Cache-Control');
    response.setHeader('Cache-Control', withoutSharing(asked === undefined ? undefined : [asked].flat().join(', ')));
    for (const name of response.getHeaderNames()) if (isForSharedCaches(name)) response.removeHeader(name);
  },
};
