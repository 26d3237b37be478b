import type { PeerCertificate } from 'node:tls';
import type { Principal } from '../policy/auth/scheme.ts';
import type { Session, SessionOwner } from '../session/session.ts';

/** Who is connected, as the authentication policy found. */
export interface User {
  readonly name: string;
  readonly roles: readonly string[];
  /** What else the scheme of authentication knows: the claims of a token, for example. Empty where it knows nothing. */
  readonly claims: Readonly<Record<string, unknown>>;
  hasRole(role: string): boolean;
}

/** The URL that a client has asked for. */
export function handshakeUrl(facts: { isSecure: boolean; host: string; path: string; query: string }): URL {
  const { isSecure, host, path, query } = facts;
  return new URL(`${isSecure ? 'wss' : 'ws'}://${host}${path}${query === '' ? '' : `?${query}`}`);
}

const NO_CLAIMS: User['claims'] = Object.freeze({});

export function userFrom({ name, roles, claims = NO_CLAIMS }: SessionOwner & Partial<Pick<User, 'claims'>>): User {
  return { name, roles, claims, hasRole: role => roles.includes(role) };
}

/** Whom the policy has found; or else the owner of the session, also one that has signed in meanwhile. */
export function userOf(principal: Principal | undefined, session: Session | undefined): User | undefined {
  const owner = session?.owner;
  if (principal && (!owner || owner.name === principal.name)) return userFrom(principal);
  return owner && userFrom(owner);
}

/** The whole opening handshake, as `accept` sees it. It never creates a session by itself. */
export interface Handshake {
  /** The `Origin` header as sent; undefined for clients that are not browsers. */
  readonly origin: string | undefined;
  readonly url: URL;
  readonly path: string;
  /** The values of the pattern's `:name` segments. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly cookies: Readonly<Record<string, string>>;
  readonly session: Session | undefined;
  readonly user: User | undefined;
  readonly clientCertificate: PeerCertificate | undefined;
  readonly isSecure: boolean;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Subprotocols the client offers, in its order. */
  readonly subprotocols: readonly string[];
  /** The `Sec-WebSocket-Extensions` header as sent; `''` when there is none. */
  readonly extensions: string;
}
