import type { LiveSocket } from '../../gateway/live-sockets.ts';
import { Relay } from '../../gateway/relay/relay.ts';

/** What went through a WebSocket, seen from here: `received` is from the client. */
export interface SocketTraffic {
  messagesReceived: number;
  messagesSent: number;
  bytesReceived: number;
  bytesSent: number;
  /** Not sent, because the client read too slowly. */
  messagesDropped: number;
  /** How many sockets this is the sum of. */
  sockets: number;
}

export function noTraffic(): SocketTraffic {
  return { messagesReceived: 0, messagesSent: 0, bytesReceived: 0, bytesSent: 0, messagesDropped: 0, sockets: 0 };
}

export function addTraffic(sum: SocketTraffic, more: SocketTraffic): void {
  sum.messagesReceived += more.messagesReceived;
  sum.messagesSent += more.messagesSent;
  sum.bytesReceived += more.bytesReceived;
  sum.bytesSent += more.bytesSent;
  sum.messagesDropped += more.messagesDropped;
  sum.sockets += more.sockets;
}

export function trafficOf(socket: LiveSocket['socket']): SocketTraffic {
  if (socket instanceof Relay) {
    const { sent, received } = socket;
    return {
      messagesReceived: sent.messages,
      messagesSent: received.messages,
      bytesReceived: sent.bytes,
      bytesSent: received.bytes,
      messagesDropped: 0,
      sockets: 1,
    };
  }
  const { messagesReceived, messagesSent, bytesReceived, bytesSent, droppedMessages: messagesDropped } = socket;
  return { messagesReceived, messagesSent, bytesReceived, bytesSent, messagesDropped, sockets: 1 };
}
