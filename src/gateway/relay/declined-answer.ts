import type { Duplex } from 'node:stream';
import { setDeadline } from '../../base/deadlines.ts';
import { dateNow } from '../../http/date-now.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { joinHeaders } from '../../http/response-head.ts';
import { forbidsStoring, isForSharedCaches, privateOf } from '../../http/shared-caches.ts';
import { startReads } from '../../websocket/transport-reads.ts';
import { type BackendExchange, CLIENT_GONE_STATUS } from '../exchange/exchange.ts';
import { clientResponseHeaders } from '../exchange/headers.ts';
import { Rewriting } from '../exchange/rewriting.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import type { Declined } from './dial.ts';

/**
 * A handshake that is over without a relay: a backend's answer that is not 101 was passed on, or the client was gone.
 */
export interface RelayedAnswer extends HandshakeEnd {
  readonly server?: UpstreamServer | undefined;
}

/** How a handshake was answered that has made no WebSocket. */
export interface HandshakeEnd {
  /** What the client was sent; 499 when it was gone before there was an answer. */
  readonly status: number;
  /** Of the answer's body, sent to the client. */
  readonly bytes: number;
  /** False when the answer broke off; the client's connection was cut, so that it can tell. */
  readonly complete: boolean;
}

export const CLIENT_GONE: HandshakeEnd = { status: CLIENT_GONE_STATUS, bytes: 0, complete: false };

/** For an answer that declines a WebSocket, where the upstream's answers have no limit. */
const DECLINED_TIMEOUT_MS = 60_000;

/**
 * Writes a backend's answer that is not 101 to the client, and ends our side of the connection. The caller cuts it.
 */
export function passDeclined(
  options: BackendExchange & { readonly socket: Duplex },
  { answer, rawHeaders, server }: Declined,
  lines: readonly HeaderLine[],
): Promise<RelayedAnswer> {
  const { socket, upstream } = options;
  const { status, statusMessage } = answer.head;
  const headers = clientResponseHeaders({ status, rawHeaders }, upstream, new Rewriting(options));
  options.urlClient?.protect(headers);
  const received = joinHeaders(answer.head.rawHeaders);
  const isChunked = received['transfer-encoding'] !== undefined;
  const carriesOurs = lines.length > 0;
  const becomesPrivate = carriesOurs && !forbidsStoring(received['cache-control']);
  let head = `HTTP/1.1 ${status} ${statusMessage}\r\n`;
  let connection = 'close';
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!.toLowerCase();
    // The body is passed without its chunks: it ends with the connection.
    if ((isChunked && name === 'content-length') || (becomesPrivate && name === 'cache-control')) continue;
    if (carriesOurs && isForSharedCaches(name)) continue;
    if (name === 'upgrade') connection = 'close, Upgrade';
    head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  }
  if (becomesPrivate) head += `Cache-Control: ${privateOf(received['cache-control'])}\r\n`;
  for (const { name, value } of lines) head += `${name}: ${value}\r\n`;
  if (received.date === undefined) head += `Date: ${dateNow()}\r\n`;
  head += `Connection: ${connection}\r\n\r\n`;
  return new Promise((resolve: (answer: RelayedAnswer) => void) => {
    let bytes = 0;
    const settle = (complete: boolean) => resolve({ status, bytes, complete, server });
    const { answerTimeoutMs, clientTimeoutMs = DECLINED_TIMEOUT_MS } = upstream;
    const timeoutMs = answerTimeoutMs === Number.POSITIVE_INFINITY ? clientTimeoutMs : answerTimeoutMs;
    const deadline = setDeadline(upstream.clock, timeoutMs, () => {
      answer.destroy();
      // All of it may have come, and the client reads nothing.
      socket.destroy();
    });
    answer.on('close', () => {
      // What broke off must not look complete.
      if (!answer.complete) socket.destroy();
    });
    const onEnd = () => {
      deadline?.clear();
      answer.destroy();
      settle(answer.complete && socket.writableFinished);
    };
    socket.on('finish', onEnd).on('close', onEnd);
    // Nothing more is expected from the client, but that it leaves must be noticed.
    startReads(socket, ignore);
    socket.on('end', () => socket.destroy());
    socket.write(head, 'latin1');
    answer.on('data', chunk => {
      bytes += chunk.length;
    });
    answer.pipe(socket);
  });
}

function ignore(): void {}
