import { type Authority, defaultPort, parseAuthority } from './authority.ts';

/** An `Origin` taken apart: scheme, host and port, with the port always named when the scheme has a default. */
export interface Origin extends Authority {
  readonly scheme: string;
}

/** Where a request came to. */
export interface RequestPlace {
  /** Host and port as the client asked for them. */
  readonly host: string;
  readonly isSecure: boolean;
  /** False: something undeclared may end TLS in front of us. */
  readonly isSchemeKnown: boolean;
}

/** RFC 6454 §6.2, with default ports filled in. `null` and lists of origins give undefined. */
export function parseOrigin(text: string): Origin | undefined {
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#,\s]+)$/i.exec(text);
  const authority = match && parseAuthority(match[2]!);
  if (!match || !authority) return undefined;
  const scheme = match[1]!.toLowerCase();
  return { scheme, hostname: authority.hostname, port: authority.port ?? defaultPort(scheme) };
}

/** True when pages of this origin were served where the request came to: same scheme, host and port. */
export function isOriginOf(origin: Origin, { host, isSecure, isSchemeKnown }: RequestPlace): boolean {
  const authority = parseAuthority(host);
  if (!authority || authority.hostname !== origin.hostname) return false;
  const ownScheme = isSecure ? 'https' : 'http';
  // On a connection that only looks plain, an https page counts as https.
  const scheme = isSchemeKnown || origin.scheme !== 'https' ? ownScheme : 'https';
  return origin.scheme === scheme && origin.port === (authority.port ?? defaultPort(scheme));
}
