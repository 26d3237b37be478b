import type { Duplex } from 'node:stream';
import { isRefusal, type Refusal, refuse } from '../http/refusal.ts';
import { parseUpgrade } from '../http/upgrade-request.ts';
import type { ConnectionFacts, EndpointConnection } from '../websocket/endpoint-connection.ts';
import type { Admitted, Gateway } from './admit.ts';
import type { ObservedExchange } from './backend-session/observed/observer.ts';
import { exchangeSession } from './exchange-session.ts';
import { Relay, type RelayedAnswer, type RelayOptions, relayWebSocket } from './relay/relay.ts';
import { RelaySession } from './relay/session.ts';
import type { Served } from './serve.ts';
import { openEndpoint } from './targets/endpoint.ts';

/** A WebSocket that lives, at an endpoint or between a client and a backend. */
export type Opened = { readonly connection: EndpointConnection<unknown> } | ({ readonly relay: Relay } & Served);

/** A handshake that is over, and has made no WebSocket: its backend has declined it, or its client has gone (499). */
export interface Ended extends Partial<Served> {
  readonly status: number;
  /** Of the answer's body, sent to the client. */
  readonly bytes: number;
  readonly complete: boolean;
}

const CLIENT_GONE: Ended = { status: 499, bytes: 0, complete: false };

/**
 * Takes an admitted upgrade to its target. Its session is let go of when this has settled; the WebSocket holds it by
 * itself.
 *
 * @param early What the client sent behind its handshake.
 * @param onGone Called when a connection of an endpoint has ended: an idle one keeps as little as possible.
 * @returns a refusal is still to be answered.
 */
export async function openUpgrade(
  admitted: Admitted,
  socket: Duplex,
  early: Buffer,
  gateway: Gateway,
  onGone: ConnectionFacts['onGone'],
): Promise<Opened | Ended | Refusal> {
  using _ = admitted.held;
  const { head, route } = admitted;
  const { target } = route;
  const handshake = head.upgrade ?? parseUpgrade(head);
  if (target.kind === 'endpoint') {
    if (isRefusal(handshake)) return handshake;
    const connection = await openEndpoint(admitted, handshake, target.endpoint, socket, early, gateway.host, onGone);
    if (connection === undefined) return CLIENT_GONE;
    return isRefusal(connection) ? connection : { connection };
  }
  if (target.kind !== 'upstream' || !target.relay)
    return refuse(400, 'ERR_WS_BAD_HANDSHAKE', 'this route takes no WebSockets');
  if (isRefusal(handshake)) return handshake;
  const { upstream, rewrite, relay: limits } = target;
  const { wheel } = gateway.host;
  const relay = await openRelay(admitted, { head, handshake, upstream, rewrite, limits, socket, early, wheel });
  if (isRefusal(relay)) return relay;
  if (relay instanceof Relay) return { relay, upstream: upstream.name, server: relay.server.url };
  return { ...relay, upstream: upstream.name, server: relay.server?.url };
}

async function openRelay(admitted: Admitted, options: RelayOptions): Promise<Relay | RelayedAnswer | Refusal> {
  const { held, observed } = admitted;
  const session = held && new RelaySession(held);
  let relay: Relay | undefined;
  try {
    const opened = (await session?.attach()) ?? (await relayTo(admitted, options, session));
    if (!(opened instanceof Relay)) return opened;
    relay = opened;
  } finally {
    session?.endHandshake();
    if (!relay) await session?.release();
  }
  session?.tie(relay);
  observed?.tie(relay);
  return relay;
}

function relayTo(
  admitted: Admitted,
  options: RelayOptions,
  session: RelaySession | undefined,
): Promise<Relay | RelayedAnswer | Refusal> {
  const { observed } = admitted;
  return relayWebSocket({
    ...options,
    news: session,
    // The backend's answer can change it.
    get sid() {
      return observed ? undefined : session?.sid;
    },
    affinityKey: observed?.key ?? session?.sid,
    session: exchangeSession(admitted, options.upstream, session && (() => session.attach())),
    ...touching(session, observed),
  });
}

/**
 * Made here, so that what an idle relay keeps is its sessions and nothing of its request. Where there are two, ours
 * says what counts as use.
 */
function touching(
  session: RelaySession | undefined,
  observed: ObservedExchange | undefined,
): Pick<RelayOptions, 'touchOnTraffic' | 'onTraffic'> {
  if (!session && !observed) return {};
  return {
    touchOnTraffic: (session ?? observed)!.touchOnTraffic,
    onTraffic: () => {
      session?.touch();
      observed?.touch();
    },
  };
}
