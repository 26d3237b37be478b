import { CONTROL_HEADER } from './session-control.ts';

export interface UpstreamIdentityOptions {
  /** Name of the header that carries the session's `sid` to the backend. Default `X-Session-ID`. */
  readonly sessionHeader?: string;
  /** Name of the header with the user who owns the session. Default `X-Forwarded-User`. `false`: not sent, and not ours. */
  readonly userHeader?: string | false;
  /** Name of the header with the user's roles, separated by commas. Default `X-Forwarded-Groups`. `false`: not sent, and not ours. */
  readonly rolesHeader?: string | false;
  /** The backend may sign in, renew and end by `Holdfast-Session`. Default false. */
  readonly controlsSession?: boolean;
}

/** What the backends of an upstream learn about sessions, and may do with them. */
export interface UpstreamIdentity {
  readonly sessionHeader: string;
  readonly userHeader: string | undefined;
  readonly rolesHeader: string | undefined;
  readonly controlsSession: boolean;
  /** Headers that only we may set: a client's copies are removed, whether or not there is anything to say. */
  readonly owned: readonly string[];
}

/** The names of oauth2-proxy: applications that take a user from a proxy can be set to them, and they read like the other `X-Forwarded-*`. */
const USER_HEADER = 'X-Forwarded-User';
const ROLES_HEADER = 'X-Forwarded-Groups';

export function upstreamIdentity(options: UpstreamIdentityOptions): UpstreamIdentity {
  const {
    sessionHeader = 'X-Session-ID',
    userHeader = USER_HEADER,
    rolesHeader = ROLES_HEADER,
    controlsSession = false,
  } = options;
  const owned = [sessionHeader, userHeader, rolesHeader, CONTROL_HEADER].filter(name => name !== false);
  return {
    sessionHeader,
    userHeader: userHeader || undefined,
    rolesHeader: rolesHeader || undefined,
    controlsSession,
    owned,
  };
}
