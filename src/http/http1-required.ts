import { type Refusal, refuse } from './refusal.ts';

/**
 * What an answer over HTTP/2 is written to: it can ask for the request over HTTP/1.1 (RFC 9113 §7, HTTP_1_1_REQUIRED).
 */
export interface Http2Carrier {
  /** Resets the stream. A client that can sends the request again, over HTTP/1.1. */
  requireHttp1(): void;
}

/**
 * A sign-in of the connection (`connection-sign-in.ts`) over HTTP/2. The status is for logs: `askForHttp1` takes the
 * place of the answer.
 */
export function signInNeedsHttp1(): Refusal {
  const reason = 'the backend signs in connections (NTLM, Negotiate), which cannot be carried over HTTP/2';
  return { ...refuse(505, 'ERR_HTTP_BAD_REQUEST', reason), requiresHttp1: true };
}

/** @returns false for a refusal that is to be answered. */
export function askForHttp1(refusal: Refusal, carrier: object): boolean {
  if (refusal.requiresHttp1 !== true || !('requireHttp1' in carrier)) return false;
  (carrier as Http2Carrier).requireHttp1();
  return true;
}
