import { challengeOf } from '../challenge.ts';

export interface BearerError {
  readonly realm: string;
  /** RFC 6750 §3.1. Left out when the request has shown nothing. */
  readonly error?: 'invalid_request' | 'invalid_token' | undefined;
  /** For the developer of the client: nothing that only the issuer or we should know. */
  readonly description?: string | undefined;
}

/** The value of `WWW-Authenticate` for bearer tokens (RFC 6750 §3). */
export function bearerChallenge({ realm, error, description }: BearerError): string {
  return challengeOf('Bearer', realm, {
    ...(error !== undefined && { error }),
    // Neither quotes nor backslashes, not even escaped ones.
    ...(description !== undefined && { error_description: description.replace(/[^\x20-\x7e]|["\\]/g, "'") }),
  });
}
