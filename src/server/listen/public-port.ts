const publicPorts = new WeakMap<object, number>();

/** The clients of this connection know its listener by this port (`publicPort`). */
export function setPublicPort(socket: object, port: number): void {
  publicPorts.set(socket, port);
}

/** Undefined where the configuration does not say so. */
export function publicPortOf(socket: object): number | undefined {
  return publicPorts.get(socket);
}
