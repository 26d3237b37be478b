import type { Duplex } from 'node:stream';
import { isRefusal, type Refusal } from '../../http/refusal.ts';
import type { UpgradeRequest } from '../../http/upgrade-request.ts';
import { superseded } from '../../session/record/state.ts';
import type { ServedEndpoint } from '../../websocket/endpoint.ts';
import type {
  AttachedSession,
  ConnectionFacts,
  ConnectionServices,
  EndpointConnection,
} from '../../websocket/endpoint-connection.ts';
import { OpeningHandshake } from '../../websocket/opening-handshake.ts';
import { upgradeResponse } from '../../websocket/protocol/handshake.ts';
import type { Admitted } from '../admit.ts';
import type { SessionContext } from '../held-session.ts';
import type { LiveCertificates } from '../live-certificates.ts';
import type { LiveUsers } from '../live-users.ts';
import { messageInspector } from '../message-inspection.ts';

/** Who closes sockets of clients whose right to them has ended. */
interface LiveClients {
  readonly users: LiveUsers;
  readonly certificates: LiveCertificates;
}

/**
 * Takes an admitted upgrade to its endpoint: the application's `accept`, the session's commit, the 101, and
 * the connection lives.
 *
 * @returns the connection; or a refusal, and nothing was written. Undefined: the client went away meanwhile.
 */
export async function openEndpoint(
  admitted: Admitted,
  upgrade: UpgradeRequest,
  endpoint: ServedEndpoint<unknown>,
  socket: Duplex,
  early: Buffer,
  services: ConnectionServices,
  clients: LiveClients,
  { onGone, frameLimit }: Pick<ConnectionFacts, 'onGone' | 'frameLimit'>,
): Promise<EndpointConnection<unknown> | Refusal | undefined> {
  const { held, principal } = admitted;
  const { clientCertificate } = admitted.head;
  const handshake = new OpeningHandshake(admitted.head, upgrade, socket, {
    params: admitted.params,
    principal,
    get session() {
      return held?.binding.current ?? held?.shown;
    },
  });
  held?.context.manager.bindTo(handshake, held.binding);

  const accepted = await endpoint.judge(handshake, socket, services);
  if (isRefusal(accepted)) return accepted;
  let isOpen = false;
  try {
    if (held?.lacksSignIn) throw superseded();
    await held?.binding.commit();
    // Before the session is held: it throws when `accept` gave a header that cannot be sent.
    const response = upgradeResponse({
      key: upgrade.key,
      subprotocol: accepted.subprotocol === '' ? upgrade.fallbackSubprotocol : accepted.subprotocol,
      extensions: accepted.extensions,
      headers: accepted.headers,
      lines: held?.binding.responseHeaders(),
    });
    const attached = held && (await held.attachSocket());
    if (isRefusal(attached)) return attached;
    if (socket.destroyed || socket.readableEnded || !socket.writable) {
      socket.destroy();
      await attached?.release();
      return undefined;
    }
    held?.binding.markHeadersSent();
    socket.write(response, 'latin1');
    isOpen = true;
    const facts: ConnectionFacts = {
      host: admitted.head.host,
      path: admitted.head.path,
      query: admitted.head.query,
      params: admitted.params,
      subprotocol: accepted.subprotocol,
      isSecure: admitted.head.isSecure,
      remoteAddress: admitted.head.clientAddress,
      remotePort: admitted.head.peerPort,
      user: handshake.user,
      session: attached,
      touchOnTraffic: held?.touchOnTraffic ?? 'never',
      deflate: accepted.deflate,
      frameLimit,
      inspect: messageInspector(admitted),
      onGone: leaving(principal || clientCertificate ? clients : undefined, endingOf(attached, held?.context, onGone)),
    };
    const connection = endpoint.open(socket, early, services, facts, accepted.data);
    if (attached && connection.isOpen) held?.context.sockets.join(attached, connection);
    if (principal && connection.isOpen)
      clients.users.join(connection, principal, {
        authentication: admitted.authentication!,
        sid: attached?.session.id,
        address: admitted.head.clientAddress,
      });
    if (clientCertificate && connection.isOpen) clients.certificates.join(connection, clientCertificate);
    return connection;
  } finally {
    if (!isOpen) endpoint.giveUp();
  }
}

/** The sockets of users and certificates are known until they are gone. */
function leaving(clients: LiveClients | undefined, onGone: ConnectionFacts['onGone']): ConnectionFacts['onGone'] {
  if (!clients) return onGone;
  return (connection, event) => {
    clients.users.leave(connection);
    clients.certificates.leave(connection);
    onGone?.(connection, event);
  };
}

/** A session's sockets end with it, so a connection that is gone is taken from their list. */
function endingOf(
  attached: AttachedSession | undefined,
  context: SessionContext | undefined,
  onGone: ConnectionFacts['onGone'],
): ConnectionFacts['onGone'] {
  if (attached === undefined || context === undefined) return onGone;
  const { id } = attached.session;
  const { sockets } = context;
  return (connection, event) => {
    sockets.remove(id, connection);
    onGone?.(connection, event);
  };
}
