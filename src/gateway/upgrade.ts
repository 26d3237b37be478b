import type { Duplex } from 'node:stream';
import { isRefusal, type Refusal, refuse } from '../http/refusal.ts';
import { parseUpgrade } from '../http/upgrade-request.ts';
import { FrameLimit } from '../policy/limits/frame-limit.ts';
import type { ConnectionFacts, EndpointConnection } from '../websocket/endpoint-connection.ts';
import type { Admitted, Gateway } from './admit.ts';
import { UrlClient } from './exchange/url-client.ts';
import { exchangeSession } from './exchange-session.ts';
import { messageInspector } from './message-inspection.ts';
import { CLIENT_GONE, type HandshakeEnd, type RelayedAnswer } from './relay/declined-answer.ts';
import { type OpeningOptions, openRelay } from './relay/opening.ts';
import { Relay } from './relay/relay.ts';
import { RelaySessions } from './relay/session.ts';
import type { Served } from './serve.ts';
import { openEndpoint } from './targets/endpoint.ts';

/** A WebSocket that lives, at an endpoint or between a client and a backend. */
export type Opened = { readonly connection: EndpointConnection<unknown> } | ({ readonly relay: Relay } & Served);

/** A handshake that is over, and has made no WebSocket: its backend has declined it, or its client has gone (499). */
export interface Ended extends HandshakeEnd, Partial<Served> {}

/**
 * Takes an admitted upgrade to its target. Its session is let go of when this has settled; the WebSocket holds it by
 * itself. Its seat is left when the WebSocket is gone, or when none is opened.
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
  const { seat } = admitted;
  let opened: Opened | Ended | Refusal | undefined;
  try {
    opened = await openTarget(admitted, socket, early, gateway, leaving(seat, onGone));
    if ('relay' in opened) opened.relay.closed.then(() => seat?.leave()).catch(() => {});
    return opened;
  } finally {
    if (!opened || !('relay' in opened || 'connection' in opened)) seat?.leave();
  }
}

function leaving(seat: Admitted['seat'], onGone: ConnectionFacts['onGone']): ConnectionFacts['onGone'] {
  if (!seat) return onGone;
  return (connection, event) => {
    seat.leave();
    onGone?.(connection, event);
  };
}

/** What its client may send; undefined where nothing is said. */
function frameLimit({ route }: Admitted, { limits, clock }: Gateway): FrameLimit | undefined {
  const rules = [limits, ...(route.limits ?? [])].flatMap(one => one?.frames ?? []);
  return rules.length > 0 ? new FrameLimit(rules, clock) : undefined;
}

async function openTarget(
  admitted: Admitted,
  socket: Duplex,
  early: Buffer,
  gateway: Gateway,
  onGone: ConnectionFacts['onGone'],
): Promise<Opened | Ended | Refusal> {
  const { head, route } = admitted;
  const { target } = route;
  const handshake = head.upgrade ?? parseUpgrade(head);
  if (target.kind === 'endpoint') {
    if (isRefusal(handshake)) return handshake;
    const connection = await openEndpoint(
      admitted,
      handshake,
      target.endpoint,
      socket,
      early,
      gateway.services,
      gateway,
      { onGone, frameLimit: frameLimit(admitted, gateway) },
    );
    if (connection === undefined) return CLIENT_GONE;
    return isRefusal(connection) ? connection : { connection };
  }
  if (target.kind !== 'upstream' || !target.relay)
    return refuse(400, 'ERR_WS_BAD_HANDSHAKE', 'this route takes no WebSockets');
  if (isRefusal(handshake)) return handshake;
  const { upstream, rewrite, relay: limits } = target;
  const { wheel } = gateway.services;
  const { clientAddress } = head;
  const from = { head, clientAddress, handshake, socket, early };
  const relay = await relayTo(admitted, {
    ...from,
    upstream,
    rewrite,
    limits,
    wheel,
    frameLimit: frameLimit(admitted, gateway),
    inspect: messageInspector(admitted),
    trace: admitted.trace,
  });
  if (isRefusal(relay)) return relay;
  if (relay instanceof Relay) {
    followClient(admitted, relay, gateway);
    return { relay, upstream: upstream.name, server: relay.server.url };
  }
  return { ...relay, upstream: upstream.name, server: relay.server?.url };
}

function followClient(
  { principal, authentication, head, held }: Admitted,
  relay: Relay,
  { users, certificates }: Pick<Gateway, 'users' | 'certificates'>,
): void {
  const { clientAddress: address, clientCertificate } = head;
  if (!principal && !clientCertificate) return;
  if (principal) users.join(relay, principal, { authentication: authentication!, sid: held?.session?.id, address });
  if (clientCertificate) certificates.join(relay, clientCertificate);
  relay.closed
    .finally(() => {
      users.leave(relay);
      certificates.leave(relay);
    })
    .catch(() => {});
}

async function relayTo(
  admitted: Admitted,
  options: Omit<OpeningOptions, 'session' | 'attached'>,
): Promise<Relay | RelayedAnswer | Refusal> {
  const { held, observed } = admitted;
  const attached = held || observed ? new RelaySessions(held, observed) : undefined;
  let opened: Relay | RelayedAnswer | Refusal | undefined;
  try {
    opened = await attached?.attach();
    opened ??= await openRelay({
      ...options,
      attached,
      sid: observed ? undefined : attached?.sid,
      affinityKey: observed?.key ?? attached?.sid,
      session: exchangeSession(admitted, options.upstream, held && (() => attached!.attach())),
      urlClient: UrlClient.of(admitted),
    });
    if (opened instanceof Relay) attached?.add(opened);
    return opened;
  } finally {
    attached?.endHandshake();
    if (!(opened instanceof Relay)) await attached?.release();
  }
}
