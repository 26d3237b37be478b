import type { Duration } from '../../base/duration.ts';
import { ClientHeaders, type ClientHeadersOptions } from '../../http/client-headers.ts';
import { CONTROL_HEADER } from './control-header.ts';

export interface UpstreamIdentityOptions extends ClientHeadersOptions {
  /**
   * Name of the header that tells the backend of its session: our `sid`, or the id of its own. Default `X-Session-ID`.
   */
  sessionHeader?: string;
  /**
   * Name of the header with the user who owns the session. Default `X-Forwarded-User`. `false`: not sent, and that of a
   * trusted proxy in front passes.
   */
  userHeader?: string | false;
  /**
   * Name of the header with the user's roles, separated by commas. Default `X-Forwarded-Groups`. `false`: not sent, and
   * that of a trusted proxy in front passes.
   */
  rolesHeader?: string | false;
  /**
   * The backend may sign in, renew and end by answering with `Holdfast-Session`. Default false: the header is taken
   * out, and nothing else.
   */
  controlsSession?: boolean;
  /** The backend may ask for sessions, and keep attributes in them, at the `internal` listener. Default false. */
  sessionApi?: boolean | SessionApiConfig;
  /** A signed statement about session and user (a JWT) is sent with each request that has a session. Default false. */
  assertion?: boolean | AssertionConfig;
}

/**
 * How a backend asks for sessions. Its token: from a file, or a variable, or one made in the data folder
 * (`keys/session-api-NAME.token`).
 */
export interface SessionApiConfig {
  /**
   * The backend sees the attributes of this scope (`session.scope`). Upstreams with the same one share them. Default:
   * the name of the upstream.
   */
  scope?: string;
  /** File with the token, of at least 32 random bytes in base64 or the like. */
  tokenFile?: string;
  /** Environment variable with the token. */
  tokenVariable?: string;
}

export interface AssertionConfig {
  /** Default `Holdfast-Assertion`. */
  header?: string;
  /** The claim `aud`. Default: the name of the upstream. */
  audience?: string;
  /** For how long it is good; a backend gets it with at least half of that left. Default `60s`. */
  lifetime?: Duration;
}

/** What the backends of an upstream learn about sessions, and may do with them. */
export interface UpstreamIdentity {
  readonly sessionHeader: string;
  readonly userHeader: string | undefined;
  readonly rolesHeader: string | undefined;
  readonly controlsSession: boolean;
  readonly asksForSessions: boolean;
  readonly assertionHeader: string;
  /** Headers that only we may set: a client's copies are removed, whether or not there is anything to say. */
  readonly owned: readonly string[];
  /** What of a client's other headers passes. */
  readonly clientHeaders: ClientHeaders;
}

/**
 * The names of oauth2-proxy: applications that take a user from a proxy can be set to them, and they read like the
 * other `X-Forwarded-*`.
 */
const USER_HEADER = 'X-Forwarded-User';
const ROLES_HEADER = 'X-Forwarded-Groups';
const ASSERTION_HEADER = 'Holdfast-Assertion';

/**
 * By which a backend gets the ticket of a client that shows it in links: `;holdfast=v1…`, for the end of the path of
 * each link of its own.
 */
export const URL_TICKET_HEADER = 'Holdfast-Url-Ticket';

export function upstreamIdentity(options: UpstreamIdentityOptions): UpstreamIdentity {
  const {
    sessionHeader = 'X-Session-ID',
    userHeader = USER_HEADER,
    rolesHeader = ROLES_HEADER,
    controlsSession = false,
    sessionApi = false,
    assertion = false,
    removeHeaders = [],
    passHeaders = [],
  } = options;
  const assertionHeader = (typeof assertion === 'object' && assertion.header) || ASSERTION_HEADER;
  const owned = [
    ...[sessionHeader, userHeader, rolesHeader, assertionHeader].filter(name => name !== false),
    ...[CONTROL_HEADER, URL_TICKET_HEADER],
  ];
  // A header of the user that is not ours is that of a proxy in front.
  const ofProxy = [...(userHeader === false ? [USER_HEADER] : []), ...(rolesHeader === false ? [ROLES_HEADER] : [])];
  return {
    sessionHeader,
    userHeader: userHeader || undefined,
    rolesHeader: rolesHeader || undefined,
    controlsSession,
    asksForSessions: sessionApi !== false,
    assertionHeader,
    owned,
    clientHeaders: new ClientHeaders({ removeHeaders, passHeaders: [...passHeaders, ...ofProxy] }),
  };
}
