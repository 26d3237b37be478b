import { type Refusal, refuse } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import { hasToken } from '../http/token.ts';
import type { Target } from './route.ts';

/**
 * Recognises a WebSocket handshake of which a proxy in front of us has dropped the request to upgrade, as most proxies
 * do until they are told not to: `Upgrade` and `Connection` are for one hop only, the `Sec-WebSocket-*` headers are
 * passed on.
 *
 * Without this the handshake would be an ordinary GET, and its answer would say nothing about the cause.
 *
 * @returns 426 with what the proxy has to pass on, in the log and in the body; undefined for everything else.
 */
export function lostUpgrade(head: RequestHead, target: Target): Refusal | undefined {
  const { headers, httpVersion } = head;
  if (head.isUpgrade || head.method !== 'GET' || headers['sec-websocket-key'] === undefined) return undefined;
  // HTTP/2 has no Upgrade header that could be lost.
  if (!httpVersion.startsWith('1.') || !takesWebSockets(target)) return undefined;
  const what = missing(head);
  if (what === undefined) return undefined;
  const reason = `a WebSocket handshake arrived ${what}: a proxy in front does not pass it on; make it speak HTTP/1.1 to this server and send "Upgrade: websocket" and "Connection: Upgrade"`;
  return refuse(426, 'ERR_WS_UPGRADE_REQUIRED', reason, {
    headers: { Upgrade: 'websocket', Connection: 'Upgrade, close' },
    body: `${reason}\n`,
  });
}

function missing({ headers, httpVersion }: RequestHead): string | undefined {
  if (headers.upgrade === undefined) return 'without its Upgrade header';
  if (!hasToken(headers.upgrade, 'websocket')) return undefined;
  if (!hasToken(headers.connection, 'upgrade')) return 'with a Connection header that does not name Upgrade';
  return httpVersion === '1.0' ? 'as HTTP/1.0, which knows no upgrade' : undefined;
}

function takesWebSockets(target: Target): boolean {
  return target.kind === 'endpoint' || (target.kind === 'upstream' && target.relay !== undefined);
}
