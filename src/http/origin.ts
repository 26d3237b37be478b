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

/** Default ports left out, as browsers write it. */
export function originText(origin: Origin): string {
  const port = origin.port === undefined || origin.port === defaultPort(origin.scheme) ? '' : `:${origin.port}`;
  return `${origin.scheme}://${origin.hostname}${port}`;
}

/** The pages that an entry in a list of origins lets in. */
export type OriginRule =
  /** Those of one origin, in the form of `originText`. */
  | { readonly exact: string }
  /** Those of every subdomain of a host, which may have a port. */
  | { readonly scheme: string; readonly below: string };

/**
 * Reads `https://example.com`, `https://*.example.com` or an origin of another scheme (`chrome-extension://…`).
 *
 * @returns undefined when it is none of them. `null`, paths, users and the schemes of WebSockets are none: no page has
 * them as its origin.
 */
export function parseOriginRule(text: string): OriginRule | undefined {
  if (!text.includes('*')) {
    const exact = exactOrigin(text);
    return exact === undefined ? undefined : { exact };
  }
  const match = /^(https?):\/\/\*\.([^*/?#@\\\s]+)$/i.exec(text);
  const origin = match ? parseOrigin(exactOrigin(`${match[1]}://${match[2]}`) ?? '') : undefined;
  return origin && { scheme: origin.scheme, below: originText(origin).slice(`${origin.scheme}://`.length) };
}

function exactOrigin(text: string): string | undefined {
  if (/^https?:\/\/[^/?#@\\\s]+$/i.test(text) && URL.canParse(text)) return new URL(text).origin;
  const origin = parseOrigin(text);
  return !origin || /^(?:http|ws)s?$/.test(origin.scheme) ? undefined : originText(origin);
}
