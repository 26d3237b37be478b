import type { Comparison, Measurement, Suite } from '../comparison.ts';
import { PeerNotFoundError } from '../comparison.ts';
import type { ConnectOptions } from '../load/connect.ts';
import type { LoadResult } from '../load/window.ts';
import { type EchoWork, echo, idleMemory, type Subject } from '../measurements.ts';
import { startEchoEpoll } from '../peers/echo-epoll.ts';
import { type StartProxy, startApache, startHaproxy, startNginx } from '../peers/relaying-proxies.ts';
import { type Server, startLoad, startNodeServer, startServerOf } from '../program.ts';

const startHoldfast: StartProxy = ({ backendPort, checkout }) =>
  startServerOf(checkout, 'holdfast-gateway.ts', String(backendPort));

/** Name, how to start it, and the limit of the design for our ratio to it. */
const peers = [
  ['Apache', startApache, 0.65],
  ['HAProxy', startHaproxy, 1.3],
  ['nginx', startNginx, 1.9],
] as const;

/** A proxy and the echo behind it, whose time does not count. */
function relay(start: StartProxy, connections: number): Subject {
  return {
    async start(_, checkout) {
      const backend = await startBackend();
      try {
        const proxy = await start({ backendPort: backend.port, connections, checkout });
        return {
          ...{ pid: proxy.pid, port: proxy.port, collect: () => proxy.collect() },
          async [Symbol.asyncDispose]() {
            await proxy[Symbol.asyncDispose]();
            await backend[Symbol.asyncDispose]();
          },
        };
      } catch (error) {
        await backend[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}

/** The C loop, because it leaves most of the machine to the proxy; without a compiler, `ws`. */
async function startBackend(): Promise<Server> {
  try {
    return await startEchoEpoll();
  } catch (error) {
    if (!(error instanceof PeerNotFoundError)) throw error;
    return startNodeServer('ws.ts', 'echo');
  }
}

const LINES = 50;

/** CPU time of the proxy for one handshake, one echo and the end of the connection, in µs. */
function connects(start: StartProxy): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    await using server = await relay(start, LINES * 4).start('echo', checkout);
    const options: ConnectOptions = {
      ...{ port: server.port, path: '/', lines: LINES },
      ...{ pid: server.pid, warmUpMs, measureMs },
    };
    await using load = startLoad('connect.ts', options);
    const { cpuNs, messages } = await load.next<LoadResult>();
    return cpuNs / messages / 1000;
  };
}

const small: EchoWork = { size: 64, connections: 100, inFlight: 1 };
const crowd: EchoWork = { ...small, connections: 5000 };

function perPeer(
  row: string,
  unit: string,
  measure: (start: StartProxy) => Measurement,
  hasLimit = false,
): Comparison[] {
  return peers.map(([peer, start, limit]) => ({
    ...{ row, peer, unit, limit: hasLimit ? limit : null },
    ...{ ours: measure(startHoldfast), theirs: measure(start) },
  }));
}

function echoRows(row: string, work: EchoWork, hasLimit = false): Comparison[] {
  const measure = (start: StartProxy) => echo(relay(start, work.connections), work);
  return perPeer(row, 'µs CPU/message', measure, hasLimit);
}

export const suite: Suite = {
  title: 'WebSockets through a proxy to an echo, by CPU time and memory of the proxy',
  comparisons: [
    ...echoRows('relay of a 64 B echo, one in flight', small, true),
    ...echoRows('16 in flight', { ...small, inFlight: 16 }),
    ...echoRows('4 KiB, one in flight', { ...small, size: 4096 }),
    ...echoRows('64 B, 5,000 connections', crowd),
    ...[['Holdfast', startHoldfast] as const, ...peers].map(
      ([name, start]): Comparison => ({
        ...{
          row: `5,000 against 100 connections: ${name}`,
          peer: 'itself',
          unit: 'µs CPU/message',
          limit: null,
          about: 'peers',
        },
        ...{ ours: echo(relay(start, crowd.connections), crowd), theirs: echo(relay(start, 100), small) },
      }),
    ),
    ...perPeer('connect, one echo, reset', 'µs CPU/connect', connects),
    ...perPeer('memory per idle relay', 'bytes', start => idleMemory(relay(start, 2000), 2000)),
  ],
};
