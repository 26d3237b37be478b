import type { HeaderLine } from '../../http/header-line.ts';
import { isRefusal, type Refusal } from '../../http/refusal.ts';
import { upgradeResponse } from '../../websocket/protocol/handshake.ts';
import { upstreamRefusal } from '../upstream/failure.ts';
import { CLIENT_GONE, passDeclined, type RelayedAnswer } from './declined-answer.ts';
import { type DialOptions, dialWebSocket } from './dial.ts';
import { Relay, type RelayOptions } from './relay.ts';
import { WaitingClient } from './waiting-client.ts';

export interface OpeningOptions extends DialOptions, RelayOptions {
  /** What the client sent behind its handshake. */
  readonly early: Buffer;
}

/**
 * Connects a client that asked for a WebSocket with a backend.
 *
 * The client gets its 101 only after the backend gave a good one. Any other answer of the backend is passed on with its
 * body, and the client's connection ends.
 *
 * Takes over the socket's events at once. Rejects only when the session cannot say what the backend is to be told.
 *
 * @returns the live relay; or how the exchange ended that took its place (499: the client was gone first); or a
 * refusal, which the caller writes to the socket.
 */
export async function openRelay(options: OpeningOptions): Promise<Relay | RelayedAnswer | Refusal> {
  const { handshake, session, socket, upstream } = options;
  const client = new WaitingClient(socket, options.early);
  const dialed = await dialWebSocket(options, client);
  const answer = isRefusal(dialed) ? undefined : dialed;
  let heard = answer && session?.answered(answer.rawHeaders, answer);
  if (heard instanceof Promise) heard = await heard;
  const early = client.release();
  if (isRefusal(dialed)) return dialed;
  const carrier = dialed && ('answer' in dialed ? dialed.answer : dialed.socket);
  if (dialed === undefined || client.isGone) {
    carrier?.destroy();
    upstream.logger.info({ upstream: upstream.name, status: CLIENT_GONE.status }, 'client gone before the answer');
    return { ...CLIENT_GONE, ...(dialed && { server: dialed.server }) };
  }
  const { server } = dialed;
  if (isRefusal(heard)) {
    carrier?.destroy();
    return { ...heard, upstream: upstream.name, server: server.url };
  }
  // It may have closed while the session was waited for. What happens later reaches those that listen from here on.
  if (carrier?.destroyed) return upstreamRefusal(upstream, server, 'reset');
  const sessionLines: readonly HeaderLine[] = [...(options.attached?.responseHeaders() ?? []), ...(heard ?? [])];
  if ('answer' in dialed) {
    options.attached?.markTold();
    return passDeclined(options, dialed, sessionLines);
  }
  let response: string;
  try {
    const subprotocol = dialed.subprotocol ?? handshake.fallbackSubprotocol;
    const lines = [...dialed.lines, ...sessionLines];
    response = upgradeResponse({ ...dialed, subprotocol, key: handshake.key, lines });
  } catch {
    // A header that cannot be written: the backend's mistake.
    dialed.socket.destroy();
    return upstreamRefusal(upstream, server, 'invalid');
  }
  socket.write(response, 'latin1');
  options.attached?.markTold();
  const relay = new Relay(options, dialed, early);
  server.track(dialed.socket, relay);
  return relay;
}
