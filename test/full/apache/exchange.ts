import net from 'node:net';
import { CLIENT_KEY, RawPeer } from '../../gateway/raw-peer.ts';

/** What a client got. */
export interface Answer {
  /** 0 when the connection ended without an answer. */
  readonly status: number;
  /** The statuses before it: 100, 103. */
  readonly interim: readonly number[];
  /** In the order in which they came, names in lower case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** The connection, from which frames can be read after a 101. */
  readonly peer: RawPeer;
}

/** A request as bytes. `Host` is example.com unless a line says something else. */
export function requestBytes(method: string, target: string, lines: readonly string[] = [], body = ''): string {
  const host = lines.some(line => /^host:/i.test(line)) ? [] : ['Host: example.com'];
  return `${[`${method} ${target} HTTP/1.1`, ...host, ...lines].join('\r\n')}\r\n\r\n${body}`;
}

const HANDSHAKE = [
  'Origin: http://example.com',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  `Sec-WebSocket-Key: ${CLIENT_KEY}`,
];

/**
 * A handshake as bytes. A line takes the place of the usual one of its name; one that ends with a colon takes it away.
 */
export function handshakeBytes(target: string, lines: readonly string[] = []): string {
  const nameOf = (line: string) => line.slice(0, line.indexOf(':')).toLowerCase();
  const usual = HANDSHAKE.filter(line => !lines.some(other => nameOf(other) === nameOf(line)));
  return requestBytes('GET', target, [...usual, ...lines.filter(line => !line.endsWith(':'))]);
}

/** Sends bytes (one character each) and reads one answer. The connection stays open: destroy `peer.socket`. */
export async function exchange(port: number, bytes: string, localAddress?: string): Promise<Answer> {
  const peer = new RawPeer(net.connect({ port, host: '127.0.0.1', ...(localAddress && { localAddress }) }), true);
  peer.socket.write(bytes, 'latin1');
  const interim: number[] = [];
  await peer.until(() => peer.head !== '' || peer.isClosed || peer.isEnded);
  let head = peer.head;
  while (/^HTTP\/1\.1 (?!101)1/.test(head)) {
    interim.push(statusOf(head));
    await peer.until(() => peer.rest.includes('\r\n\r\n') || peer.isClosed);
    const end = peer.rest.indexOf('\r\n\r\n');
    head = peer.rest.toString('latin1', 0, end);
    peer.rest = peer.rest.subarray(end + 4);
  }
  const headers = head
    .split('\r\n')
    .slice(1)
    .map(line => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()] as const);
  const status = statusOf(head);
  if (status !== 101) await peer.until(() => peer.isClosed || peer.isEnded || isWhole(status, headers, peer.rest));
  return { status, interim, headers, body: status === 101 ? '' : peer.rest.toString('latin1'), peer };
}

function statusOf(head: string): number {
  return Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
}

function isWhole(status: number, headers: Answer['headers'], body: Buffer): boolean {
  if (status === 204 || status === 304) return true;
  const length = headers.find(([name]) => name === 'content-length')?.[1];
  if (length !== undefined) return body.length >= Number(length);
  return headers.some(([name]) => name === 'transfer-encoding') && /(?:^|\n)0\r\n(?:.*\r\n)*\r\n$/.test(String(body));
}
