import { isHoldfastError } from '../base/errors.ts';
import { isRefusal, RETRY_AFTER_S, type Refusal, refuse } from '../http/refusal.ts';
import { CloseCode } from '../wire/close-codes.ts';

/**
 * What an error of the session manager says to a client: above all, a store that cannot be asked is a 503, never a
 * visitor who seems to be logged out. Undefined for every other error.
 */
export function sessionFailure(error: unknown): Refusal | undefined {
  if (!isHoldfastError(error)) return undefined;
  // As the policy has said it.
  if (error.code === 'ERR_POLICY_RATE' && isRefusal(error.cause)) return error.cause;
  if (!error.code.startsWith('ERR_SESSION_')) return undefined;
  const { status } = error;
  // Whatever an application throws may look like one of ours.
  if (!Number.isInteger(status) || status! < 400 || status! > 599) return undefined;
  if (status !== 503) return refuse(status!, error.code, error.message);
  return refuse(503, error.code, error.message, {
    closeCode: CloseCode.tryAgainLater,
    headers: { 'Retry-After': RETRY_AFTER_S },
  });
}
