import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type Config, createServer, type Endpoint, type Server } from 'holdfast';
import { silentLogger } from '../../src/base/logger.ts';
import type { ServerEnvironment } from '../../src/server/server.ts';

export interface Served extends AsyncDisposable {
  readonly server: Server;
  /** `ws://127.0.0.1:port`, without a slash at the end. */
  readonly url: string;
}

/** Starts a server with these endpoints on a free port. Without sessions, unless the configuration has some. */
export async function serve(
  endpoints: Endpoint<unknown> | readonly Endpoint<unknown>[],
  config: Config = {},
  environment: ServerEnvironment = {},
): Promise<Served> {
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      log: { level: 'silent', access: 'off' },
      ...config,
      routes: [...routesOf(endpoints), ...(config.routes ?? [])],
    },
    { logger: silentLogger, ...environment },
  );
  await server.start();
  const url = server.urls[0]!.replace('http', 'ws').replace('localhost', '127.0.0.1');
  return { server, url, [Symbol.asyncDispose]: () => server.stop({ drain: 0 }) };
}

export interface ServedByHttp extends Served {
  readonly http: http.Server;
  /** The server's end of the connection that was made last. */
  lastSocket(): Socket;
}

/** The same, attached to an HTTP server whose sockets can be looked at. */
export async function serveAttached(
  endpoints: Endpoint<unknown> | readonly Endpoint<unknown>[],
  config: Config = {},
  environment: ServerEnvironment = {},
): Promise<ServedByHttp> {
  const httpServer = http.createServer();
  let last: Socket | undefined;
  httpServer.on('connection', socket => {
    last = socket;
  });
  const server = createServer(
    { session: false, log: { level: 'silent', access: 'off' }, ...config, routes: routesOf(endpoints) },
    { logger: silentLogger, ...environment },
  );
  await server.attach(httpServer);
  await new Promise<void>(resolve => httpServer.listen(0, '127.0.0.1', resolve));
  return {
    server,
    http: httpServer,
    url: `ws://127.0.0.1:${(httpServer.address() as AddressInfo).port}`,
    lastSocket: () => last!,
    async [Symbol.asyncDispose]() {
      await server.stop({ drain: 0 });
      httpServer.closeAllConnections();
      await new Promise(resolve => httpServer.close(resolve));
    },
  };
}

function routesOf(endpoints: Endpoint<unknown> | readonly Endpoint<unknown>[]) {
  return [endpoints].flat().map(endpoint => ({ endpoint }));
}
