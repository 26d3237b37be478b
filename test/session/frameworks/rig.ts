import { once } from 'node:events';
import http from 'node:http';
import type { Session } from '../../../src/session/session.ts';

/** A session whose attributes have any name and value, whatever else is declared in this program. */
export type AnySession = Session<Record<string, unknown>>;

export interface Answer {
  readonly status: number;
  readonly message: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly trailers: NodeJS.Dict<string>;
  readonly body: string;
  /** The session cookie that it sets, as the client sends it back. */
  readonly cookie: string | undefined;
  /** True when the connection had carried another request before. */
  readonly isReused: boolean;
}

export interface Ask extends http.RequestOptions {
  readonly cookie?: string | undefined;
  readonly body?: string | Buffer;
}

/** A client with one connection, kept alive as long as the server keeps it. */
export class Client {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** Sends a request and returns it; nobody has to read its answer. */
  request({ cookie, body, ...options }: Ask): http.ClientRequest {
    const request = http.request({
      host: '127.0.0.1',
      port: this.#port,
      agent: this.#agent,
      ...options,
      headers: { ...(cookie && { cookie }), ...options.headers },
    });
    request.on('error', () => {}); // whoever waits for it has a listener of their own
    request.end(body);
    return request;
  }

  async ask(ask: Ask): Promise<Answer> {
    const request = this.request(ask);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let body = '';
    for await (const chunk of response.setEncoding('utf8')) body += chunk;
    return {
      status: response.statusCode!,
      message: response.statusMessage!,
      headers: response.headers,
      trailers: response.trailers,
      body,
      cookie: response.headers['set-cookie']?.find(value => value.startsWith('sid='))?.split(';')[0],
      isReused: request.reusedSocket,
    };
  }

  get(path: string, cookie?: string): Promise<Answer> {
    return this.ask({ path, cookie });
  }

  post(path: string, cookie?: string, body = ''): Promise<Answer> {
    return this.ask({ method: 'POST', path, cookie, body });
  }

  close(): void {
    this.#agent.destroy();
  }
}
