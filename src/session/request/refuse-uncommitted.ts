import { isHoldfastError } from '../../base/errors.ts';
import { RETRY_AFTER_S, type Refusal, refuse } from '../../http/refusal.ts';

/** What a client gets in the place of an answer whose session could not be committed. */
export function refuseUncommitted(error: unknown): Refusal {
  const code = isHoldfastError(error) ? error.code : 'ERR_SESSION_STORE_UNAVAILABLE';
  const status = code === 'ERR_SESSION_CONFLICT' ? 409 : 503;
  return refuse(status, code, 'the session could not be committed', {
    headers: { 'Cache-Control': 'no-store', ...(status === 503 && { 'Retry-After': RETRY_AFTER_S }) },
    body: 'The session could not be saved. Please try again.\n',
  });
}
