import { ClientHeaders, type ClientHeadersOptions } from '../../http/client-headers.ts';
import { CONTROL_HEADER } from './control-header.ts';

export interface UpstreamIdentityOptions extends ClientHeadersOptions {
  /** Name of the header that carries the session's `sid` to the backend. Default `X-Session-ID`. */
  readonly sessionHeader?: string;
  /**
   * Name of the header with the user who owns the session. Default `X-Forwarded-User`. `false`: not sent, and that of a
   * trusted proxy in front passes.
   */
  readonly userHeader?: string | false;
  /**
   * Name of the header with the user's roles, separated by commas. Default `X-Forwarded-Groups`. `false`: not sent, and
   * that of a trusted proxy in front passes.
   */
  readonly rolesHeader?: string | false;
  /** The backend may sign in, renew and end by `Holdfast-Session`. Default false. */
  readonly controlsSession?: boolean;
  /** The backend asks for sessions by their `sid`, so each is in the store before it hears of it. Default: not. */
  readonly sessionApi?: unknown;
  /** A signed statement about the session is sent. Default: not. `header`: default `Holdfast-Assertion`. */
  readonly assertion?: boolean | { readonly header?: string };
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
  const owned = [sessionHeader, userHeader, rolesHeader, assertionHeader, CONTROL_HEADER].filter(
    name => name !== false,
  );
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
