import type { ErrorCode } from '../base/errors.ts';
import { randomId } from '../base/ids.ts';
import type { Logger } from '../base/logger.ts';

/** How long a client should wait before it comes again, where nothing says more: the value of `Retry-After`. */
export const RETRY_AFTER_S = '5';

export type RefusalHeaders = Readonly<Record<string, string | readonly string[]>>;

/**
 * A "no" as a value: every step that can refuse returns one instead of throwing.
 *
 * `reason` goes to the log; the client sees status, headers and body only.
 */
export interface Refusal {
  readonly allow: false;
  readonly status: number;
  /** The close code that says the same on a socket that is already open. */
  readonly closeCode: number;
  readonly code: ErrorCode;
  readonly reason: string;
  /** One word for why a backend gave no answer. */
  readonly failure?: string | undefined;
  /** The upstream that gave none, or whose answer is withheld, and the URL of its server where one was chosen. */
  readonly upstream?: string | undefined;
  readonly server?: string | undefined;
  /** The limit that was reached, by its name in the configuration. */
  readonly limit?: string | undefined;
  /** A list is several lines of one name. */
  readonly headers?: RefusalHeaders | undefined;
  readonly body?: string;
  /** The request cannot be carried over HTTP/2 (`http1-required.ts`). */
  readonly requiresHttp1?: true;
}

export function refuse(
  status: number,
  code: ErrorCode,
  reason: string,
  extra: { closeCode?: number; headers?: RefusalHeaders; body?: string; failure?: string; limit?: string } = {},
): Refusal {
  return {
    allow: false,
    status,
    closeCode: extra.closeCode ?? 1008,
    code,
    reason,
    failure: extra.failure,
    limit: extra.limit,
    headers: extra.headers,
    body: extra.body,
  };
}

/** For an error that was not foreseen: the client gets an id, and the log has the error under the same id. */
export function refuseUnforeseen(error: unknown, logger: Logger, message: string, fields?: object): Refusal {
  const id = randomId(9);
  logger.error({ ...fields, err: error, id }, message);
  return refuse(500, 'ERR_SERVER_FAILED', `a request failed (${id})`, {
    closeCode: 1011,
    body: `Internal Server Error (${id})\n`,
  });
}

export function isRefusal(value: unknown): value is Refusal {
  return typeof value === 'object' && value !== null && (value as Refusal).allow === false && 'status' in value;
}
