import { Served } from './served.ts';
import { type SilentBackend, SlowClients } from './slow-readers.ts';

export const policies = ['wait', 'drop', 'conflate', 'close'] as const;

/** How messages are sent: by the server's own doing, or because the client asks for an answer. */
export type Way = 'send' | 'broadcast' | 'stream' | 'behind a stream' | 'ping';

/**
 * A server with an endpoint for each slow-reader policy, whose connections `/flood` sends to whatever `send` answers,
 * and relays of any WebSocket below `/relay`.
 */
export function serveSlowReaders(limit: number, backend: SilentBackend): Promise<Served> {
  return Served.module(`
    const endpoints = new Map(${JSON.stringify(policies)}.map(slowReader => [slowReader, defineEndpoint({
      path: '/' + slowReader, slowReader, maxBufferedAmount: ${limit}, idleTimeout: -1, closeTimeout: '10m',
      onMessage: (connection, data) => void connection.send(data),
    })]));
    const turn = () => new Promise(resolve => setImmediate(resolve));

    /** What is sent from now on has to wait. */
    async function fill(endpoint) {
      const part = 'f'.repeat(65_536);
      await Promise.all([...endpoint.connections].map(async connection => {
        for (let waited = 0; waited < 3; ) {
          for (let i = 0; i < 64 && connection.bufferedAmount === 0; i++) connection.send(part);
          await new Promise(resolve => setTimeout(resolve, 5));
          waited = connection.bufferedAmount > 0 ? waited + 1 : 0;
        }
      }));
    }

    const ways = {
      send: (connections, message) => { for (const connection of connections) connection.send(message); },
      broadcast: (_, message, endpoint) => void endpoint.broadcast(message),
      stream: (connections, message) => { for (const connection of connections) connection.stream(message, false); },
      'behind a stream': (connections, message) => { for (const connection of connections) connection.send(message); },
      ping: (connections, message) => { for (const connection of connections) connection.ping(message.slice(0, 125)); },
    };

    /** Until every connection was closed, or has dropped some, or there were \`most\`. */
    async function flood(endpoint, way, size, most) {
      const connections = [...endpoint.connections];
      const message = 'x'.repeat(size);
      if (way === 'behind a stream') for (const connection of connections) connection.stream(message, false);
      let sent = 0;
      while (sent < most && endpoint.connections.size > 0 && connections.some(connection => connection.droppedMessages < 500)) {
        ways[way](connections, message, endpoint);
        // Some apart, and some together.
        if (++sent < 10_000 || sent % 1_000 === 0) await turn();
      }
      return { sent, open: endpoint.connections.size, buffered: Math.max(...connections.map(connection => connection.bufferedAmount)) };
    }

    export default defineConfig({
      listen,
      session: false,
      log: { level: 'warn' },
      upstreams: { backend: { servers: ['${backend.url}'] } },
      routes: [
        ...[...endpoints.values()].map(endpoint => ({ endpoint })),
        { path: '/relay', upstream: 'backend', websocket: { heartbeat: -1 } },
        { path: '/flood', fetch: async request => {
          const query = Object.fromEntries(new URL(request.url).searchParams);
          const endpoint = endpoints.get(query.policy);
          if (query.do === 'fill') await fill(endpoint);
          if (query.do === 'end') for (const connection of endpoint.connections) connection.terminate();
          return Response.json(query.do === 'flood' ? await flood(endpoint, query.way, Number(query.size), Number(query.most)) : {});
        } },
      ],
    });
  `);
}

interface Flooded {
  readonly sent: number;
  readonly open: number;
  readonly buffered: number;
}

async function ask(server: Served, query: Record<string, string | number>): Promise<Flooded> {
  const url = `${server.url('http/1')}/flood?${new URLSearchParams(query as Record<string, string>)}`;
  return (await fetch(url)).json() as Promise<Flooded>;
}

/** Stalls all connections of the endpoint. */
export async function fill(server: Served, policy: string): Promise<void> {
  await ask(server, { do: 'fill', policy });
}

export function flood(server: Served, policy: string, way: Way, size: number, most: number): Promise<Flooded> {
  return ask(server, { do: 'flood', policy, way, size, most });
}

/** Code is compiled, and the heap has grown to what traffic needs of which nothing waits. */
export async function warmUp(server: Served): Promise<void> {
  for (const wire of ['http/1', 'tls', 'http/2'] as const) {
    using _ = await SlowClients.open(server, wire, '/close', 20);
    await fill(server, 'close');
    await flood(server, 'close', 'send', 100, 500);
  }
}
