import type { PeerCertificate } from 'node:tls';
import type { Session, SessionOwner } from '../session/session.ts';

/** Who is connected, as the authentication policy found. */
export interface User {
  readonly name: string;
  readonly roles: readonly string[];
  hasRole(role: string): boolean;
}

/** The URL that a client has asked for. */
export function handshakeUrl(facts: { isSecure: boolean; host: string; path: string; query: string }): URL {
  const { isSecure, host, path, query } = facts;
  return new URL(`${isSecure ? 'wss' : 'ws'}://${host}${path}${query === '' ? '' : `?${query}`}`);
}

export function userFrom(owner: SessionOwner): User {
  return { name: owner.name, roles: owner.roles, hasRole: role => owner.roles.includes(role) };
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
