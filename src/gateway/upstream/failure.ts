import type { Socket } from 'node:net';
import { isHoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { RETRY_AFTER_S, type Refusal, refuse } from '../../http/refusal.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { stageOf } from '../connection/stage.ts';

/**
 * Why a backend server gave no usable answer.
 *
 * `refused`: no connection could be made. `busy`: every connection of the pool is taken, or we have no descriptor for
 * another one. `dns`: its name does not resolve. `tls`: TLS failed, or its certificate is not good. `reset`: it broke
 * off. `invalid`: it answered something that is not HTTP, or a wrong 101. `timeout`: it was too slow.
 */
export type FailureReason = 'refused' | 'busy' | 'dns' | 'tls' | 'reset' | 'invalid' | 'timeout';

/** Tells what an error of a connection means, by how far the connection had come. */
export function failureReason(error: Error, socket: Socket | null | undefined): FailureReason {
  if (isHoldfastError(error) && error.code === 'ERR_UPSTREAM_TIMEOUT') return 'timeout';
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'dns';
  if (code === 'ETIMEDOUT') return 'timeout';
  // Not the server's fault.
  if (code === 'EMFILE' || code === 'ENFILE') return 'busy';
  const stage = stageOf(socket);
  // With TLS 1.3 a server refuses our certificate only after our side of the handshake is done.
  if (stage === 'tls' || /^(?:ERR_SSL_|ERR_TLS_|EPROTO$)/.test(code)) return 'tls';
  if (stage === 'connecting') return 'refused';
  return code === 'ERR_HTTP_BAD_RESPONSE' ? 'invalid' : 'reset';
}

/** No usable answer came from a server. */
export interface Failed {
  readonly reason: FailureReason;
  /** For the log. */
  readonly error: string;
  /** False: no byte of the request can have reached the server. */
  readonly isConnected: boolean;
}

/** Logs it. @returns the answer for the client, if no other server gives one. */
export function reportFailure(
  upstream: { readonly name: string; readonly logger: Logger },
  server: { readonly url: string },
  { reason, error }: Failed,
): Refusal {
  upstream.logger.warn({ upstream: upstream.name, server: server.url, reason, detail: error }, 'upstream failed');
  return upstreamRefusal(upstream, server, reason);
}

/**
 * The answer for a client: 503 when there is no usable server, 504 when it was too slow, 502 when it answered wrongly or
 * broke off.
 */
export function upstreamRefusal(
  upstream: { readonly name: string },
  server: { readonly url: string },
  reason: FailureReason,
): Refusal {
  const what = `upstream "${upstream.name}" failed at ${server.url}: ${reason}`;
  return { ...refusalFor(reason, what), upstream: upstream.name, server: server.url };
}

function refusalFor(reason: FailureReason, what: string): Refusal {
  switch (reason) {
    case 'refused':
    case 'busy':
      return unavailable(what, reason);
    case 'timeout':
      return refuse(504, 'ERR_UPSTREAM_TIMEOUT', what, { closeCode: CloseCode.badGateway, failure: reason });
    default:
      return refuse(502, 'ERR_UPSTREAM_BAD_ANSWER', what, { closeCode: CloseCode.badGateway, failure: reason });
  }
}

/**
 * No server of an upstream may be asked.
 *
 * @param reason `draining`: every one is. `nomember`: none may be.
 */
export function noServer(
  upstream: { readonly name: string },
  reason: 'draining' | 'nomember',
  why: string,
  retryAfterMs?: number,
): Refusal {
  const refusal = unavailable(`upstream "${upstream.name}" has no usable server: ${why}`, reason, retryAfterMs);
  return { ...refusal, upstream: upstream.name };
}

function unavailable(what: string, failure: string, retryAfterMs?: number): Refusal {
  return refuse(503, 'ERR_UPSTREAM_UNAVAILABLE', what, {
    closeCode: CloseCode.tryAgainLater,
    failure,
    headers: {
      'Retry-After': retryAfterMs === undefined ? RETRY_AFTER_S : String(Math.max(1, Math.ceil(retryAfterMs / 1000))),
    },
  });
}

/** The short name of an error for a log line: its code where it has one, and of an error of ours what it says. */
export function errorName(error: unknown): string {
  if (isHoldfastError(error)) return `${error.code}: ${error.message}`;
  return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message) : String(error);
}
