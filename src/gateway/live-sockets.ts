import type { Seat } from '../policy/limits/seat.ts';
import type { HandshakeHead } from '../policy/policy.ts';
import type { EndpointConnection } from '../websocket/endpoint-connection.ts';
import type { Admitted } from './admit.ts';
import type { Relay } from './relay/relay.ts';
import type { Route } from './route.ts';

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
  /** What it takes of the limits that hold for it. */
  readonly seat: Seat | undefined;
  // The head is made when it is asked for: most sockets are never judged again.
  readonly #host: string;
  readonly #path: string;
  readonly #peerAddress: string;
  readonly #clientAddress: string;
  readonly #origin: string | undefined;
  readonly #hasCookie: boolean;
  readonly #isPeerTrusted: boolean;
  readonly #isSecure: boolean;
  readonly #isSchemeKnown: boolean;
  readonly #observed: Admitted['observed'];

  constructor(socket: LiveSocket['socket'], id: string, admitted: Admitted, openedAt: number) {
    const { head, route, seat, observed } = admitted;
    this.socket = socket;
    this.kind = route.target.kind === 'endpoint' ? 'endpoint' : 'relay';
    this.id = id;
    this.openedAt = openedAt;
    this.seat = seat;
    this.route = route;
    // An endpoint may have opened the session, or signed its user in, when it accepted.
    const { session = undefined, user = undefined } =
      this.kind === 'endpoint' ? (socket as EndpointConnection<unknown>) : {};
    this.sid = session?.id ?? seat?.occupant.session;
    this.user = user?.name ?? seat?.occupant.user;
    this.#host = head.host;
    this.#path = head.path;
    this.#peerAddress = head.peerAddress;
    this.#clientAddress = head.clientAddress;
    this.#origin = head.headers.origin;
    this.#hasCookie = head.headers.cookie !== undefined;
    this.#isPeerTrusted = head.isPeerTrusted;
    this.#isSecure = head.isSecure;
    this.#isSchemeKnown = head.isSchemeKnown;
    this.#observed = observed;
  }

  /** It is of a session of its backend's own, and what is known of these is elsewhere now. */
  get hasLostSession(): boolean {
    return this.#observed?.hasLostSession === true;
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
      path: this.#path,
      query: '',
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
