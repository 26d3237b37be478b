import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

interface SignIn {
  /** Whoever sends the next message of a sign-in of three legs. */
  challenged: boolean;
  user: string | undefined;
}

/** What a path asks for, where it is not Basic and a sign-in of the connection. */
const CHALLENGES: Readonly<Record<string, string | string[]>> = {
  '/basic': 'Basic realm="a"',
  '/quoted': 'Basic realm="a, Negotiate b, NTLM"',
  '/only': ['Negotiate', 'NTLM, CredSSP'],
  '/mixed': ['Negotiate dG9rZW4=, Bearer realm = "a, \\"NTLM", error=invalid, NTLM', 'Digest realm="b", nonce="c"'],
};

/**
 * A backend that signs in connections and not requests, as IIS does with NTLM and Negotiate: what comes on a connection
 * later is the user's, without a word about it.
 *
 * - `NTLM hello`, then `NTLM proof:NAME` on the same connection, signs in NAME in three legs.
 * - `Negotiate ticket:NAME` signs in at once; the answer to `/silent` says nothing of it.
 * - `Kerberos` and `CredSSP` are like `Negotiate`.
 * - `Other ticket:NAME` signs in at once by a scheme that nobody knows, and the answer says `Persistent-Auth: true`: of
 * `/interim` an answer before
 *   the last one does, and of `/trailer` a trailer.
 */
export class SigningBackend {
  /** Method, path and user of each request that it answered. */
  readonly seen: { readonly method: string; readonly url: string; readonly user: string; readonly socket: number }[] =
    [];
  readonly #signIns = new Map<Socket, SignIn & { readonly number: number }>();
  readonly #server = http.createServer({ keepAliveTimeout: 0 });
  readonly #stale = new Set<Socket>();
  #most = 0;
  #opened = 0;

  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  static async listen(name = 'one'): Promise<SigningBackend> {
    const backend = new SigningBackend(name);
    const server = backend.#server;
    server.on('connection', (socket: Socket) => {
      backend.#signIns.set(socket, { challenged: false, user: undefined, number: backend.#opened++ });
      backend.#most = Math.max(backend.#most, backend.#signIns.size);
      socket.on('error', () => {});
      socket.on('close', () => backend.#signIns.delete(socket));
    });
    server.on('request', (request, response) => {
      request.resume();
      if (backend.#stale.has(request.socket)) return void request.socket.destroy();
      const { status, headers, user } = backend.#judge(request);
      if (request.url === '/cut') return void request.socket.destroy();
      if (request.url === '/interim') {
        response.writeInformation(103, headers as Record<string, string>);
        for (const name of Object.keys(headers)) delete headers[name];
      }
      if (request.url === '/trailer') {
        delete headers['Persistent-Auth'];
        response.writeHead(status, { ...headers, Trailer: 'Persistent-Auth' });
        response.write(user);
        response.addTrailers({ 'Persistent-Auth': 'true', 'WWW-Authenticate': 'Other mutual' });
        return void response.end();
      }
      if (request.url === '/slow') return void setTimeout(() => response.writeHead(status, headers).end(user), 100);
      if (request.url === '/last') response.setHeader('Connection', 'close');
      response.writeHead(status, headers);
      response.end(user);
    });
    server.on('upgrade', (request: IncomingMessage, socket: Socket) => {
      // Whatever comes is the end: nobody sends messages here.
      socket.on('data', () => socket.destroy()).on('end', () => socket.destroy());
      const { status, headers, user } = backend.#judge(request);
      if (status !== 200) {
        const lines = Object.entries(headers).flatMap(([name, value]) => [value].flat().map(one => `${name}: ${one}`));
        socket.write(`HTTP/1.1 ${status} No\r\n${lines.join('\r\n')}\r\nContent-Length: 0\r\n\r\n`);
        return;
      }
      const accept = createHash('sha1')
        .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
        .digest('base64');
      socket.write(
        `HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nX-User: ${user}\r\n\r\n`,
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return backend;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Users of the connections that are open now; `nobody` for one that is not signed in. */
  get connections(): string[] {
    return [...this.#signIns.values()].map(({ user }) => user ?? 'nobody').sort();
  }

  /** Connections that were open at the same time. */
  get most(): number {
    return this.#most;
  }

  /** Cuts every connection that this user is signed in on. */
  cut(user: string): void {
    for (const [socket, signIn] of this.#signIns) if (signIn.user === user) socket.destroy();
  }

  /** From now on the connections that are open are closed by the next request on them, without an answer. */
  makeStale(): void {
    for (const socket of this.#signIns.keys()) this.#stale.add(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#signIns.keys()) socket.destroy();
    await new Promise(resolve => this.#server.close(resolve));
  }

  #judge(request: IncomingMessage): { status: number; headers: Record<string, string | string[]>; user: string } {
    const signIn = this.#signIns.get(request.socket)!;
    const headers: Record<string, string | string[]> = { 'X-Server': this.name };
    let status = 200;
    const credentials: string[] = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2)
      if (request.rawHeaders[i]!.toLowerCase() === 'authorization') credentials.push(request.rawHeaders[i + 1]!);
    const text = credentials.find(value => !/^basic /i.test(value)) ?? '';
    const [, scheme = '', message = ''] = /^(\S+)\s+(.*)$/.exec(text) ?? [];
    const name = /^\w+:(\w+)$/.exec(message)?.[1];
    if (/^ntlm$/i.test(scheme)) {
      if (name !== undefined && signIn.challenged) signIn.user = name;
      else {
        status = 401;
        headers['WWW-Authenticate'] = 'NTLM challenge';
      }
      signIn.challenged = message === 'hello';
    } else if (/^(?:negotiate|kerberos|credssp)$/i.test(scheme)) {
      signIn.user = name;
      if (request.url !== '/silent') headers['WWW-Authenticate'] = `${scheme} mutual`;
    } else if (/^other$/i.test(scheme)) {
      signIn.user = name;
      headers['Persistent-Auth'] = 'true';
    } else if (signIn.user === undefined && !/^\/(?:open|slow)$/.test(request.url!)) {
      status = 401;
      headers['WWW-Authenticate'] = CHALLENGES[request.url!] ?? ['Basic realm="a, b"', 'Negotiate, NTLM'];
    }
    const user = signIn.user ?? 'nobody';
    this.seen.push({ method: request.method!, url: request.url!, user, socket: signIn.number });
    return { status, headers, user };
  }
}
