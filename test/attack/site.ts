import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { hashSync } from 'bcryptjs';
import { WebSocketServer } from 'ws';
import { Served } from '../guard/served.ts';

export interface Ports {
  readonly plain: number;
  readonly secure: number;
  /** For proxies, which say by a PROXY header who their client is. */
  readonly proxy: number;
  readonly secureProxy: number;
}

/** How long bans are here, in ms. */
export const BAN_MS = 2_000;
/** What its heap may have. A server that kept more for its clients than it may would end for want of memory. */
export const HEAP_MIB = 128;
/** Connections of one address that may be without a request. */
export const MOST_UNUSED = 100;
/** Whoever connects from here is a proxy that is trusted. */
export const PROXY_ADDRESS = '127.0.0.2';

const MODULE = (backend: string) => `
  const echo = path => defineEndpoint({ path, onMessage: (connection, data) => void connection.send(data) });
  export default defineConfig({
    listen: [...listen, ...listen.map(one => ({ ...one, proxyProtocol: 'required' }))],
    trustedProxies: ['${PROXY_ADDRESS}'],
    headerTimeout: '2s', unusedConnections: 1_000, unusedConnectionsPerAddress: ${MOST_UNUSED},
    session: false,
    auth: { staff: { type: 'basic', realm: 'Staff', file: 'htpasswd' } },
    upstreams: { app: { servers: ['${backend}'] } },
    policy: {
      limits: {
        connections: 100, connectionsPerAddress: 20, requestsPerAddress: '100/s', handshakesPerAddress: '20/s',
        messages: '100/s', bytes: '256KiB/s',
      },
    },
    bans: {
      action: 'drop', undeclaredProxies: 'ban', factor: 1,
      // Clients of the tests are of this machine, too.
      allow: [],
      jails: {
        login: { failures: 5, within: '10s', ban: ${BAN_MS} },
        handshake: { failures: 20, within: '10s', ban: ${BAN_MS} },
        protocol: { failures: 5, within: '10s', ban: ${BAN_MS} },
        rate: { failures: 50, within: '10s', ban: ${BAN_MS} },
        scan: { failures: 50, within: '10s', ban: ${BAN_MS} },
      },
    },
    log: { security: { file: 'security.log' } },
    routes: [
      { path: '/', fetch: () => new Response('page') },
      { path: '/private', fetch: (_, { user }) => new Response('hello ' + user.name), policy: { auth: 'staff' } },
      { endpoint: echo('/endpoint') },
      { endpoint: echo('/strict'), policy: { limits: { messages: '50/s', whenExceeded: 'close' } } },
      { path: '/relay', upstream: 'app' },
    ],
  });`;

/** A site as an operator protects it, in a process of its own, and the backend of its relay in this one. */
export class Site {
  readonly served: Served;
  readonly ports: Ports;
  /** The most memory that its process has had, in bytes. */
  peakBytes = 0;
  readonly #backend: WebSocketServer;
  readonly #looks: NodeJS.Timeout;

  private constructor(served: Served, proxies: readonly number[], backend: WebSocketServer) {
    this.served = served;
    const [proxy, secureProxy] = proxies as [number, number];
    this.ports = { plain: served.port('http/1'), secure: served.port('tls'), proxy, secureProxy };
    this.#backend = backend;
    this.#looks = setInterval(() => {
      if (served.isAlive) this.peakBytes = Math.max(this.peakBytes, served.residentBytes());
    }, 100);
  }

  static async start(): Promise<Site> {
    // By itself ws cuts who sends many pings at once: what is tested is what comes before it.
    const backend = new WebSocketServer({ port: 0, host: '127.0.0.1', autoPong: false });
    backend.on('connection', socket =>
      socket
        .on('error', () => {})
        .on('ping', data => socket.pong(data))
        .on('message', (data, binary) => socket.send(data, { binary })),
    );
    await once(backend, 'listening');
    const url = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
    const served = await Served.module(MODULE(url), {
      files: { htpasswd: `alice:${hashSync('right', 10)}\n` },
      env: { NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}` },
    });
    const lines = /listening on https.*\nlistening on http:\S+?:(\d+)\nlistening on https:\S+?:(\d+)\n/;
    const [, ...proxies] = await served.program.printed(lines);
    return new Site(served, proxies.map(Number), backend);
  }

  /** Lines of the security log with this event, and with this address if it is given. */
  events(event: string, address?: string): Record<string, unknown>[] {
    return readFileSync(`${this.served.folder}/security.log`, 'utf8')
      .split('\n')
      .filter(line => line.includes(`"event":"${event}"`) && line.endsWith('}'))
      .map(line => JSON.parse(line))
      .filter(line => address === undefined || line.address === address);
  }

  /** What a client at this address gets for the page: the status, or `cut`. */
  async statusFrom(address: string): Promise<number | 'cut'> {
    const socket = connect({ host: '127.0.0.1', port: this.ports.plain, localAddress: address });
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    let text = '';
    try {
      for await (const chunk of socket) text += chunk;
    } catch {
      // It was cut.
    }
    return text === '' ? 'cut' : Number(text.slice(9, 12));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#looks);
    await this.served[Symbol.asyncDispose]();
    for (const client of this.#backend.clients) client.terminate();
    this.#backend.close();
  }
}
