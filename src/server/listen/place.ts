import { HoldfastError } from '../../base/errors.ts';
import type { ListenConfig } from '../../config/config.ts';
import { gidOf, noSuchGroup } from './group.ts';
import { inheritedSockets } from './inherited.ts';
import type { SocketAccess } from './socket-file.ts';

/** One socket to listen on. */
export type Place =
  | { readonly kind: 'tcp'; readonly port: number; readonly host: string | undefined; readonly reusePort: boolean }
  | { readonly kind: 'unix'; readonly path: string; readonly access: SocketAccess }
  | { readonly kind: 'inherited'; readonly fd: number; readonly name: string | undefined };

/** For the owner and the group of a socket file, where nothing else is said. */
const DEFAULT_MODE = 0o660;

/**
 * Where a listener listens: at one place, or at each of the sockets that share the name which it takes.
 *
 * @throws {HoldfastError} ERR_SERVER_LISTEN when this process has no such sockets, or this machine no such group.
 */
export function placesOf(listen: ListenConfig): Place[] {
  const { port, host, reusePort = false, socket, activation, fd } = listen;
  if (activation !== undefined)
    return inheritedSockets()
      .take(activation)
      .map(({ fd, name }) => ({ kind: 'inherited', fd, name }));
  if (fd !== undefined) {
    inheritedSockets().takeDescriptor(fd);
    return [{ kind: 'inherited', fd, name: undefined }];
  }
  if (socket !== undefined) return [{ kind: 'unix', path: socket, access: accessOf(listen) }];
  return [{ kind: 'tcp', port: port!, host, reusePort }];
}

/**
 * Who may connect to the socket file of a listener.
 *
 * @throws {HoldfastError} ERR_SERVER_LISTEN when there is no such group.
 */
export function accessOf({ socket, mode, group }: ListenConfig): SocketAccess {
  const gid = group === undefined ? undefined : gidOf(group);
  if (group !== undefined && gid === undefined)
    throw new HoldfastError('ERR_SERVER_LISTEN', `cannot listen on the socket file ${socket}: ${noSuchGroup(group)}`);
  return { mode: mode === undefined ? DEFAULT_MODE : Number.parseInt(mode, 8), gid };
}

/** How messages name it. */
export function nameOf(place: Place): string {
  if (place.kind === 'unix') return `the socket file ${place.path}`;
  if (place.kind === 'inherited')
    return place.name === undefined ? `descriptor ${place.fd}` : `the socket "${place.name}" (descriptor ${place.fd})`;
  return place.host === undefined ? `port ${place.port}` : `${place.host} port ${place.port}`;
}
