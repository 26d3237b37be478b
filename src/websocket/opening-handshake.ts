import type { Http2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { type Cookie, parseCookies } from '../http/cookies.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { UpgradeRequest } from '../http/upgrade-request.ts';
import type { Principal } from '../policy/auth/scheme.ts';
import type { Session } from '../session/session.ts';
import { type Handshake, handshakeUrl, type User, userOf } from './handshake.ts';

interface Found {
  /** Whom the policy has found. */
  readonly principal?: Principal | undefined;
  readonly session: Session | undefined;
}

/**
 * The handshake over the facts of its request. What costs something is made when it is asked for: few endpoints ask for
 * all of it.
 */
export class OpeningHandshake implements Handshake {
  readonly params: Readonly<Record<string, string>>;
  readonly #found: Found;
  readonly #head: RequestHead;
  readonly #upgrade: UpgradeRequest;
  readonly #socket: Duplex;
  #url: URL | undefined;
  #cookies: Readonly<Record<string, string>> | undefined;

  /** @param found `session` is asked each time: `accept` may open one, and sign in. */
  constructor(
    head: RequestHead,
    upgrade: UpgradeRequest,
    socket: Duplex,
    found: Found & { readonly params: Readonly<Record<string, string>> },
  ) {
    this.#head = head;
    this.#upgrade = upgrade;
    this.#socket = socket;
    this.params = found.params;
    this.#found = found;
  }

  get session(): Session | undefined {
    return this.#found.session;
  }

  get origin(): string | undefined {
    return this.#head.headers.origin;
  }

  get url(): URL {
    this.#url ??= handshakeUrl(this.#head);
    return this.#url;
  }

  get path(): string {
    return this.#head.path;
  }

  get query(): URLSearchParams {
    return this.url.searchParams;
  }

  get headers(): Handshake['headers'] {
    return this.#head.headers;
  }

  get cookies(): Readonly<Record<string, string>> {
    this.#cookies ??= firstOfEach(parseCookies(this.#head.headers.cookie));
    return this.#cookies;
  }

  get user(): User | undefined {
    return userOf(this.#found.principal, this.session);
  }

  get clientCertificate(): PeerCertificate | undefined {
    // A stream of HTTP/2 belongs to a connection.
    const connection: Duplex = (this.#socket as Partial<Http2Stream>).session?.socket ?? this.#socket;
    // Also one that was revoked since, or is over, does not count.
    if (this.#head.clientCertificate === undefined) return undefined;
    const socket = connection as Partial<TLSSocket>;
    // False also where the client showed one that no authority vouches for: anybody can make such a one.
    if (socket.authorized !== true) return undefined;
    const certificate = socket.getPeerCertificate?.();
    return certificate && Object.keys(certificate).length > 0 ? certificate : undefined;
  }

  get isSecure(): boolean {
    return this.#head.isSecure;
  }

  get remoteAddress(): string {
    return this.#head.clientAddress;
  }

  get remotePort(): number {
    return this.#head.peerPort;
  }

  get subprotocols(): readonly string[] {
    return this.#upgrade.subprotocols;
  }

  get extensions(): string {
    return this.#upgrade.extensions;
  }
}

/** Of several cookies of one name the first counts: RFC 6265 sends the one with the most specific path first. */
function firstOfEach(cookies: readonly Cookie[]): Record<string, string> {
  const values: Record<string, string> = Object.create(null);
  for (const { name, value } of cookies) values[name] ??= value;
  return values;
}
