import { isHoldfastError } from '../base/errors.ts';
import { type Refusal, refuse } from '../http/refusal.ts';
import { CloseCode } from '../wire/close-codes.ts';

/**
 * What an error of the session manager says to a client: above all, a store that cannot be asked is a 503, never a visitor who seems to be
 * logged out. Undefined for every other error.
 */
export function sessionFailure(error: unknown): Refusal | undefined {
  if (!isHoldfastError(error) || error.status === undefined || !error.code.startsWith('ERR_SESSION_')) return undefined;
  if (error.status !== 503) return refuse(error.status, error.code, error.message);
  return refuse(503, error.code, error.message, {
    closeCode: CloseCode.tryAgainLater,
    headers: { 'Retry-After': '5' },
  });
}
