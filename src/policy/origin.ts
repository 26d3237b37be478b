import type { Logger } from '../base/logger.ts';
import { defaultPort, parseAuthority } from '../http/authority.ts';
import { compileExpression, isExpressionText } from '../http/expression.ts';
import { isOriginOf, type Origin, originText, parseOrigin, parseOriginRule } from '../http/origin.ts';
import { refuse } from '../http/refusal.ts';
import type { Decision, HandshakeHead, LastingPolicy } from './policy.ts';

/**
 * Which web pages may use a route: the guard against cross-site WebSocket hijacking. CORS headers do not stop a
 * WebSocket.
 *
 * - `'self'`: the page's scheme, host and port are those the request came to. Where the scheme is not certain (plain
 *   connection, no trusted proxy), host and port must be equal, and the first page that was loaded over https is logged
 *   as a warning.
 * - `'https://example.com'`, `'http://localhost:5173'`: exactly this origin; default ports may be left out.
 * - `'https://*.example.com'`: every subdomain at any depth, not `example.com` itself.
 * - `'/https://[a-z]+\.example\.com/'`, or a RegExp: must match the whole origin, which is in lower case. One that may
 *   need more than linear time is refused.
 * - `'any'` instead of a list: every page of the web.
 *
 * A request without `Origin` is not from a page: it passes when it carries no cookie. `Origin: null` (sandboxed frames,
 * files) is refused. Refusals are 403 (ERR_POLICY_ORIGIN).
 *
 * @throws {TypeError} when an entry is not an origin, or an expression that is refused. The message says what to write.
 */
export function createOriginPolicy(
  origins: 'any' | readonly (string | RegExp)[],
  options: { readonly logger: Logger },
): LastingPolicy {
  if (origins === 'any') return () => undefined;

  const exact = new Set<string>();
  const patterns: RegExp[] = [];
  let takesSameOrigin = false;
  for (const entry of origins) {
    if (entry === 'self') takesSameOrigin = true;
    else if (typeof entry !== 'string' || isExpressionText(entry)) patterns.push(compileExpression(entry, 'whole'));
    else {
      const rule = parseOriginRule(entry);
      if (!rule) throw invalid(entry);
      if ('exact' in rule) exact.add(rule.exact);
      else patterns.push(new RegExp(`^${rule.scheme}://(?:[a-z0-9_-]+\\.)+${RegExp.escape(rule.below)}$`));
    }
  }

  let hasWarned = false;
  function isSameOrigin(head: HandshakeHead, origin: Origin): boolean {
    if (!isOriginOf(origin, head)) return false;
    if (origin.scheme === 'https' && !head.isSecure && !hasWarned) {
      hasWarned = true;
      options.logger.warn(
        { origin: originText(origin), host: head.host, peer: head.peerAddress },
        'a page loaded over https reaches us over a plain connection: add the proxy that ends TLS to trustedProxies, so that its X-Forwarded-Proto is believed',
      );
    }
    return true;
  }

  return (head): Decision => {
    const sent = head.headers.origin;
    if (sent === undefined) {
      if (head.headers.cookie === undefined) return undefined;
      return refusal('the request carries a cookie but no Origin header');
    }
    const origin = parseOrigin(sent);
    if (!origin) return refusal(`the origin ${JSON.stringify(sent.slice(0, 200))} names no site`);
    const text = originText(origin);
    if (exact.has(text) || patterns.some(pattern => pattern.test(text))) return undefined;
    if (takesSameOrigin && isSameOrigin(head, origin)) return undefined;
    const remedy = takesSameOrigin ? remedyForPort(origin, head) : '';
    return refusal(`the origin ${JSON.stringify(text.slice(0, 200))} is not allowed on ${head.host}${remedy}`);
  };
}

/** Is it a page of the host that the request came to, and the proxy in front says another port? What to do then. */
function remedyForPort(origin: Origin, head: HandshakeHead): string {
  const port = parseAuthority(head.host)?.port;
  if (!isOriginOf({ ...origin, port: port ?? defaultPort(origin.scheme) }, head)) return '';
  if (port === undefined)
    return ': only the port differs, which a proxy in front has perhaps dropped; let it pass on Host with its port (nginx: proxy_set_header Host $http_host), or send X-Forwarded-Port from one of trustedProxies';
  const isForwarded = head.isPeerTrusted && !head.headers.host?.endsWith(`:${port}`);
  return isForwarded
    ? `: only the port differs: the proxy in front says ${port} in X-Forwarded-Port or with the host; let it say the port that browsers use`
    : '';
}

function refusal(reason: string): Decision {
  return refuse(403, 'ERR_POLICY_ORIGIN', reason, { body: 'This origin is not allowed.\n' });
}

function invalid(entry: string): TypeError {
  let remedy =
    'write "https://example.com", "https://*.example.com", "self", or an expression such as "/https://[a-z]+\\.example\\.com/"';
  if (URL.canParse(entry) && new URL(entry).host !== '') {
    const url = new URL(entry);
    const scheme = url.protocol === 'wss:' ? 'https:' : url.protocol === 'ws:' ? 'http:' : url.protocol;
    if (!url.host.replace(/^\*\./, '').includes('*'))
      remedy = `an origin is the scheme and host of the page, without a path: write "${scheme}//${url.host}"`;
  } else if (entry === 'null') {
    remedy = 'every sandboxed frame and local file has this origin, so it cannot be allowed';
  } else if (entry === '*' || entry === 'any') {
    remedy = 'to take every origin write origins: "any" instead of a list';
  }
  return new TypeError(`not an origin: ${JSON.stringify(entry)}; ${remedy}`);
}
