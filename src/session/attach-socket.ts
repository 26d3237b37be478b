import type { IncomingMessage } from 'node:http';
import { callListener } from '../base/call-listener.ts';
import { checkOptions, kindOf, type OptionNames } from '../base/options.ts';
import { SetMap } from '../base/set-map.ts';
import { type AttachOptions, checkManager, NodeRequest, rawOf, type Wrapped } from './attach-session.ts';
import type { SessionManager } from './manager.ts';
import type { SocketEndReason } from './process/registry.ts';
import type { SocketSession } from './process/socket-session.ts';
import type { SessionBinding } from './request/binding.ts';

export interface AttachSocketOptions extends Pick<AttachOptions, 'user'> {
  /**
   * Called when the socket must be closed: its session is over (`ended`), or a login has replaced the secret that it
   * came with and it may come again (`renewed`). Not after `release`. Default: nothing closes it.
   */
  readonly onEnd?: (why: SocketEndReason) => void;
}

const OPTIONS: OptionNames<AttachSocketOptions> = { user: true, onEnd: 'function' };

type EndListener = (why: SocketEndReason) => void;

/** By session, the sockets of a manager that want to know: one listener for all of them. */
const SOCKETS = new WeakMap<SessionManager, SetMap<string, EndListener>>();

/**
 * Holds the session of a request for a socket that another library has opened with it: Socket.IO by any of its
 * transports (`socket.request`), `ws`, SockJS, the WebSockets of a framework. Looks at nothing but the request's
 * headers, and may be called long after its answer.
 *
 * What the socket has of the session is independent of the request: it lasts until `release`, which is to be called when
 * the socket has closed, and changes are committed behind it. The session ends on time, and is kept alive by `touch`
 * only.
 *
 * The origin of the page is not compared. By default browsers send no session cookie with a handshake that a page of
 * another site begins; with `sameSite: 'none'`, or where pages of the same site are not trusted, compare it first.
 *
 * @param options.user As of `attachSession`; it cannot become the owner of a session that has none.
 * @returns undefined when the client shows no live session.
 * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE; ERR_SESSION_UNAUTHORIZED: the session belongs to another user
 * than the request's; ERR_SESSION_HEADERS_SENT: it belongs to nobody, and the request has a user.
 *
 * @example
 * import { createServer } from 'node:http';
 * import { attachSocket, MemoryStore, SessionManager } from 'holdfast/session';
 *
 * const sessions = new SessionManager({ store: new MemoryStore(), keys: [crypto.getRandomValues(new Uint8Array(32))] });
 * const server = createServer();
 * server.on('upgrade', async (request, socket) => {
 *   const held = await attachSocket(sessions, request, { onEnd: () => socket.destroy() });
 *   if (!held) return socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
 *   socket.once('close', () => held.release());
 * });
 * await sessions.close();
 */
export async function attachSocket(
  manager: SessionManager,
  req: IncomingMessage | Wrapped<IncomingMessage>,
  options: AttachSocketOptions = {},
): Promise<SocketSession | undefined> {
  checkManager('attachSocket', manager);
  checkOptions('attachSocket', options, OPTIONS);
  const request = rawOf<IncomingMessage>(req);
  if (typeof request?.headers !== 'object')
    throw new TypeError(`attachSocket: give it the request of the handshake, not ${kindOf(req)}`);
  const { user, onEnd } = options;
  const binding = manager.bind(new NodeRequest(request, user === undefined ? {} : { user }, manager.tracking));
  // Nothing can be told to the client.
  binding.markHeadersSent();
  try {
    await binding.get();
    const held = await binding.attach();
    // Whoever closes them was told before there was anybody to hear it.
    if (held?.isEnded || held?.isRenewed) return void (await held.release());
    if (held && onEnd)
      closeWith(manager, held, why =>
        callListener(
          () => onEnd(why),
          error => logThrown(binding, error),
        ),
      );
    return held;
  } finally {
    binding.release();
  }
}

function logThrown({ logger }: SessionBinding, error: unknown): void {
  logger.error({ err: error }, 'a listener for ended sessions threw');
}

/** @param listener A function of its own: one that the application gives may be that of several sockets. */
function closeWith(manager: SessionManager, held: SocketSession, listener: EndListener): void {
  const { id } = held.session;
  const sockets = socketsOf(manager);
  sockets.add(id, listener);
  const { release } = held;
  held.release = () => {
    sockets.remove(id, listener);
    return release();
  };
}

function socketsOf(manager: SessionManager): SetMap<string, EndListener> {
  const known = SOCKETS.get(manager);
  if (known) return known;
  const sockets = new SetMap<string, EndListener>();
  SOCKETS.set(manager, sockets);
  manager.onSocketEnd((sid, why) => {
    for (const listener of [...(sockets.get(sid) ?? [])]) listener(why);
  });
  return sockets;
}
