import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';
import type { Served, Wire } from './served.ts';
import { ServedSocket } from './served-socket.ts';

/**
 * A backend that says something every 100 ms on each WebSocket, and gives a session of its own to a client without one.
 */
export async function startTalkingBackend(): Promise<AsyncDisposable & { readonly url: string }> {
  const server = http.createServer((request, response) => {
    if (!request.headers.cookie?.includes('OWN='))
      response.setHeader('Set-Cookie', `OWN=own${Math.random().toString(36).slice(2)}; Path=/`);
    response.end();
  });
  // A session that was over before the handshake came is no session to end.
  const sockets = new WebSocketServer({
    server,
    verifyClient: ({ req }: { readonly req: http.IncomingMessage }) => req.headers['x-session-id'] !== undefined,
  });
  sockets.on('connection', socket => {
    const timer = setInterval(() => socket.send('secret'), 100);
    socket.on('close', () => clearInterval(timer));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets.clients) socket.terminate();
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

/**
 * Statements for `Served.module`: an endpoint that goes on saying what the session holds, and a handler that begins a
 * session.
 */
export const TALKER = `
  const talker = path => defineEndpoint({
    path,
    accept: ({ session }) => session !== undefined,
    onOpen(connection) {
      connection.data = setInterval(() => connection.isOpen && connection.send(connection.session.get('name')), 100);
    },
    onMessage() {},
    onClose(connection) { clearInterval(connection.data); },
  });
  const signIn = (_, { session }) => { session.set('name', 'secret'); return new Response(session.id); };
`;

/** A new session: its cookie, and what the answer said. */
export async function visit(server: Served, path: string, cookie = ''): Promise<{ cookie: string; body: string }> {
  const answer = await fetch(server.url('http/1') + path, { headers: cookie === '' ? {} : { cookie } });
  return { cookie: answer.headers.getSetCookie()[0]?.split(';')[0] ?? '', body: await answer.text() };
}

export interface SocketEnd {
  /** Of a session of ours. */
  readonly sid: string;
  readonly code: number;
  readonly reason: string;
  readonly messages: number;
  /** Milliseconds since the session began, and since its last use was known to have been worked on. */
  readonly sinceBegin: number;
  readonly sinceUse: number;
}

/**
 * Opens a socket of a new session, and waits for its end.
 *
 * @param start Where the session begins.
 * @param work Uses it; by default nothing does after the handshake.
 */
export async function endOf(
  server: Served,
  { wire, start, path }: { readonly wire: Wire; readonly start: string; readonly path: string },
  work: (socket: ServedSocket, cookie: string) => Promise<void> = async () => {},
): Promise<SocketEnd> {
  const { begunAt, cookie, sid, ...opened } = await openSocket(server, { wire, start, path });
  using socket = opened.socket;
  await work(socket, cookie);
  const usedAt = performance.now();
  const { at, code, reason } = await Promise.race([socket.closed, stillOpen()]);
  return { sid, code, reason, messages: socket.messages.length, sinceBegin: at - begunAt, sinceUse: at - usedAt };
}

/** Once more where the machine was so busy that the session was over before the handshake came. */
async function openSocket(
  server: Served,
  { wire, start, path }: { readonly wire: Wire; readonly start: string; readonly path: string },
) {
  for (let tries = 1; ; tries++) {
    const begunAt = performance.now();
    const { cookie, body: sid } = await visit(server, start);
    try {
      return { begunAt, cookie, sid, socket: await ServedSocket.open(server, wire, path, { cookie }) };
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}

async function stillOpen(): Promise<never> {
  await new Promise(resolve => setTimeout(resolve, 15_000).unref());
  throw new Error('still open 15 s after its last use');
}
