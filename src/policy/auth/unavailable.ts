import { RETRY_AFTER_S, type Refusal, refuse } from '../../http/refusal.ts';

/** Nobody can tell who a client is at the moment: 503, never "wrong password". */
export function authUnavailable(reason: string): Refusal {
  return refuse(503, 'ERR_AUTH_UNAVAILABLE', reason, {
    closeCode: 1013,
    headers: { 'Retry-After': RETRY_AFTER_S },
    body: 'Nobody can be signed in at the moment.\n',
  });
}

/** Thrown by a scheme that cannot tell at the moment: its message is the reason in the log. */
export class AuthUnavailable extends Error {}
