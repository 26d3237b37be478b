import type { ListenConfig } from '../../config/config.ts';
import { type InheritedSockets, inheritedSockets } from './inherited.ts';

/** One socket to listen on. */
export type Place =
  | { readonly kind: 'tcp'; readonly port: number; readonly host: string | undefined; readonly reusePort: boolean }
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number }
  | { readonly kind: 'inherited'; readonly fd: number; readonly name: string | undefined };

/** For the owner and the group of a socket file, where nothing else is said. */
const DEFAULT_MODE = 0o660;

/**
 * Where a listener listens: at one place, or at each of the sockets that share the name which it takes.
 *
 * @throws {HoldfastError} ERR_SERVER_LISTEN when this process has no such sockets.
 */
export function placesOf(listen: ListenConfig, inherited: () => InheritedSockets = inheritedSockets): Place[] {
  const { port, host, reusePort = false, socket, mode, activation, fd } = listen;
  if (activation !== undefined)
    return inherited()
      .take(activation)
      .map(({ fd, name }) => ({ kind: 'inherited', fd, name }));
  if (fd !== undefined) {
    inherited().takeDescriptor(fd);
    return [{ kind: 'inherited', fd, name: undefined }];
  }
  if (socket !== undefined) return [{ kind: 'unix', path: socket, mode: modeOf(mode) }];
  return [{ kind: 'tcp', port: port!, host, reusePort }];
}

/** The permissions of a socket file. */
export function modeOf(mode: string | undefined): number {
  return mode === undefined ? DEFAULT_MODE : Number.parseInt(mode, 8);
}

/** How messages name it. */
export function nameOf(place: Place): string {
  if (place.kind === 'unix') return `the socket file ${place.path}`;
  if (place.kind === 'inherited')
    return place.name === undefined ? `descriptor ${place.fd}` : `the socket "${place.name}" (descriptor ${place.fd})`;
  return place.host === undefined ? `port ${place.port}` : `${place.host} port ${place.port}`;
}
