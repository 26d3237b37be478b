import type { RequestHead } from '../http/request-head.ts';
import type { EndpointConnection } from '../websocket/endpoint-connection.ts';
import type { Admitted } from './admit.ts';
import type { Relay } from './relay/relay.ts';
import type { Route } from './route.ts';

/** What of a handshake is kept as long as its WebSocket lives: what rules that change can judge it by again. */
export type HandshakeHead = Pick<
  RequestHead,
  | 'method'
  | 'headers'
  | 'host'
  | 'peerAddress'
  | 'isPeerTrusted'
  | 'clientAddress'
  | 'isSecure'
  | 'isSchemeKnown'
  | 'isUpgrade'
>;

/** An open WebSocket: a connection of an endpoint, or a relay to a backend. */
export class LiveSocket {
  /** As in the access log. */
  readonly id: string;
  readonly socket: EndpointConnection<unknown> | Relay;
  readonly kind: 'endpoint' | 'relay';
  /** In ms since the epoch. */
  readonly openedAt: number;
  /** The route that it came by, as it is now: of a route that is gone, as it was last. */
  route: Route;
  /** The whole `sid` of its session, or the key of a session of its backend. */
  readonly sid: string | undefined;
  readonly user: string | undefined;
  // The head is made when it is asked for: most sockets are never judged again.
  readonly #host: string;
  readonly #peerAddress: string;
  readonly #clientAddress: string;
  readonly #origin: string | undefined;
  readonly #hasCookie: boolean;
  readonly #isPeerTrusted: boolean;
  readonly #isSecure: boolean;
  readonly #isSchemeKnown: boolean;

  constructor(socket: LiveSocket['socket'], id: string, admitted: Admitted, openedAt: number) {
    const { head, route, held, observed, principal } = admitted;
    this.socket = socket;
    this.kind = route.target.kind === 'endpoint' ? 'endpoint' : 'relay';
    this.id = id;
    this.openedAt = openedAt;
    this.route = route;
    const session = held?.binding.current ?? held?.session;
    this.sid = session?.id ?? observed?.liveKey;
    this.user = principal?.name ?? session?.owner?.name;
    this.#host = head.host;
    this.#peerAddress = head.peerAddress;
    this.#clientAddress = head.clientAddress;
    this.#origin = head.headers.origin;
    this.#hasCookie = head.headers.cookie !== undefined;
    this.#isPeerTrusted = head.isPeerTrusted;
    this.#isSecure = head.isSecure;
    this.#isSchemeKnown = head.isSchemeKnown;
  }

  get clientAddress(): string {
    return this.#clientAddress;
  }

  get head(): HandshakeHead {
    return {
      method: 'GET',
      headers: {
        ...(this.#origin !== undefined && { origin: this.#origin }),
        ...(this.#hasCookie && { cookie: '' }),
      },
      host: this.#host,
      peerAddress: this.#peerAddress,
      isPeerTrusted: this.#isPeerTrusted,
      clientAddress: this.#clientAddress,
      isSecure: this.#isSecure,
      isSchemeKnown: this.#isSchemeKnown,
      isUpgrade: true,
    };
  }

  close(code: number, reason: string): void {
    this.socket.close(code, reason);
  }

  terminate(): void {
    this.socket.terminate();
  }
}

/** The open WebSockets of a server, until their connections are gone. */
export type LiveSockets = Set<LiveSocket>;
