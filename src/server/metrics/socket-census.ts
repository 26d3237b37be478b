import type { LiveSocket, LiveSockets } from '../../gateway/live-sockets.ts';
import type { ServerMeters } from './meters.ts';
import { addTraffic, noTraffic, type SocketTraffic, trafficOf } from './socket-traffic.ts';

/** The WebSockets of one route, of one kind. */
export interface SocketsOfRoute extends SocketTraffic {
  open: number;
  /** Has there ever been one? */
  isUsed: boolean;
}

type ByKind = Readonly<Record<LiveSocket['kind'], SocketsOfRoute>>;

/** What is known of all WebSockets of a server, those that are gone and those that are open. */
export interface SocketCensus {
  readonly routes: ReadonlyMap<string, ByKind>;
  /** Bytes that wait in this process for clients of endpoints. */
  readonly bufferedBytes: number;
}

/** One walk over the open sockets. A hundred thousand take some milliseconds. */
export function takeCensus(sockets: LiveSockets, meters: ServerMeters): SocketCensus {
  const routes = new Map<string, ByKind>();
  let bufferedBytes = 0;
  for (const [route, { gone }] of meters.routes)
    routes.set(route, { endpoint: ofGone(gone.endpoint), relay: ofGone(gone.relay) });
  for (const { route, kind, socket } of sockets) {
    const name = meters.routeLabel(route.name);
    let ofRoute = routes.get(name);
    if (!ofRoute) routes.set(name, (ofRoute = { endpoint: ofGone(noTraffic()), relay: ofGone(noTraffic()) }));
    const sum = ofRoute[kind];
    sum.open++;
    sum.isUsed = true;
    addTraffic(sum, trafficOf(socket));
    if ('bufferedAmount' in socket) bufferedBytes += socket.bufferedAmount;
  }
  return { routes, bufferedBytes };
}

function ofGone(traffic: SocketTraffic): SocketsOfRoute {
  return { ...traffic, open: 0, isUsed: traffic.sockets > 0 };
}
