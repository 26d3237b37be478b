import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { parseAuthority } from './authority.ts';

/**
 * A host name, or `*.example.com` for every subdomain at any depth, in the form that `hostPatternsFor` gives.
 *
 * @throws {TypeError} when it is neither, or has a port.
 */
export function normalizeHostPattern(host: string): string {
  const pattern = toPattern(host);
  if (pattern !== undefined) return pattern;
  throw new TypeError(
    `not a host: ${JSON.stringify(host)}; write a name without port, for example "example.com" or "*.example.com"`,
  );
}

/** Would `normalizeHostPattern` take it? */
export function isHostPattern(host: string): boolean {
  return toPattern(host) !== undefined;
}

function toPattern(host: string): string | undefined {
  const isWildcard = host.startsWith('*.');
  const name = isWildcard ? host.slice(2) : host;
  const isName = /^(?:\[[\da-f:.]+\]|[^\s*:/\\?#@[\]]+)$/i.test(name);
  const authority = isName ? parseAuthority(name.startsWith('[') ? name : domainToASCII(name)) : undefined;
  return authority && (isWildcard ? '*.' : '') + withoutLastDot(authority.hostname);
}

/**
 * The patterns that match a host, the most specific first: `a.b.example.com`, `*.b.example.com`, `*.example.com`,
 * `*.com`.
 */
export function hostPatternsFor(host: string): string[] {
  const name = withoutLastDot(parseAuthority(host)?.hostname ?? '');
  const patterns = [name];
  for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) patterns.push(`*${name.slice(dot)}`);
  return patterns;
}

/**
 * The names that a listener answers to, besides addresses and `localhost`: those three are what no page of another site
 * has in its URL.
 *
 * A browser takes a page for one of ours when its name leads to our address, also one that its owner has let lead there
 * a moment ago (DNS rebinding). Only the name tells the two apart.
 */
export class HostNames {
  readonly #patterns: ReadonlySet<string>;

  /** @throws {TypeError} when one is not a host. */
  constructor(patterns: readonly string[]) {
    this.#patterns = new Set(patterns.map(normalizeHostPattern));
  }

  /** @param host With or without a port. */
  include(host: string): boolean {
    const [name = '', ...wildcards] = hostPatternsFor(host);
    if (name === 'localhost' || isIP(name.replace(/^\[|\]$/g, '')) !== 0 || this.#patterns.has(name)) return true;
    return wildcards.some(pattern => this.#patterns.has(pattern));
  }
}

/** Is this address to bind one that other machines cannot reach? */
export function isLoopback(address: string): boolean {
  return /^(?:localhost|127\.[\d.]+|::1)$/.test(address);
}

/** IPv6 addresses that stand for one of IPv4: mapped, translated, compatible (RFC 4291 §2.5.5, RFC 6052 §2.1). */
const IPV4_IN_IPV6 = /^(?:::(?:ffff:(?:0:)?)?|64:ff9b::)([\da-f]{1,4}):([\da-f]{1,4})$/;
/** Names of this machine: RFC 6761 §6.3, and what the hosts files of Debian, Red Hat and SUSE have besides. */
const NAME_OF_THIS_MACHINE =
  /^(?:(?:.+\.)?localhost|localhost[46]?(?:\.localdomain[46]?)?|ipv?6-(?:localhost|loopback))$/;

/**
 * The machine that a name or address leads to, the same for every way to write it: `localhost` for this one, also as
 * `0.0.0.0` or `::`.
 *
 * @param hostname of a `URL`, which has normalised case and the spellings of IPv4 addresses; with or without brackets.
 */
export function machineOf(hostname: string): string {
  const name = withoutLastDot(hostname.replace(/^\[|\]$/g, ''));
  const [, high, low] = IPV4_IN_IPV6.exec(name) ?? [];
  if (high !== undefined && low !== undefined) {
    const [a, b] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
    return machineOf([a >> 8, a & 0xff, b >> 8, b & 0xff].join('.'));
  }
  return NAME_OF_THIS_MACHINE.test(name) || /^(?:127\.\d+\.\d+\.\d+|0\.0\.0\.0|::1?)$/.test(name) ? 'localhost' : name;
}

function withoutLastDot(name: string): string {
  return name.endsWith('.') ? name.slice(0, -1) : name;
}
