import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { unmapIpv4 } from './ip-address.ts';
import type { ProxyHeader } from './proxy-protocol.ts';

const secureByProxy = new WeakSet<object>();

/**
 * From now on the client that a PROXY header names is the peer of this socket: `remoteAddress` and `remotePort` are the
 * client's.
 */
export function setPeer(socket: Socket, { source, isSecure }: ProxyHeader): void {
  if (source !== undefined) {
    Object.defineProperty(socket, 'remoteAddress', { value: source.address, configurable: true });
    Object.defineProperty(socket, 'remotePort', { value: source.port, configurable: true });
  }
  if (isSecure) secureByProxy.add(socket);
}

/** The other end of a connection, or whom its PROXY header names: IPv4 never as IPv6; `''` on a Unix socket. */
export function peerAddressOf({ remoteAddress }: Pick<Socket, 'remoteAddress'>): string {
  return unmapIpv4(remoteAddress ?? '');
}

/** True when the client speaks TLS: to us, or to the proxy that said so in its PROXY header. */
export function isSecureSocket(socket: Socket): boolean {
  return (socket as TLSSocket).encrypted === true || secureByProxy.has(socket);
}
