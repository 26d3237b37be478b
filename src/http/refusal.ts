import type { ErrorCode } from '../base/errors.ts';

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
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The request cannot be carried over HTTP/2 (`http1-required.ts`). */
  readonly requiresHttp1?: true;
}

export function refuse(
  status: number,
  code: ErrorCode,
  reason: string,
  extra: { closeCode?: number; headers?: Readonly<Record<string, string>>; body?: string; failure?: string } = {},
): Refusal {
  return {
    allow: false,
    status,
    closeCode: extra.closeCode ?? 1008,
    code,
    reason,
    failure: extra.failure,
    headers: extra.headers,
    body: extra.body,
  };
}

export function isRefusal(value: unknown): value is Refusal {
  return typeof value === 'object' && value !== null && (value as Refusal).allow === false && 'status' in value;
}
