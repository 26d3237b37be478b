import type { IncomingMessage } from 'node:http';
import { HoldfastError } from '../../base/errors.ts';
import type { HostNames } from '../../http/host-names.ts';
import { peerAddressOf } from '../../http/peer.ts';
import { countHeader } from '../../http/request-head.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';
import type { AdminGate } from './admin-intake.ts';
import type { AdminTokens } from './admin-tokens.ts';

/** Whoever can connect to the socket is the user who runs the server, or root. */
export const socketGate: AdminGate = { admit: () => true };

export interface PortGateOptions {
  readonly tokens: AdminTokens;
  /** By which clients may ask for us. */
  readonly hosts: HostNames;
  readonly security: SecurityEvents;
  isBanned(address: string): boolean;
}

/**
 * Who may ask at the admin port: whoever shows a token.
 *
 * That it listens on loopback keeps other machines out, but not the browsers of this one: a page may send requests to
 * it, also under a name of its own that leads here (DNS rebinding). So every host name is refused that is not ours, and
 * what comes from a page of another site, whatever token it shows.
 */
export class PortGate implements AdminGate {
  readonly #options: PortGateOptions;

  constructor(options: PortGateOptions) {
    this.#options = options;
  }

  admit(request: IncomingMessage): boolean {
    const { tokens, hosts, isBanned } = this.#options;
    const { headers } = request;
    const address = peerAddressOf(request.socket);
    if (isBanned(address))
      throw new HoldfastError('ERR_POLICY_BANNED', 'this client may not come in for now', { status: 403 });
    // RFC 9112 §3.2: what one program takes for the host, another may not.
    if (countHeader(request.rawHeaders, 'host') > 1)
      throw this.#refusal(address, 'the request has several Host headers', 400);
    if (!hosts.include(headers.host ?? ''))
      throw this.#refusal(address, 'this host is not served here; add it to "admin.hosts"');
    if (isOfAnotherSite(headers)) throw this.#refusal(address, 'this is not for pages of other sites');
    const shown = tokens.judge(headers.authorization);
    if (shown === 'wrong')
      this.#options.security.report({
        ...{ event: 'login-failed', address, scheme: 'admin-token', status: 401, code: 'ERR_ADMIN_UNAUTHORIZED' },
        reason: 'a request to the admin API with a wrong token',
      });
    return shown === 'good';
  }

  #refusal(address: string, message: string, status = 403): HoldfastError {
    const code = 'ERR_ADMIN_FORBIDDEN';
    this.#options.security.report({
      ...{ event: 'refused', address, status, code },
      reason: `a request to the admin API was refused: ${message}`,
    });
    return new HoldfastError(code, message, { status });
  }
}

/** Fetch Metadata where a browser sends it, and the origin, which it sends with all that could change something. */
function isOfAnotherSite({ host, origin, ...headers }: IncomingMessage['headers']): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true;
  return origin !== undefined && origin.replace(/^https?:\/\//i, '').toLowerCase() !== host?.toLowerCase();
}
