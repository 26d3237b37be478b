import { FORWARDED_HEADERS } from '../http/forwarded-headers.ts';
import { foldPattern, isPrivate, namePatterns } from '../http/private-headers.ts';
import type { Config, UpstreamConfig } from './config.ts';
import { type BrokenRule, type Fields, fields } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

/**
 * Without them a backend does not know the host that is requested, where a body ends, or that the client waits before
 * it sends one.
 */
const NEEDED = ['host', 'content-length', 'expect'];

/** The rules of what upstreams get of their clients' headers. */
export function* brokenClientHeaders(config: Fields): Generator<BrokenRule> {
  for (const [name, upstream] of Object.entries(fields(config.upstreams))) {
    for (const [index, header] of entriesOf(fields(upstream).removeHeaders)) {
      const taken = NEEDED.find(needed => namePatterns([foldPattern(header)]).test(needed));
      if (taken === undefined) continue;
      const what = taken === foldPattern(header) ? '' : `, of which "${header}" is the beginning,`;
      yield {
        path: ['upstreams', name, 'removeHeaders', index],
        message: `"${taken}"${what} is what a request cannot do without; remove it from the list`,
      };
    }
  }
}

/** What of it is legal but will not do what was meant, of a configuration that was accepted. */
export function* checkClientHeaders({ upstreams = {}, trustedProxies = [] }: Config): Generator<Doubt> {
  for (const [name, upstream] of Object.entries(upstreams)) {
    const at = ['upstreams', name, 'passHeaders'];
    const { passHeaders = [], removeHeaders = [] } = upstream;
    if (passHeaders.length > 0 && trustedProxies.length === 0)
      yield { code: 'no-effect', path: at, message: 'has no effect: there are no "trustedProxies" to send them' };
    const removed = new Set(removeHeaders.map(foldPattern));
    const ours = new Set(setByUs(upstream));
    for (const [index, header] of passHeaders.entries()) {
      const folded = foldPattern(header);
      const message = ours.has(folded)
        ? `"${header}" has no effect: it is set by us`
        : removed.has(folded)
          ? `"${header}" has no effect: "removeHeaders" has it, too`
          : mayBePrivate(folded)
            ? undefined
            : `"${header}" has no effect: it passes from every client; take "removeHeaders" if it must not`;
      if (message !== undefined) yield { code: 'no-effect', path: [...at, index], message };
    }
  }
}

function entriesOf(names: unknown): [number, string][] {
  if (!Array.isArray(names)) return [];
  return [...names.entries()].filter((entry): entry is [number, string] => typeof entry[1] === 'string');
}

function setByUs({ sessionHeader = 'X-Session-ID', userHeader, rolesHeader }: UpstreamConfig): string[] {
  return [...FORWARDED_HEADERS, sessionHeader, userHeader || '', rolesHeader || ''].map(foldPattern);
}

/** The beginning of names may be that of a private one: any name may end in `-Client-IP`. */
function mayBePrivate(pattern: string): boolean {
  return pattern.endsWith('*') || isPrivate(pattern);
}
