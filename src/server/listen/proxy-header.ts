import type { Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import type { Logger } from '../../base/logger.ts';
import type { AddressList } from '../../http/address-list.ts';
import { peerAddressOf } from '../../http/peer.ts';
import { type ProxyHeader, parseProxyHeader } from '../../http/proxy-protocol.ts';
import { readBeginning } from './beginning.ts';

export interface ReadProxyHeaderOptions {
  /** False: a trusted peer may leave it out, and others are clients. */
  readonly isRequired: boolean;
  readonly trustedProxies: AddressList;
  /** For the whole header. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called at most once, with the socket standing behind the header. Undefined: there was none. */
  onDone(header: ProxyHeader | undefined): void;
}

/**
 * Takes the PROXY header off the beginning of a connection.
 *
 * A connection is cut, and that is logged, when the header is malformed, late, or required and missing, and when a peer
 * that is not trusted connects where it is required. Where it is optional nothing is read from such a peer: what it
 * sends is its request.
 */
export function readProxyHeader(socket: Socket, options: ReadProxyHeaderOptions): void {
  const { isRequired, trustedProxies, timeoutMs, clock, logger, onDone } = options;
  const peer = peerAddressOf(socket);
  const cut = (reason: string) => {
    logger.warn({ event: 'proxy-header', address: peer }, `connection cut: ${reason}`);
    socket.destroy();
  };
  if (!trustedProxies.contains(peer)) {
    if (isRequired) cut('a PROXY header is required here, and the peer is not one of the trusted proxies');
    else onDone(undefined);
    return;
  }

  const deadline = setDeadline(clock, timeoutMs, () => {
    stop();
    cut(`no whole PROXY header within ${timeoutMs} ms`);
  });
  const stop = readBeginning(socket, {
    read(bytes) {
      const header = parseProxyHeader(bytes);
      return header === 'incomplete' ? undefined : header;
    },
    onRead(header, bytes) {
      deadline?.clear();
      if (header === 'absent' && isRequired) cut('it does not begin with a PROXY header');
      else if (header !== 'absent' && 'malformed' in header) cut(`malformed PROXY header: ${header.malformed}`);
      else {
        const rest = header === 'absent' ? bytes : bytes.subarray(header.length);
        if (rest.length > 0) socket.unshift(rest);
        onDone(header === 'absent' ? undefined : header);
      }
    },
    onGone() {
      deadline?.clear();
      // Probes of load balancers connect and leave: nothing to tell.
      socket.destroy();
    },
  });
}
