import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { HoldfastError, isHoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ApiAnswer, SessionApi } from '../../gateway/backend-session/api.ts';
import type { HostNames } from '../../http/host-names.ts';
import { isKnownMethod, unknownMethod } from '../../http/methods.ts';
import { peerAddressOf } from '../../http/peer.ts';
import { RETRY_AFTER_S, refuseUnforeseen } from '../../http/refusal.ts';
import { IncomingBody } from '../../http/request-body.ts';
import type { RunningRequests } from '../assembly/running-requests.ts';
import type { Intake } from '../listen/intake.ts';
import type { ApiTokens } from './api-tokens.ts';

export interface InternalApi {
  readonly tokens: ApiTokens;
  /** By upstream. */
  readonly apis: ReadonlyMap<string, SessionApi>;
  /** The keys of assertions as they are published; without assertions undefined. */
  readonly jwks: object | undefined;
  /** By which backends may ask for us. */
  readonly hosts: HostNames;
  readonly maxBodyBytes: number;
  readonly logger: Logger;
}

/**
 * How long a backend that verifies may keep the keys, in seconds: a key that was added is known everywhere after that.
 */
const JWKS_MAX_AGE_S = 300;
/** What the errors of sessions that have no status of their own say to a backend. */
const STATUS: Readonly<Record<string, number>> = {
  ERR_SESSION_TOO_LARGE: 413,
  ERR_SESSION_NOT_SERIALIZABLE: 400,
  ERR_SESSION_TYPE_UNKNOWN: 406,
  ERR_SESSION_UNREADABLE: 406,
};

/**
 * What backends ask for, on a listener of its own: their sessions, with a token, and the keys of assertions, without.
 *
 * That it listens on loopback keeps other machines out, but not the browsers of this one: a page may send requests to
 * it, also under a name of its own that leads here (DNS rebinding). So what comes from a browser is refused, and every
 * host name that is not ours.
 */
export class InternalIntake implements Intake {
  #api!: InternalApi;
  #running!: RunningRequests;

  /** What comes in from now on is answered by this one. */
  use({ internal, running }: { readonly internal: InternalApi | undefined; readonly running: RunningRequests }): void {
    if (!internal) return;
    this.#api = internal;
    this.#running = running;
  }

  isUpgrade(): boolean {
    return false;
  }

  onUpgrade(_request: IncomingMessage, socket: Duplex): void {
    socket.destroy();
  }

  /** A function of its own, because a listener calls it as one. */
  readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    response.on('error', () => {});
    request.on('error', () => {});
    const running = this.#running;
    running.begin();
    response.once('close', () => running.end());
    this.#answer(request, response)
      .catch((error: unknown) => this.#failure(error))
      .then(answer => send(request, response, answer))
      // It has gone.
      .catch(() => response.destroy());
  };

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<ApiAnswer> {
    const { method = '', headers } = request;
    if (!isKnownMethod(method)) {
      const { status, code, reason: message } = unknownMethod(method);
      return { status, json: JSON.stringify({ code, message }) };
    }
    if (!this.#api.hosts.include(headers.host ?? ''))
      throw forbidden('this host is not served here; add it to "internal.hosts"');
    if (headers.origin !== undefined || headers['sec-fetch-site'] !== undefined)
      throw forbidden('this is not for browsers');
    const path = segmentsOf(request.url ?? '');
    if (path.join('/') === '.well-known/jwks.json' && this.#api.jwks) return keys(method, this.#api.jwks);
    if (path[0] !== 'sessions')
      throw new HoldfastError('ERR_API_NOT_FOUND', 'there is nothing at this path', { status: 404 });
    const upstream = this.#api.tokens.upstreamOf(headers.authorization, peerAddressOf(request.socket));
    if (upstream === undefined)
      throw new HoldfastError('ERR_API_UNAUTHORIZED', 'send "Authorization: Bearer" and the token of the upstream', {
        status: 401,
      });
    return this.#api.apis.get(upstream)!.answer({
      method,
      path: path.slice(1),
      headers,
      readBody: () => readBody(request, response, this.#api.maxBodyBytes),
    });
  }

  #failure(error: unknown): ApiAnswer {
    const what = 'a request to the API for backends failed';
    if (isHoldfastError(error)) {
      const { code, message } = error;
      const status = error.status ?? STATUS[code] ?? 500;
      if (status >= 500) this.#api.logger.error({ err: error }, what);
      return {
        status,
        headers: {
          ...(status === 503 && { 'Retry-After': RETRY_AFTER_S }),
          ...(status === 401 && { 'WWW-Authenticate': 'Bearer' }),
          ...(status === 408 && { Connection: 'close' }),
        },
        json: JSON.stringify({ code, message }),
      };
    }
    const { status, code, reason } = refuseUnforeseen(error, this.#api.logger, what);
    return { status, json: JSON.stringify({ code, message: reason }) };
  }
}

function keys(method: string, jwks: object): ApiAnswer {
  if (method !== 'GET' && method !== 'HEAD')
    throw new HoldfastError('ERR_API_BAD_REQUEST', 'the methods here are GET, HEAD', { status: 405 });
  const headers = { 'Cache-Control': `public, max-age=${JWKS_MAX_AGE_S}` };
  return { status: 200, headers, json: JSON.stringify(jwks) };
}

function segmentsOf(target: string): string[] {
  const [path = ''] = target.split('?');
  if (!path.startsWith('/')) return [];
  try {
    return path.slice(1).split('/').map(decodeURIComponent);
  } catch {
    throw new HoldfastError('ERR_API_BAD_REQUEST', 'the path has an invalid escape', { status: 400 });
  }
}

/** @throws {HoldfastError} ERR_HTTP_BODY_TOO_LARGE, ERR_HTTP_BODY_TIMEOUT, ERR_API_BAD_REQUEST. */
async function readBody(request: IncomingMessage, response: ServerResponse, maxBytes: number): Promise<string> {
  const body = new IncomingBody(request, response, maxBytes);
  try {
    const bytes = await new Response(body.stream).bytes();
    if (!isUtf8(bytes)) throw new HoldfastError('ERR_API_BAD_REQUEST', 'the body is not UTF-8', { status: 400 });
    return new TextDecoder().decode(bytes);
  } finally {
    body.discardRest();
  }
}

function send(request: IncomingMessage, response: ServerResponse, { status, headers, json }: ApiAnswer): void {
  response.writeHead(status, {
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    ...(json !== undefined && { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(json) }),
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : json);
}

function forbidden(message: string): HoldfastError {
  return new HoldfastError('ERR_API_FORBIDDEN', message, { status: 403 });
}
