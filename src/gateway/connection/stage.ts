import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** How far a connection to a backend has come. */
export type Stage = 'connecting' | 'tls' | 'open';

const stages = new WeakMap<Socket, Stage>();

/** Follows a socket that has just begun to connect. */
export function trackStage(socket: Socket): void {
  const isTls = socket instanceof TLSSocket;
  socket.once('connect', () => stages.set(socket, isTls ? 'tls' : 'open'));
  if (isTls) socket.once('secureConnect', () => stages.set(socket, 'open'));
}

/** It is `open` when a request may be sent, hence after the TLS handshake. */
export function stageOf(socket: Socket | null | undefined): Stage {
  return (socket && stages.get(socket)) ?? 'connecting';
}

/** Calls back when a socket is open, at once when it is. */
export function whenOpen(socket: Socket, callback: () => void): void {
  if (stageOf(socket) === 'open') callback();
  else socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', callback);
}
