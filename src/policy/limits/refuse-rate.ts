import type { Rate } from '../../base/rate.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';

const TOO_MANY = 'Too many requests. Please try again later.\n';

/**
 * Refuses what comes too often: 429 for one client, with what its rate is; 503 where it is all clients together that
 * are too many.
 *
 * @param name Of the limit, as the configuration has it.
 * @param waitMs Until the next one is taken.
 * @see draft-ietf-httpapi-ratelimit-headers-11 for `RateLimit` and `RateLimit-Policy`; RFC 6585 §4; RFC 9110 §10.2.3.
 */
export function refuseRate(name: string, { count, windowMs }: Rate, waitMs: number, reason: string): Refusal {
  const seconds = Math.max(1, Math.ceil(waitMs / 1_000));
  const isOfClient = name.endsWith('PerAddress');
  return refuse(isOfClient ? 429 : 503, 'ERR_POLICY_RATE', reason, {
    headers: {
      'Retry-After': String(seconds),
      ...(isOfClient && {
        'RateLimit-Policy': `"${name}";q=${count};w=${windowMs / 1_000}`,
        RateLimit: `"${name}";r=0;t=${seconds}`,
      }),
    },
    body: TOO_MANY,
    limit: name,
  });
}
