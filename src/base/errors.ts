/**
 * Every error code of the project, one line each. Codes are API: removing one is a breaking change.
 *
 * The prefix names the part. Each code has a heading in `docs/reference/errors.md`; a test compares both ways.
 */
export type ErrorCode =
  // configuration and command line
  | 'ERR_CONFIG_INVALID'
  | 'ERR_CONFIG_NOT_FOUND'
  // HTTP facts
  | 'ERR_HTTP_BAD_REQUEST'
  | 'ERR_HTTP_BAD_RESPONSE'
  | 'ERR_HTTP_BODY_TOO_LARGE'
  | 'ERR_HTTP_BODY_TIMEOUT'
  | 'ERR_HTTP_METHOD_UNKNOWN'
  // routing and policies
  | 'ERR_ROUTE_AMBIGUOUS'
  | 'ERR_ROUTE_NOT_FOUND'
  | 'ERR_ROUTE_DUPLICATE'
  | 'ERR_AUTH_FAILED'
  | 'ERR_AUTH_FORBIDDEN'
  | 'ERR_AUTH_REQUIRED'
  | 'ERR_AUTH_UNAVAILABLE'
  | 'ERR_POLICY_ADDRESS'
  | 'ERR_POLICY_CONNECTIONS'
  | 'ERR_POLICY_BANNED'
  | 'ERR_POLICY_CUSTOM'
  | 'ERR_POLICY_HOST'
  | 'ERR_POLICY_INSPECTION'
  | 'ERR_POLICY_ORIGIN'
  | 'ERR_POLICY_RATE'
  | 'ERR_POLICY_TICKETS'
  | 'ERR_POLICY_TRANSPORT'
  | 'ERR_POLICY_WEBSOCKET'
  // sessions
  | 'ERR_SESSION_CONFLICT'
  | 'ERR_SESSION_CROSS_SITE'
  | 'ERR_SESSION_ENDED'
  | 'ERR_SESSION_HEADERS_SENT'
  | 'ERR_SESSION_LIFETIME'
  | 'ERR_SESSION_NO_ROOM'
  | 'ERR_SESSION_NOT_LOADED'
  | 'ERR_SESSION_NOT_SERIALIZABLE'
  | 'ERR_SESSION_OUTSIDE_REQUEST'
  | 'ERR_SESSION_STORE_UNAVAILABLE'
  | 'ERR_SESSION_SUPERSEDED'
  | 'ERR_SESSION_TOO_LARGE'
  | 'ERR_SESSION_UNAUTHORIZED'
  | 'ERR_SESSION_USER_LIMIT'
  | 'ERR_SESSION_TYPE_UNKNOWN'
  | 'ERR_SESSION_UNREADABLE'
  // WebSocket
  | 'ERR_WS_ACCEPT_REFUSED'
  | 'ERR_WS_BAD_HANDSHAKE'
  | 'ERR_WS_BAD_VERSION'
  | 'ERR_WS_CONNECTION_LIMIT'
  | 'ERR_WS_CONNECTION_LOST'
  | 'ERR_WS_DISPATCH_FULL'
  | 'ERR_WS_HANDLER_FAILED'
  | 'ERR_WS_HANDLER_TIMEOUT'
  | 'ERR_WS_INVALID_CLOSE'
  | 'ERR_WS_INVALID_DEFLATE'
  | 'ERR_WS_INVALID_UTF8'
  | 'ERR_WS_MESSAGE_TOO_BIG'
  | 'ERR_WS_OUTSIDE_CALLBACK'
  | 'ERR_WS_PROTOCOL'
  | 'ERR_WS_SLOW_READER'
  | 'ERR_WS_THREAD_LOST'
  | 'ERR_WS_TOO_MANY_FRAGMENTS'
  | 'ERR_WS_UPGRADE_REQUIRED'
  // gateway
  | 'ERR_UPSTREAM_BAD_ANSWER'
  | 'ERR_UPSTREAM_LOOP'
  | 'ERR_UPSTREAM_TIMEOUT'
  | 'ERR_UPSTREAM_UNAVAILABLE'
  // the API for backends
  | 'ERR_API_BAD_REQUEST'
  | 'ERR_API_FORBIDDEN'
  | 'ERR_API_NOT_FOUND'
  | 'ERR_API_PRECONDITION_FAILED'
  | 'ERR_API_UNAUTHORIZED'
  // the admin API
  | 'ERR_ADMIN_AMBIGUOUS'
  | 'ERR_ADMIN_BAD_REQUEST'
  | 'ERR_ADMIN_BUSY'
  | 'ERR_ADMIN_FORBIDDEN'
  | 'ERR_ADMIN_NOT_FOUND'
  | 'ERR_ADMIN_NOT_SUPPORTED'
  | 'ERR_ADMIN_UNAUTHORIZED'
  | 'ERR_ADMIN_UNREACHABLE'
  // server
  | 'ERR_SERVER_FAILED'
  | 'ERR_SERVER_LISTEN'
  | 'ERR_SERVER_NO_DESCRIPTORS'
  | 'ERR_SERVER_STATE';

export interface HoldfastErrorOptions {
  /** The HTTP status that says the same to a client, when there is one. */
  status?: number;
  /** The WebSocket close code (RFC 6455 §7.4) that says the same to a peer, when there is one. */
  closeCode?: number;
  cause?: unknown;
}

/**
 * The one error class. Match on `code`, never on the message or with `instanceof` (two copies of the package may be
 * loaded).
 *
 * The message says what was tried, with which value, and what to do. It never contains a cookie, a token or a session
 * id.
 *
 * @example
 * import { HoldfastError } from 'holdfast';
 *
 * console.log(new HoldfastError('ERR_SERVER_STATE', 'the server is stopping').code); // ERR_SERVER_STATE
 */
export class HoldfastError extends Error {
  readonly code: ErrorCode;
  // Not there at all where they say nothing: what prints the error would print them.
  declare readonly status: number | undefined;
  declare readonly closeCode: number | undefined;

  constructor(code: ErrorCode, message: string, options: HoldfastErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'HoldfastError';
    this.code = code;
    if (options.status !== undefined) this.status = options.status;
    if (options.closeCode !== undefined) this.closeCode = options.closeCode;
  }
}

/**
 * True for an error of this package, also one from another loaded copy of it.
 *
 * @example
 * import { createServer, isHoldfastError } from 'holdfast';
 *
 * try {
 *   createServer({}).publish('news', 'hello');
 * } catch (error) {
 *   console.log(isHoldfastError(error) && error.code); // ERR_SERVER_STATE
 * }
 */
export function isHoldfastError(error: unknown): error is HoldfastError {
  try {
    return (
      error instanceof Error && error.name === 'HoldfastError' && typeof (error as HoldfastError).code === 'string'
    );
  } catch {
    return false;
  }
}

/**
 * What an application threw, as an error with a message: anything can be thrown, also what throws again when it is
 * looked at. Errors stay what they are.
 */
export function toError(thrown: unknown): Error {
  try {
    if (!(thrown instanceof Error)) return new Error(String(thrown));
    if ([thrown.name, thrown.message, thrown.stack ?? ''].every(text => typeof text === 'string')) return thrown;
  } catch {
    // Whose getter, conversion or proxy fails is as good as one without a message.
  }
  return unreadableError();
}

/** Stands for what was thrown and throws again when it is looked at. */
export function unreadableError(): Error {
  return new Error('what was thrown cannot be read');
}
