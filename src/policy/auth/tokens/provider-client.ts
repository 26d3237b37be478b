import type { Agent, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Clock } from '../../../base/clock.ts';
import { setDeadline } from '../../../base/deadlines.ts';
import { messageOf } from '../../../base/message-of.ts';
import { http } from '../../../http/node-http.ts';

export interface ProviderClientOptions {
  readonly url: string;
  readonly clock: Clock;
  /** For the whole exchange, from the connection to the last byte. */
  readonly timeoutMs: number;
  /** PEM: authorities that are believed for this server instead of Node's. */
  readonly ca?: (() => string | undefined) | undefined;
  /** Of a body. Default 1 MiB. */
  readonly mostBytes?: number;
  /** Default 16. */
  readonly mostConnections?: number;
}

export interface ProviderRequest {
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | undefined;
}

export interface ProviderAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** More than any set of 100 keys has, or a token's claims. */
const MOST_BYTES = 1024 * 1024;
const MOST_CONNECTIONS = 16;

/** What could not be asked. Its message holds no token, and nothing of an answer's body. */
export class ProviderUnavailable extends Error {}

/**
 * Asks one URL of an issuer of tokens. Redirects are answers like others: what a key set or a token's state is must come
 * from the server that the configuration names.
 */
export class ProviderClient {
  readonly #options: ProviderClientOptions;
  readonly #url: URL;
  readonly #agent: Agent;

  constructor(options: ProviderClientOptions) {
    this.#options = options;
    this.#url = new URL(options.url);
    const settings = { keepAlive: true, maxSockets: options.mostConnections ?? MOST_CONNECTIONS };
    this.#agent = this.#url.protocol === 'https:' ? new HttpsAgent(settings) : new http.Agent(settings);
  }

  /** @throws {ProviderUnavailable} without a whole answer of at most 1 MiB in time. */
  async ask(request: ProviderRequest): Promise<ProviderAnswer> {
    const first = await this.#try(request);
    // The server has closed a kept connection in the moment in which it was used again.
    const answer = first === 'stale' ? await this.#try(request) : first;
    if (answer === 'stale') throw this.#unavailable('the connection broke off');
    return answer;
  }

  /** Ends what is under way. */
  close(): void {
    this.#agent.destroy();
  }

  #unavailable(why: string): ProviderUnavailable {
    return new ProviderUnavailable(`${this.#url.origin}${this.#url.pathname}: ${why}`);
  }

  #try({ method, headers, body }: ProviderRequest): Promise<ProviderAnswer | 'stale'> {
    const { clock, timeoutMs, ca } = this.#options;
    const send = this.#url.protocol === 'https:' ? httpsRequest : http.request;
    return new Promise((resolve, reject) => {
      const sent = send(this.#url, {
        method,
        agent: this.#agent,
        headers: {
          Accept: 'application/json',
          'Accept-Encoding': 'identity',
          ...headers,
          ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
        },
        ca: ca?.(),
      });
      let isHeard = false;
      const fail = (error: Error) => {
        deadline?.clear();
        if (sent.reusedSocket && !isHeard && (error as NodeJS.ErrnoException).code === 'ECONNRESET') resolve('stale');
        else reject(this.#unavailable(messageOf(error)));
      };
      const deadline = setDeadline(clock, timeoutMs, () =>
        sent.destroy(new Error(`no whole answer within ${timeoutMs} ms`)),
      );
      sent.on('error', fail);
      sent.on('response', (answer: IncomingMessage) => {
        isHeard = true;
        readBody(answer, this.#options.mostBytes ?? MOST_BYTES).then(text => {
          deadline?.clear();
          resolve({ status: answer.statusCode!, headers: answer.headers, body: text });
        }, fail);
      });
      sent.end(body);
    });
  }
}

async function readBody(answer: IncomingMessage, mostBytes: number): Promise<string> {
  if ((answer.headers['content-encoding'] ?? 'identity') !== 'identity') {
    answer.destroy();
    throw new Error('the answer is compressed, which was not asked for');
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes <= mostBytes) continue;
    answer.destroy();
    throw new Error(`the answer has more than ${mostBytes / 1024} KiB`);
  }
  return Buffer.concat(chunks).toString('utf8');
}
