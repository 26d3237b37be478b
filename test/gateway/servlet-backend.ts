import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';

/**
 * A backend that keeps its sessions as a servlet container does: a page that needs one makes one for who has none, a
 * login changes its id, a logout deletes it.
 */
export class ServletBackend {
  /** Live sessions, with who is signed in. */
  readonly sessions = new Map<string, string>();
  /** What each request had in `X-Session-ID`, in order; undefined where there was no such header. */
  readonly told: (string | undefined)[] = [];
  readonly requests: http.IncomingMessage[] = [];
  /** Headers of every answer from now on. */
  answerWith: Readonly<Record<string, string>> = {};
  readonly #server = http.createServer((request, response) => this.#answer(request, response));
  readonly #sockets = new WebSocketServer({ noServer: true });
  readonly #cookie: string;
  readonly #suffix: string;
  #count = 0;

  private constructor(cookie: string, suffix: string) {
    this.#cookie = cookie;
    this.#suffix = suffix;
    this.#server.on('upgrade', (request, socket, head) => {
      this.#note(request);
      this.#sockets.handleUpgrade(request, socket, head, client =>
        client.on('message', data => client.send(`${data}`)),
      );
    });
  }

  static async start({ cookie = 'JSESSIONID', suffix = '' } = {}): Promise<ServletBackend> {
    const backend = new ServletBackend(cookie, suffix);
    backend.#server.listen(0, '127.0.0.1');
    await once(backend.#server, 'listening');
    return backend;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** WebSockets that are open here. */
  get open(): number {
    return this.#sockets.clients.size;
  }

  /** Sends this to every WebSocket. */
  tell(message: string): void {
    for (const client of this.#sockets.clients) client.send(message);
  }

  async close(): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }

  #note(request: http.IncomingMessage): void {
    this.requests.push(request);
    this.told.push(request.headers['x-session-id'] as string | undefined);
  }

  #newId(): string {
    return `id${++this.#count}${Math.random().toString(36).slice(2)}${this.#suffix}`;
  }

  #answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    this.#note(request);
    const shown = new RegExp(`(?:^|; )${this.#cookie}=([^;]+)`).exec(request.headers.cookie ?? '')?.[1];
    const id = shown !== undefined && this.sessions.has(shown) ? shown : undefined;
    for (const [name, value] of Object.entries(this.answerWith)) response.setHeader(name, value);
    const set = (value: string, more = '') =>
      response.appendHeader('Set-Cookie', `${this.#cookie}=${value}; Path=/; HttpOnly${more}`);
    switch (new URL(request.url!, 'http://host').pathname) {
      case '/public': // looks at no session
        break;
      case '/private':
        if (id === undefined) response.writeHead(302, { Location: '/login' });
        break;
      case '/broken':
        response.statusCode = 500;
        break;
      case '/login': {
        const changed = this.#newId();
        if (id !== undefined) this.sessions.delete(id);
        this.sessions.set(changed, 'alice');
        set(changed);
        response.statusCode = 303;
        break;
      }
      case '/logout':
        if (id !== undefined) this.sessions.delete(id);
        set('', '; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:10 GMT');
        break;
      default:
        if (id === undefined) {
          const created = this.#newId();
          this.sessions.set(created, '');
          set(created);
        }
    }
    response.end('ok');
  }
}
